"""Our side of benchmarks/against_upstream.py. It also writes the random weights that both sides run on."""

from __future__ import annotations

import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from ..models.adapter import UnclipDims, UnclipProjector
from ..models.autoencoder import Autoencoder, AutoencoderDims
from ..models.backbone import SDXL
from ..models.diffusion import DiffusionDims, EmbeddingDiffusion
from ..models.imagebind import ImageBind, ImageBindDims
from ..models.mm_llm import MMLLMDims, MultimodalLLM
from ..models.prior import PriorDims, RefinementPrior
from ..stages.any2pix.decode import Answer, Question, chooser, generate
from ..stages.any2pix.options import EditOptions
from ..stages.any2pix.pipeline import (
    EditJob,
    InvertedPicture,
    Networks,
    PlannedEdit,
    invert_edits,
    mix_edits,
    paint_edits,
    plan_edits,
)
from ..stages.any2pix.prompt import PromptIds
from ..stages.any2pix.refine import refine
from ..stages.encode import encode_audios, encode_images
from ..stages.types import EditPlan, Reference, References
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
VAE_WIDTHS = (32, 32, 32, 32)  # of a small VAE: the pipeline reads its latents' size; neither side runs one


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
    """Inversion, noise mix and sampling of an edit that is planned."""
    networks = with_a_vae(random_diffusion(task, folder))
    mixed = inputs.embedding(task.embed) * inputs.NORM
    picture = Reference(inputs.embedding(task.embed), "image", blank_picture(task))
    edit = PlannedEdit(paint_job(), (picture,), EditPlan(mixed, mixed, ""), 0)

    @torch.no_grad()
    def run() -> Tensor:
        steps = ReplacedSteps({"encode picture": lambda: inputs.source_latent(task)})
        options = edit_options(task)
        return painted(networks, edit, mixed, invert_edits(networks, [edit], options, steps)[0], options, steps)

    return Prepared.same(run)


def paint_job() -> EditJob:
    """A job whose seed draws the same noise as ``inputs.noise_for``."""
    return EditJob("", seed=inputs.SEED + 1)


def blank_picture(task: PaintTask) -> Tensor:
    """(H, W, 3), of the size that belongs to the latent."""
    return torch.zeros(SDXL.latent.step * task.side, SDXL.latent.step * task.side, 3)


def with_a_vae(diffusion: EmbeddingDiffusion, imagebind: Any = None, llm: Any = None, prior: Any = None) -> Networks:
    """Networks for the pipeline. Inversion and painting use the diffusion network alone; no VAE pass is run."""
    vae = Autoencoder(AutoencoderDims(VAE_WIDTHS, scale=SDXL.latent.scale)).eval().requires_grad_(False)
    return Networks(imagebind, llm, diffusion, vae, prior)


def edit_options(task: PaintTask) -> EditOptions:
    """As released: the plain DDIM inversion, one UNet call a step, without an embedding."""
    return EditOptions(
        alpha=task.alpha,
        mode="polar",
        edit_weight=inputs.EDIT_WEIGHT,
        refined_weight=inputs.REFINED_WEIGHT,
        norm=inputs.NORM,
        steps=task.steps,
        cfg=task.cfg,
        scheduler=SCHEDULE,
        inversion="null",
        iterations=1,
        score=inputs.SCORE,
        prior_guidance=inputs.PRIOR_GUIDANCE,
    )


class ReplacedSteps:
    """A pipeline hook. ``instead``: step name -> what runs instead of the step. Decoding is skipped, so the pipeline
    returns the latent."""

    def __init__(self, instead: dict[str, Callable[[], Any]]):
        self.instead = instead
        self.results: dict[str, Any] = {}

    def __call__(self, name: str, step: Callable[[], Any]) -> Any:
        if name == "decode":
            return self.results["paint"]
        self.results[name] = self.instead.get(name, step)()
        return self.results[name]


def painted(
    networks: Networks,
    edit: PlannedEdit,
    mixed: Tensor,
    inverted: InvertedPicture,
    options: EditOptions,
    steps: ReplacedSteps,
) -> Tensor:
    """The latent, flat."""
    return paint_edits(networks, [edit], [mixed], [inverted], options, steps)[0].flatten()


def random_diffusion(task: PaintTask, folder: Path) -> EmbeddingDiffusion:
    dims = DiffusionDims(
        task.widths, task.transformers, context=task.context, pooled=task.pooled, sample_size=task.side
    )
    unet = random_network(UNet2DConditionModel(**dims.unet_config()), folder / "unet.safetensors")
    projector = UnclipProjector(UnclipDims(task.embed, task.context, task.context, task.pooled))
    return EmbeddingDiffusion(unet, random_network(projector, folder / "projector.safetensors"))


def prepare_edit(task: EditTask, folder: Path) -> Prepared:
    """All networks at once; the second edit finds the plan, the refined embedding and the inversion done."""
    llm, imagebind = random_llm(task.llm, folder), random_imagebind(task.encode, folder)
    prior = random_prior(task.prior, folder)
    networks = with_a_vae(random_diffusion(task.paint, folder), imagebind, llm, prior)
    pictures = inputs.write_pictures(folder, task.encode.pictures)
    sounds = inputs.write_sounds(folder, task.encode.sounds)
    ids, _ = inputs.question(task.llm)

    def references() -> list[References]:
        embeddings = encode(imagebind, pictures, sounds)
        picture = blank_picture(task.paint)
        kinds = [("image", picture)] * len(pictures) + [("audio", None)] * len(sounds)
        return [tuple(Reference(one, *kind) for one, kind in zip(embeddings, kinds, strict=True))]

    def first(new_tokens: int, temperature: float) -> tuple[PlannedEdit, Tensor, InvertedPicture, ReplacedSteps]:
        def plans() -> list[EditPlan]:
            """Random weights write no readable answer, so the embedding at its last token is the edit."""
            shown = torch.stack([reference.embedding for reference in steps.results["encode references"][0]])
            edit = predicted(llm, answer(llm, task.llm, ids, shown, new_tokens, temperature))
            return [EditPlan(edit, edit, "")]

        instead = {"encode references": references, "instruct": plans}
        steps = ReplacedSteps({**instead, "encode picture": lambda: inputs.source_latent(task.paint)})
        options = edit_options(task.paint)
        (edit,) = plan_edits(networks, [paint_job()], options, steps)
        (mixed,) = mix_edits(networks, [edit], options, steps)
        return edit, mixed, invert_edits(networks, [edit], options, steps)[0], steps

    def paint(edit: PlannedEdit, mixed: Tensor, inverted: InvertedPicture, steps: ReplacedSteps) -> Tensor:
        return painted(networks, edit, mixed, inverted, edit_options(task.paint), steps)

    @torch.no_grad()
    def whole(new_tokens: int, temperature: float) -> Tensor:
        return paint(*first(new_tokens, temperature))

    def check() -> Tensor:
        return whole(inputs.CHECK_TOKENS, 0.0)

    if not task.second:
        return Prepared(lambda: whole(task.llm.new_tokens, task.llm.temperature), check)
    with torch.no_grad():
        known = first(inputs.CHECK_TOKENS, 0.0)
    return Prepared(torch.no_grad()(lambda: paint(*known)), check)


PREPARE = {
    "llm": prepare_llm,
    "encode": prepare_encode,
    "prior": prepare_prior,
    "paint": prepare_paint,
    "edit": prepare_edit,
}
