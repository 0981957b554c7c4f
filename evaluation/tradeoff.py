"""What editing costs the picture: python -m any2pix.evaluation.tradeoff --seed 1 --samples 16 --json FILE --plot FILE

Directional similarity, how far the picture changes as its caption should, against the similarity of the picture before
and after (InstructPix2Pix, arXiv 2211.09800, sec. 4.1 and fig. 8): InstructPix2Pix over its image guidance, SDEdit with
the caption of the result over its strength, and InstructAny2Pix over alpha, on the same edits. `--split validation` is
for choosing the guidances.

The miniature's ImageBind knows what is in a picture and hardly where: another drawing of the same attributes is nearly
the same to it. So it is also measured what it says of each place (`similarity.patch_similarity`), and without it
whether the lines are where they were (`metrics.structure.structural_similarity`).
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..datagen.embedder import load_embedder
from ..datagen.instructions import EDIT_KINDS
from ..datagen.toyland import caption
from ..models.text_diffusion import TextDiffusion
from ..stages.any2pix.options import EditOptions
from ..stages.any2pix.pipeline import Networks
from ..stages.pix2pix.pipeline import SDEditOptions, TextEditOptions, sdedit
from ..stages.similarity import Embedder, imagebind_embedder, measure, patch_similarity
from .arguments import evaluation_parser
from .cases import EditCase, draw_cases, picture_of
from .checkpoint import Checkpoint
from .editor import BATCH, invert_prepared, options_from, paint_prepared, prepare
from .metrics.structure import structural_similarity
from .pix2pix import noise_for, pix2pix_editor, sources_of
from .rates import Rate
from .sheet import to_picture
from .sweeps import ALPHAS
from .tradeoff_curves import KEPT, Curve, compare, comparison_table, curves_table
from .tradeoff_plot import plot

logger = logging.getLogger(__name__)
# fig. 8 has 1 to 2.2; so far that both methods share a direction
IMAGE_GUIDANCES = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0)
# the less the text asks for, the less image guidance leads back to the picture
SWEPT = TextEditOptions(text_guidance=1.5)
# fig. 8, with the caption's usual guidance; 1: nothing of the picture is left
STRENGTHS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True)
class Bench:
    """What every method is given. `sources` (N, 128, 128, 3) in [0, 1]."""

    cases: tuple[EditCase, ...]
    sources: Tensor
    networks: Networks
    embedder: Embedder
    seed: int

    def curve(self, method: str, knob: str, values: Sequence[float], paint) -> Curve:
        """`paint(value)` -> a picture (128, 128, 3) for every case; measured for every value."""
        measured = np.stack([self.measure(torch.stack(list(paint(value)))) for value in values], axis=1)
        return Curve(method, knob, tuple(values), *measured)

    def measure(self, pictures: Tensor) -> np.ndarray:
        """(N, 128, 128, 3) -> (4, N): direction, and image, patch and structural similarity to the sources."""
        rows = []
        for case, source, picture in zip(self.cases, self.sources, pictures, strict=True):
            texts = [caption(scene) for scene in (case.sample.source, case.sample.target)]
            pair = to_picture(source), to_picture(picture)
            (found,) = measure(self.embedder, [pair], *texts)
            rows.append((found.direction, found.image_image, patch_similarity(self.embedder, *pair)))
        structure = structural_similarity(pictures, self.sources).numpy()
        return np.concatenate([np.array(rows).T, structure[None]])

    def level(self, pictures: Tensor) -> dict[str, dict]:
        """The same of pictures that no method painted, as rates."""
        return {
            what: Rate.of(row).to_dict() for what, row in zip(("direction", *KEPT), self.measure(pictures), strict=True)
        }


def draw_bench(
    networks: Networks, embedder: Embedder, seed: int, samples: int, split: str, rows: Sequence[str] = EDIT_KINDS
) -> Bench:
    """`samples` edits of each kind, given as text."""
    cases = tuple(case for case in draw_cases(seed, samples, split, rows) if case.modality == "text")
    return Bench(cases, sources_of(cases), networks, embedder, seed)


def pix2pix_curve(bench: Bench, pix2pix: TextDiffusion, options: TextEditOptions, values: Sequence[float]) -> Curve:
    """InstructPix2Pix over the image guidance."""

    def paint(image_guidance: float) -> list[Tensor]:
        editor = pix2pix_editor(
            pix2pix, bench.networks.vae, replace(options, image_guidance=image_guidance), bench.seed
        )
        return [outcome.image for outcome in editor(bench.cases)]

    return bench.curve("InstructPix2Pix", "s_I", values, paint)


def sdedit_curve(bench: Bench, diffusion: TextDiffusion, options: SDEditOptions, values: Sequence[float]) -> Curve:
    """SDEdit over the strength, with the same noise for a case as InstructPix2Pix."""
    vae, noise = bench.networks.vae, noise_for(bench.sources, bench.networks.vae, bench.seed)
    captions = [caption(case.sample.target) for case in bench.cases]

    def paint(strength: float) -> list[Tensor]:
        pictures = []
        for start in tqdm(range(0, len(captions), BATCH), desc="SDEdit", mininterval=5):
            part, chosen = slice(start, start + BATCH), replace(options, strength=strength)
            pictures += sdedit(diffusion, vae, bench.sources[part], captions[part], noise[part], chosen).cpu()
        return pictures

    return bench.curve("SDEdit", "strength", values, paint)


def any2pix_curve(bench: Bench, options: EditOptions, values: Sequence[float]) -> Curve:
    """InstructAny2Pix over alpha, the share of the source picture's own noise."""
    prepared = prepare(bench.networks, bench.cases)
    inverted = invert_prepared(bench.networks, prepared, options)

    def paint(alpha: float) -> list[Tensor]:
        return paint_prepared(bench.networks, prepared, inverted, replace(options, alpha=alpha), bench.seed)

    return bench.curve("InstructAny2Pix", "alpha", values, paint)


