"""Editing instructions for Toyland: the paper's five kinds of edit, compositions of them, and painting from nothing.

A sample is a source scene, a target scene and a sentence that leads from one to the other; whatever the sentence
asks for is given in words, or by a mark that stands for a connected picture, sound or text.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from . import wording
from .phrasing import PLAIN, choose, write_instruction
from .toyland import HELD_OUT, STYLES, SUBJECTS, WEATHERS, Scene, caption, sample_scene

EDIT_KINDS = ("add", "remove", "replace", "style", "atmosphere")
KINDS = EDIT_KINDS + ("generate",)
ATTRIBUTE = {
    "add": "subject",
    "remove": "subject",
    "replace": "subject",
    "style": "style",
    "atmosphere": "weather",
    "generate": "subject",
}
MODALITIES = ("text", "image", "audio")
# How an edit may be given. A drawing style has no sound.
GIVEN = {kind: ("text", "image") if kind == "style" else MODALITIES for kind in KINDS}

GENERATE_SHARE = 0.08  # of all samples: no picture to edit
COMPOSITION_SHARES = (0.68, 0.24, 0.08)  # of the edits: one, two or three at once
TEXT_AS_REFERENCE = 0.3  # of what is given as text: a connected text instead of words in the instruction
OLD_BY_MARK = 0.15  # of the replacements: what goes is named by a reference too
SHARED_PICTURE = 0.2  # of the compositions with two picture references: one picture gives both
UNMENTIONED = 0.1  # of the samples: one more reference is connected than the instruction names
BASE_FIRST = 0.6  # of the edits: the base is the first reference; else all are in any order
HELD_OUT_TARGETS = 0.7  # of the test samples whose kind allows it


@dataclass(frozen=True)
class ReferenceSpec:
    """One connected reference. `content`: a Scene for an image, one of SOUND_KINDS for audio, the text itself for text.

    `mark` is what the instruction calls it, e.g. "[image2]"; `label` says the same in words, for when it is dropped to
    text.
    """

    modality: str
    mark: str
    content: Scene | str
    label: str


@dataclass(frozen=True)
class EditSample:
    """An instruction with what it refers to and where it leads.

    `references` are in connection order; `base_index` points into them (None with `source` None: paint from nothing).
    `subjects`: (name, reference index) of every added subject that comes from an image reference.
    `given_as`: edit kind -> "text", "image" or "audio"; for "generate" it says how the subject is given.
    """

    source: Scene | None
    target: Scene
    kind: tuple[str, ...]
    instruction: str
    references: tuple[ReferenceSpec, ...]
    base_index: int | None
    subjects: tuple[tuple[str, int], ...]
    given_as: dict[str, str]


@dataclass
class _Draft:
    """A sample in the making: references by the role they play, before their order and marks are known."""

    source: Scene | None
    target: Scene
    kinds: tuple[str, ...]
    given_as: dict[str, str]
    connected: dict[str, tuple[str, Scene | str]]  # role -> (modality, content)
    shared: dict[str, str]  # edit kind -> role whose reference it uses


def sample_edit(
    rng: np.random.Generator,
    split: str = "train",
    kinds: tuple[str, ...] | None = None,
    given_as: str | Mapping[str, str] | None = None,
    scenes: tuple[Scene, Scene] | None = None,
) -> EditSample:
    """Draw a sample.

    `kinds`: the edits in the order in which the instruction names them, each attribute at most once, e.g. ("add",
    "style"); or ("generate",); None draws them. `given_as`: "text", "image" or "audio" for all of them, or a mapping by
    kind; None draws. `scenes`: source and target of an edit whose pictures exist already (see `edits_between`); wording
    and references are drawn. In the train split no scene, those of the references included, is a held-out combination
    or has a test seed.
    """
    if split not in ("train", "test"):
        raise ValueError(f"There is no split {split!r}. Choose one of: train, test.")
    if kinds is None:
        kinds = tuple(rng.permutation(edits_between(*scenes)).tolist()) if scenes else _draw_kinds(rng, given_as)
    kinds = tuple(kinds)
    _check_kinds(kinds)
    modality = _draw_modalities(rng, kinds, given_as)
    if kinds == ("generate",):
        draft = _draft_generate(rng, split, modality)
    else:
        draft = _draft_edit(rng, split, kinds, modality, scenes or _draw_scenes(rng, split, kinds))
    if rng.random() < UNMENTIONED:
        draft.connected["extra"] = _unmentioned(rng, split, draft.source)
    roles = _connection_order(rng, draft.connected)
    references = _with_marks([draft.connected[role] for role in roles])
    marks = {role: reference.mark for role, reference in zip(roles, references, strict=True)}
    marks |= {kind: marks[role] for kind, role in draft.shared.items()}
    index = {reference.mark: i for i, reference in enumerate(references)}
    by_picture = [kind for kind in kinds if kind in ("add", "replace", "generate") and modality[kind] == "image"]
    return EditSample(
        source=draft.source,
        target=draft.target,
        kind=kinds,
        instruction=write_instruction(rng, draft.source, draft.target, kinds, modality, marks),
        references=references,
        base_index=index[marks["base"]] if "base" in marks else None,
        subjects=tuple((draft.target.subject, index[marks[kind]]) for kind in by_picture),
        given_as=modality,
    )


def edits_between(source: Scene, target: Scene) -> tuple[str, ...]:
    """The edits that lead from one scene to another of the same background and seed, e.g. ("add", "style")."""
    if (source.background, source.seed) != (target.background, target.seed):
        raise ValueError(f"No edit leads from {source} to {target}. Give two scenes of the same background and seed.")
    subject = "add" if source.subject == "none" else "remove" if target.subject == "none" else "replace"
    changed = {"subject": subject, "style": "style", "weather": "atmosphere"}
    return tuple(kind for name, kind in changed.items() if getattr(source, name) != getattr(target, name))


# What happens ---------------------------------------------------------------------------------------------------------


def _draw_kinds(rng, given_as):
    if given_as is None and rng.random() < GENERATE_SHARE:
        return ("generate",)
    edits = list(EDIT_KINDS)
    if isinstance(given_as, str):
        edits = [kind for kind in edits if given_as in GIVEN[kind]]
    count = int(rng.choice((1, 2, 3), p=COMPOSITION_SHARES))
    kinds = []
    for kind in rng.permutation(edits):
        if ATTRIBUTE[kind] not in {ATTRIBUTE[other] for other in kinds}:
            kinds.append(str(kind))
    return tuple(kinds[:count])


def _check_kinds(kinds):
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise ValueError(f"There is no edit {unknown[0]!r}. Choose from: {', '.join(KINDS)}.")
    changed = [ATTRIBUTE[kind] for kind in kinds]
    if not kinds or len(set(changed)) < len(changed) or ("generate" in kinds and len(kinds) > 1):
        raise ValueError(
            f"The edits {kinds} cannot go together. Name one, or several that each change another attribute."
        )


def _draw_modalities(rng, kinds, given_as):
    """-> dict edit kind -> modality, as asked for or drawn."""
    wanted = dict.fromkeys(kinds, given_as) if isinstance(given_as, str) else dict(given_as or {})
    drawn = {}
    for kind in kinds:
        drawn[kind] = wanted.get(kind) or choose(rng, GIVEN[kind])
        if drawn[kind] not in GIVEN[kind]:
            raise ValueError(
                f"The edit {kind!r} cannot be given as {drawn[kind]!r}. Choose one of: {', '.join(GIVEN[kind])}."
            )
    return drawn


def _other(rng, options, *taken):
    return choose(rng, [option for option in options if option not in taken])


def _draw_target(rng, split, kinds):
    """A scene that the edits can lead to; in the test split mostly of a held-out combination."""
    scene = sample_scene(rng, split)
    wanted = {"remove": ("none",), "add": SUBJECTS[1:], "replace": SUBJECTS[1:]}
    subjects = next((wanted[kind] for kind in kinds if kind in wanted), SUBJECTS)
    if split == "test" and rng.random() < HELD_OUT_TARGETS:
        pool = sorted(combination for combination in HELD_OUT if combination[1] in subjects)
        return Scene(*choose(rng, pool), seed=scene.seed)
    return scene if scene.subject in subjects else replace(scene, subject=choose(rng, subjects))


def _before(rng, kind, target):
    """-> the attributes that the source has in the place of the target's, for an edit of this kind."""
    match kind:
        case "add":
            return {"subject": "none"}
        case "remove":
            return {"subject": choose(rng, SUBJECTS[1:])}
        case "replace":
            return {"subject": _other(rng, SUBJECTS, "none", target.subject)}
        case "style":
            return {"style": _other(rng, STYLES, target.style)}
        case _:
            return {"weather": _other(rng, WEATHERS, target.weather)}


