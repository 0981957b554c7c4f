"""How good the edits are: python -m any2pix.evaluation.edit_quality --seed 1 --samples 100 --json quality.json

Held-out seeds and held-out combinations of attributes; the judge is a classifier trained apart on drawings. Options of
the edit are chosen on `--split validation`, never on the test split.

InstructPix2Pix reads words alone. It is given each edit once, in words, and both are compared on these edits: those
that InstructAny2Pix is given as text, and the compositions, whose references it may be given as pictures and sounds.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..models.judge import Judge
from ..stages.any2pix.options import EditOptions
from ..stages.pix2pix.pipeline import TextEditOptions
from .arguments import evaluation_parser
from .cases import ROWS, EditCase, draw_cases, picture_of, sound_of
from .checkpoint import Checkpoint
from .editor import options_from, pack_editor
from .judge import ATTRIBUTES
from .pix2pix import can_be_said, has_pix2pix, in_words, pix2pix_editor
from .rates import Rate, markdown_table
from .scoring import GradedCase, copy_editor, grade_outcomes, judge_and_autoencoder, round_trip_editor, summarise
from .sheet import SheetEntry, contact_sheet, save_sheet, spectrogram, to_picture, word_card

logger = logging.getLogger(__name__)
SHEET_EDITS = 32
JUDGE_PICTURES = 200
NO_SOURCE = torch.ones(8, 8, 3)  # white, where a picture was painted from nothing
IN_WORDS = ("InstructAny2Pix on the same edits", "InstructPix2Pix")  # groups of the record, columns of the table

# (what, figure, at least, aim); in percent, but for the last ones, which say their unit.
TABLE = (
    ("base retrieval, 2-4 references", "base retrieval", 97, 99),
    ("base retrieval, at least 2 pictures", "base retrieval, several pictures", None, None),
    ("caption names the right result attributes", "caption", 95, 99),
    ("edit done: add", "done/add", 75, 90),
    ("edit done: replace", "done/replace", 70, 90),
    ("edit done: remove", "done/remove", 75, 90),
    ("edit done: style", "done/style", 90, 97),
    ("edit done: atmosphere", "done/atmosphere", 85, 97),
    ("untouched attributes kept", "kept", 88, 95),
    ("two edits in one turn, both done", "done/two edits", 55, 80),
    ("three edits in one turn, all done", "done/three edits", None, None),
    ("painted from nothing, all four attributes right", "done/generate", None, None),
)
POINTS = (
    ("given as a sound instead of text: points worse", "audio worse than text", 7, 3),
    ("given as a picture instead of text: points worse", "image worse than text", 7, 3),
)


def quality_table(
    figures: dict[str, Rate],
    copied: dict[str, Rate],
    ceiling: dict[str, Rate],
    extra: dict[str, Rate],
    worded: dict[str, dict[str, Rate]] | None = None,
) -> str:
    """The figures in markdown, with what copying the source and a perfect painter behind the same VAE would get.

    `worded`: the figures of each editor of IN_WORDS on the edits that words can say, a column each.
    """
    worded = worded or {}
    rows = [
        (
            what,
            f"{least} %" if least else "",
            f"{aim} %" if aim else "",
            figures[name].percent(),
            *(_side(group, name, Rate.percent) for group in worded.values()),
            _side(copied, name),
            _side(ceiling, name),
        )
        for what, name, least, aim in TABLE
        if figures[name].count
    ]
    blank = ("",) * (len(worded) + 2)
    rows += [
        (what, f"{least}", f"{aim}", figures[name].points(), *blank)
        for what, name, least, aim in POINTS
        if figures[name].count
    ]
    psnr = extra["vae psnr"]
    measured = f"{psnr.mean:.1f} ± {psnr.error:.1f} dB (n {psnr.count})"
    rows.append(("VAE round trip on held-out pictures", "25 dB", "28 dB", measured, *blank))
    sides = (*worded, "copying the source", "perfect painter through the VAE")
    return markdown_table(("what", "at least", "aim", "measured", *sides), rows)


def _side(figures: dict[str, Rate], name: str, written=lambda rate: f"{100 * rate.mean:.1f} %") -> str:
    """A figure of a comparison; captions and retrieval mean nothing there."""
    rate = figures.get(name)
    return written(rate) if rate and rate.count and name.startswith(("done", "kept")) else ""


def detail_table(figures: dict[str, Rate], extra: dict[str, Rate]) -> str:
    """What lies behind the table: ways of giving an edit, each attribute kept, the judge's own accuracy."""
    ways = ("text", "image", "audio")
    kinds = ("add", "replace", "remove", "style", "atmosphere")
    by_way = [
        (kind, *(figures[f"done/{kind}/{way}"].percent() for way in ways), figures[f"kept/{kind}"].percent())
        for kind in kinds
    ]
    by_attribute = [
        (
            name,
            figures[f"kept attribute/{name}"].percent(),
            extra[f"judge/{name}"].percent(),
            extra[f"judge after the vae/{name}"].percent(),
        )
        for name in ATTRIBUTES
    ]
    return "\n\n".join(
        (
            markdown_table(("edit done", "as text", "as picture", "as sound", "others kept"), by_way),
            markdown_table(("attribute", "kept", "judge right on drawings", "judge right after the VAE"), by_attribute),
        )
    )


