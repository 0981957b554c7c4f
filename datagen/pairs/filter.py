"""Stage 3: candidates -> the best k pairs of each caption pair, by similarities of CLIP.

    python -m any2pix.datagen.pairs.filter --pictures data/pictures --embedder FOLDER --out data/pairs

The samples of stage 2 with their similarities in json; `shards.stream` hands the result to a trainer.
"""

import argparse
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

import torch
from tqdm import tqdm

from ...miniature import manifest
from ...stages.similarity import Embedder, Similarity, measure
from ..embedder import PUBLISHED_CLIP, load_embedder
from .arguments import add_shard_work, own_shards, positive
from .pictures import NAME as PICTURES
from .shards import ShardFolder, told

NAME = "filter"


@dataclass(frozen=True)
class Thresholds:
    """Least similarities, and how many pairs of each caption pair stay.

    The paper's numbers (sec. 3.1.2). The authors' dataset_creation/generate_img_dataset.py agrees but for image-image,
    where its default is 0.7, and keeps at most 4 of 100.
    """

    image_image: float = 0.75
    image_caption: float = 0.2
    direction: float = 0.2
    best: int = 4

    def reason(self, found: Similarity) -> str:
        """The first threshold that a candidate misses, or nothing. NaN misses all."""
        checks = (
            ("image-image below threshold", found.image_image, self.image_image),
            ("source image-caption below threshold", found.source_caption, self.image_caption),
            ("edited image-caption below threshold", found.edited_caption, self.image_caption),
            ("direction below threshold", found.direction, self.direction),
        )
        return next((reason for reason, value, least in checks if not value >= least), "")


def choose(found: Sequence[Similarity], thresholds: Thresholds, counts: Counter) -> list[int]:
    """Indices of the candidates that stay, best direction first, as the authors rank them; the others are counted."""
    passed = []
    for index, similarity in enumerate(found):
        if reason := thresholds.reason(similarity):
            counts[reason] += 1
        else:
            passed.append(index)
    passed.sort(key=lambda index: -found[index].direction)
    counts["not among the best"] += len(passed[thresholds.best :])
    return passed[: thresholds.best]


def filter_shards(
    pictures: ShardFolder, shards: ShardFolder, indices: Iterable[int], embedder: Embedder, thresholds: Thresholds
) -> Counter:
    """Filter finished shards of candidates, a caption pair at a time."""

    def make(index: int, counts: Counter) -> Iterator[dict]:
        samples = tqdm(pictures.read(index), desc="candidates", leave=False)
        for _, group in groupby(samples, key=lambda sample: sample["json"]["pair"]):
            group = list(group)
            about = group[0]["json"]
            pairs = [(sample["source.png"], sample["edited.png"]) for sample in group]
            found = measure(embedder, pairs, about["source"], about["edited"])
            kept = choose(found, thresholds, counts)
            counts["caption pairs without a picture pair"] += not kept
            for candidate in kept:
                sample = group[candidate]
                yield {**sample, "json": {**sample["json"], "similarity": asdict(found[candidate])}}

    return shards.run(indices, make)


def main(argv: list[str] | None = None) -> Counter:
    """The command line of this stage."""
    plain = Thresholds()
    parser = argparse.ArgumentParser(
        description="Keep the best candidates of each caption pair; a stopped run resumes."
    )
    parser.add_argument("--pictures", type=Path, required=True, help="folder of the pictures stage")
    add_shard_work(parser)
    parser.add_argument(
        "--embedder", default=manifest.NAME, help=f"transformers CLIP such as {PUBLISHED_CLIP} (default: %(default)s)"
    )
    for name in ("image_image", "image_caption", "direction"):
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=float,
            default=getattr(plain, name),
            help="least similarity, default: %(default)s",
        )
    parser.add_argument(
        "--best", type=positive, default=plain.best, help="kept of each caption pair (default: %(default)s)"
    )
    given = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    thresholds = Thresholds(given.image_image, given.image_caption, given.direction, given.best)
    pictures, shards = ShardFolder(given.pictures, PICTURES, ".tar"), ShardFolder(given.out, NAME, ".tar")
    settings = {
        "pictures": pictures.settings(),
        "embedder": str(given.embedder),
        "dtype": given.dtype,
        **asdict(thresholds),
    }
    embedder = load_embedder(given.embedder, given.device, getattr(torch, given.dtype))
    shards.begin(settings)  # once the networks are there
    totals = filter_shards(pictures, shards, own_shards(pictures.finished(), given.part), embedder, thresholds)
    logging.getLogger(__name__).info("all: %s", told(totals))
    return totals


if __name__ == "__main__":
    main()
