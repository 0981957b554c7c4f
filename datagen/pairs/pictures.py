"""Stage 2: caption pairs -> N candidate picture pairs each, by Prompt-to-Prompt.

    python -m any2pix.datagen.pairs.pictures --captions data/captions --model FOLDER --out data/pictures --device cuda

One shard of pictures for each shard of captions. A sample: source.png, edited.png, and json with the record of the
captions, its number `pair`, and what was drawn: `seed`, `share` (p), `guidance`. Several machines share the work with
--part 0/4, --part 1/4 ... into one folder.
"""

import argparse
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ...miniature import manifest
from .alignment import align, choose_method, token_weights
from .arguments import add_shard_work, own_shards, positive
from .attention_control import MAPS
from .captions import NAME as CAPTIONS
from .captions import PAIRS_A_SHARD
from .painter import Painter, load_painter
from .prompt_to_prompt import GUIDANCE_RANGE, SHARE_RANGE, draw, sample_pairs
from .shards import ShardFolder, told

NAME = "pictures"


@dataclass(frozen=True)
class PaintOptions:
    """How stage 2 samples. The published data set used 100 candidates and 100 steps."""

    candidates: int = 8
    at_once: int = 4
    steps: int = 30
    shares: tuple[float, float] = SHARE_RANGE
    guidance: tuple[float, float] = GUIDANCE_RANGE
    maps: str = "both"
    method: str = "auto"
    seed: int = 0

    def __post_init__(self):
        if not 0.0 <= self.shares[0] <= self.shares[1] <= 1.0:
            raise ValueError(
                f"The shares of the steps are {self.shares}; give a range within 0 and 1, the lower end first."
            )


def paint_pair(painter: Painter, record: dict, options: PaintOptions, seed: int) -> Iterator[dict]:
    """The candidates of one caption pair: {"seed", "share", "guidance", "pictures": (source, edited)}.

    A record may hold "weights", words of the edited caption with the factor of their attention.
    """
    source, edited = record["source"], record["edited"]
    with torch.no_grad():
        texts = painter.encode(["", source, edited])
    length = texts.context.shape[1]
    ids = [painter.token_ids(text) for text in (source, edited)]
    method = choose_method(source, edited) if options.method == "auto" else options.method
    alignment = align(*ids, length, method, _weights(painter, record, length))
    for start in range(0, options.candidates, options.at_once):
        seeds = [_seed(seed, number) for number in range(start, min(start + options.at_once, options.candidates))]
        generators = [torch.Generator().manual_seed(number) for number in seeds]
        shares = torch.cat([draw(1, options.shares, generator) for generator in generators])
        guidance = torch.cat([draw(1, options.guidance, generator) for generator in generators])
        noise = torch.stack([torch.randn(painter.latent_shape, generator=generator) for generator in generators])
        latents = sample_pairs(
            painter.unet, painter.scheduler, texts, alignment, noise.to(painter.device), shares,
            guidance, options.steps, options.maps,
        )  # fmt: skip
        for number, share, scale, pair in zip(seeds, shares.tolist(), guidance.tolist(), latents, strict=True):
            yield {"seed": number, "share": share, "guidance": scale, "pictures": painter.pictures(pair)}


def paint_shards(
    captions: ShardFolder, shards: ShardFolder, indices: Iterable[int], painter: Painter, options: PaintOptions
) -> Counter:
    """Paint shards of captions. A pair that cannot be painted is dropped and counted."""

    with torch.no_grad():
        length = painter.encode([""]).context.shape[1]

    def make(index: int, counts: Counter) -> Iterator[dict]:
        for row, record in enumerate(tqdm(list(captions.read(index)), desc="pairs", leave=False)):
            number = index * PAIRS_A_SHARD + row
            if reason := _unfit(painter, record, length):
                counts[reason] += options.candidates
                continue
            for candidate, found in enumerate(paint_pair(painter, record, options, _seed(options.seed, number))):
                before, after = found.pop("pictures")
                about = {**record, "pair": number, **found}
                yield {
                    "__key__": f"{number:09d}_{candidate:03d}",
                    "source.png": before,
                    "edited.png": after,
                    "json": about,
                }

    return shards.run(indices, make)


def _weights(painter: Painter, record: dict, length: int) -> Tensor:
    """(length,) factors of the edited caption's tokens. Raises ValueError for words that it lacks."""
    phrases = {tuple(painter.token_ids(words)[1:-1]): factor for words, factor in record.get("weights", {}).items()}
    return token_weights(painter.token_ids(record["edited"]), phrases, length)


def _unfit(painter: Painter, record: dict, length: int) -> str:
    """Why a caption pair cannot be painted, or nothing. `length`: tokens that the text encoder takes."""
    ids = [painter.token_ids(record[name]) for name in ("source", "edited")]
    if max(map(len, ids)) > length:
        return "too many tokens"
    if ids[0] == ids[1]:
        return "the same tokens"
    try:
        _weights(painter, record, length)
    except ValueError:
        return "weights of words not in the edited caption"
    return ""


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def main(argv: list[str] | None = None) -> Counter:
    """The command line of this stage."""
    plain = PaintOptions()
    parser = argparse.ArgumentParser(
        description="Paint candidate picture pairs for caption pairs; a stopped run resumes."
    )
    parser.add_argument("--captions", type=Path, required=True, help="folder of the captions stage")
    add_shard_work(parser)
    parser.add_argument(
        "--model",
        default=manifest.NAME,
        help="folder of the miniature, or of SD or SDXL in diffusers' format (default: %(default)s)",
    )
    parser.add_argument("--size", type=positive, help="pixels of a side (default: what the UNet was made for)")
    for name in ("candidates", "at_once", "steps"):
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=positive, default=getattr(plain, name), help="default: %(default)s"
        )
    parser.add_argument("--seed", type=int, default=plain.seed)
    for name in ("shares", "guidance"):
        parser.add_argument(
            f"--{name}", type=float, nargs=2, default=getattr(plain, name), help="range, default: %(default)s"
        )
    parser.add_argument(
        "--maps", choices=MAPS, default=plain.maps, help="attention maps injected (default: %(default)s)"
    )
    parser.add_argument(
        "--method", choices=("auto", "swap", "refine"), default=plain.method, help="default: %(default)s"
    )
    given = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = PaintOptions(
        given.candidates, given.at_once, given.steps, tuple(given.shares), tuple(given.guidance), given.maps,
        given.method, given.seed,
    )  # fmt: skip
    captions, shards = ShardFolder(given.captions, CAPTIONS, ".jsonl"), ShardFolder(given.out, NAME, ".tar")
    settings = {
        "captions": captions.settings(),
        "model": str(given.model),
        "size": given.size,
        "dtype": given.dtype,
        **vars(options),
    }
    painter = load_painter(given.model, given.device, getattr(torch, given.dtype), given.size)
    shards.begin(settings)  # once the networks are there
    totals = paint_shards(captions, shards, own_shards(captions.finished(), given.part), painter, options)
    logging.getLogger(__name__).info("all: %s", told(totals))
    return totals


if __name__ == "__main__":
    main()
