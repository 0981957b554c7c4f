"""Our side of benchmarks/against_upstream.py. It also writes the random weights that both sides run on."""

from __future__ import annotations

import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from ..models.adapter import UnclipDims, UnclipProjector
from ..models.backbone import ve_scale
from ..models.diffusion import DiffusionDims, EmbeddingDiffusion
from ..models.imagebind import ImageBind, ImageBindDims
from ..models.mm_llm import MMLLMDims, MultimodalLLM
from ..models.prior import PriorDims, RefinementPrior
from ..stages.any2pix.decode import Answer, Question, chooser, generate
from ..stages.any2pix.mix import mix_embeddings, mix_noise
from ..stages.any2pix.prompt import PromptIds
from ..stages.any2pix.refine import refine
from ..stages.denoiser import GuidedDenoiser
from ..stages.encode import encode_audios, encode_images
from ..stages.invert import ddim_invert
from ..stages.sample import sample_euler, schedule
from . import duel_inputs as inputs
from .duel_inputs import EditTask, EncodeTask, LLMTask, PaintTask, PriorTask

CLIP = {
    "vocab_size": 49408,
    "max_position_embeddings": 77,
    "hidden_act": "gelu",
    "bos_token_id": 49406,
    "eos_token_id": 49407,
}
NEVER = -1  # an end token that no answer holds
SCHEDULE = "ddim_uniform"  # the released leading spacing


@dataclass(frozen=True)
class Prepared:
    """``run()`` is what is timed; ``check()`` gives numbers to compare with the other side's. (n,) float32 each."""

    run: Callable[[], Tensor]
    check: Callable[[], Tensor]

    @classmethod
    def same(cls, run: Callable[[], Tensor]) -> Prepared:
        """For work that draws nothing: what is timed can be compared."""
        return cls(run, run)


def random_network(module: nn.Module, file: Path) -> nn.Module:
    """``module`` for inference, its random weights also in ``file``."""
    module.eval().requires_grad_(False)
    save_file({key: value.contiguous() for key, value in module.state_dict().items()}, file)
    return module


def prepare_llm(task: LLMTask, folder: Path) -> Prepared:
    llm = random_llm(task, folder)
    ids, shown = inputs.question(task)

    def run() -> Tensor:
        return predicted(llm, answer(llm, task, ids, shown, task.new_tokens, task.temperature))

    return Prepared(run, lambda: predicted(llm, answer(llm, task, ids, shown, inputs.CHECK_TOKENS, 0.0)))


def random_llm(task: LLMTask, folder: Path) -> MultimodalLLM:
    return random_network(MultimodalLLM(MMLLMDims(task.embed, task.llama, task.width)), folder / "llm.safetensors")


def answer(
    llm: MultimodalLLM, task: LLMTask, ids: Tensor, shown: Tensor, new_tokens: int, temperature: float
) -> Answer:
    choose = chooser(temperature, torch.Generator().manual_seed(inputs.SEED))
    prompt = PromptIds(tuple(ids.tolist()), tuple(inputs.marks(task)))
    return generate(llm, [Question(prompt, shown, choose)], NEVER, new_tokens, None, "cpu")[0]


def predicted(llm: MultimodalLLM, given: Answer) -> Tensor:
    """The embedding at the last token (D,)."""
    return llm.predict_embedding(given.states[-1])


def prepare_encode(task: EncodeTask, folder: Path) -> Prepared:
    imagebind = random_imagebind(task, folder)
    pictures, sounds = inputs.write_pictures(folder, task.pictures), inputs.write_sounds(folder, task.sounds)
    return Prepared.same(lambda: encode(imagebind, pictures, sounds).flatten())


def random_imagebind(task: EncodeTask, folder: Path) -> ImageBind:
    sizes = {key: value for key, value in vars(task).items() if key not in ("pictures", "sounds")}
    dims = ImageBindDims(**sizes, text_width=64, text_blocks=1, text_heads=1)
    return random_network(ImageBind(dims), folder / "imagebind.safetensors")


def encode(imagebind: ImageBind, pictures: list[Path], sounds: list[Path]) -> Tensor:
    """(N, D), pictures first."""
    embeddings = []
    if pictures:
        images = [torch.from_numpy(np.array(Image.open(path).convert("RGB"))).float() / 255 for path in pictures]
        embeddings.append(encode_images(imagebind, images))
    if sounds:
        embeddings.append(encode_audios(imagebind, [read_wav(path) for path in sounds], inputs.SOUND_RATE))
    return torch.cat(embeddings)


def read_wav(path: Path) -> Tensor:
    """(1, T) in [-1, 1]."""
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
    return torch.from_numpy(samples.astype(np.float32) / 32768)[None]


