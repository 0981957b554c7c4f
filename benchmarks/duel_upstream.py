"""The authors' side of benchmarks/against_upstream.py: their code, given by path, on the weights that our side wrote.

What their modules import and never call at inference is stood in for (tools/goldens/authors.py). Their text encoders
and VAE take no part on either side.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from goldens import authors
from goldens import imagebind as released_imagebind
from goldens import prior as released_prior
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from ..models.backbone import SDXL
from ..models.diffusion import DiffusionDims
from . import duel_inputs as inputs
from .duel_inputs import EditTask, EncodeTask, LLMTask, PaintTask, PriorTask
from .duel_ours import Prepared

NEVER_CALLED = ("pytorch_lightning", "librosa")
UPSTREAM, IMAGEBIND, PYTORCHVIDEO = "ANY2PIX_UPSTREAM", "ANY2PIX_IMAGEBIND", "ANY2PIX_PYTORCHVIDEO"  # folders


def folder_of(variable: str) -> Path:
    return Path(os.environ[variable])


def adopt(module: nn.Module, file: Path) -> nn.Module:
    """``module`` for inference with the weights of ``file``, which stay shared with the other process on disk."""
    module.load_state_dict(load_file(file), strict=True, assign=True)
    return module.eval().requires_grad_(False)


def prepare_llm(task: LLMTask, folder: Path) -> Prepared:
    llm = released_llm(task, folder)
    ids, shown = inputs.question(task)
    return Prepared(
        lambda: answer(llm, ids, shown, task.new_tokens, task.temperature),
        lambda: answer(llm, ids, shown, inputs.CHECK_TOKENS, 0.0),
    )


def released_llm(task: LLMTask, folder: Path) -> nn.Module:
    """InstructAny2PixLMForCausalLM with the two small networks that its checkpoints carry."""
    authors.stand_in(*NEVER_CALLED)
    authors.package("instructany2pix", folder_of(UPSTREAM) / "instructany2pix")
    llama = importlib.import_module("instructany2pix.llm.model.language_model.any2pix_llama")
    build = importlib.import_module("instructany2pix.llm.model.multimodal_projector.builder")
    config = llama.InstructAny2PixLMConfig(**task.llama, mm_projector_type="mlp2x_gelu", attn_implementation="sdpa")
    with torch.device("meta"):
        llm = llama.InstructAny2PixLMForCausalLM(config)
        llm.model.vae_projector_image = build.build_vision_projector(config, input_size=task.embed)
        llm.model.vae_predictor_image = build.build_vision_predictor(config, output_size=task.embed)
    llm.model.rotary_emb = type(llm.model.rotary_emb)(config)  # its table is no weight, so no file fills it
    llm.DEFAULT_VIDEO_TOKEN_IDX = inputs.VIDEO
    llm.generation_config.eos_token_id, llm.generation_config.pad_token_id = None, 0  # the answer goes on to its limit
    return adopt(llm, folder / "llm.safetensors")


@torch.no_grad()
def answer(llm: nn.Module, ids: Tensor, shown: Tensor, new_tokens: int, temperature: float) -> Tensor:
    """forward_llm's call of generate, without the stopping criterion; the embedding at the last token (D,)."""
    scaled = shown / (shown.norm(dim=-1, keepdim=True) + 1e-9) * 20
    drawing = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
    found = llm.generate(
        ids[None],
        images=None,
        max_new_tokens=new_tokens,
        output_hidden_states=True,
        use_cache=False,
        return_dict_in_generate=True,
        extra_replacement={"data": scaled, "mask": torch.zeros(len(scaled), dtype=torch.long)},
        **drawing,
    )
    return llm.get_model().vae_predictor_image(found.hidden_states[-1][-1][:, -1:])[0, 0]


def prepare_encode(task: EncodeTask, folder: Path) -> Prepared:
    encode = released_encoder(task, folder)
    return Prepared.same(lambda: encode().flatten())


