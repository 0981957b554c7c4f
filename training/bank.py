"""Pre-rendered Toyland pictures, so that a training step costs no drawing."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..datagen.drawing import SIZE as PICTURE_SIZE
from ..datagen.toyland import Scene, render, sample_scene
from ..loading.atomic import atomic_path, write_atomic
from ..stages.preprocess import image_to_tensor
from .caches import missing
from .digests import drawn_digest

Drawn = tuple[Scene, float]  # a scene and its cleanliness


@dataclass(frozen=True)
class SceneBank:
    """`images` (N, 128, 128, 3) uint8 on disk, the scene and cleanliness 0..1 each was drawn from.

    `key`: a digest of everything the pictures depend on; what is computed from them is cached under it.
    """

    images: np.ndarray
    scenes: tuple[Scene, ...]
    cleanliness: np.ndarray
    key: str = ""

    def batch(self, index: Tensor | np.ndarray) -> Tensor:
        """Indices (B,) -> pictures (B, 3, 128, 128) in [0, 1]."""
        return torch.from_numpy(self.images[np.asarray(index)]).permute(0, 3, 1, 2).float() / 255.0


def scene_bank(work: Path, count: int, seed: int, split: str = "train", messy_share: float = 0.0) -> SceneBank:
    """Draw (or read back) `count` pictures of `split`; `messy_share` of them with a cleanliness below 1."""
    key = drawn_digest(kind="scenes", count=count, seed=seed, split=split, messy_share=messy_share)

    def choose() -> list[Drawn]:
        rng = np.random.default_rng(seed)
        chosen = []
        for _ in range(count):
            scene = sample_scene(rng, split)
            chosen.append((scene, float(rng.uniform()) if rng.uniform() < messy_share else 1.0))
        return chosen

    return drawn_bank(Path(work) / f"bank-{split}-{count}-{seed}-{key}", key, choose)


def drawn_bank(folder: Path, key: str, choose: Callable[[], Sequence[Drawn]]) -> SceneBank:
    """The pictures of the scenes that `choose` gives, drawn or read back from `folder`, which is of this `key`."""
    picture_file, scene_file = folder / "images.npy", folder / "scenes.json"
    with missing(scene_file) as is_missing:
        if is_missing:
            chosen = choose()
            with atomic_path(picture_file) as unfinished:
                _draw(unfinished, chosen)
            records = [{**asdict(scene), "cleanliness": cleanliness} for scene, cleanliness in chosen]
            write_atomic(scene_file, json.dumps(records))  # the last one: with it the bank is whole
    records = json.loads(scene_file.read_text())
    cleanliness = np.array([record.pop("cleanliness") for record in records], dtype=np.float32)
    scenes = tuple(Scene(**record) for record in records)
    return SceneBank(np.load(picture_file, mmap_mode="r"), scenes, cleanliness, key)


def _draw(path: Path, chosen: Sequence[Drawn]) -> None:
    images = np.lib.format.open_memmap(path, "w+", np.uint8, (len(chosen), PICTURE_SIZE, PICTURE_SIZE, 3))
    for index, (scene, cleanliness) in enumerate(tqdm(chosen, desc="drawing pictures", mininterval=5)):
        images[index] = render(scene, cleanliness)
    images.flush()


@torch.no_grad()
def embed_bank(imagebind, bank: SceneBank, batch_size: int = 64) -> Tensor:
    """Picture embeddings of a whole bank: (N, D), L2 norm 1."""
    chunks = []
    for start in tqdm(range(0, len(bank.scenes), batch_size), desc="embedding pictures", mininterval=5):
        index = np.arange(start, min(start + batch_size, len(bank.scenes)))
        pictures = bank.batch(index).permute(0, 2, 3, 1)
        chunks.append(imagebind.encode_image(image_to_tensor(pictures, imagebind.dims.image_size)).float())
    return torch.cat(chunks)
