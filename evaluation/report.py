"""Group results: python -m any2pix.evaluation.report rows.parquet --by kind --metrics psnr ssim done

A column a method and setting, a line a metric, and one for each group with `--by`. Means come with 95 % intervals that
are drawn by scene (`intervals`). Methods do not take the same cases: `--shared` keeps the cases that all of them have.
`--against NAME` adds the differences to one method, case by case. `--at-equal direction` compares methods over their
settings, at equal values of that metric: the paper's own measure, image_similarity, comes first.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .intervals import Estimate, estimate
from .metrics import METRICS
from .rates import markdown_table
from .results import COLUMNS, read_rows

if TYPE_CHECKING:
    from pandas import DataFrame

logger = logging.getLogger(__name__)
EVERYTHING = "all"
GROUPINGS = ("kind", "given_as", "split", "data")
ORDER = (
    "psnr", "ssim", "psnr_outside", "ssim_outside", "structure_target", "drawn_right",
    "subject_confidence", "confidence", "done", "kept", "all_right",
    "direction", "image_similarity", "caption_similarity", "patch_similarity", "structure",
)  # fmt: skip


def shown_name(method: str, setting: str) -> str:
    return f"{method} {setting}".strip()


def with_columns(frame: DataFrame) -> DataFrame:
    """The rows with the name of their column in the table."""
    names = [shown_name(*pair) for pair in zip(frame["method"], frame["setting"], strict=True)]
    return frame.assign(column=names)


def only_shared(frame: DataFrame) -> DataFrame:
    """The rows of the cases that every column has."""
    columns = frame["column"].nunique()
    counts = frame.groupby(["data", "split", "case"])["column"].transform("nunique")
    return frame[counts == columns]


def against(frame: DataFrame, base: str) -> DataFrame:
    """Rows of the differences to the column `base`, on the cases that both have."""
    if base not in set(frame["column"]):
        raise ValueError(f"There is no method {base!r} here. Choose from: {', '.join(frame['column'].unique())}.")
    keys = ["data", "split", "seed", "case", "metric"]
    own = frame.loc[frame["column"] == base, [*keys, "value"]]
    joined = frame[frame["column"] != base].merge(own, on=keys, suffixes=("", "_of_base"))
    names = joined["column"] + f" - {base}"
    return joined.assign(value=joined["value"] - joined["value_of_base"], column=names)


def estimates_of(frame: DataFrame, by: str | None) -> dict[tuple[str, str], dict[str, Estimate]]:
    """(metric, group) -> {column: its estimate}, in the order of the table."""
    metrics = sorted(frame["metric"].unique(), key=lambda name: (_place(name), name))
    groups = sorted(frame[by].unique()) if by else [EVERYTHING]
    own = {shown_name(*pair) for pair in zip(frame["method"], frame["setting"], strict=True)}  # and no differences
    found = {}
    for metric in metrics:
        for group in groups:
            part = frame[(frame["metric"] == metric) & (frame[by] == group if by else True)]
            cells = {
                column: estimate(rows["value"], scenes_of(rows), METRICS[metric].unit == "share" and column in own)
                for column, rows in part.groupby("column", sort=False)
            }
            if cells:
                found[metric, group] = cells
    return found


def scenes_of(rows: DataFrame) -> list[str]:
    """The scene of each row; those of two data sets are never the same."""
    return ["/".join(parts) for parts in zip(rows["data"], rows["split"], rows["scene"], strict=True)]


def _place(metric: str) -> int:
    return ORDER.index(metric) if metric in ORDER else len(ORDER)


def table_of(frame: DataFrame, by: str | None = None) -> str:
    """The estimates in markdown."""
    columns = list(dict.fromkeys(frame["column"]))
    rows = [
        (metric, *([group] if by else []), *(cell(cells.get(column), metric) for column in columns))
        for (metric, group), cells in estimates_of(frame, by).items()
    ]
    return markdown_table(("metric", *([by] if by else []), *columns), rows)


def cell(found: Estimate | None, metric: str) -> str:
    """Mean, interval, and the number of cases and scenes behind them."""
    if found is None:
        return ""
    unit = METRICS[metric].unit
    scale, digits, sign = {"share": (100, 1, " %"), "dB": (1, 1, " dB")}.get(unit, (1, 3, ""))
    mean, low, high = (f"{scale * value:.{digits}f}" for value in (found.mean, found.low, found.high))
    interval = f" [{low}, {high}]" if found.scenes > 1 else ""
    return f"{mean}{interval}{sign} (n {found.cases}, {found.scenes} scenes)"


def settings_differ(frame: DataFrame) -> list[str]:
    """Sentences on rows that were not measured with the same weights or code."""
    told = []
    for name in ("weights", "code", "embedder"):
        values = frame[name].unique()
        if len(values) > 1:
            told.append(f"The rows were measured with {len(values)} different {name}: {', '.join(values)}.")
    return told


def chosen_rows(given: argparse.Namespace) -> DataFrame:
    """The rows that the command line asks for. ValueError where none is left."""
    frame = with_columns(read_rows(given.files))
    for pair in given.where:
        name, _, values = pair.partition("=")
        if name not in COLUMNS:
            raise ValueError(f"{pair!r} is not a condition. Write NAME=VALUE,VALUE with one of: {', '.join(COLUMNS)}.")
        frame = frame[frame[name].astype(str).isin(values.split(","))]
    if given.metrics:
        frame = frame[frame["metric"].isin(given.metrics)]
    frame = only_shared(frame) if given.shared else frame
    if frame.empty:
        raise ValueError("No rows are left. Use fewer conditions, or run more methods.")
    return frame


def main(argv: Sequence[str] | None = None):
    given = _arguments().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    frame = chosen_rows(given)
    for sentence in settings_differ(frame):
        logger.warning(sentence)
    parts = [frame, against(frame, given.against)] if given.against else [frame]
    text = "\n\n".join(table_of(part, given.by) for part in parts)
    if given.at_equal:
        from .equal import comparisons_of, equal_table

        text = f"{text}\n\n{equal_table(comparisons_of(frame, given.at_equal))}"
    logger.info(text)
    if given.out:
        given.out.write_text(text + "\n")
    if given.json:
        records = [
            {"metric": metric, "group": group, "method": column, **found.to_dict()}
            for part in parts
            for (metric, group), cells in estimates_of(part, given.by).items()
            for column, found in cells.items()
        ]
        given.json.write_text(json.dumps(records, indent=1) + "\n")


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="rows that run --out wrote")
    parser.add_argument("--by", choices=GROUPINGS, help="a line for each value of this column")
    parser.add_argument("--where", nargs="+", default=[], metavar="NAME=VALUE,VALUE", help="only these rows")
    parser.add_argument("--metrics", nargs="+", choices=METRICS.names(), help="only these")
    parser.add_argument("--shared", action="store_true", help="only the cases that every method has")
    parser.add_argument(
        "--against", metavar="METHOD", help="also the differences to this method, named as in its column"
    )
    parser.add_argument("--at-equal", metavar="METRIC", choices=METRICS.names(), help="compare over the settings")
    parser.add_argument("--out", type=Path, help="markdown")
    parser.add_argument("--json", type=Path)
    return parser


if __name__ == "__main__":
    main()
