"""The card of the miniature, written from what was measured: python -m any2pix.evaluation.card

Reads the weight files, `training.json` of `python -m any2pix.training.miniature`, and what `evaluation.card_figures`,
`.inversion`, `.data_ablation` and `benchmarks.edit_latency` left in `results/`, and writes README.md beside the weights.
Every number in it comes from one of these files; `results/notes.md`, where there is one, is taken over as it is.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..datagen.drawing import SIZE
from ..datagen.instructions import EDIT_KINDS
from ..datagen.toyland import ATTRIBUTES, HELD_OUT
from ..miniature import manifest
from .card_edits import edits_section, knobs_section, missing, sheet_section, tradeoff_section
from .findings import RESULTS, TRAINING, Findings, WeightFile, gather
from .inversion import measured_of, table
from .rates import markdown_table

logger = logging.getLogger(__name__)
CARD = "README.md"
MEGABYTE = MILLION = 1e6
BREAKDOWN = "/"  # in the names of results that are a part of another one
MOST_RESULTS = 12  # of a training, in its cell of the table

PURPOSES = {
    "imagebind": "pictures, sounds and texts to embeddings of one space",
    "llm": "the instruction with its references to the embeddings of base and result, and a caption",
    "prior": "a predicted or heard embedding to that of a clean picture",
    "adapter": "an embedding to what the UNet reads instead of a text",
    "unet": "paints an embedding, SDXL-shaped",
    "vae": "pictures to latents and back",
    "judge": "names what is in a picture; only the evaluation uses it",
    "text_unet": "paints a text, SDXL-shaped; InstructPix2Pix grew from it, and the data pipeline paints with it",
    "text_encoder": "a text to what the UNet of the same name reads, as CLIP does",
    "pix2pix": "InstructPix2Pix: paints the picture it is shown as an instruction in words asks for",
}


def write_card(findings: Findings) -> str:
    """The whole card in markdown."""
    parts = [
        _opening(findings),
        _files(findings.weights),
        edits_section(findings),
        sheet_section(findings),
        tradeoff_section(findings),
        knobs_section(findings),
        _ablation(findings),
        _inversions(findings),
        _latency(findings),
        _training(findings.training),
        _limits(findings),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _opening(findings: Findings) -> str:
    parameters = sum(weight.parameters for weight in findings.weights if weight.kind != "judge") / MILLION
    total = sum(weight.size for weight in findings.weights) / MEGABYTE
    return f"""# The miniature

A small checkpoint of every network of this pack: {parameters:.1f} million parameters, {total:.1f} MB on disk. It is of
the same classes as the full-size networks and was trained by this repository's own training code, from nothing and on
nothing but *Toyland*: drawings of {SIZE} x {SIZE} pixels and synthesised sounds that `datagen/` makes.
It is there so that the nodes run anywhere, and so that what they do can be measured. It is not made for photographs.

```
python -m any2pix.training.miniature      # trains whatever is missing
python -m any2pix.evaluation.card         # writes this file
```

Licence: Apache-2.0, as the code."""


def _files(weights: tuple[WeightFile, ...]) -> str:
    rows = [
        (
            f"`{w.name}`",
            PURPOSES.get(w.kind, w.kind),
            f"{w.parameters:,}",
            ", ".join(w.precisions),
            f"{w.size / MEGABYTE:.2f} MB",
            "yes" if w.has_tokenizer else "",
        )
        for w in weights
    ]
    dims = "\n".join(f"- `{w.name}`: `{json.dumps(w.dims)}`" for w in weights)
    return f"""## Files

{markdown_table(("file", "what it does", "parameters", "precision", "size", "tokenizer inside"), rows)}

The sizes of each network travel in the metadata of its file:

<details><summary>sizes</summary>

{dims}

</details>"""


def _ablation(findings: Findings) -> str:
    """InstructPix2Pix trained on parts of its data."""
    blocks = [
        f"```\n{record['command']}\n```\n\n{markdown_table(record['columns'], record['rows'])}"
        for record in findings.ablations.values()
    ]
    return "## What the training pairs of InstructPix2Pix are worth\n\n" + "\n\n".join(blocks) if blocks else ""


def _inversions(findings: Findings) -> str:
    """How exactly a picture comes back from its own noise; the plot of a record has its name."""
    blocks = []
    for name, record in findings.inversions.items():
        plot = Path(name).with_suffix(".png").name
        command = f"python -m any2pix.evaluation.inversion --seed {record['seed']} --samples {record['samples']}"
        options = f"iterations {record['iterations']}, tolerance {record['tolerance']:g}"
        blocks.append(f"""```
{command} --json miniature/{RESULTS}/{name} --plot miniature/{RESULTS}/{plot}
```