def sheet_of(graded: Sequence[GradedCase], seed: int, count: int = SHEET_EDITS, words: bool = False) -> Image.Image:
    """`count` edits chosen by the seed alone, as a picture to look at; `words`: as given to InstructPix2Pix.

    Where no case has a source, what was painted from nothing is shown.
    """
    edits = [g for g in graded if g.grade is not None] or list(graded)
    chosen = np.random.default_rng((seed, 32)).permutation(len(edits))[:count]
    return contact_sheet([_entry(edits[i], words) for i in sorted(chosen)])


def _entry(graded: GradedCase, words: bool) -> SheetEntry:
    case, sample = graded.case, graded.case.sample
    wrong = [
        f"{name} {graded.seen[name]}, not {getattr(sample.target, name)}"
        for name in ATTRIBUTES
        if graded.seen[name] != getattr(sample.target, name)
    ]
    others = [i for i in range(len(sample.references)) if i != sample.base_index and not words]
    return SheetEntry(
        source=to_picture(picture_of(sample.source) if sample.source else NO_SOURCE),
        source_mark="" if words or sample.source is None else sample.references[sample.base_index].mark,
        thumbnails=tuple((sample.references[i].mark, _thumbnail(case, i)) for i in others),
        instruction=in_words(case) if words else sample.instruction,
        result=to_picture(graded.outcome.image),
        verdict="judge: as wanted" if not wrong else "judge: " + "; ".join(wrong),
        good=not wrong,
        detail=graded.outcome.caption,
    )


def _thumbnail(case: EditCase, index: int) -> Image.Image:
    spec = case.sample.references[index]
    if spec.modality == "image":
        return to_picture(picture_of(spec.content))
    return spectrogram(*sound_of(case, spec)) if spec.modality == "audio" else word_card(spec.content)


def grade_in_words(
    judge: Judge, checkpoint: Checkpoint, graded: Sequence[GradedCase], options: argparse.Namespace
) -> dict[str, list[GradedCase]]:
    """Both editors of IN_WORDS on the edits that words can say; nothing where the folder has no InstructPix2Pix."""
    said = [g for g in graded if can_be_said(g.case)]
    if not said or not has_pix2pix(options.miniature):
        logger.info("InstructPix2Pix is left out: %s", f"{options.miniature} has none" if said else "no edit in words")
        return {}
    cases = [g.case for g in said]
    text_options = options_from(options.text_options, TextEditOptions())
    with torch.autocast(checkpoint.device.type, torch.bfloat16, enabled=options.bf16):
        edit = pix2pix_editor(checkpoint.pix2pix, checkpoint.vae, text_options, options.seed)
        return dict(zip(IN_WORDS, (said, grade_outcomes(judge, cases, edit(cases))), strict=True))


