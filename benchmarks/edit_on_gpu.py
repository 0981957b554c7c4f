"""A whole edit at the size of the release, on random weights: python -m any2pix.benchmarks.edit_on_gpu --device cuda

Seconds and peak memory of every stage; what decoding reaches of the device's memory bandwidth, and the UNet of its
matrix rate, both measured in the same run. Random weights run as long as trained ones. ``--dims tiny --device cpu``
shows that all of it runs, and says nothing about speed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..evaluation.rates import markdown_table
from ..models.adapter import UnclipDims, UnclipProjector
from ..models.backbone import SDXL
from ..models.diffusion import DiffusionDims, EmbeddingDiffusion
from ..models.imagebind import ImageBind, ImageBindDims
from ..models.mm_llm import MMLLMDims, MultimodalLLM
from ..models.prior import PriorDims, RefinementPrior
from ..stages.any2pix.decode import Question, chooser, generate
from ..stages.any2pix.options import EditOptions
from ..stages.any2pix.pipeline import EditJob, Networks, edit_pictures
from ..stages.any2pix.prompt import PromptIds
from ..stages.any2pix.refine import GUIDANCE as PRIOR_GUIDANCE
from ..stages.encode import encode_audios, encode_images
from ..stages.sources import Source
from ..stages.types import EditPlan

logger = logging.getLogger(__name__)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
NEVER = -1  # an end token that no answer holds
VIDEO_AT = (40, 60)  # places of two references in the prompt
ALPHA, GUIDANCE, SOUND_RATE = 0.7, 10.0, 44_100
MATRIX_FLOPS = 2  # of one multiply and add


@dataclass(frozen=True)
class Size:
    """``dims`` of the five networks and of the measuring itself."""

    imagebind: ImageBindDims
    llm: MMLLMDims
    prior: PriorDims
    unet: DiffusionDims
    projector: UnclipDims
    vae: dict[str, Any]
    matrix: int  # side of the square matrices whose product gives the matrix rate
    copied: int  # bytes of the copy that gives the bandwidth


def sizes(name: str) -> Size:
    vae = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    vae |= {"latent_channels": 4}
    if name == "full":
        vae |= {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}  # SDXL's
        published = (kind.published() for kind in (ImageBindDims, MMLLMDims, PriorDims))
        return Size(*published, DiffusionDims(), UnclipDims.published(), vae, matrix=8192, copied=2**30)
    vae |= {"block_out_channels": (32,) * 4}
    llama = {"vocab_size": 128, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    clip = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    clip |= {"num_attention_heads": 2, "max_position_embeddings": 16, "bos_token_id": 62, "eos_token_id": 63}
    return Size(
        ImageBindDims.miniature(),
        MMLLMDims(64, llama | {"num_attention_heads": 2}, 32),
        PriorDims(64, 32, 1, 2, clip=clip),
        DiffusionDims((32, 64), (0, 1), 1, 16, 32, 32),
        UnclipDims(64, 32, 32, 32, 16),
        vae,
        matrix=64,
        copied=2**16,
    )


class Meter:
    """Seconds and peak memory of what runs under it. Memory is only known on CUDA devices."""

    def __init__(self, device: torch.device):
        self.device, self.cuda = device, device.type == "cuda"
        self.stages: dict[str, dict[str, float]] = {}

    def seconds(self, work: Callable[[], Any]) -> tuple[float, Any]:
        self._wait()
        started = time.perf_counter()
        result = work()
        self._wait()
        return time.perf_counter() - started, result

    def stage(self, name: str, work: Callable[[], Any], repeats: int) -> Any:
        """The median of ``repeats`` runs after one to warm up; the result of the last. Seconds of a stage that was
        measured before are added to it."""
        if self.cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
        runs = [self.seconds(work) for _ in range(repeats + 1)]
        stage = self.stages.setdefault(name, {"seconds": 0.0})
        stage["seconds"] += statistics.median(seconds for seconds, _ in runs[1:])
        if self.cuda:
            stage["peak_bytes"] = max(stage.get("peak_bytes", 0), torch.cuda.max_memory_allocated(self.device))
        return runs[-1][1]

    def _wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize(self.device)


@contextlib.contextmanager
def made_on(device: torch.device, dtype: torch.dtype):
    """Networks built under it get random weights of ``dtype`` right on ``device``."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)


