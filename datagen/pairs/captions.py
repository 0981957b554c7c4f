"""Stage 1: captions -> (instruction, edited caption) by a language model, read strictly.

    python -m any2pix.datagen.pairs.captions --captions captions.txt --writer FOLDER --form few-shot --out data/captions
    python -m any2pix.datagen.pairs.captions --toyland 2000 --out data/captions
    python -m any2pix.datagen.pairs.captions --pairs written.jsonl --out data/captions

Each shard answers `--shard-size` captions. A record: {"source", "instruction", "edited"}, and where a line of `--pairs`
has it "weights": words of the edited caption with the factor of their attention. Pairs that exist, such as those
published with InstructPix2Pix, go through the same checks as a model's.
"""

import argparse
import hashlib
import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..toyland import caption, sample_scene
from .arguments import positive
from .shards import ShardFolder, told
from .writers import BETWEEN, PROMPTS, STOP, TEMPERATURE, CausalWriter, Writer, toyland_writer

NAME = "captions"
PAIRS_A_SHARD = 100_000  # no shard holds more: the number of a pair tells its shard
# What a line of written pairs may call each part: our names, and those of the authors' files of prompts
PARTS = {
    "source": ("source", "caption", "input"),
    "instruction": ("instruction", "edit"),
    "edited": ("edited", "output"),
}
LONGEST = 300  # characters of an instruction or a caption; CLIP reads 77 tokens, about as much
Parse = Callable[[str, str], tuple[dict | None, str]]  # (caption, answer) -> (record, "") or (None, reason)


def plain(text: str) -> str:
    """A text as compared: no case, no outer full stops, single spaces."""
    return " ".join(text.lower().split()).strip(" .!?")


def parse_answer(source: str, answer: str) -> tuple[dict | None, str]:
    """(record, "") of an answer in the one form allowed, else (None, reason)."""
    if STOP not in answer:
        return None, "no end mark"
    parts = answer[: answer.index(STOP)].split(BETWEEN)
    return check(source, *parts) if len(parts) == 2 else (None, "not two parts")


def parse_pair(_: str, line: str) -> tuple[dict | None, str]:
    """The same of a line of written pairs: an object of texts named as in PARTS, and "weights" if it has them."""
    try:
        found = json.loads(line)
        parts = [next(found[name] for name in names if name in found) for names in PARTS.values()]
        weights = {words: float(factor) for words, factor in found.get("weights", {}).items()}
    except (ValueError, TypeError, AttributeError, OverflowError, StopIteration):
        return None, "no such object"
    if not all(isinstance(part, str) for part in parts) or not all(map(math.isfinite, weights.values())):
        return None, "no such object"
    record, reason = check(*parts)
    return (record and {**record, **({"weights": weights} if weights else {})}), reason


def check(source: str, instruction: str, edited: str) -> tuple[dict | None, str]:
    """(record, "") of texts that can be a training pair, else (None, reason)."""
    texts = source, instruction, edited = source.strip(), instruction.strip(), edited.strip()
    if not all(map(plain, texts)):
        return None, "empty part"
    if any("\n" in text for text in texts):
        return None, "more than one line"
    if max(map(len, texts)) > LONGEST:
        return None, "too long"
    if plain(edited) == plain(source):
        return None, "no-op"
    return {"source": source, "instruction": instruction, "edited": edited}, ""


def key_of(record: dict[str, str]) -> tuple[str, str]:
    """Two records with the same captions are duplicates, however their instructions say it."""
    return plain(record["source"]), plain(record["edited"])


