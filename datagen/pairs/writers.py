"""Language models that turn a caption into an instruction and the caption after the edit, as text to be parsed.

A writer is a function (captions, seed) -> one answer a caption, in the form that InstructPix2Pix's fine-tuned GPT-3
was trained on: the instruction, `%%` on a line, the edited caption, `END` on a line.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ..instructions import ATTRIBUTE, EDIT_KINDS
from ..phrasing import choose
from ..plain_text import text_instruction
from ..toyland import ATTRIBUTES, HELD_OUT, Scene, caption, parse_caption

# Delimiters of the authors' dataset_creation/generate_txt_dataset.py
ASK, BETWEEN, STOP = "\n##\n", "\n%%\n", "\nEND"
TEMPERATURE = 0.7  # the same file
MAX_NEW_TOKENS = 256
Writer = Callable[[Sequence[str], int], list[str]]

FEW_SHOTS = (
    ("a girl riding a horse", "have her ride a dragon", "a girl riding a dragon"),
    ("a photograph of a city skyline at noon", "make it night", "a photograph of a city skyline at night"),
    ("a bowl of fruit on a wooden table, oil painting", "as a pencil drawing",
    "a bowl of fruit on a wooden table, pencil drawing"),
    ("a dog sleeping on a sofa", "add a cat beside it", "a dog and a cat sleeping on a sofa"),
    ("a portrait of an old fisherman", "turn him into a robot", "a portrait of an old robot fisherman"),
)  # fmt: skip
TASK = "For each caption of a picture, write an instruction to edit the picture and the caption of the edited picture."


def fine_tuned_prompt(text: str) -> str:
    """What a model trained on this task reads."""
    return text + ASK


def few_shot_prompt(text: str, shots: Sequence[tuple[str, str, str]] = FEW_SHOTS) -> str:
    """What any other causal language model reads: the task, examples (caption, instruction, edited caption), the
    caption."""
    examples = [shot + ASK + instruction + BETWEEN + edited + STOP for shot, instruction, edited in shots]
    return "\n\n".join([TASK, *examples, text + ASK])


PROMPTS = {"few-shot": few_shot_prompt, "fine-tuned": fine_tuned_prompt}


@dataclass
class CausalWriter:
    """Any transformers causal language model with its tokenizer."""

    model: torch.nn.Module
    tokenizer: object
    prompt: Callable[[str], str] = few_shot_prompt
    temperature: float = TEMPERATURE
    max_new_tokens: int = MAX_NEW_TOKENS

    @classmethod
    def load(
        cls, folder: str | Path, form: str = "few-shot", device="cpu", dtype: torch.dtype | str = "auto", **options
    ):
        """From a transformers folder; `form` "few-shot" or "fine-tuned"."""
        from transformers import AutoModelForCausalLM, AutoTokenizer

        if form not in PROMPTS:
            raise ValueError(f'There is no prompt form "{form}". Choose one of: {", ".join(PROMPTS)}.')
        model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=dtype).to(device).eval()
        return cls(model, AutoTokenizer.from_pretrained(folder), PROMPTS[form], **options)

    @torch.no_grad()
    def __call__(self, captions: Sequence[str], seed: int) -> list[str]:
        """Answers, each cut after the mark of its end; temperature 0 takes the likeliest token every time."""
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        device = next(self.model.parameters()).device
        inputs = self.tokenizer([self.prompt(text) for text in captions], return_tensors="pt", padding=True).to(device)
        drawn = (
            {"do_sample": True, "temperature": self.temperature, "top_k": 0, "top_p": 1.0}
            if self.temperature
            else {"do_sample": False}
        )
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)  # transformers draws from torch's own generator and takes no other
            out = self.model.generate(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"],
                max_new_tokens=self.max_new_tokens,
                stop_strings=[STOP], tokenizer=self.tokenizer, pad_token_id=self.tokenizer.pad_token_id, **drawn,
            )  # fmt: skip
        answers = self.tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return [text[: text.index(STOP) + len(STOP)] if STOP in text else text for text in answers]


def toyland_writer(captions: Sequence[str], seed: int) -> list[str]:
    """Toyland's grammar: one edit a caption, never to a held-out combination. A caption unknown to it gets an empty
    answer."""
    rng = np.random.default_rng(seed)
    return [_toyland_answer(text, rng) for text in captions]


def _toyland_answer(text: str, rng: np.random.Generator) -> str:
    attributes = parse_caption(text)
    if attributes is None:
        return ""
    source = Scene(**attributes, seed=0)
    targets = {kind: found for kind in EDIT_KINDS if (found := _targets(source, kind))}
    target = choose(rng, targets[choose(rng, list(targets))])
    return text_instruction(rng, source, target) + BETWEEN + caption(target) + STOP


def _targets(source: Scene, kind: str) -> list[Scene]:
    """Every scene that one edit of this kind leads to, but for the held-out combinations."""
    name = ATTRIBUTE[kind]
    if name == "subject" and (kind == "add") != (source.subject == "none"):
        return []
    values = ["none"] if kind == "remove" else [v for v in ATTRIBUTES[name] if v not in ("none", getattr(source, name))]
    return [scene for value in values if (scene := replace(source, **{name: value})).combination not in HELD_OUT]
