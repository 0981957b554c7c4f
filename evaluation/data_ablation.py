"""How the number of training pairs and their filter affect the results: python -m any2pix.evaluation.data_ablation
--work DIR --json FILE

The whole data pipeline on Toyland: captions and edits of its grammar, pictures by Prompt-to-Prompt from the
text-conditioned UNet, the filter with ImageBind instead of CLIP. Then the same short training of InstructPix2Pix, from
the same UNet, on a tenth, a half and all of the pairs that the filter kept, and on as many that it has not seen. Each
is judged on held-out edits. DIR holds all files; a stopped run resumes there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml

from ..datagen.instructions import EDIT_KINDS
from ..datagen.pairs import captions, filter, pictures, sheet
from ..datagen.pairs.arguments import positive
from ..datagen.pairs.shards import KEPT, ShardFolder
from ..loading.imagebind import load_imagebind
from ..miniature import manifest
from ..stages.pix2pix.pipeline import TextEditOptions
from ..stages.similarity import imagebind_embedder
from .case import Case
from .checkpoint import PIX2PIX, Checkpoint
from .datasets import Draw, load_cases
from .methods import PIX2PIX as METHOD
from .methods import build_method
from .metrics import Tools
from .rates import Rate, markdown_table
from .run import edit_and_measure

logger = logging.getLogger(__name__)
SHARES = (0.1, 0.5, 1.0)  # of the filtered pairs, each share within the next
SETS = "pairs"  # name of the shards of a drawn set
TRAINER = "any2pix.training.train_instructpix2pix"  # run as a command: the evaluation does not build on the training
TRAINER_CONFIG = Path(__file__).parents[1] / "training" / "recipes" / "instructpix2pix" / "miniature.yaml"
START = {"unet": manifest.TEXT_UNET, "text_encoder": manifest.TEXT_ENCODER, "vae": manifest.VAE}
FIGURES = ("done", "kept", "direction", "image_similarity")
COLUMNS = ("pairs", "number", "edit done", "others kept", "direction", "image similarity")


@dataclass(frozen=True)
class Sizes:
    """How much is made, trained and judged. The defaults take about 40 minutes on one core.

    `captions` and `candidates` for each; `paint_steps` with a guidance from `guidance`, lower than the published one,
    which the miniature saturates at; `thresholds` of image-image, image-caption and direction; `train_steps` of
    `batch`; `samples` held-out edits of each kind.

    The published thresholds are CLIP's. With the miniature's ImageBind, half of Toyland's own pairs, which have no
    faults, are below 0.70, 0.49 and 0.86; the defaults are well below that, since a painted pair is never as clear.
    """

    captions: int = 450
    candidates: int = 4
    paint_steps: int = 10
    guidance: tuple[float, float] = (3.0, 7.0)
    thresholds: tuple[float, float, float] = (0.5, 0.3, 0.4)
    train_steps: int = 700
    batch: int = 16
    samples: int = 20
    seed: int = 1


def make_pairs(work: Path, miniature: Path, sizes: Sizes) -> dict[str, Counter]:
    """Run the stages of the pipeline, or what is left of them; returns what each kept and dropped."""
    places = {name: str(work / name) for name in ("captions", "pictures", "filter")}
    seed, low, high = str(sizes.seed), *map(str, sizes.guidance)
    image_image, image_caption, direction = map(str, sizes.thresholds)
    totals = {
        "captions": captions.main(["--toyland", str(sizes.captions), "--shard-size", "50", "--seed", seed, "--out",
        places["captions"]]),
        "pictures": pictures.main([
            "--captions", places["captions"], "--out", places["pictures"], "--model", str(miniature), "--seed", seed,
            "--candidates", str(sizes.candidates), "--at-once", str(sizes.candidates), "--steps",
            str(sizes.paint_steps),
            "--guidance", low, high, "--dtype", "bfloat16",
        ]),
        "filter": filter.main([
            "--pictures", places["pictures"], "--out", places["filter"], "--embedder",
            str(miniature / manifest.IMAGEBIND),
            "--image-image", image_image, "--image-caption", image_caption, "--direction", direction,
        ]),
    }  # fmt: skip
    sheet.main(["--pairs", places["filter"], "--out", str(work / "sheet.html"), "--number", "32"])
    return totals


def draw_set(source: ShardFolder, folder: Path, count: int, seed: int) -> ShardFolder:
    """`count` pairs of a stage as shards of their own; a larger set of the same seed holds the smaller one."""
    finished = source.finished()
    sizes = [source.counts(index)[KEPT] for index in finished]
    drawn = set(np.random.default_rng(seed).permutation(sum(sizes))[:count].tolist())
    starts = dict(zip(finished, (np.cumsum(sizes) - sizes).tolist(), strict=True))
    shards = ShardFolder(folder, SETS, ".tar")
    shards.begin({"of": source.settings(), "count": count, "seed": seed})

    def make(index: int, counts: Counter):
        for number, sample in enumerate(source.read(index), starts[index]):
            if number in drawn:
                yield sample
            else:
                counts["not drawn"] += 1

    shards.run(finished, make)
    return shards


def draw_sets(work: Path, seed: int) -> dict[str, tuple[ShardFolder, int]]:
    """The sets to train on by their name, with the number of their pairs."""
    filtered, painted = (
        ShardFolder(work / "filter", filter.NAME, ".tar"),
        ShardFolder(work / "pictures", pictures.NAME, ".tar"),
    )
    total = sum(filtered.counts(index)[KEPT] for index in filtered.finished())
    wanted = {f"{share:.0%} of the filtered": (filtered, round(share * total)) for share in SHARES}
    wanted["unfiltered, as many"] = (painted, total)
    sets = {}
    for name, (source, count) in wanted.items():
        sets[name] = draw_set(source, work / "sets" / name.split()[0].strip("%,"), count, seed), count
    return sets


def training_config(pairs: Path, miniature: Path, sizes: Sizes) -> dict:
    """The miniature's own training, cut short."""
    config = yaml.safe_load(TRAINER_CONFIG.read_text(encoding="utf-8"))
    config["start"] |= {name: str(miniature / file) for name, file in START.items()}
    config["data"] = {"shards": str(pairs), "stage": SETS, "seed": sizes.seed}
    config["loop"] |= {"steps": sizes.train_steps, "batch_size": sizes.batch, "warmup": 50, "checkpoint_every": 100}
    config["loop"] |= {"learning_rate": 1e-3, "ema_decay": 0.995}
    return config