def write_captions(
    shards: ShardFolder,
    captions: Sequence[str],
    writer: Writer,
    size: int,
    batch: int,
    seed: int,
    parse: Parse = parse_answer,
) -> Counter:
    """Answer all captions, shard by shard in order, so that a stopped run drops the same duplicates as a whole one."""
    seen: set[tuple[str, str]] = set()
    read = 0  # shards whose records `seen` holds: those of an earlier run are in their files

    def make(index: int, counts: Counter) -> Iterator[dict]:
        nonlocal read
        for earlier in range(read, index):
            seen.update(map(key_of, shards.read(earlier)))
        read = index + 1
        part = captions[index * size : (index + 1) * size]
        for start in tqdm(range(0, len(part), batch), desc="batches", leave=False):
            texts = part[start : start + batch]
            answers = writer(texts, _seed(seed, index, start))
            if len(answers) != len(texts):
                raise ValueError(
                    f"The writer gave {len(answers)} answers to {len(texts)} captions; it must give one each."
                )
            for text, answer in zip(texts, answers, strict=True):
                record, reason = parse(text, answer)
                if record and key_of(record) in seen:
                    record, reason = None, "duplicate"
                if record is None:
                    counts[reason] += 1
                    continue
                seen.add(key_of(record))
                yield record

    return shards.run(range(-(-len(captions) // size)), make)


def toyland_captions(number: int, seed: int) -> list[str]:
    """Captions of random training scenes."""
    rng = np.random.default_rng(seed)
    return [caption(sample_scene(rng, "train")) for _ in range(number)]


def read_lines(path: Path) -> list[str]:
    """One caption or written pair a line; empty lines are skipped."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    if not lines:
        raise ValueError(f"{path} holds no captions. Write one a line.")
    return lines


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def main(argv: list[str] | None = None) -> Counter:
    """The command line of this stage."""
    parser = argparse.ArgumentParser(
        description="Turn captions into instructions and edited captions; a stopped run resumes."
    )
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--captions", type=Path, help="text file, one caption a line")
    given.add_argument("--pairs", type=Path, help="JSON lines with source, instruction and edited; no model is asked")
    given.add_argument("--toyland", type=positive, metavar="N", help="captions of N random scenes of Toyland")
    parser.add_argument("--out", type=Path, required=True, help="folder for the shards")
    parser.add_argument(
        "--writer", default="toyland", help="folder of a transformers causal model (default: Toyland's grammar)"
    )
    parser.add_argument(
        "--form", default="few-shot", choices=PROMPTS, help="how the model is asked (default: %(default)s)"
    )
    parser.add_argument(
        "--temperature", type=float, default=TEMPERATURE, help="0: likeliest token (default: %(default)s)"
    )
    parser.add_argument("--device", default="cpu")
    # the pictures of a shard come as one: with the published 100 candidates each, 100 captions are a day of a GPU
    parser.add_argument("--shard-size", type=positive, default=100, help="captions per shard (default: %(default)s)")
    parser.add_argument("--batch", type=positive, default=16, help="captions at once (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    if options.shard_size > PAIRS_A_SHARD:
        parser.error(f"--shard-size is {options.shard_size}; a shard holds at most {PAIRS_A_SHARD} captions")
    if options.pairs and options.writer != "toyland":
        parser.error("--pairs needs no writer; leave out --writer, or give captions with --captions")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    captions = (
        toyland_captions(options.toyland, options.seed)
        if options.toyland
        else read_lines(options.captions or options.pairs)
    )
    shards = ShardFolder(options.out, NAME, ".jsonl")
    names = ("toyland", "writer", "form", "temperature", "shard_size", "batch", "seed")
    digest = hashlib.sha256("\n".join(captions).encode()).hexdigest()[:12]
    writer, parse = (toyland_writer, parse_answer) if options.pairs is None else (lambda lines, _: lines, parse_pair)
    if options.writer != "toyland":
        writer = CausalWriter.load(options.writer, options.form, options.device, temperature=options.temperature)
    shards.begin({"captions": digest, **{name: getattr(options, name) for name in names}})  # once the writer is there
    totals = write_captions(shards, captions, writer, options.shard_size, options.batch, options.seed, parse)
    logging.getLogger(__name__).info("all: %s", told(totals))
    return totals


if __name__ == "__main__":
    main()