class ReleasedVAE(nn.Module):
    """diffusers' AutoencoderKL as the pipeline calls a VAE."""

    latent = SDXL.latent

    def __init__(self, vae: AutoencoderKL):
        super().__init__()
        self.vae = vae

    def encode(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        found = self.vae.encode(pictures).latent_dist
        return found.mean, found.logvar

    def decode(self, latents: Tensor) -> Tensor:
        return self.vae.decode(latents).sample


class Edit:
    """All networks and inputs of one edit of a picture of ``side`` pixels."""

    def __init__(self, size: Size, device: torch.device, dtype: torch.dtype, side: int, steps: int):
        self.size, self.device, self.dtype = size, device, dtype
        with made_on(device, dtype):
            imagebind = ready(ImageBind(size.imagebind))
            llm = ready(MultimodalLLM(size.llm))
            unet = UNet2DConditionModel(**size.unet.unet_config())
            diffusion = ready(EmbeddingDiffusion(unet, UnclipProjector(size.projector)))
            vae = ready(ReleasedVAE(AutoencoderKL(**size.vae)))
        with made_on(device, torch.float32):  # it computes in full precision in the nodes, too
            prior = ready(RefinementPrior(size.prior))
        self.networks = Networks(imagebind, llm, diffusion, vae, prior)
        self.options = EditOptions(
            alpha=ALPHA,
            mode="polar",
            steps=steps,
            cfg=GUIDANCE,
            inversion="null",
            iterations=1,
            prior_guidance=PRIOR_GUIDANCE,
        )
        self.picture = torch.rand(side, side, 3)
        self.sound = torch.randn(1, 5 * SOUND_RATE).clamp(-1, 1)

    @property
    def job(self) -> EditJob:
        sources = Source("image", self.picture), Source("audio", (self.sound, SOUND_RATE))
        return EditJob("", sources)  # no instruction: the LLM's prompt is a list of ids

    def encode(self, pictures: int) -> Tensor:
        """A batch of pictures, and the sound."""
        imagebind = self.networks.imagebind
        images = encode_images(imagebind, [self.picture] * pictures)
        return torch.cat([images, encode_audios(imagebind, [self.sound], SOUND_RATE)])

    def answer(self, shown: Tensor, prompt: int, new_tokens: int, rows: int = 1) -> Tensor:
        """The embedding (D,) at the last token of the first of ``rows`` answers."""
        llm = self.networks.llm
        ids = tuple(range(3, 3 + prompt % 100)) + (3,) * (prompt - prompt % 100)
        questions = [
            Question(PromptIds(ids, VIDEO_AT), shown[:2], chooser(0.3, torch.Generator().manual_seed(row)))
            for row in range(rows)
        ]
        answers = generate(llm, questions, NEVER, new_tokens, None, self.device)
        return llm.predict_embedding(answers[0].states[-1]).float()


def ready(module: nn.Module) -> nn.Module:
    return module.eval().requires_grad_(False)


@torch.no_grad()
def measure(edit: Edit, meter: Meter, prompt: int, new_tokens: int, batches: list[int], repeats: int) -> dict[str, Any]:
    """Every stage of the pipeline, then the two shares."""
    steps = edit.options.steps
    stages = {  # pipeline step -> row of the table; two steps may share a row
        "encode references": "encode a picture and a sound",
        "refine": "prior and mix",
        "mix": "prior and mix",
        "encode picture": "VAE encode",
        "invert": f"inversion, {steps} steps",
        "mix noise": f"sampling, {steps} steps",
        "paint": f"sampling, {steps} steps",
        "decode": "VAE decode",
    }
    results: dict[str, Any] = {}

    def ask() -> list[EditPlan]:
        """Replaces the pipeline's step: random weights write no readable answer."""
        shown = torch.stack([reference.embedding for reference in results["encode references"][0]])
        asked = partial(edit.answer, shown, prompt)
        vector = meter.stage(f"LLM, {new_tokens} tokens", lambda: asked(new_tokens), repeats)
        meter.stage("LLM, prompt and first token", lambda: asked(1), repeats)
        for rows in batches:
            meter.stage(f"LLM, {rows} instructions at once", partial(asked, new_tokens, rows), repeats)
        return [EditPlan(vector, vector, "")]

    def hook(step: str, work: Callable[[], Any]) -> Any:
        if step == "instruct":
            return ask()
        results[step] = meter.stage(stages[step], work, repeats) if step in stages else work()
        if step == "encode references":
            meter.stage("encode 8 pictures and a sound", lambda: edit.encode(8), repeats)
        return results[step]

    edit_pictures(edit.networks, [edit.job], edit.options, hook)
    return {"stages": meter.stages, "shares": shares(edit, meter, results["encode picture"], new_tokens, repeats)}


def shares(edit: Edit, meter: Meter, latent: Tensor, new_tokens: int, repeats: int) -> dict[str, float]:
    """Decoding against the bandwidth, the UNet (two rows, as guidance runs it) against the matrix rate."""
    decode = (
        meter.stages[f"LLM, {new_tokens} tokens"]["seconds"] - meter.stages["LLM, prompt and first token"]["seconds"]
    )
    llm, diffusion = edit.networks.llm, edit.networks.diffusion
    read = sum(p.numel() * p.element_size() for p in (*llm.model.layers.parameters(), *llm.lm_head.parameters()))
    block = torch.empty(edit.size.copied, dtype=torch.uint8, device=edit.device)
    target = torch.empty_like(block)
    copy = _best(meter, lambda: target.copy_(block), repeats)
    matrix = torch.randn(edit.size.matrix, edit.size.matrix, device=edit.device, dtype=edit.dtype)
    product = _best(meter, lambda: matrix @ matrix, repeats)
    rows, timesteps = latent.repeat(2, 1, 1, 1), torch.full((2,), 500, device=edit.device)
    conditioning = diffusion.condition(latent.new_zeros(2, edit.size.projector.embed))

    def unet_call() -> Tensor:
        return diffusion.predict(rows, timesteps, conditioning)

    with FlopCounterMode(display=False) as counter:
        unet_call()
    call = _best(meter, unet_call, repeats)
    found = {
        "bandwidth_bytes": 2 * edit.size.copied / copy,
        "decode_bytes": read * (new_tokens - 1) / max(decode, 1e-9),
        "tokens_a_second": (new_tokens - 1) / max(decode, 1e-9),
        "matrix_flops": MATRIX_FLOPS * edit.size.matrix**3 / product,
        "unet_flops": counter.get_total_flops() / call,
        "unet_call_seconds": call,
    }
    found["decode_share"] = found["decode_bytes"] / found["bandwidth_bytes"]
    found["unet_share"] = found["unet_flops"] / found["matrix_flops"]
    return found


def _best(meter: Meter, work: Callable[[], Any], repeats: int) -> float:
    """Shortest seconds of some runs, after one to warm up."""
    return min(meter.seconds(work)[0] for _ in range(repeats + 2))


def tables(found: dict[str, Any]) -> str:
    rows = [
        (name, f"{stage['seconds']:.3f}", f"{stage['peak_bytes'] / 1e9:.1f}" if "peak_bytes" in stage else "not known")
        for name, stage in found["stages"].items()
    ]
    one = found["shares"]
    shares_rows = [
        ("decoding, GB/s of weights", f"{one['decode_bytes'] / 1e9:.1f}", f"{one['bandwidth_bytes'] / 1e9:.1f}",
         f"{100 * one['decode_share']:.0f} %"),
        ("UNet call of two rows, TFLOP/s", f"{one['unet_flops'] / 1e12:.2f}", f"{one['matrix_flops'] / 1e12:.2f}",
         f"{100 * one['unet_share']:.0f} %"),
    ]  # fmt: skip
    return "\n\n".join(
        [
            markdown_table(("stage", "seconds", "peak memory, GB"), rows),
            markdown_table(("", "reached", "a copy or a product of matrices reaches", "share"), shares_rows),
        ]
    )


def main(argv: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dims", choices=("full", "tiny"), default="full")
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="bf16")
    parser.add_argument("--side", type=int, default=1024, help="pixels")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--prompt", type=int, default=96, help="tokens")
    parser.add_argument("--tokens", type=int, default=60, help="of the answer")
    parser.add_argument("--batches", type=int, nargs="*", default=[4, 16], help="instructions answered at once")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(argv)
    if arguments.prompt <= max(VIDEO_AT):
        parser.error(
            f"--prompt must be above {max(VIDEO_AT)}, the place of its last reference, got {arguments.prompt}."
        )
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    device = torch.device(arguments.device)
    edit = Edit(sizes(arguments.dims), device, DTYPES[arguments.dtype], arguments.side, arguments.steps)
    found = measure(edit, Meter(device), arguments.prompt, arguments.tokens, arguments.batches, arguments.repeats)
    logger.info("%s", tables(found))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