def released_encoder(task: EncodeTask, folder: Path) -> Callable[[], Tensor]:
    """forward_llm's way: each file loaded and encoded by itself. The files are those our side wrote."""
    data, network = released_imagebind.import_released(folder_of(IMAGEBIND), folder_of(PYTORCHVIDEO))
    unused = {f"{name}_num_blocks": 1 for name in released_imagebind.UNUSED}
    imagebind = network.ImageBindModel(
        out_embed_dim=task.embed, vision_embed_dim=task.vision_width, vision_num_blocks=task.vision_blocks,
        vision_num_heads=task.vision_heads, audio_embed_dim=task.audio_width, audio_num_blocks=task.audio_blocks,
        audio_num_heads=task.audio_heads, text_embed_dim=64, text_num_blocks=1, text_num_heads=1, **unused,
    )  # fmt: skip
    for part in imagebind.children():
        for name in released_imagebind.UNUSED:
            del part[name]
    adopt(imagebind, folder / "imagebind.safetensors")
    pictures = [str(folder / f"{index}.png") for index in range(task.pictures)]
    sounds = [str(folder / f"{index}.wav") for index in range(task.sounds)]

    @torch.no_grad()
    def encode() -> Tensor:
        found = [
            imagebind({"vision": data.load_and_transform_vision_data([path], "cpu")})["vision"] for path in pictures
        ]
        found += [imagebind({"audio": data.load_and_transform_audio_data([path], "cpu")})["audio"] for path in sounds]
        return torch.cat(found)

    return encode


def prepare_prior(task: PriorTask, folder: Path) -> Prepared:
    prior = build_prior(task, folder)
    return Prepared.same(lambda: refined(prior, inputs.embedding(task.embed)))


def build_prior(task: PriorTask, folder: Path) -> nn.Module:
    released = released_prior.import_released(folder_of(UPSTREAM))
    return adopt(released_prior.build(released, vars(task)), folder / "prior.safetensors")


@torch.no_grad()
def refined(prior: nn.Module, edit: Tensor) -> Tensor:
    """The pipeline's call of generate_diffusion, source modality video."""
    found, _ = prior.generate_diffusion(
        3, 0, (edit / edit.norm() * 100)[None], device="cpu", no_diffusion=True, num_inference_steps=25,
        image_bind_overwrite=None, dtype=torch.float32, guidance_scale=inputs.PRIOR_GUIDANCE, force_guidence_t0=True,
        do_classifier_free_guidance=True, score=inputs.SCORE,
    )  # fmt: skip
    return found[0, 0]


def prepare_paint(task: PaintTask, folder: Path) -> Prepared:
    painter = Painter(task, folder)
    mixed = inputs.embedding(task.embed) * inputs.NORM
    return Prepared.same(lambda: painter.sample(painter.invert(), mixed).flatten())


