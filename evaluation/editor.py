"""The pack's own stages as an editor that the evaluation can be handed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from ..datagen.toyland import Scene
from ..loading.autoencoder import load_autoencoder
from ..loading.diffusion import load_embedding_diffusion
from ..loading.imagebind import load_imagebind
from ..loading.llm import load_llm
from ..loading.prior import load_prior
from ..stages.edit import DEFAULTS, EditOptions, Networks, invert_pictures, mix_plan, paint
from ..stages.encode import encode_image
from ..stages.instruct import InstructJob, instruct_batch
from ..stages.mix import mix_embeddings
from ..stages.retrieve import retrieve_base
from ..stages.types import EditPlan, Reference, References
from .cases import EditCase, encode_references, picture_of

logger = logging.getLogger(__name__)
MINIATURE = Path(__file__).resolve().parent.parent / "miniature"
Options = TypeVar("Options")  # a frozen dataclass of options with their defaults
BATCH = 16
UNPAINTED = torch.full((128, 128, 3), 0.5)  # what the judge is shown where no answer could be read


@dataclass(frozen=True)
class Outcome:
    """What an editor gives for a case. `base_index` None: painted from noise."""

    image: Tensor  # (128, 128, 3) in [0, 1]
    caption: str
    base_index: int | None


Editor = Callable[[Sequence[EditCase]], list[Outcome]]


@dataclass(frozen=True)
class PreparedEdit:
    """A case, encoded and planned, before the options of the picture matter. `plan` None: the answer could not be
    read."""

    case: EditCase
    references: References
    plan: EditPlan | None
    base_index: int | None


def outcome_of(picture: Tensor, edit: PreparedEdit) -> Outcome:
    return Outcome(picture, edit.plan.caption if edit.plan else "", edit.base_index)


def load_networks(folder: Path = MINIATURE) -> Networks:
    """All networks of a folder of files named as in miniature/."""
    folder = Path(folder)
    return Networks(
        imagebind=load_imagebind(folder / "imagebind.safetensors"),
        llm=load_llm(folder / "llm.safetensors"),
        diffusion=load_embedding_diffusion(folder / "unet.safetensors", folder / "adapter.safetensors"),
        vae=load_autoencoder(folder / "vae.safetensors"),
        prior=load_prior(folder / "prior.safetensors"),
    )


def prepare(
    networks: Networks, cases: Sequence[EditCase], temperature: float = 0.0, generator: torch.Generator | None = None
) -> list[PreparedEdit]:
    """Encode and plan every case, instructions in batches; each draws from a stream of its own."""
    references = [
        encode_references(networks.imagebind, case) for case in tqdm(cases, desc="encoding references", mininterval=5)
    ]
    streams = [torch.Generator().manual_seed(seed) for seed in _seeds(len(cases), generator)]
    jobs = [
        InstructJob(shown, case.sample.instruction, stream)
        for case, shown, stream in zip(cases, references, streams, strict=True)
    ]
    with tqdm(desc="planning", unit="token", mininterval=5) as bar:
        plans = instruct_batch(networks.llm, jobs, temperature, callback=lambda *_: bar.update())
    prepared = []
    for case, shown, plan in zip(cases, references, plans, strict=True):
        if isinstance(plan, ValueError):  # an answer without a picture: the edit failed, and is counted so
            logger.warning("%s\n%s", case.sample.instruction, plan)
            prepared.append(PreparedEdit(case, shown, None, None))
        else:
            index = retrieve_base(shown, plan.base, plan.mentioned).index
            prepared.append(PreparedEdit(case, shown, plan, index))
    return prepared


def _seeds(count: int, generator: torch.Generator | None) -> list[int]:
    return torch.randint(2**62, (count,), generator=generator).tolist()


def prepare_oracle(networks: Networks, cases: Sequence[EditCase]) -> list[PreparedEdit]:
    """The same with the embedding of the rendered target instead of the LLM's, and the true base: the painter alone."""
    prepared = []
    for case in cases:
        references = encode_references(networks.imagebind, case)
        target = encode_image(networks.imagebind, picture_of(case.sample.target))
        index = case.sample.base_index
        base = references[index].embedding if index is not None else None
        prepared.append(PreparedEdit(case, references, EditPlan(edit=target, base=base, caption=""), index))
    return prepared