{record["samples"]} held-out pictures, unedited; the fixed point with {options}. PSNR, in brackets how far below the VAE's
own round trip of {record["vae psnr"]["mean"]:.2f} dB, error of the latent, network calls of the inversion a step.""")
        blocks += [f"![inversion]({RESULTS}/{plot})"] if plot in findings.pictures else []
        blocks.append(table(measured_of(record)))
    return "## How exactly a picture comes back from its noise\n\n" + "\n\n".join(blocks) if blocks else ""


def _latency(findings: Findings) -> str:
    blocks = []
    for name, record in findings.latency.items():
        timed = ("first edit", "second edit", "bare UNet", "bare VAE")
        own = record.get("own time over bare calls", {})
        stages = {column: {**record[column], "total": sum(record[column].values())} for column in timed}
        rows = [
            (
                stage,
                *(f"{stages[column][stage]:.2f}" if stage in stages[column] else "" for column in timed),
                f"{100 * own[stage]:+.1f} %" if stage in own else "",
            )
            for stage in stages["first edit"]
        ]
        head = ("stage", *timed, "our own time over the bare calls")
        blocks.append(f"`{name}`, medians in seconds\n\n" + markdown_table(head, rows))
    return "## How long an edit takes\n\n" + "\n\n".join(blocks) if blocks else ""


def _training(training: Mapping[str, Mapping]) -> str:
    if not training:
        return "## How it was trained\n\n" + missing("python -m any2pix.training.miniature")
    rows = [
        (
            f"`train_{name}`",
            f"{record['minutes']:.0f}",
            ", ".join(f"{value:,}" for value in _values(record["config"], "steps")),
            ", ".join(map(str, dict.fromkeys(_values(record["config"], "seed")))),
            _headline(record["results"]),
        )
        for name, record in training.items()
    ]
    total = sum(record["minutes"] for record in training.values())
    return f"""## How it was trained

{markdown_table(("script", "minutes", "steps", "seeds", "held-out results"), rows)}

{total:.0f} minutes, added up; what does not need one another ran side by side. Configurations and all results:
[`{TRAINING}`]({TRAINING}). `python -m any2pix.training.NAME` runs one script alone."""


def _headline(results: Mapping[str, Any]) -> str:
    """The results of a training in one cell of a table, without their breakdowns; a long list stays in its file."""
    whole = [f"{key} {value:.4g}" for key, value in _numbers(results) if BREAKDOWN not in key]
    return "; ".join(whole) if len(whole) <= MOST_RESULTS else f"{len(whole)} figures, in `{TRAINING}`"


def _values(config: Mapping[str, Any], wanted: str) -> Iterator[Any]:
    """Every value under a key of this name, at any depth."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _values(value, wanted)
        elif key == wanted:
            yield value


def _numbers(results: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in results.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{key}, ")
        elif isinstance(value, (int, float)):
            yield prefix + key, value


def _limits(findings: Findings) -> str:
    world = "; ".join(f"{name}: {', '.join(labels)}" for name, labels in ATTRIBUTES.items())
    combinations = math.prod(map(len, ATTRIBUTES.values()))
    text = f"""## Limits

- One world only: {world}.
  {combinations} combinations, of which {len(HELD_OUT)} were never shown in training.
  Photographs, faces, other subjects and other sounds mean nothing to it.
- Instructions must be of the kinds it was taught: {", ".join(EDIT_KINDS)}, several at once, or to paint from nothing.
- The judge saw drawings of the same generator as the networks did, so its agreement is optimistic: look at the sheet.
- The pictures were painted outside ComfyUI, by the pipelines in `stages/`; `tests/comfyui/test_graph_and_pipeline.py`
  holds that graphs give the same ones."""
    return f"{text}\n\n{findings.notes}" if findings.notes else text


def main(argv: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--miniature", type=Path, default=manifest.FOLDER, help="folder (default: %(default)s)")
    folder = parser.parse_args(argv).miniature
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    (folder / CARD).write_text(write_card(gather(folder)))
    logger.info("Wrote %s", folder / CARD)


if __name__ == "__main__":
    main()