def levels_of(bench: Bench) -> dict[str, dict]:
    """Drawings to compare with."""
    wanted = [picture_of(case.sample.target) for case in bench.cases]
    return {"the wanted picture itself": bench.level(torch.stack(wanted))}


def other_drawing(bench: Bench) -> dict[str, dict]:
    """Another drawing of the source's attributes, in which everything stands elsewhere: what similarity cannot tell."""
    scenes = [case.sample.source for case in bench.cases]
    others = [replace(scene, seed=scene.seed + 1) for scene in scenes]
    return bench.level(torch.stack([picture_of(scene) for scene in others]))


def measured_once(
    given: argparse.Namespace, options: Any, values: Sequence[float], measure_curve: Callable[..., Curve]
) -> Curve:
    """The curve that `measure_curve(options, values)` gives, or what a run before left of it in `--curves`."""
    if given.curves is None:
        return measure_curve(options, values)
    draw = [getattr(given, name) for name in ("seed", "samples", "split", "embedder", "bf16")]
    settings, path = json.dumps((asdict(options), list(values), draw)), given.curves / f"{type(options).__name__}.npz"
    curve = Curve.load(path, settings)
    if curve is None:
        curve = measure_curve(options, values)
        given.curves.mkdir(parents=True, exist_ok=True)
        curve.save(path, settings)
    return curve


def curves_of(
    given: argparse.Namespace, bench: Bench, options: Mapping[str, Any], checkpoint: Checkpoint
) -> list[Curve]:
    """The three curves, in the order of `options`."""
    measuring = {
        "InstructPix2Pix": (
            given.image_guidances,
            lambda *how: pix2pix_curve(bench, checkpoint.pix2pix, *how),
        ),
        "SDEdit": (given.strengths, lambda *how: sdedit_curve(bench, checkpoint.text_diffusion, *how)),
        "InstructAny2Pix": (given.alphas, lambda *how: any2pix_curve(bench, *how)),
    }
    with torch.autocast(checkpoint.device.type, torch.bfloat16, enabled=given.bf16):
        return [measured_once(given, options[method], *measuring[method]) for method in options]


def record_of(given: argparse.Namespace, bench: Bench, options: Mapping[str, Any], curves: Sequence[Curve]) -> dict:
    """What goes into the JSON file."""
    return {
        "seed": given.seed, "samples": given.samples, "split": given.split, "edits": len(bench.cases),
        "options": {method: asdict(chosen) for method, chosen in options.items()},
        "tradeoff": [curve.to_dict() for curve in curves],
        "levels": levels_of(bench), "another drawing of the source": other_drawing(bench),
        "at equal direction": [compare(curves[0], curves[1], what, given.seed).to_dict() for what in KEPT],
    }  # fmt: skip


def main(argv: list[str] | None = None):
    given = _arguments().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = {
        "InstructPix2Pix": options_from(given.text_options, SWEPT),
        "SDEdit": options_from(given.sdedit_options, SDEditOptions()),
        "InstructAny2Pix": options_from(given.options, EditOptions()),
    }
    checkpoint = Checkpoint(given.miniature, given.device)
    networks = checkpoint.networks
    embedder = (
        load_embedder(given.embedder, device=given.device) if given.embedder else imagebind_embedder(networks.imagebind)
    )
    bench = draw_bench(networks, embedder, given.seed, given.samples, given.split)
    record = record_of(given, bench, options, curves_of(given, bench, options, checkpoint))
    logger.info(
        "%d edits of the %s split, seed %d\n\n%s\n\n%s", len(bench.cases), given.split, given.seed,
        curves_table(record["tradeoff"]), comparison_table(record["at equal direction"]),
    )  # fmt: skip
    if given.json:
        given.json.write_text(json.dumps(record, indent=1) + "\n")
    if given.plot:
        plot(record["tradeoff"], record["levels"], given.plot)


def _arguments() -> argparse.ArgumentParser:
    parser = evaluation_parser(__doc__, 16, "edits of each of the five kinds")
    parser.add_argument("--image-guidances", nargs="+", type=float, default=IMAGE_GUIDANCES)
    parser.add_argument("--strengths", nargs="+", type=float, default=STRENGTHS)
    parser.add_argument("--alphas", nargs="+", type=float, default=ALPHAS)
    for name, title in (
        ("options", "InstructAny2Pix"),
        ("text-options", "InstructPix2Pix"),
        ("sdedit-options", "SDEdit"),
    ):
        parser.add_argument(f"--{name}", nargs="+", default=[], metavar="NAME=VALUE", help=f"of {title}")
    parser.add_argument("--embedder", help="folder or name of a transformers CLIP (default: the folder's ImageBind)")
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16: faster, for trying options")
    parser.add_argument(
        "--curves",
        type=Path,
        help="folder that keeps each method's curve: a stopped run goes on; empty it for new weights",
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="PNG")
    return parser


if __name__ == "__main__":
    main()