def train(config: dict, run: Path, out: Path) -> None:
    """Train, or resume a stopped training; RuntimeError if it fails."""
    place = run / "config.yaml"
    place.write_text(yaml.safe_dump(config), encoding="utf-8")
    command = [sys.executable, "-m", TRAINER, "--recipe", place, "--work", run / "work", "--out", out]
    if status := subprocess.run(command, check=False).returncode:
        raise RuntimeError(f"The training in {run} ended with status {status}; its output above shows the reason.")


def measure_edits(folder: Path, miniature: Path, cases: Sequence[Case], seed: int, device: str) -> dict[str, Rate]:
    """The figures of the InstructPix2Pix in `folder`."""
    checkpoint = Checkpoint(miniature, device, pix2pix=folder)
    imagebind = load_imagebind(miniature / manifest.IMAGEBIND, device=device)
    tools = Tools(checkpoint.judge, imagebind_embedder(imagebind))
    method = build_method(METHOD, checkpoint, seed, [])
    shown = list(edit_and_measure(cases, [method], None, tools, FIGURES))
    kinds = {kind: [one for one in shown if one.case.tags["kind"] == kind] for kind in EDIT_KINDS}
    return {
        **{name: Rate.of(one.values[name] for one in shown) for name in FIGURES},
        **{f"done/{kind}": Rate.of(one.values["done"] for one in of) for kind, of in kinds.items()},
    }


