"""Training samples of the instruction LLM from Toyland's edits: prompt, answer, input and output embeddings."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..datagen.instructions import COMPOSITION_SHARES, GENERATE_SHARE, EditSample, ReferenceSpec, sample_edit
from ..datagen.plain_text import without_base_mark
from ..datagen.sounds import SOUND_KINDS
from ..datagen.toyland import caption
from ..models.mm_llm import IGNORE_INDEX, LLMBatch
from ..stages.any2pix.marks import MARK_PATTERN, resolve_marks
from ..stages.any2pix.prompt import build_prompt, build_target
from ..stages.types import Reference
from .llm_bank import EmbeddingBank


@dataclass(frozen=True)
class Wordings:
    """Shares of the samples that are worded differently; ``reference_to_text`` is a share of the references."""

    reference_to_text: float = 0.2  # the released training script: a reference's mark becomes its text
    base_to_null: float = 0.2  # likewise: the base's mark becomes its caption, the answer starts with <base_null>
    base_unnamed: float = 0.15  # ours: "make it snow" with a picture connected


@dataclass(frozen=True)
class Example:
    """``references`` and ``targets`` are (N, D); target positions count from the prompt's start."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    references: Tensor
    reference_positions: tuple[int, ...]
    targets: Tensor
    target_positions: tuple[int, ...]  # the base first, -1 where there is none


def reword(sample: EditSample, rng: np.random.Generator, wordings: Wordings) -> tuple[str, list[int], int | None]:
    """-> instruction, the references (indices) that stay connected, the base's index or None for ``<base_null>``.

    Dropping follows the released script: a dropped reference is described in words instead. A dropped base leaves
    nothing to start from, so the answer is ``<base_null>`` and the picture is painted from its caption.
    """
    base = sample.base_index
    named = {match[0] for match in MARK_PATTERN.finditer(sample.instruction)}
    dropped = {i for i in range(len(sample.references)) if i != base and rng.random() < wordings.reference_to_text}
    unnamed = {i for i, spec in enumerate(sample.references) if spec.mark not in named}
    if base is not None and rng.random() < wordings.base_to_null:
        dropped |= {base, *unnamed}
        base = None
    text = sample.instruction
    only_image = base is not None and not any(
        spec.modality == "image" and i != base and i not in dropped | unnamed
        for i, spec in enumerate(sample.references)
    )
    if only_image and rng.random() < wordings.base_unnamed:
        mark = sample.references[base].mark
        text = without_base_mark(text, mark, rng)
        dropped |= {i for i in unnamed if sample.references[i].modality == "image"}
    kept = [i for i in range(len(sample.references)) if i not in dropped]
    return _renumbered(text, sample.references, kept), kept, base


def _renumbered(text: str, references: tuple[ReferenceSpec, ...], kept: list[int]) -> str:
    """The instruction with the marks of the kept references renumbered and all others replaced by words."""
    words = {spec.mark: spec.label for spec in references}
    count: dict[str, int] = {}
    for index in kept:
        modality = references[index].modality
        count[modality] = count.get(modality, 0) + 1
        words[references[index].mark] = f"[{modality}{count[modality]}]"
    return MARK_PATTERN.sub(lambda match: words[match[0]], text)


class ExampleMaker:
    """Draws examples of the train split; ``embed_text(text) -> (D,)`` is called once per text."""

    def __init__(self, bank: EmbeddingBank, tokenizer, embed_text: Callable[[str], Tensor], wordings: Wordings) -> None:
        self.bank, self.tokenizer, self.wordings = bank, tokenizer, wordings
        self.embed_text = embed_text
        self.texts: dict[str, Tensor] = {}

    def sample(self, rng: np.random.Generator) -> tuple[EditSample, int | None, int]:
        """-> sample, picture index of its source (None: painting from nothing) and of its target."""
        while True:
            if rng.random() < GENERATE_SHARE:
                source, sample = None, sample_edit(rng, kinds=("generate",))
            else:
                pairs = self.bank.pairs[rng.choice(len(COMPOSITION_SHARES), p=COMPOSITION_SHARES)]
                source, target = map(int, pairs[rng.integers(len(pairs))])
                sample = sample_edit(rng, scenes=(self.bank.scenes[source], self.bank.scenes[target]))
            shown = [sample.target, *(spec.content for spec in sample.references if spec.modality == "image")]
            if all(scene.combination in self.bank.by_combination for scene in shown):  # a small bank lacks some
                return sample, source, self._any(rng, sample.target.combination) if source is None else target

    def example(self, rng: np.random.Generator) -> Example:
        sample, source, target = self.sample(rng)
        text, kept, base = reword(sample, rng, self.wordings)
        embeddings = {
            i: self.bank.pictures[source] if i == sample.base_index else self._embed(rng, sample.references[i])
            for i in kept
        }
        resolved = resolve_marks(text, tuple(Reference(embeddings[i], sample.references[i].modality) for i in kept))
        prompt = build_prompt(self.tokenizer, resolved)
        additions = [(name, index) for name, index in sample.subjects if index in [kept[i] for i in resolved.order]]
        answer = build_target(self.tokenizer, caption(sample.target), base is not None, [name for name, _ in additions])
        targets = [self.bank.pictures[target if base is None else source], self.bank.pictures[target]]
        start = len(prompt.ids)
        positions = (-1 if base is None else start + answer.base_position, start + answer.gen_position)
        return Example(
            prompt=prompt.ids,
            answer=answer.ids,
            references=torch.stack([embeddings[kept[i]] for i in resolved.order] or [self.bank.pictures[0]]),
            reference_positions=prompt.positions or (-1,),
            targets=torch.stack(targets + [embeddings[index] for _, index in additions]),
            target_positions=positions + tuple(start + position for position in answer.addition_positions),
        )

    def _any(self, rng: np.random.Generator, combination: tuple[str, str, str, str]) -> int:
        pictures = self.bank.by_combination[combination]
        return pictures[rng.integers(len(pictures))]

    def _embed(self, rng: np.random.Generator, spec: ReferenceSpec) -> Tensor:
        """Any picture of the combination, any take of the sound."""
        if spec.modality == "image":
            return self.bank.pictures[self._any(rng, spec.content.combination)]
        if spec.modality == "audio":
            takes = self.bank.sounds[SOUND_KINDS.index(spec.content)]
            return takes[rng.integers(len(takes))]
        if spec.content not in self.texts:
            self.texts[spec.content] = self.embed_text(spec.content)
        return self.texts[spec.content]


def collate(examples: list[Example], pad: int, device: torch.device | str = "cpu") -> LLMBatch:
    """Examples -> one batch, padded on the right with ``pad``; positions with -1, embeddings with zeros."""
    ids = [[*example.prompt, *example.answer] for example in examples]
    labels = [[IGNORE_INDEX] * len(example.prompt) + list(example.answer) for example in examples]
    batch = LLMBatch(
        input_ids=_padded(ids, pad),
        labels=_padded(labels, IGNORE_INDEX),
        references=torch.nn.utils.rnn.pad_sequence([example.references for example in examples], batch_first=True),
        reference_positions=_padded([example.reference_positions for example in examples], -1),
        targets=torch.nn.utils.rnn.pad_sequence([example.targets for example in examples], batch_first=True),
        target_positions=_padded([example.target_positions for example in examples], -1),
    )
    return LLMBatch(**{name: value.to(device) for name, value in vars(batch).items()})


def _padded(rows: list, value: int) -> Tensor:
    length = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (length - len(row))] for row in rows], dtype=torch.long)
