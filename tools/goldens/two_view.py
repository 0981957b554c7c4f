"""The two-view IP-Adapter by the authors' IPAdapterXL on a diffusers UNet: image tokens and eps."""

import sys
import tempfile
import types
from pathlib import Path
from unittest.mock import patch

import torch
from golden_inputs import seeded, unet
from golden_inputs.two_view import LOCAL_STRENGTH, SCALE, SEED, TOKENS, VIEWS
from torch import Tensor

from . import authors


def make(options, size: str) -> None:
    """Write two_view_<size>.safetensors: "tokens/..." (1, T, C) and "eps/..." (1, 4, 8, 8)."""
    adapter, network = _build(_import(options.instructany2pix), size)
    given, outputs = unet.inputs(size), {}
    for name, (mode, whole, local) in VIEWS.items():
        tokens, nothing = _tokens(adapter, given, mode, whole, local)
        outputs |= {f"tokens/{name}": tokens, f"tokens/unconditional {mode}": nothing}
        outputs[f"eps/{name}"] = _eps(adapter, network, given, tokens, 1.0)
        outputs[f"eps/unconditional {mode}"] = _eps(adapter, network, given, nothing, 1.0)
    outputs[f"eps/global at {SCALE}"] = _eps(adapter, network, given, outputs["tokens/global"], SCALE)
    outputs["eps/both as released"] = _eps(adapter, network, given, outputs["tokens/both"], 1.0, TOKENS)
    seeded.save(f"two_view_{size}", outputs, {"seed": SEED, **options.notes("instructany2pix")})


def _tokens(adapter, given: dict[str, Tensor], mode: str, whole: bool, local: bool) -> tuple[Tensor, Tensor]:
    with patch("torch.float16", torch.float32):  # get_image_embeds casts to half precision
        return adapter.get_image_embeds(
            clip_image_embeds=given["whole"] if whole else None,
            clip_image_embeds_local=given["local"] if local else None,
            mode=mode,
            scale_l=LOCAL_STRENGTH,
        )


@torch.no_grad()
def _eps(adapter, network, given, tokens: Tensor, scale: float, image_tokens: int | None = None) -> Tensor:
    """As IPAdapterXL.generate runs the UNet. Its processors take the last 4 tokens for the image's, so that of the 8 of
    "both" the first 4 are read as text; ``image_tokens`` None tells them how many there are."""
    adapter.set_scale(scale)
    for processor in network.attn_processors.values():
        if hasattr(processor, "num_tokens"):
            processor.num_tokens = image_tokens or tokens.shape[1]
    context = torch.cat([given["text"], tokens], dim=1)
    return network(given["latents"], unet.TIMESTEP, context, added_cond_kwargs=unet.added(given["pooled"])).sample


def _build(released, size: str):
    """IPAdapterXL in float32 on a seeded UNet, reading a seeded file of the published layout."""
    from diffusers import UNet2DConditionModel

    network = UNet2DConditionModel(**unet.config(size)).eval()
    seeded.fill(network, unet.SEED)
    pipe = types.SimpleNamespace(unet=network)
    pipe.to = lambda device: pipe
    encoder = types.SimpleNamespace(config=types.SimpleNamespace(projection_dim=unet.EMBED[size]))

    class Seeded(released.IPAdapterXL):
        def load_ip_adapter(self) -> None:
            layers = torch.nn.ModuleList(self.pipe.unet.attn_processors.values())
            parts = {"image_proj": self.image_proj_model, "ip_adapter": layers}
            state = {
                root: {
                    key: seeded.weight(f"{root}.{key}", value.shape, SEED) for key, value in part.state_dict().items()
                }
                for root, part in parts.items()
            }
            with tempfile.TemporaryDirectory() as folder:
                self.ip_ckpt = str(Path(folder) / "adapter.bin")
                torch.save(state, self.ip_ckpt)
                super().load_ip_adapter()

    with patch("torch.float16", torch.float32):
        return Seeded(pipe, encoder, "", "cpu", TOKENS), network


def _import(repository: Path):
    authors.package("instructany2pix", repository / "instructany2pix")
    authors.package("instructany2pix.diffusion", repository / "instructany2pix" / "diffusion")
    from instructany2pix.diffusion.ip_adapter import ip_adapter

    return sys.modules.setdefault("instructany2pix.diffusion.ip_adapter.ip_adapter", ip_adapter)