class Painter:
    """SDXLDDIMPipeline for the inversion and diffusers' SDXL pipeline for the sampling, on one UNet, as released."""

    def __init__(self, task: PaintTask, folder: Path):
        authors.package("instructany2pix", folder_of(UPSTREAM) / "instructany2pix")
        released = importlib.import_module("instructany2pix.ddim.pnp_pipeline")
        dims = DiffusionDims(
            task.widths, task.transformers, context=task.context, pooled=task.pooled, sample_size=task.side
        )
        unet = adopt(UNet2DConditionModel(**dims.unet_config()), folder / "unet.safetensors")
        sdxl = {"beta_start": SDXL.betas[0], "beta_end": SDXL.betas[1], "beta_schedule": SDXL.schedule}
        sdxl |= {"num_train_timesteps": 1000, "steps_offset": 1, "timestep_spacing": "leading"}
        text = CLIPTextConfig(
            hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=1, projection_dim=task.pooled
        )
        parts = {
            "vae": AutoencoderKL(block_out_channels=(32,) * 4, down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=4),
            "text_encoder": None,
            "text_encoder_2": CLIPTextModelWithProjection(text),  # asked for its width alone
            "tokenizer": None,
            "tokenizer_2": None,
            "unet": unet,
        }  # fmt: skip
        ddim = DDIMScheduler(**sdxl, clip_sample=False, set_alpha_to_one=False)
        self.inversion = released.SDXLDDIMPipeline(**parts, scheduler=ddim)
        self.sampling = StableDiffusionXLPipeline(**parts, scheduler=EulerDiscreteScheduler(**sdxl))
        self.sampling.set_progress_bar_config(disable=True)
        self.task = task
        self.tensors = load_file(folder / "projector.safetensors")

    def invert(self) -> Tensor:
        context, pooled = self.project(torch.zeros(self.task.embed))
        return self.inversion.inverse(
            prompt_embeds=context, pooled_prompt_embeds=pooled, image=inputs.source_latent(self.task),
            num_inference_steps=self.task.steps,
        ).images  # fmt: skip

    @torch.no_grad()
    def sample(self, inverted: Tensor, mixed: Tensor) -> Tensor:
        noise, alpha = inputs.noise_for(self.task), self.task.alpha
        blend = alpha * inverted + (1 - alpha) * noise
        start = blend / blend.norm() * (alpha * inverted.norm() + (1 - alpha) * noise.norm())
        context, pooled = self.project(mixed)
        null_context, null_pooled = self.project(torch.zeros_like(mixed))
        return self.sampling(
            prompt_embeds=context, pooled_prompt_embeds=pooled, negative_prompt_embeds=null_context,
            negative_pooled_prompt_embeds=null_pooled, latents=start, num_inference_steps=self.task.steps,
            guidance_scale=self.task.cfg, height=8 * self.task.side, width=8 * self.task.side, output_type="latent",
        ).images  # fmt: skip

    def project(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """H (D,) -> the context token (1, 1, C) and the pooled vector (1, P), as the first release's UNet makes
        them."""
        layers = partial(two_layers, self.tensors)
        pooled = layers("projector_unclip2", torch.zeros(1, self.tensors["projector_unclip2.0.weight"].shape[1]))
        return layers("projector_unclip", embedding[None])[None], pooled


def two_layers(tensors: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    linear = nn.functional.linear
    hidden = nn.functional.gelu(linear(x, tensors[f"{name}.0.weight"], tensors[f"{name}.0.bias"]))
    return linear(hidden, tensors[f"{name}.2.weight"], tensors[f"{name}.2.bias"])


def prepare_edit(task: EditTask, folder: Path) -> Prepared:
    """The pipeline's __call__. A second edit may skip ImageBind and LLM (its use_cache); prior and inversion run
    again."""
    llm, encode = released_llm(task.llm, folder), released_encoder(task.encode, folder)
    prior, painter = build_prior(task.prior, folder), Painter(task.paint, folder)
    ids, _ = inputs.question(task.llm)

    def paint(edit: Tensor) -> Tensor:
        better, length = refined(prior, edit), inputs.NORM
        mixed = (
            inputs.EDIT_WEIGHT * edit / edit.norm() * length + inputs.REFINED_WEIGHT * better / better.norm() * length
        )
        return painter.sample(painter.invert(), mixed / mixed.norm() * length).flatten()

    def check() -> Tensor:
        return paint(answer(llm, ids, encode(), inputs.CHECK_TOKENS, 0.0))

    if not task.second:
        return Prepared(lambda: paint(answer(llm, ids, encode(), task.llm.new_tokens, task.llm.temperature)), check)
    known = answer(llm, ids, encode(), inputs.CHECK_TOKENS, 0.0)
    return Prepared(lambda: paint(known), check)


PREPARE = {
    "llm": prepare_llm,
    "encode": prepare_encode,
    "prior": prepare_prior,
    "paint": prepare_paint,
    "edit": prepare_edit,
}