def _draw_scenes(rng, split, kinds):
    """-> source and target, alike but for what the edits change."""
    while True:
        target = _draw_target(rng, split, kinds)
        source = replace(
            target, **{name: value for kind in kinds for name, value in _before(rng, kind, target).items()}
        )
        if split == "test" or not {source.combination, target.combination} & HELD_OUT:
            return source, target


def _picture_of(rng, split, source, **attributes):
    """A scene with these attributes and any others, within the split; never one that could be taken for the source."""
    while True:
        scene = replace(sample_scene(rng, split), **attributes)
        alike = source is not None and scene.combination == source.combination
        if not alike and (split == "test" or scene.combination not in HELD_OUT):
            return scene


def _text_of(rng, attribute, value):
    texts = {
        "subject": (f"a {value}",),
        "style": wording.STYLE_TEXTS.get(value),
        "weather": wording.WEATHER_TEXTS.get(value),
    }
    return choose(rng, texts[attribute])


def _reference(rng, split, source, modality, attribute, value):
    """-> (modality, content) of a reference that gives an attribute its value."""
    if modality == "image":
        return modality, _picture_of(rng, split, source, **{attribute: value})
    return modality, value if modality == "audio" else _text_of(rng, attribute, value)


def _unmentioned(rng, split, source):
    attribute, options = choose(rng, (("subject", SUBJECTS[1:]), ("weather", WEATHERS)))
    return _reference(
        rng, split, source, choose(rng, ("image", "image", "audio", "text")), attribute, choose(rng, options)
    )


