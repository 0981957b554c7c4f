"""Paint and measure: python -m any2pix.evaluation.run --data toyland --samples 4 --out rows.parquet --sheet sheet.png

Every method edits the same cases and every metric measures every result; what a method or a metric does not apply to
is left out. `--data folder:/my/pictures` takes your own edits (`datasets/folder.py`). `--sweep sdedit.strength=0.4,0.6`
gives a setting for each value. `report` groups the rows. Options are chosen on the validation split.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from tqdm import tqdm

from ..datagen.embedder import load_embedder
from ..stages.similarity import imagebind_embedder
from .case import Case, Method, Output
from .checkpoint import Checkpoint, add_checkpoint
from .datasets import Draw, load_cases
from .datasets.toyland import FINAL, SPLITS
from .gallery import Gallery
from .methods import DEFAULTS, TITLES, build_method
from .metrics import METRICS, Tools
from .results import FORMATS, PAINTING, Row, code_digest, digest_of, weights_digest, write_rows
from .sheet import Line, comparison_sheet, save_sheet

logger = logging.getLogger(__name__)
BATCH = 16  # cases a method is handed at once
SHEET_CASES = 24


@dataclass(frozen=True)
class Shown:
    """A case, a method's output for it, and the numbers measured on that output."""

    case: Case
    method: Method
    output: Output
    values: dict[str, float]


def measure_output(case: Case, output: Output, tools: Tools, names: Sequence[str]) -> dict[str, float]:
    """The metrics that apply."""
    found = {name: METRICS[name].measure(case, output, tools) for name in names}
    return {name: float(value) for name, value in found.items() if value is not None}


def edit_and_measure(
    cases: Sequence[Case], methods: Sequence[Method], gallery: Gallery | None, tools: Tools, names: Sequence[str]
) -> Iterator[Shown]:
    """Every method on the cases it takes, in batches, each measured as it is painted."""
    for method in methods:
        taken = [case for case in cases if method.takes(case)]
        batches = [taken[start : start + BATCH] for start in range(0, len(taken), BATCH)]
        for batch in tqdm(batches, desc=method.title, mininterval=5):
            outputs = gallery.edit(method, batch) if gallery else method.edit(batch)
            for case, output in zip(batch, outputs, strict=True):
                yield Shown(case, method, output, measure_output(case, output, tools, names))


def rows_of(shown: Shown, given: argparse.Namespace, weights: str, code: str) -> list[Row]:
    """The long rows of one result."""
    case, method = shown.case, shown.method
    options = digest_of({"options": method.options, "seed": given.seed})
    return [
        Row(
            data=given.data, split=given.split, case=case.name, scene=case.scene, kind=case.tags.get("kind", ""),
            given_as=case.tags.get("given_as", ""), method=method.name, setting=method.setting, metric=name,
            value=value, unit=METRICS[name].unit, embedder=given.embedder, seed=given.seed, weights=weights, code=code,
            options=options,
        )
        for name, value in shown.values.items()
    ]  # fmt: skip


def cases_of(given: argparse.Namespace) -> list[Case]:
    """The cases that the command line asks for. ValueError where there is none."""
    cases = load_cases(given.data, Draw(given.split, given.seed, given.samples, given.kinds and tuple(given.kinds)))
    for pair in given.where:
        tag, _, values = pair.partition("=")
        if unknown := [case for case in cases if tag not in case.tags]:
            known = ", ".join(unknown[0].tags)
            raise ValueError(f"{pair!r} names no tag of the cases. Write TAG=VALUE,VALUE with one of: {known}.")
        cases = [case for case in cases if case.tags[tag] in values.split(",")]
    if not cases:
        raise ValueError(f"No case has {' and '.join(given.where)}. Use fewer conditions.")
    return cases


def methods_of(given: argparse.Namespace, checkpoint: Checkpoint) -> list[Method]:
    """Each method with the options it was given, and once for each value where an option of it is swept."""
    methods = []
    for name in given.methods:
        fixed, sweeps = _options_of(given.options, name), _options_of(given.sweep, name)
        settings = [f"{sweep.partition('=')[0]}={value}" for sweep in sweeps for value in _values(sweep)]
        for setting in settings or [""]:
            options = [*fixed, setting] if setting else fixed
            methods.append(build_method(name, checkpoint, given.seed, options, setting))
    return methods


def _options_of(pairs: Sequence[str], method: str) -> list[str]:
    """["sdedit.cfg=3"] -> ["cfg=3"] for sdedit."""
    for pair in pairs:
        if pair.partition(".")[0] not in DEFAULTS:
            raise ValueError(f"{pair!r} names no method. Write METHOD.NAME=VALUE with one of: {', '.join(DEFAULTS)}.")
    return [pair.partition(".")[2] for pair in pairs if pair.partition(".")[0] == method]