def invert_prepared(networks: Networks, prepared: Sequence[PreparedEdit], options: EditOptions) -> list[Tensor | None]:
    """Inverted latents (4, h, w) of the base pictures; None where there is no base picture.

    Edits of the same scene (one edit given in several ways) share its inversion.
    """
    scenes = [edit.case.sample.references[edit.base_index].content if _has_picture(edit) else None for edit in prepared]
    first = {scene: i for i, scene in reversed(list(enumerate(scenes))) if scene is not None}
    latents: dict[Scene, Tensor] = {}
    for chunk in tqdm(_batches(sorted(first.values())), desc="inverting", mininterval=5):
        bases = torch.stack([_base(prepared[i]).image for i in chunk])
        embeddings = torch.stack([_base(prepared[i]).embedding for i in chunk])
        inverted = invert_pictures(networks, bases, embeddings, options)
        latents |= zip((scenes[i] for i in chunk), inverted, strict=True)
    return [None if scene is None else latents[scene] for scene in scenes]


def paint_prepared(
    networks: Networks,
    prepared: Sequence[PreparedEdit],
    inverted: Sequence[Tensor | None],
    options: EditOptions,
    seed: int = 0,
    oracle: bool = False,
) -> list[Tensor]:
    """Pictures (128, 128, 3) of prepared edits, in batches; those without an inverted latent are painted from noise."""
    generator = torch.Generator().manual_seed(seed)
    pictures: dict[int, Tensor] = {}
    edited = [i for i, latent in enumerate(inverted) if latent is not None]
    for chunk in tqdm(_batches(edited), desc="painting", mininterval=5):
        edits = torch.stack([_embedding(networks, prepared[i], options, oracle) for i in chunk])
        bases = torch.stack([_base(prepared[i]).embedding for i in chunk])
        painted = paint(networks, edits, options, torch.stack([inverted[i] for i in chunk]), bases, generator=generator)
        pictures |= zip(chunk, painted.cpu(), strict=True)
    pictures |= {i: UNPAINTED for i, edit in enumerate(prepared) if edit.plan is None}
    for chunk in _batches([i for i, latent in enumerate(inverted) if latent is None and i not in pictures]):
        edits = torch.stack([_embedding(networks, prepared[i], options, oracle) for i in chunk])
        pictures |= zip(chunk, paint(networks, edits, options, generator=generator).cpu(), strict=True)
    return [pictures[i] for i in range(len(prepared))]


def _batches(indices: list[int]) -> list[list[int]]:
    return [indices[start : start + BATCH] for start in range(0, len(indices), BATCH)]


def _base(edit: PreparedEdit) -> Reference:
    return edit.references[edit.base_index]


def _has_picture(edit: PreparedEdit) -> bool:
    return edit.base_index is not None and _base(edit).image is not None


def _embedding(networks: Networks, edit: PreparedEdit, options: EditOptions, oracle: bool) -> Tensor:
    """The mixed H; an oracle's is already the embedding of a clean picture, so the prior has nothing to do."""
    if oracle:
        return mix_embeddings(
            edit.plan.edit, base=edit.plan.base, edit_weight=1.0, base_weight=options.base_weight, norm=options.norm
        )
    base = _base(edit).embedding if edit.base_index is not None else None
    return mix_plan(networks.prior, edit.plan, options, base)


def pack_editor(networks: Networks, options: EditOptions, seed: int = 0, oracle: bool = False) -> Editor:
    """The whole pack, or with `oracle` its painter alone."""

    def edit(cases: Sequence[EditCase]) -> list[Outcome]:
        generator = torch.Generator().manual_seed(seed)
        prepared = (
            prepare_oracle(networks, cases) if oracle else prepare(networks, cases, options.temperature, generator)
        )
        inverted = invert_prepared(networks, prepared, options)
        pictures = paint_prepared(networks, prepared, inverted, options, seed, oracle)
        return [outcome_of(picture, edit) for picture, edit in zip(pictures, prepared, strict=True)]

    return edit


def options_from(pairs: Sequence[str], options: Options = DEFAULTS) -> Options:
    """["cfg=3", "negative=null"] -> the options, a dataclass, with these changes."""
    changes = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator or not hasattr(options, name):
            known = ", ".join(field.name for field in fields(options))
            raise ValueError(f"{pair!r} is not an option of the edit. Write NAME=VALUE with one of: {known}.")
        kind = type(getattr(options, name))
        try:
            changes[name] = kind(text)
        except ValueError as error:
            raise ValueError(f"{name} is a {kind.__name__}, and {text!r} is none.") from error
    return replace(options, **changes)
