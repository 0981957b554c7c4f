"""What the card of the miniature says of the quality of its edits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..stages.any2pix.options import EditOptions
from ..stages.pix2pix.pipeline import TextEditOptions
from .card_pix2pix import IN_WORDS_NOTE, changed_options
from .edit_quality import IN_WORDS, POINTS, TABLE, detail_table, quality_table
from .findings import RESULTS, Findings, main_quality, rates_of
from .rates import Rate, markdown_table

LEAST_PSNR, AIM_PSNR = 25, 28  # dB, as in quality_table
SEEN_NOTE = """These seeds were seen while the miniature was made: defects were looked for on them, so the figures are
optimistic. `evaluation/datasets/toyland.py` freezes a range of seeds that only the final report draws."""
COPYING_NOTE = """"Copying the source" is what the judge says when nothing is edited; "perfect painter" when Toyland itself
draws the wanted picture and only the VAE stands between."""


def quality_section(findings: Findings) -> str:
    """The table of edit_quality, what falls short of it, and other runs."""
    title = "## What it can do\n\n"
    chosen = main_quality(findings)
    if chosen is None:
        return title + missing("python -m any2pix.evaluation.edit_quality --seed 1 --json FILE --sheet FILE")
    record = findings.quality[chosen]
    figures = rates_of(record["figures"])
    copied, ceiling, extra = (
        rates_of(record[group]) for group in ("copying the source", "perfect painter through the vae", "judge and vae")
    )
    worded = {title: rates_of(record[title]) for title in IN_WORDS if title in record}
    notes = [IN_WORDS_NOTE] if worded else []
    options = {"the edit": record["options"], "InstructPix2Pix": record.get("text options", {})}
    return f"""{title}Measured on held-out seeds and held-out combinations of attributes, {record["samples"]} edits
of each kind and way of giving it, seed {record["seed"]}. The judge is a classifier trained apart, on drawings of its
own. ± is the standard error, n the number of edits.

{SEEN_NOTE}

```
{_quality_command(record, chosen)}
```

{quality_table(figures, copied, ceiling, extra, worded)}

{" ".join((COPYING_NOTE, *notes))}

{_shortfalls(figures, extra)}

{detail_table(figures, extra)}

{_told_options(options)}
{_other_records(findings, chosen)}"""


def _told_options(options: Mapping[str, Mapping[str, Any]]) -> str:
    told = ((title, ", ".join(f"{name} {value}" for name, value in of.items())) for title, of in options.items())
    return "\n".join(f"Options of {title}: {values}." for title, values in told if values)


def _quality_command(record: Mapping[str, Any], name: str) -> str:
    command = f"python -m any2pix.evaluation.edit_quality --seed {record['seed']} --samples {record['samples']}"
    command += changed_options("--options", record["options"], EditOptions())
    command += changed_options("--text-options", record.get("text options", {}), TextEditOptions())
    return f"{command} --json miniature/{RESULTS}/{name}"


def _shortfalls(figures: Mapping[str, Rate], extra: Mapping[str, Rate]) -> str:
    """Every target that was missed, by how much. What was not measured is NaN, which compares as nothing."""
    judged = [(what, 100 * figures[name].mean, least, aim) for what, name, least, aim in TABLE if least]
    # "points worse" is better the lower it is
    judged += [(what, -100 * figures[name].mean, -least, -aim) for what, name, least, aim in POINTS]
    judged.append(("VAE round trip, dB", extra["vae psnr"].mean, LEAST_PSNR, AIM_PSNR))
    below = [f"{what} by {least - got:.1f}" for what, got, least, _ in judged if got < least]
    near = [f"{what} by {aim - got:.1f}" for what, got, least, aim in judged if least <= got < aim]
    lines = [f"- Below what is wanted at least: {'; '.join(below)}." if below else "- Nothing is below its target."]
    lines += [f"- Above it, but short of the aim: {'; '.join(near)}."] if near else []
    return "\n".join(lines)


def _other_records(findings: Findings, chosen: str) -> str:
    """Runs with other options or embeddings, for comparison."""
    main = findings.quality[chosen]["options"]
    rows = []
    for name, record in findings.quality.items():
        if name == chosen:
            continue
        oracle = ["the rendered target's own embedding in place of the LLM's"] if record["oracle"] else []
        changed = [f"{key} {value}" for key, value in record["options"].items() if value != main.get(key)]
        figures = rates_of(record["figures"])
        what = ", ".join((f"{record['split']} split", *oracle, *changed))
        rows.append((f"`{name}`", what, figures["done"].percent(), figures["kept"].percent()))
    head = ("run", "what differs", "single edits done", "others kept")
    return f"\nFor comparison:\n\n{markdown_table(head, rows)}" if rows else ""


def missing(command: str) -> str:
    """In the place of a section that nothing was measured for."""
    return f"Not measured yet:\n\n```\n{command}\n```"
