"""Scores of the instruction LLM on held-out edits: captions, base retrieval, embeddings."""

from collections import defaultdict

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..datagen.instructions import EDIT_KINDS, EditSample, ReferenceSpec, sample_edit
from ..datagen.sounds import synthesize
from ..datagen.toyland import ATTRIBUTES, Scene, parse_caption, render
from ..models.imagebind import ImageBind
from ..models.mm_llm import MultimodalLLM
from ..stages.any2pix.instruct import instruct
from ..stages.any2pix.prompt import UnreadableAnswer
from ..stages.any2pix.retrieve import retrieve_base
from ..stages.preprocess import image_to_tensor, waveform_to_clips
from ..stages.types import EditPlan, Reference
from .llm_bank import embed_text

TEST_SOUNDS_FROM = 2**31  # the training bank's takes lie far below


@torch.no_grad()
def embed_scene(imagebind: ImageBind, scene: Scene) -> Tensor:
    """(D,), unit norm."""
    picture = torch.from_numpy(render(scene)).float()[None] / 255.0
    return imagebind.encode_image(image_to_tensor(picture, imagebind.dims.image_size))[0].float()


@torch.no_grad()
def to_reference(imagebind: ImageBind, spec: ReferenceSpec, seed: int) -> Reference:
    """A connected reference; ``seed`` picks the take of a sound."""
    if spec.modality == "image":
        return Reference(embed_scene(imagebind, spec.content), "image", label=spec.label)
    if spec.modality == "audio":
        samples, rate = synthesize(spec.content, TEST_SOUNDS_FROM + seed)
        clips = waveform_to_clips(torch.from_numpy(samples), rate, imagebind.dims)
        return Reference(imagebind.encode_audio(clips[None])[0], "audio", label=spec.label)
    return Reference(embed_text(imagebind, spec.content), "text", label=spec.label)


def score(
    sample: EditSample, plan: EditPlan, references: tuple[Reference, ...], imagebind: ImageBind
) -> dict[str, float]:
    """1 for right and 0 for wrong, cosines for embeddings.

    ``caption``: all four attributes of the result; ``caption, edited``: those that change. ``base``: where there are
    several references to choose among. ``copy_cosine``: what the unchanged source would reach.
    """
    named = parse_caption(plan.caption) or {}
    target = embed_scene(imagebind, sample.target)
    right = {name: named.get(name) == getattr(sample.target, name) for name in ATTRIBUTES}
    edited = [name for name in ATTRIBUTES if getattr(sample.source, name, None) != getattr(sample.target, name)]
    rows = {
        "caption": float(all(right.values())),
        "caption, edited": float(all(right[name] for name in edited)),
        "null": float((plan.base is None) == (sample.base_index is None)),
        "edit_cosine": float(F.cosine_similarity(plan.edit, target, dim=0)),
    }
    if sample.base_index is not None:
        source = references[sample.base_index].embedding
        rows["copy_cosine"] = float(F.cosine_similarity(source, target, dim=0))
        if len(references) > 1:
            rows["base"] = float(retrieve_base(references, plan.base, plan.mentioned).index == sample.base_index)
        if plan.base is not None:
            rows["base_cosine"] = float(F.cosine_similarity(plan.base, source, dim=0))
    return rows


def held_out_scores(llm: MultimodalLLM, imagebind: ImageBind, samples: int, seed: int) -> dict[str, float]:
    """Means over ``samples`` edits of the test split, decoded greedily.

    Keys: "caption", "base", ... over all of them, and for one edit "caption/add", "caption/as audio", ...
    """
    rng = np.random.default_rng(seed)
    gathered: dict[str, list[float]] = defaultdict(list)
    for index in range(samples):
        sample = sample_edit(rng, "test")
        references = tuple(to_reference(imagebind, spec, seed + index) for spec in sample.references)
        try:
            rows = score(sample, instruct(llm, references, sample.instruction), references, imagebind)
        except UnreadableAnswer:
            rows = dict.fromkeys(("caption", "caption, edited", "null", "base"), 0.0)
        for name, value in rows.items():
            gathered[name].append(value)
            for group in _groups(sample):
                gathered[f"{name}/{group}"].append(value)
    return {name: round(sum(values) / len(values), 4) for name, values in sorted(gathered.items())}


def by_modality(llm: MultimodalLLM, imagebind: ImageBind, samples: int, seed: int) -> dict[str, float]:
    """The SAME edits given as text, sound and picture; all kinds but style, which has no sound."""
    right: dict[str, list[float]] = defaultdict(list)
    for index in range(samples):
        kind = [kind for kind in EDIT_KINDS if kind != "style"][index % (len(EDIT_KINDS) - 1)]
        drawn = sample_edit(np.random.default_rng(seed + index), "test", kinds=(kind,), given_as="text")
        for modality in ("text", "image", "audio"):
            rng = np.random.default_rng(seed + index)
            sample = sample_edit(rng, "test", kinds=(kind,), given_as=modality, scenes=(drawn.source, drawn.target))
            references = tuple(to_reference(imagebind, spec, seed + index) for spec in sample.references)
            try:
                rows = score(sample, instruct(llm, references, sample.instruction), references, imagebind)
            except UnreadableAnswer:
                rows = {"caption": 0.0, "edit_cosine": 0.0}
            for name in ("caption", "edit_cosine"):
                right[f"same edit, {name} as {modality}"].append(rows[name])
    return {name: round(sum(values) / len(values), 4) for name, values in right.items()}


def _groups(sample: EditSample) -> list[str]:
    if len(sample.kind) > 1:
        return ["several"]
    return [sample.kind[0], f"as {sample.given_as[sample.kind[0]]}"]
