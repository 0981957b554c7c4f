"""Our code beside the authors', on the same random weights: python -m any2pix.benchmarks.against_upstream --upstream
DIR

    --upstream DIR      a checkout of github.com/jacklishufan/InstructAny2Pix
    --imagebind DIR --pytorchvideo DIR
                        checkouts of facebookresearch/ImageBind and facebookresearch/pytorchvideo; without them pictures
                        and sounds, and the whole edit, are left out
    --site DIR [DIR]    folders in front of the import path of BOTH sides: libraries the authors' code runs with
                        (transformers 4.50, diffusers 0.33, timm, ftfy, iopath); transformers 5 does not run it

Each side is a process of its own; they run in turn, after their results have been compared. Ratios are taken run
by run from the processor seconds of the processes, so that other load on the machine counts little; wall-clock ratios
are given beside them. --json is written after every case; --from shows the tables of such files again, several as
one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import math
import os
import platform
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from ..evaluation.rates import markdown_table
from .duel import Case, Measured, Side, duel
from .duel_inputs import EditTask, EncodeTask, LLMTask, PaintTask, PriorTask
from .duel_plot import plot_growth
from .duel_worker import build_task

logger = logging.getLogger(__name__)
NEEDS_IMAGEBIND = ("encode", "edit")
SERIES = {
    "prompt": "tokens of the prompt",
    "answer": "tokens of the answer",
    "references": "pictures",
    "picture": "pixels a side",
}
VARIABLES = {"upstream": "ANY2PIX_UPSTREAM", "imagebind": "ANY2PIX_IMAGEBIND", "pytorchvideo": "ANY2PIX_PYTORCHVIDEO"}

MIDDLE_LLM = LLMTask(width=512, intermediate=1376, heads=8, new_tokens=20)  # for the growth series
TINY_LLM = LLMTask(layers=2, width=128, intermediate=256, heads=4, vocabulary=256, prompt=32, new_tokens=12)
TINY_ENCODE = EncodeTask(
    vision_width=64, vision_blocks=1, vision_heads=2, audio_width=64, audio_blocks=1, audio_heads=2
)
TINY_PRIOR = PriorTask(layers=1, clip_width=64, clip_layers=1, clip_heads=2)
TINY_PAINT = PaintTask(widths=(64, 64), transformers=(0, 1), context=32, pooled=32, side=16, steps=3)


def full_cases() -> list[Case]:
    """Widths of the release; few layers where full depth would take minutes a run."""
    paint = PaintTask()
    edit = {"llm": LLMTask(width=1024, intermediate=2752, heads=16), "paint": paint}
    return [
        Case("LLM, 60 tokens, 4 layers of width 4096", "llm", LLMTask()),
        Case("LLM, 60 tokens, 1 layer of width 4096", "llm", LLMTask(layers=1)),
        Case("ImageBind, a picture, 8 of 32 blocks", "encode", EncodeTask(vision_blocks=8)),
        Case("ImageBind, a sound, all 12 blocks", "encode", EncodeTask(pictures=0, sounds=1, audio_blocks=12)),
        Case("prior, 6 + 6 layers of width 1024", "prior", PriorTask()),
        Case("inversion and sampling, 10 steps each, 256 pixels", "paint", paint),
        Case("whole edit, first", "edit", EditTask(**edit)),
        Case("whole edit, again with another alpha", "edit", EditTask(**edit, second=True)),
        *growth_cases(MIDDLE_LLM, EncodeTask(vision_blocks=1), paint, (128, 256, 512, 1024), (16, 32, 64)),
    ]


def quick_cases() -> list[Case]:
    """The same rows at sizes that take seconds: a check that both sides run and agree, no measure of speed."""
    edit = {"llm": TINY_LLM, "encode": replace(TINY_ENCODE, sounds=1), "prior": TINY_PRIOR, "paint": TINY_PAINT}
    return [
        Case("LLM", "llm", TINY_LLM),
        Case("ImageBind", "encode", replace(TINY_ENCODE, sounds=1)),
        Case("prior", "prior", TINY_PRIOR),
        Case("inversion and sampling", "paint", TINY_PAINT),
        Case("whole edit, first", "edit", EditTask(**edit)),
        Case("whole edit, again with another alpha", "edit", EditTask(**edit, second=True)),
        *growth_cases(TINY_LLM, TINY_ENCODE, TINY_PAINT, (32, 64), (8, 16)),
    ]


def growth_cases(
    llm: LLMTask, encode: EncodeTask, paint: PaintTask, prompts: Sequence[int], sides: Sequence[int]
) -> list[Case]:
    def case(series: str, at: int, kind: str, task) -> Case:
        return Case(f"{at} {SERIES[series]}", kind, task, series, at)

    return [
        *(case("prompt", length, "llm", replace(llm, prompt=length)) for length in prompts),
        *(case("answer", length, "llm", replace(llm, new_tokens=length)) for length in (15, 30, 60, 120)),
        *(case("references", count, "encode", replace(encode, pictures=count)) for count in (1, 4, 16)),
        *(case("picture", 8 * side, "paint", replace(paint, side=side)) for side in sides),
    ]


def summary_table(measured: Sequence[Measured]) -> str:
    rows = [(one.case.name, *_seconds(one), _ratio(one), _wall(one), f"{one.difference:.0e}") for one in measured]
    return markdown_table(
        ("what", "authors, s", "ours, s", "times faster", "by the wall clock", "numbers differ by"), rows
    )


def growth_table(series: str, measured: Sequence[Measured]) -> str:
    """Last row: the power of the size with which the seconds grow, from the first size to the last."""
    rows = [(one.case.at, *_seconds(one), _ratio(one)) for one in measured]
    powers = (f"power {growth_power(measured, side):.2f}" for side in ("upstream", "ours"))
    return markdown_table((SERIES[series], "authors, s", "ours, s", "times faster"), [*rows, ("growth", *powers, "")])


def growth_power(measured: Sequence[Measured], side: str) -> float:
    """1 is linear, 2 quadratic."""
    first, last = measured[0], measured[-1]
    return math.log(last.median(side) / first.median(side)) / math.log(last.case.at / first.case.at)


def _seconds(one: Measured) -> tuple[str, str]:
    return f"{one.median('upstream'):.3g}", f"{one.median('ours'):.3g}"


def _ratio(one: Measured) -> str:
    ratios = one.ratios()
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _wall(one: Measured) -> str:
    return f"{statistics.median(one.ratios('wall')):.2f}"


def report(measured: Sequence[Measured], machine: str) -> str:
    """All tables in markdown."""
    parts = [machine, summary_table([one for one in measured if not one.case.series])]
    for series in SERIES:
        rows = [one for one in measured if one.case.series == series]
        if len(rows) > 1:
            parts.append(growth_table(series, rows))
    return "\n\n".join(parts)


def describe_machine(threads: int) -> str:
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "safetensors"))
    plural = "s" if threads != 1 else ""
    return f"{os.cpu_count()} cores ({platform.machine()}), {threads} thread{plural} a side, float32, {libraries}."


def run_cases(
    cases: Sequence[Case], sides: tuple[Side, Side], repeats: int, machine: str, file: Path | None = None
) -> list[Measured]:
    """Every case in turn; ``file`` always holds what is measured so far."""
    measured = []
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            measured.append(duel(case, *sides, repeats, Path(folder)))
        logger.info("%s: %s", case.name, _ratio(measured[-1]))
        if file:
            found = {"machine": machine, "cases": [one.to_dict() for one in measured]}
            file.write_text(json.dumps(found, indent=1) + "\n")
    return measured


def read_files(files: Sequence[Path]) -> tuple[list[Measured], str]:
    """What earlier runs wrote, in the order of the files; they must be of one machine."""
    found = [json.loads(file.read_text()) for file in files]
    machines = {one["machine"] for one in found}
    if len(machines) > 1:
        raise SystemExit("The files are of different machines: " + " / ".join(sorted(machines)))
    return [measured_from(case) for one in found for case in one["cases"]], machines.pop()


def measured_from(given: dict) -> Measured:
    case = Case(given["name"], given["kind"], build_task(given["kind"], given["task"]), given["series"], given["at"])
    return Measured(case, given["ours"], given["upstream"], given["difference"])


@contextlib.contextmanager
def two_sides(names: tuple[str, str], site: Sequence[Path], variables: dict[str, str]):
    """Both worker processes, ended at the end."""
    with tempfile.TemporaryDirectory() as logs, contextlib.ExitStack() as stack:
        sides = []
        for place, name in enumerate(names):
            sides.append(Side(name, [str(folder) for folder in site], variables, Path(logs, f"{place}.log")))
            stack.callback(sides[-1].close)
        yield tuple(sides)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--upstream", type=Path)
    what.add_argument("--from", type=Path, nargs="+", dest="files", help="JSON files of earlier runs")
    parser.add_argument("--imagebind", type=Path)
    parser.add_argument("--pytorchvideo", type=Path)
    parser.add_argument("--site", type=Path, nargs="+", default=[])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="processor threads of each side")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="WORD", help="cases with one of these words in their name"
    )
    parser.add_argument("--quick", action="store_true", help="sizes that take seconds")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    return parser.parse_args(argv)


def choose_cases(arguments: argparse.Namespace) -> list[Case]:
    cases = quick_cases() if arguments.quick else full_cases()
    if not (arguments.imagebind and arguments.pytorchvideo):
        cases = [case for case in cases if case.kind not in NEEDS_IMAGEBIND]
    if arguments.only:
        cases = [case for case in cases if any(word in case.name for word in arguments.only)]
    if not cases:
        raise SystemExit(f"No case has one of these words in its name: {', '.join(arguments.only)}.")
    return cases


def measure(arguments: argparse.Namespace) -> tuple[list[Measured], str]:
    """Both sides started, and run through the chosen cases."""
    places = {variable: getattr(arguments, name) for name, variable in VARIABLES.items()}
    variables = {variable: str(place.resolve()) for variable, place in places.items() if place}
    variables |= {"OMP_NUM_THREADS": str(arguments.threads), "TOKENIZERS_PARALLELISM": "false"}
    machine = describe_machine(arguments.threads)
    with two_sides(("ours", "upstream"), arguments.site, variables) as sides:
        return run_cases(choose_cases(arguments), sides, arguments.repeats, machine, arguments.json), machine


def main(argv: list[str] | None = None):
    arguments = parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    measured, machine = read_files(arguments.files) if arguments.files else measure(arguments)
    logger.info("%s", report(measured, machine))
    if arguments.plot:
        plot_growth(measured, SERIES, arguments.plot)


if __name__ == "__main__":
    main()