def prepare_prior(task: PriorTask, folder: Path) -> Prepared:
    prior = random_prior(task, folder)
    return Prepared.same(lambda: refined(prior, inputs.embedding(task.embed)))


def random_prior(task: PriorTask, folder: Path) -> RefinementPrior:
    clip = CLIP | {"hidden_size": task.clip_width, "intermediate_size": 4 * task.clip_width}
    clip |= {"num_hidden_layers": task.clip_layers, "num_attention_heads": task.clip_heads}
    dims = PriorDims(task.embed, task.width, task.layers, task.heads, clip=clip)
    return random_network(RefinementPrior(dims), folder / "prior.safetensors")


@torch.no_grad()
def refined(prior: RefinementPrior, edit: Tensor) -> Tensor:
    return refine(prior, edit, score=inputs.SCORE, guidance=inputs.PRIOR_GUIDANCE)


def prepare_paint(task: PaintTask, folder: Path) -> Prepared:
    diffusion = random_diffusion(task, folder)
    mixed = inputs.embedding(task.embed) * inputs.NORM
    return Prepared.same(lambda: sample(diffusion, task, invert(diffusion, task), mixed).flatten())


def random_diffusion(task: PaintTask, folder: Path) -> EmbeddingDiffusion:
    dims = DiffusionDims(
        task.widths, task.transformers, context=task.context, pooled=task.pooled, sample_size=task.side
    )
    unet = random_network(UNet2DConditionModel(**dims.unet_config()), folder / "unet.safetensors")
    projector = UnclipProjector(UnclipDims(task.embed, task.context, task.context, task.pooled))
    return EmbeddingDiffusion(unet, random_network(projector, folder / "projector.safetensors"))


@torch.no_grad()
def invert(diffusion: EmbeddingDiffusion, task: PaintTask) -> Tensor:
    """The plain DDIM inversion of the released code, one UNet call a step; unit variance."""
    rising = schedule(SCHEDULE, task.steps, diffusion.backbone).flip(0)
    denoiser = GuidedDenoiser(diffusion, torch.zeros(1, task.embed))
    return ddim_invert(denoiser, inputs.source_latent(task), rising, iterations=1) / ve_scale(rising[-1])


@torch.no_grad()
def sample(diffusion: EmbeddingDiffusion, task: PaintTask, inverted: Tensor, mixed: Tensor) -> Tensor:
    start = mix_noise(inverted, inputs.noise_for(task), task.alpha, "polar")
    sigmas = schedule(SCHEDULE, task.steps, diffusion.backbone)
    denoiser = GuidedDenoiser(diffusion, mixed[None], guidance=task.cfg)
    return sample_euler(denoiser, start * ve_scale(sigmas[0]), sigmas)


def prepare_edit(task: EditTask, folder: Path) -> Prepared:
    """All networks at once; the second edit finds the plan, the refined embedding and the inversion done."""
    llm, imagebind = random_llm(task.llm, folder), random_imagebind(task.encode, folder)
    prior = random_prior(task.prior, folder)
    diffusion = random_diffusion(task.paint, folder)
    pictures = inputs.write_pictures(folder, task.encode.pictures)
    sounds = inputs.write_sounds(folder, task.encode.sounds)
    ids, _ = inputs.question(task.llm)

    @torch.no_grad()
    def plan(new_tokens: int, temperature: float) -> tuple[Tensor, Tensor]:
        shown = encode(imagebind, pictures, sounds)
        edit = predicted(llm, answer(llm, task.llm, ids, shown, new_tokens, temperature))
        return mixed_embedding(edit, refined(prior, edit)), invert(diffusion, task.paint)

    def whole(new_tokens: int, temperature: float) -> Tensor:
        mixed, inverted = plan(new_tokens, temperature)
        return sample(diffusion, task.paint, inverted, mixed).flatten()

    def check() -> Tensor:
        return whole(inputs.CHECK_TOKENS, 0.0)

    if not task.second:
        return Prepared(lambda: whole(task.llm.new_tokens, task.llm.temperature), check)
    mixed, inverted = plan(inputs.CHECK_TOKENS, 0.0)
    return Prepared(lambda: sample(diffusion, task.paint, inverted, mixed).flatten(), check)


def mixed_embedding(edit: Tensor, better: Tensor) -> Tensor:
    return mix_embeddings(
        edit, better, edit_weight=inputs.EDIT_WEIGHT, refined_weight=inputs.REFINED_WEIGHT, norm=inputs.NORM
    )


PREPARE = {
    "llm": prepare_llm,
    "encode": prepare_encode,
    "prior": prepare_prior,
    "paint": prepare_paint,
    "edit": prepare_edit,
}
