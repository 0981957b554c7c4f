"""Stage 4: a page to look at: samples of finished pairs with their words and similarities, and what was dropped and
why.

    python -m any2pix.datagen.pairs.sheet --pairs data/pairs --out sheet.html
"""

import argparse
import base64
import html
import io
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from .arguments import positive
from .filter import NAME as FILTERED
from .shards import ShardFolder, told

SIDE = 256  # pixels of a picture on the page
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Training pairs</title>
<style>body {{ font-family: sans-serif; margin: 2em }}
figure {{ display: inline-block; width: {width}px; margin: .5em }}
img {{ width: {side}px }} figcaption {{ font-size: 85% }}</style>
<h1>Training pairs</h1><p>{counts}</p>
{figures}
</html>
"""
FIGURE = """<figure><img src="{source}" alt="{before}"> <img src="{edited}" alt="{after}">
<figcaption><b>{instruction}</b><br>{before} &rarr; {after}<br>{numbers}</figcaption></figure>"""


def write_sheet(shards: ShardFolder, place: str | Path, number: int = 24, seed: int = 0) -> int:
    """Write the page with up to `number` pairs, drawn evenly from all; returns how many there are on it."""
    finished = shards.finished()
    counts = sum((shards.counts(index) for index in finished), Counter())
    total = counts["kept"]
    drawn = set(np.random.default_rng(seed).choice(total, min(number, total), replace=False).tolist())
    figures, first = [], 0
    for index in finished:
        held = shards.counts(index)["kept"]
        wanted = {i - first for i in drawn if first <= i < first + held}
        first += held
        if wanted:
            figures += [_figure(sample) for i, sample in enumerate(shards.read(index)) if i in wanted]
    page = PAGE.format(width=2 * SIDE + 16, side=SIDE, counts=html.escape(told(counts)), figures="\n".join(figures))
    Path(place).write_text(page, encoding="utf-8")
    return len(figures)


def _figure(sample: dict) -> str:
    about = sample["json"]
    numbers = {"p": about["share"], "guidance": about["guidance"], **about.get("similarity", {})}
    return FIGURE.format(
        source=_inline(sample["source.png"]),
        edited=_inline(sample["edited.png"]),
        instruction=html.escape(about["instruction"]),
        before=html.escape(about["source"]),
        after=html.escape(about["edited"]),
        numbers=", ".join(f"{name.replace('_', '-')} {value:.2f}" for name, value in numbers.items()),
    )


def _inline(picture: Image.Image) -> str:
    """The picture inside the page, so that the page is one file."""
    small = picture.copy()
    small.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    small.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def main(argv: list[str] | None = None) -> int:
    """The command line of this stage."""
    parser = argparse.ArgumentParser(
        description="A page of samples of finished pairs, with the counts of what was dropped."
    )
    parser.add_argument("--pairs", type=Path, required=True, help="folder of a stage with pictures")
    parser.add_argument("--stage", default=FILTERED, choices=(FILTERED, "pictures"), help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("sheet.html"), help="default: %(default)s")
    parser.add_argument("--number", type=positive, default=24, help="pairs on the page (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(argv)
    shards = ShardFolder(given.pairs, given.stage, ".tar")
    shards.settings()
    return write_sheet(shards, given.out, given.number, given.seed)


if __name__ == "__main__":
    main()