def main(argv: list[str] | None = None):
    options = _arguments().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    edit_options = options_from(options.options)
    checkpoint = Checkpoint(options.miniature, options.device)
    networks, judge = checkpoint.networks, checkpoint.judge
    cases = _draw(options)
    logger.info("%d edits of the %s split, seed %d", len(cases), options.split, options.seed)
    started = time.perf_counter()
    with torch.autocast(checkpoint.device.type, torch.bfloat16, enabled=options.bf16):
        outcomes = pack_editor(networks, edit_options, options.seed, options.oracle)(cases)
    seconds = time.perf_counter() - started
    graded = grade_outcomes(judge, cases, outcomes)
    by_words = grade_in_words(judge, checkpoint, graded, options)
    edits = [case for case in cases if case.sample.source is not None]
    groups = {
        "figures": summarise(graded),
        "copying the source": summarise(grade_outcomes(judge, edits, copy_editor(edits))),
        "perfect painter through the vae": summarise(grade_outcomes(judge, cases, round_trip_editor(networks)(cases))),
        "judge and vae": judge_and_autoencoder(judge, networks, options.seed, JUDGE_PICTURES),
    }
    worded = {title: summarise(of) for title, of in by_words.items()}
    logger.info(
        "%s\n\n%s\n\n%.2f s an edit",
        quality_table(*groups.values(), worded),
        detail_table(groups["figures"], groups["judge and vae"]),
        seconds / len(cases),
    )
    if options.sheet:
        save_sheet(sheet_of(graded, options.seed), options.sheet)
    if options.text_sheet and by_words:
        save_sheet(sheet_of(by_words[IN_WORDS[1]], options.seed, words=True), options.text_sheet)
    if options.json:
        _write(options, edit_options, seconds, groups | worded)


def _arguments() -> argparse.ArgumentParser:
    parser = evaluation_parser(__doc__, 32, "edits of each kind and way of giving it")
    parser.add_argument("--rows", nargs="+", choices=ROWS, help="only these kinds of edit")
    parser.add_argument(
        "--ways", nargs="+", choices=("text", "image", "audio", "mixed"), help="only these ways of giving it"
    )
    parser.add_argument("--oracle", action="store_true", help="the rendered target's embedding in place of the LLM's")
    parser.add_argument(
        "--options",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help=f"of: {', '.join(EditOptions.__dataclass_fields__)}",
    )
    parser.add_argument(
        "--text-options",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help=f"of InstructPix2Pix: {', '.join(TextEditOptions.__dataclass_fields__)}",
    )
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16: faster, for trying options")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sheet", type=Path, help=f"a contact sheet of {SHEET_EDITS} edits")
    parser.add_argument("--text-sheet", type=Path, help="the same of InstructPix2Pix")
    return parser


def _draw(options: argparse.Namespace) -> list[EditCase]:
    cases = draw_cases(options.seed, options.samples, options.split, options.rows)
    return [case for case in cases if options.ways is None or case.modality in options.ways]


def _write(options: argparse.Namespace, edit_options: EditOptions, seconds: float, groups: dict[str, dict[str, Rate]]):
    text_options = asdict(options_from(options.text_options, TextEditOptions()))
    record = {
        "seed": options.seed, "samples": options.samples, "split": options.split, "oracle": options.oracle,
        "options": asdict(edit_options), "seconds": round(seconds, 1),
        **({"text options": text_options} if IN_WORDS[1] in groups else {}),
        **{title: {name: rate.to_dict() for name, rate in group.items() if rate.count} for title,
        group in groups.items()},
    }  # fmt: skip
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
