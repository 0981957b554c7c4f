"""What the card of the miniature tells of its edits, from the rows that `card_figures` wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .card_figures import METHODS, RUNS, SHEET, TRADEOFF
from .datasets.toyland import FINAL
from .equal import comparisons_of, equal_table
from .findings import RESULTS, Findings
from .report import only_shared, table_of

if TYPE_CHECKING:
    from pandas import DataFrame

WHOLE = (
    "psnr", "ssim", "psnr_outside", "ssim_outside", "structure_target", "drawn_right", "subject_confidence",
    "confidence", "done", "kept", "all_right", "base_right", "caption_right",
)  # fmt: skip
SHARED = ("psnr", "psnr_outside", "structure_target", "drawn_right", "subject_confidence", "done", "kept", "direction",
          "image_similarity")  # fmt: skip
BY_KIND = ("psnr", "psnr_outside", "drawn_right", "subject_confidence", "done")
OWN = "InstructAny2Pix"
KNOBS = {
    "alpha": "`alpha`: the share of the source picture's noise. A higher alpha should keep the layout.",
    "base_weight": "`base_weight`: the weight of the base picture's embedding in the mix. More should keep its meaning.",
    "refined_weight": "`refined_weight`: the weight of what the refinement prior makes of the prediction. 0: no prior.",
    "score": "`score`: the aesthetic score asked of the prior.",
}
SPLITS_TOLD = {
    FINAL: "on frozen held-out seeds and held-out combinations of attributes, which nothing but this report has drawn",
    "seen": "on held-out seeds that were looked at while the miniature was made, so the figures are optimistic",
    "validation": "on validation edits, on which options are chosen, so the figures are optimistic",
}
READING = """`psnr` and `ssim` hold the whole picture against the true one, drawn by Toyland; `psnr_outside` and
`ssim_outside` where the edit should change nothing. `structure_target` compares the lines, `drawn_right` asks for every
attribute and the lines, `subject_confidence` is the judge's probability of the right subject. The bounds: "copying" gives
the source back, "perfect painter" passes the true picture through the VAE. In brackets 95 % intervals, drawn by scene."""


def edits_section(findings: Findings) -> str:
    """All methods on all their cases, on the shared ones, and the pack's main method by kind."""
    title = "## What it can do\n\n"
    frame = findings.rows.get(METHODS)
    if frame is None:
        return title + missing(f"python -m any2pix.evaluation.card_figures --out miniature/{RESULTS}")
    own = frame[frame["method"] == OWN]
    return f"""{title}{_told(frame, METHODS)}

{READING}

{table_of(_of(frame, WHOLE))}

The same on the edits that every method can be given: words for InstructPix2Pix, a caption for SDEdit.

{table_of(_of(only_shared(frame), SHARED))}

{OWN} by kind of edit:

{table_of(_of(own, BY_KIND), "kind")}

And by the way it is given:

{table_of(_of(own, BY_KIND), "given_as")}"""


def sheet_section(findings: Findings) -> str:
    """The contact sheet."""
    if SHEET not in findings.pictures:
        return ""
    return f"""## Edits, chosen by the seed and not by hand

Source, true result, and what each method makes of it.

![edits]({RESULTS}/{SHEET})"""


def tradeoff_section(findings: Findings) -> str:
    """What is kept at equal directional similarity."""
    frame = findings.rows.get(TRADEOFF)
    if frame is None:
        return ""
    measurement = RUNS[TRADEOFF]
    return f"""## What editing costs the picture

{_told(frame, TRADEOFF)}

How far the picture changes as its caption should (directional similarity, x) against what is kept of the source and how
near the result is to the true one. The paper's own measure is the first, image similarity (InstructPix2Pix, sec. 4.1). It is
the miniature's ImageBind that measures it, which reads what is in a picture and hardly where. Differences where two methods
have the same directional similarity, over all levels that both reach:

{equal_table(comparisons_of(frame, measurement.over), each_level=False)}
{_plot(findings, TRADEOFF)}"""


def knobs_section(findings: Findings) -> str:
    """Each swept option of the main method."""
    blocks = []
    for name, told in KNOBS.items():
        if (frame := findings.rows.get(name)) is not None:
            blocks.append(f"{told}\n\n{_told(frame, name)}\n\n{table_of(frame)}\n{_plot(findings, name)}")
    return "## What the options do\n\n" + "\n\n".join(blocks) if blocks else ""


def missing(command: str) -> str:
    """Instead of a section that nothing was measured for."""
    return f"Not measured yet:\n\n```\n{command}\n```"


def _of(frame: DataFrame, metrics: tuple[str, ...]) -> DataFrame:
    return frame[frame["metric"].isin(metrics)]


def _plot(findings: Findings, name: str) -> str:
    return f"\n![{name}]({RESULTS}/{name}.png)" if f"{name}.png" in findings.pictures else ""


def _told(frame: DataFrame, name: str) -> str:
    """On what it was measured, with what, and by which command."""
    (split,), cases = frame["split"].unique(), frame["case"].nunique()
    samples = frame[frame["kind"] == frame["kind"].iloc[0]]["scene"].nunique()
    command = " ".join(map(_quoted, RUNS[name].command(split, samples)))
    weights, code = frame["weights"].iloc[0], frame["code"].iloc[0]
    return f"""Measured {SPLITS_TOLD[split]}: {cases} edits of {frame["scene"].nunique()} scenes, with the weights {weights} and
the code {code} (digests of `evaluation/results.py`).

```
python -m any2pix.evaluation.run {command} --out miniature/{RESULTS}/{name}.parquet
```"""


def _quoted(argument: str) -> str:
    return f'"{argument}"' if " " in argument else argument