def measure_set(
    run: Path, pairs: Path, miniature: Path, sizes: Sizes, cases: Sequence[Case], device: str = "cpu"
) -> dict[str, dict]:
    """Train on a set and judge, or read back what was measured on the same networks and edits."""
    out = run / "out"
    out.mkdir(parents=True, exist_ok=True)
    train(training_config(pairs, miniature, sizes), run, out)
    measured_with = (miniature / manifest.JUDGE, miniature / manifest.IMAGEBIND)
    digest = hashlib.sha256(f"{sizes.samples} {sizes.seed} {TextEditOptions()}".encode())
    for file in (*(out / name for name in PIX2PIX), *measured_with):
        digest.update(file.read_bytes())
    made_from = digest.hexdigest()[:12]
    place = run / "figures.json"
    if place.exists() and (record := json.loads(place.read_text()))["made_from"] == made_from:
        return record["figures"]
    rates = measure_edits(out, miniature, cases, sizes.seed, device)
    figures = {name: rate.to_dict() for name, rate in rates.items()}
    place.write_text(json.dumps({"made_from": made_from, "figures": figures}, indent=1) + "\n")
    return figures


def table_row(name: str, count: int, figures: dict[str, dict]) -> list[str]:
    """The cells of COLUMNS."""
    rates = {key: Rate(**value) for key, value in figures.items()}
    plain = [f"{rates[key].mean:.3f} ± {rates[key].error:.3f}" for key in ("direction", "image_similarity")]
    return [name, str(count), rates["done"].percent(), rates["kept"].percent(), *plain]


def command_of(sizes: Sizes) -> str:
    """The command line that gives these sizes."""
    changed = [(name, value) for name, value in vars(sizes).items() if value != getattr(Sizes(), name)]
    flags = [f"--{name.replace('_', '-')} {' '.join(map(str, np.atleast_1d(value)))}" for name, value in changed]
    return " ".join(["python -m any2pix.evaluation.data_ablation --work DIR --json FILE", *flags])


def ablate(work: Path, miniature: Path, sizes: Sizes, device: str = "cpu") -> dict:
    """Make the pairs, train and measure; returns the table in the form of the miniature's card, with its figures."""
    totals = make_pairs(work, miniature, sizes)
    drawn = load_cases("toyland", Draw("seen", sizes.seed, sizes.samples, EDIT_KINDS))
    cases = [case for case in drawn if case.words]
    figures, rows = {}, []
    for name, (pairs, count) in draw_sets(work, sizes.seed).items():
        logger.info("%s: %d pairs", name, count)
        figures[name] = measure_set(work / "runs" / pairs.folder.name, pairs.folder, miniature, sizes, cases, device)
        rows.append(table_row(name, count, figures[name]))
        logger.info("%s", markdown_table(COLUMNS, rows))
    return {
        "columns": COLUMNS,
        "rows": rows,
        "command": command_of(sizes),
        "yield": totals,
        "sizes": vars(sizes),
        "edits": len(cases),
        "figures": figures,
    }


def main(argv: list[str] | None = None) -> dict:
    """The command line; returns what it writes."""
    plain = Sizes()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for pairs, trainings and figures")
    parser.add_argument("--json", type=Path, help="file for the table and the figures")
    parser.add_argument("--miniature", type=Path, default=manifest.FOLDER, help="folder of the weight files")
    parser.add_argument("--device", default="cpu", help="where edits are painted (default: %(default)s)")
    for name, value in vars(plain).items():
        kind = {"nargs": len(value), "type": float} if isinstance(value, tuple) else {"type": positive}
        parser.add_argument(f"--{name.replace('_', '-')}", **kind, default=value, help="default: %(default)s")
    given = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    values = {name: getattr(given, name) for name in vars(plain)}
    sizes = Sizes(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
    record = ablate(given.work, given.miniature, sizes, given.device)
    if given.json:
        given.json.write_text(json.dumps(record, indent=1) + "\n")
    return record


if __name__ == "__main__":
    torch.set_num_threads(1)  # the networks are small: more threads only wait for each other
    main()