def _values(sweep: str) -> list[str]:
    return sweep.partition("=")[2].split(",")


def tools_of(given: argparse.Namespace, checkpoint: Checkpoint) -> Tools:
    return Tools(
        judge=checkpoint.judge,
        embedder=(
            imagebind_embedder(checkpoint.networks.imagebind)
            if given.embedder == "imagebind"
            else load_embedder(given.embedder, device=given.device)
        ),
    )


def sheet_of(results: Sequence[Shown], names: Sequence[str], count: int = SHEET_CASES) -> Image.Image:
    """Source, target and every method's picture of `count` scenes, evenly spread over all, with their figures."""
    cases = list({shown.case.scene: shown.case for shown in reversed(results)}.values())[::-1]
    columns = list(dict.fromkeys(shown.method.title for shown in results))
    chosen = [cases[place * len(cases) // count] for place in range(count)] if len(cases) > count else cases
    lines = []
    for case in chosen:
        own = {shown.method.title: shown for shown in results if shown.case is case}
        pictures = [("target", case.target, "")]
        for column in columns:
            shown = own.get(column)
            written = [f"{name} {shown.values[name]:.2f}" for name in names if name in shown.values] if shown else []
            pictures.append((column, shown and shown.output.picture, "\n".join(written)))
        lines.append(Line(f"{case.name}: {case.instruction}", case.source, case.other_references(), pictures))
    return comparison_sheet(lines)


def add_split(parser: argparse.ArgumentParser) -> None:
    """The arguments that `require_final_report` checks."""
    parser.add_argument("--split", choices=SPLITS, default="validation", help="of Toyland (default: %(default)s)")
    parser.add_argument("--final-report", action="store_true", help=f"needed with --split {FINAL}")


def require_final_report(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """An error of the command line where one of the two is given without the other."""
    if (given.split == FINAL) != given.final_report:
        parser.error(f"--split {FINAL} and --final-report go together: its seeds are drawn once, for finished weights.")


def main(argv: list[str] | None = None):
    parser = _arguments()
    given = parser.parse_args(argv)
    require_final_report(parser, given)
    if given.out and given.out.suffix not in FORMATS:
        parser.error(f"--out {given.out}: results are written as {' or '.join(FORMATS)}.")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    checkpoint = Checkpoint(given.miniature, given.device)
    weights, code = weights_digest(given.miniature), code_digest()
    cases = cases_of(given)
    methods, names = methods_of(given, checkpoint), given.metrics or METRICS.names()
    made_with = digest_of({"weights": weights, "code": code_digest(PAINTING), "seed": given.seed, "bf16": given.bf16})
    gallery = Gallery(given.pictures, made_with) if given.pictures else None
    with torch.autocast(checkpoint.device.type, torch.bfloat16, enabled=given.bf16):
        results = list(edit_and_measure(cases, methods, gallery, tools_of(given, checkpoint), names))
    rows = [row for shown in results for row in rows_of(shown, given, weights, code)]
    logger.info("%d cases, %d results, %d rows", len(cases), len(results), len(rows))
    if given.out:
        write_rows(given.out, rows)
    if given.sheet:
        save_sheet(sheet_of(results, given.sheet_metrics), given.sheet)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="toyland", help="toyland, or folder:/your/folder (default: %(default)s)")
    add_split(parser)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--samples", type=int, help="edits of each kind, or lines of a folder's list (default: all)")
    parser.add_argument("--kinds", nargs="+", help="only these kinds of edit")
    parser.add_argument("--where", nargs="+", default=[], metavar="TAG=VALUE,VALUE", help="only cases with these tags")
    parser.add_argument("--methods", nargs="+", choices=list(TITLES), default=list(TITLES))
    parser.add_argument("--options", nargs="+", default=[], metavar="METHOD.NAME=VALUE")
    parser.add_argument("--sweep", nargs="+", default=[], metavar="METHOD.NAME=VALUE,VALUE,...")
    parser.add_argument("--metrics", nargs="+", choices=METRICS.names(), help="default: all")
    parser.add_argument("--embedder", default="imagebind", help="or a folder or name of a transformers CLIP")
    add_checkpoint(parser)
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16: faster, for trying options")
    parser.add_argument("--out", type=Path, help=f"file of rows, {' or '.join(FORMATS)}")
    parser.add_argument("--pictures", type=Path, help="folder that keeps the painted pictures: a stopped run resumes")
    parser.add_argument("--sheet", type=Path, help=f"a contact sheet of {SHEET_CASES} cases")
    parser.add_argument("--sheet-metrics", nargs="+", default=["psnr", "ssim", "structure_target", "confidence"])
    return parser


if __name__ == "__main__":
    main()
