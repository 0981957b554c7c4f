"""The networks of stage 2, from a diffusers pipeline's folder or from our miniature: texts to conditioning, latents to
pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DDIMScheduler, DiffusionPipeline
from PIL import Image
from torch import Tensor, nn

from ...loading.autoencoder import load_autoencoder
from ...loading.diffusion import build_unet
from ...loading.pix2pix import load_text_unet
from ...loading.text_encoder import load_text_encoder
from ...miniature import manifest
from ...models.backbone import MINIATURE as BACKBONE
from ...models.diffusion import Conditioning
from ...stages.preprocess import tokens_for


@dataclass
class Painter:
    """What `sample_pairs` needs of a text-to-image model, and how its texts and latents are read.

    `encode(texts)` -> Conditioning; `token_ids(text)` -> ids with start and end token, without padding;
    `decode(latents (B, c, h, w))` -> (B, 3, H, W) in [0, 1]; `latent_shape` (c, h, w).
    """

    unet: nn.Module
    scheduler: object
    encode: Callable[[Sequence[str]], Conditioning]
    token_ids: Callable[[str], list[int]]
    decode: Callable[[Tensor], Tensor]
    latent_shape: tuple[int, int, int]

    @property
    def device(self) -> torch.device:
        return next(self.unet.parameters()).device

    @torch.no_grad()
    def pictures(self, latents: Tensor) -> list[Image.Image]:
        """(B, c, h, w) -> B pictures."""
        pixels = self.decode(latents).float().clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        return [Image.fromarray(picture) for picture in pixels]


def load_painter(place: str | Path, device="cpu", dtype=torch.float32, size: int | None = None) -> Painter:
    """`place`: "miniature", a folder with files like the miniature's, or one of a Stable Diffusion or SDXL pipeline as
    diffusers writes it.

    `size`: pixels of a side, None for what the UNet was made for.
    """
    folder = manifest.FOLDER if place == manifest.NAME else Path(place)
    if folder == manifest.FOLDER or (folder / manifest.TEXT_UNET).exists():
        return load_miniature(folder, device, dtype, size)
    if not (folder / "model_index.json").exists():
        raise FileNotFoundError(
            f"{folder} is not a model folder: it has neither model_index.json nor {manifest.TEXT_UNET}. "
            "Give the folder of a Stable Diffusion or SDXL pipeline in diffusers' format."
        )
    pipeline = DiffusionPipeline.from_pretrained(place, torch_dtype=dtype).to(device)
    return from_pipeline(pipeline, size)


def from_pipeline(pipeline, size: int | None = None) -> Painter:
    """Of a diffusers StableDiffusionPipeline or StableDiffusionXLPipeline in memory."""
    unet, vae, tokenizer = pipeline.unet.eval(), pipeline.vae.eval(), pipeline.tokenizer
    is_sdxl = unet.config.addition_embed_type == "text_time"
    side, device = _latent_side(size, unet, pipeline.vae_scale_factor), unet.device
    zeros_for_empty = is_sdxl and pipeline.config.force_zeros_for_empty_prompt
    if vae.dtype == torch.float16 and vae.config.get("force_upcast"):
        vae.float()  # SDXL's overflows in half precision

    def encode(texts: Sequence[str]) -> Conditioning:
        found = pipeline.encode_prompt(
            list(texts), device=device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        context, pooled = found[0], found[2] if is_sdxl else None
        if zeros_for_empty:
            empty = torch.tensor([not text for text in texts], device=context.device)
            context, pooled = context.masked_fill(empty.view(-1, 1, 1), 0), pooled.masked_fill(empty.view(-1, 1), 0)
        return Conditioning(context, pooled)

    def decode(latents: Tensor) -> Tensor:
        shift = getattr(vae.config, "shift_factor", None) or 0.0
        return vae.decode((latents / vae.config.scaling_factor + shift).to(vae.dtype)).sample / 2 + 0.5

    return Painter(
        unet=unet,
        scheduler=DDIMScheduler.from_config(pipeline.scheduler.config),  # draws no noise of its own
        encode=encode,
        token_ids=lambda text: tokenizer(text, truncation=False).input_ids,
        decode=decode,
        latent_shape=(unet.config.in_channels, side, side),
    )


def load_miniature(folder: str | Path, device="cpu", dtype=torch.float32, size: int | None = None) -> Painter:
    """text_unet, text_encoder and vae of the bundled miniature."""
    folder = Path(folder)
    unet = build_unet(*load_text_unet(folder / manifest.TEXT_UNET)).to(device, dtype)
    text_encoder = load_text_encoder(folder / manifest.TEXT_ENCODER, device=device, dtype=dtype)
    vae = load_autoencoder(folder / manifest.VAE, device=device, dtype=dtype)
    return from_networks(unet, text_encoder, vae, size)


def from_networks(unet, text_encoder, vae, size: int | None = None) -> Painter:
    """Of our own networks: a UNet, a TextEncoder with its tokenizer, an Autoencoder."""
    device, end = unet.device, text_encoder.dims.eos_token_id
    side = _latent_side(size, unet, vae.latent.step)

    def encode(texts: Sequence[str]) -> Conditioning:
        return Conditioning(*text_encoder(tokens_for(text_encoder, texts).to(device)))

    def token_ids(text: str) -> list[int]:
        ids = tokens_for(text_encoder, [text])[0].tolist()
        return ids[: ids.index(end) + 1]

    first, last = BACKBONE.betas
    return Painter(
        unet=unet,
        scheduler=DDIMScheduler(
            beta_start=first,
            beta_end=last,
            beta_schedule=BACKBONE.schedule,
            clip_sample=False,
            set_alpha_to_one=False,
            timestep_spacing="trailing",  # from the noisiest step on, however few there are
        ),
        encode=encode,
        token_ids=token_ids,
        decode=lambda latents: vae.decode((latents / vae.latent.scale).to(unet.dtype)) / 2 + 0.5,
        latent_shape=(unet.config.in_channels, side, side),
    )


def _latent_side(size: int | None, unet, downscale: int) -> int:
    if size is None:
        return unet.config.sample_size
    step = downscale * 2 ** (len(unet.config.block_out_channels) - 1)
    if size < step or size % step:
        raise ValueError(f"A side of {size} pixels does not fit this UNet. Give a multiple of {step}.")
    return size // downscale
