"""What the card of the miniature says of InstructPix2Pix: the trade-off against other methods, and the data it was
trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..stages.any2pix.options import EditOptions
from ..stages.pix2pix.pipeline import SDEditOptions
from .findings import RESULTS, Findings
from .rates import markdown_table
from .sweeps import ALPHAS
from .tradeoff import IMAGE_GUIDANCES, STRENGTHS, SWEPT
from .tradeoff_curves import comparison_table, curves_table

IN_WORDS_NOTE = """InstructPix2Pix reads words and sees the source picture, nothing else. Both methods are compared on the
edits that words can say, each once: single edits that InstructAny2Pix is given as text, and the compositions, whose
references it may be given as pictures and sounds. Same scenes, same judge, same seed."""
OPTION_FLAGS = {
    "InstructPix2Pix": ("--text-options", SWEPT),
    "SDEdit": ("--sdedit-options", SDEditOptions()),
    "InstructAny2Pix": ("--options", EditOptions()),
}
KNOB_FLAGS = {
    "InstructPix2Pix": ("--image-guidances", IMAGE_GUIDANCES),
    "SDEdit": ("--strengths", STRENGTHS),
    "InstructAny2Pix": ("--alphas", ALPHAS),
}


def changed_options(flag: str, options: Mapping[str, Any], defaults: Any) -> str:
    """The part of a command line that asks for options where they are not the defaults."""
    plain = asdict(defaults)
    changed = [f"{name}={value}" for name, value in options.items() if value != plain.get(name)]
    return f" {flag} {' '.join(changed)}" if changed else ""


def tradeoff_section(findings: Findings) -> str:
    """Directional similarity against what is kept, of every record; nothing where none was measured."""
    blocks = [_tradeoff(name, record, findings.pictures) for name, record in findings.tradeoffs.items()]
    return "## What editing costs the picture\n\n" + "\n\n".join(blocks) if blocks else ""


def _tradeoff(name: str, record: Mapping[str, Any], pictures: frozenset[str]) -> str:
    picture = Path(name).with_suffix(".png").name
    command = f"python -m any2pix.evaluation.tradeoff --seed {record['seed']} --samples {record['samples']}"
    for method, (flag, defaults) in OPTION_FLAGS.items():
        command += changed_options(flag, record["options"][method], defaults)
    for curve in record["tradeoff"]:
        flag, values = KNOB_FLAGS[curve["method"]]
        command += f" {flag} {' '.join(map(str, curve['values']))}" if tuple(curve["values"]) != values else ""
    shown = [f"![trade-off]({RESULTS}/{picture})"] if picture in pictures else []
    other = record["another drawing of the source"]
    text = f"""```
{command} --json miniature/{RESULTS}/{name} --plot miniature/{RESULTS}/{picture}
```

{record["edits"]} edits of the {record["split"]} split. Directional similarity: how far the picture changes as its caption should;
against it, how like the source the picture stays: by its embedding (InstructPix2Pix, sec. 4.1), by what the same network says
of each patch, and by its lines, the structure term of SSIM. To the right and up is better. SDEdit is given the whole caption of
the result, InstructPix2Pix only the instruction. The embedding of the miniature's ImageBind knows what is in a picture and
hardly where: another drawing of the source's attributes has an image similarity of {other["image"]["mean"]:.2f} to it, but a
patch similarity of {other["patches"]["mean"]:.2f} and a structural similarity of {other["structure"]["mean"]:.2f}."""
    compared = record["at equal direction"]
    reading = "At equal directional similarity, read off the lines; ± from drawing the edits again (bootstrap):"
    tables = [reading, comparison_table(compared), "All points:", curves_table(record["tradeoff"])]
    return "\n\n".join((text, *shown, *tables))


def ablation_section(findings: Findings) -> str:
    """InstructPix2Pix trained on parts of its data."""
    blocks = [
        f"```\n{record['command']}\n```\n\n{markdown_table(record['columns'], record['rows'])}"
        for record in findings.ablations.values()
    ]
    return "## What the training pairs of InstructPix2Pix are worth\n\n" + "\n\n".join(blocks) if blocks else ""