def _draft_edit(rng, split, kinds, modality, scenes):
    source, target = scenes
    values = {kind: getattr(source if kind == "remove" else target, ATTRIBUTE[kind]) for kind in kinds}
    connected, shared = {"base": ("image", source)}, {}
    by_picture = [kind for kind in kinds if modality[kind] == "image"]
    if len(by_picture) >= 2 and rng.random() < SHARED_PICTURE:
        connected[by_picture[0]] = (
            "image",
            _picture_of(rng, split, source, **{ATTRIBUTE[kind]: values[kind] for kind in by_picture}),
        )
        shared = {kind: by_picture[0] for kind in by_picture[1:]}
    for kind in kinds:
        in_words = modality[kind] == "text" and rng.random() >= TEXT_AS_REFERENCE
        if not in_words and kind not in connected and kind not in shared:
            connected[kind] = _reference(rng, split, source, modality[kind], ATTRIBUTE[kind], values[kind])
    if "replace" in kinds and rng.random() < OLD_BY_MARK:
        connected["old"] = _reference(rng, split, source, choose(rng, ("image", "audio")), "subject", source.subject)
    return _Draft(source, target, kinds, modality, connected, shared)


def _draft_generate(rng, split, modality):
    """A picture from nothing: a subject (or an empty place), perhaps a weather, a style and a background."""
    while True:
        target = _draw_target(rng, split, ())
        # To stay a held-out combination, it must be named whole.
        named = set(PLAIN) if target.combination in HELD_OUT else {part for part in PLAIN if rng.random() < 0.5}
        target = replace(target, **{part: value for part, value in PLAIN.items() if part not in named})
        if target.subject == "none" and modality["generate"] != "text":
            target = replace(target, subject=choose(rng, SUBJECTS[1:]))
        if split == "test" or target.combination not in HELD_OUT:
            break
    connected = {}
    if target.subject != "none" and (modality["generate"] != "text" or rng.random() < TEXT_AS_REFERENCE):
        connected["generate"] = _reference(rng, split, None, modality["generate"], "subject", target.subject)
    for part, modalities in (("weather", ("image", "audio")), ("style", ("image",))):
        if part in named and rng.random() < 0.4:
            connected[part] = _reference(rng, split, None, choose(rng, modalities), part, getattr(target, part))
    return _Draft(None, target, ("generate",), modality, connected, {})


# How it is connected -------------------------------------------------------------------------------------------------


def _connection_order(rng, connected):
    roles = [str(role) for role in rng.permutation(sorted(connected))]
    if "base" in connected and rng.random() < BASE_FIRST:
        roles.sort(key=lambda role: role != "base")
    return roles


def _with_marks(connected):
    """[(modality, content)] in connection order -> references; [imageN] is the N-th image, and so for each modality."""
    count, references = dict.fromkeys(MODALITIES, 0), []
    for modality, content in connected:
        count[modality] += 1
        label = {"image": caption, "audio": _sound_label, "text": str}[modality](content)
        references.append(ReferenceSpec(modality, f"[{modality}{count[modality]}]", content, label))
    return tuple(references)


def _sound_label(kind):
    return f"the sound of {'a ' + kind if kind in SUBJECTS else wording.WEATHER_NOUNS[kind]}"


def to_published_record(sample: EditSample) -> dict:
    """The sample as one entry of the paper's instruction file, where media stand in brackets by their caption."""
    labels = {reference.mark: reference for reference in sample.references}

    def in_words(match):
        reference = labels[match.group()]
        return reference.label if reference.modality == "text" else f"[{reference.label}]"

    base = f"[{caption(sample.source)}]" if sample.source else ""
    result = caption(sample.target)
    record = {
        "task": "any2any",
        "base": base,
        "result": result,
        "conversations": [
            {"from": "human", "value": re.sub(r"\[(image|audio|text)\d+\]", in_words, sample.instruction)},
            {"from": "gpt", "value": f"Here it is,{'<base>' + base if base else '<base_null>'}<im_gen>[{result}]"},
        ],
    }
    if sample.subjects:
        record["added"] = [[name, f"[{sample.references[index].label}]"] for name, index in sample.subjects]
    return record
