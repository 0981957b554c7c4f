"""The pack's own stages as an editor that the evaluation can be handed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from ..loading.autoencoder import load_autoencoder
from ..loading.diffusion import load_embedding_diffusion
from ..loading.imagebind import load_imagebind
from ..loading.llm import load_llm
from ..loading.prior import load_prior
from ..stages.any2pix.options import DEFAULTS, EditOptions
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
from ..stages.encode import encode_image
from ..stages.steps import Hook
from ..stages.types import EditPlan
from .cases import EditCase, encode_references, picture_of

logger = logging.getLogger(__name__)
MINIATURE = Path(__file__).resolve().parent.parent / "miniature"
Options = TypeVar("Options")  # a frozen dataclass of options with their defaults
BATCH = 16
KINDS_IN_WORDS = {int: "an integer", float: "a number", str: "a text"}
SLOW_STEPS = ("invert", "paint")
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
    """A case, encoded and planned, before the options of the picture matter. `planned` None: the answer could not be
    read."""

    case: EditCase
    planned: PlannedEdit | None

    @property
    def base_index(self) -> int | None:
        """Which reference is edited; None: the picture is painted from noise, or there is no plan."""
        return None if self.planned is None else self.planned.index


def outcome_of(picture: Tensor, edit: PreparedEdit) -> Outcome:
    return Outcome(picture, edit.planned.plan.caption if edit.planned else "", edit.base_index)


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
    jobs = [
        EditJob(case.sample.instruction, references=encode_references(networks.imagebind, case), seed=seed)
        for case, seed in zip(
            tqdm(cases, desc="encoding references", mininterval=5), _seeds(len(cases), generator), strict=True
        )
    ]
    with tqdm(desc="planning", unit="token", mininterval=5) as bar:
        found = plan_edits(networks, jobs, replace(DEFAULTS, temperature=temperature), on_token=bar.update)
    for case, planned in zip(cases, found, strict=True):
        if isinstance(planned, ValueError):  # an answer without a picture: the edit failed, and is counted so
            logger.warning("%s\n%s", case.sample.instruction, planned)
    return [
        PreparedEdit(case, None if isinstance(planned, ValueError) else planned)
        for case, planned in zip(cases, found, strict=True)
    ]


def _seeds(count: int, generator: torch.Generator | None) -> list[int]:
    return torch.randint(2**62, (count,), generator=generator).tolist()


def prepare_oracle(networks: Networks, cases: Sequence[EditCase]) -> list[PreparedEdit]:
    """The same with the embedding of the rendered target instead of the LLM's, and the true base: the painter alone."""
    prepared = []
    for case in cases:
        references = encode_references(networks.imagebind, case)
        plan = EditPlan(encode_image(networks.imagebind, picture_of(case.sample.target)), base=None, caption="")
        job = EditJob(case.sample.instruction, references=references)
        prepared.append(PreparedEdit(case, PlannedEdit(job, references, plan, case.sample.base_index)))
    return prepared


def invert_prepared(
    networks: Networks, prepared: Sequence[PreparedEdit], options: EditOptions
) -> list[InvertedPicture | None]:
    """The base pictures, inverted; None where there is none. Edits of the same scene (one edit given in several ways)
    share its inversion."""
    found = iter(invert_edits(networks, [edit.planned for edit in prepared if edit.planned], options, _progress()))
    return [next(found) if edit.planned else None for edit in prepared]


def paint_prepared(
    networks: Networks,
    prepared: Sequence[PreparedEdit],
    inverted: Sequence[InvertedPicture | None],
    options: EditOptions,
    seed: int = 0,
    oracle: bool = False,
) -> list[Tensor]:
    """Pictures (128, 128, 3) of prepared edits; the noise of each is its own, whatever the others are.

    An ``oracle``'s embedding is that of a clean picture already: the prior has nothing to do.
    """
    if oracle:
        options = replace(options, edit_weight=1.0, refined_weight=0.0, formula="equal")
    ready = [place for place, edit in enumerate(prepared) if edit.planned]
    edits = [
        replace(prepared[place].planned, job=replace(prepared[place].planned.job, seed=seed + place)) for place in ready
    ]
    latents = [inverted[place] for place in ready]
    painted = paint_edits(networks, edits, mix_edits(networks, edits, options), latents, options, _progress())
    pictures = dict(zip(ready, painted, strict=True))
    return [pictures.get(place, UNPAINTED) for place in range(len(prepared))]


def _progress() -> Hook:
    """A bar that counts the slow steps."""
    bars: dict[str, tqdm] = {}

    def run(name: str, step: Callable) -> Any:
        if name not in SLOW_STEPS:
            return step()
        bar = bars.setdefault(name, tqdm(desc=name, unit="batch", mininterval=5))
        result = step()
        bar.update()
        return result

    return run


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
            raise ValueError(f"{name} must be {KINDS_IN_WORDS.get(kind, kind.__name__)}, got {text!r}.") from error
    return replace(options, **changes)
