"""Pre-rendered Toyland pictures, so that a training step costs no drawing."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..datagen.drawing import SIZE as PICTURE_SIZE
from ..datagen.toyland import Scene, render, sample_scene
from ..loading.atomic import atomic_path, write_atomic
from ..stages.preprocess import image_to_tensor
from .command import file_digest


@dataclass(frozen=True)
class SceneBank:
    """`images` (N, 128, 128, 3) uint8 on disk, the scene and cleanliness 0..1 each was drawn from."""

    images: np.ndarray
    scenes: tuple[Scene, ...]
    cleanliness: np.ndarray

    def batch(self, index: Tensor | np.ndarray) -> Tensor:
        """Indices (B,) -> pictures (B, 3, 128, 128) in [0, 1]."""
        return torch.from_numpy(self.images[np.asarray(index)]).permute(0, 3, 1, 2).float() / 255.0


def scene_bank(work: Path, count: int, seed: int, split: str = "train", messy_share: float = 0.0) -> SceneBank:
    """Draw (or read back) `count` pictures of `split`; `messy_share` of them with a cleanliness below 1."""
    folder = Path(work) / f"bank-{split}-{count}-{seed}-{messy_share:g}"
    picture_file, scene_file = folder / "images.npy", folder / "scenes.json"
    if not scene_file.exists():
        _draw_bank(folder, picture_file, scene_file, count, seed, split, messy_share)
    records = json.loads(scene_file.read_text())
    cleanliness = np.array([record.pop("cleanliness") for record in records], dtype=np.float32)
    images = np.load(picture_file, mmap_mode="r")
    return SceneBank(images, tuple(Scene(**record) for record in records), cleanliness)


def _draw_bank(
    folder: Path, picture_file: Path, scene_file: Path, count: int, seed: int, split: str, messy_share: float
):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    images = np.lib.format.open_memmap(picture_file, "w+", np.uint8, (count, PICTURE_SIZE, PICTURE_SIZE, 3))
    records = []
    for index in tqdm(range(count), desc=f"drawing {split} pictures", mininterval=5):
        scene = sample_scene(rng, split)
        cleanliness = float(rng.uniform()) if rng.uniform() < messy_share else 1.0
        images[index] = render(scene, cleanliness)
        records.append({**asdict(scene), "cleanliness": cleanliness})
    images.flush()
    write_atomic(scene_file, json.dumps(records))


def cached(work: Path, name: str, weights: Path, compute: Callable[[], Any]) -> Any:
    """What `compute` makes with a network (tensors), kept in `work` for as long as the network's file stays the
    same."""
    path = Path(work) / f"{name}-{file_digest(weights)}.pt"
    if not path.exists():
        computed = compute()
        with atomic_path(path) as unfinished:
            torch.save(computed, unfinished)
    return torch.load(path, weights_only=True)


@torch.no_grad()
def embed_bank(imagebind, bank: SceneBank, batch_size: int = 64) -> Tensor:
    """Picture embeddings of a whole bank: (N, D), L2 norm 1."""
    chunks = []
    for start in tqdm(range(0, len(bank.scenes), batch_size), desc="embedding pictures", mininterval=5):
        index = np.arange(start, min(start + batch_size, len(bank.scenes)))
        pictures = bank.batch(index).permute(0, 2, 3, 1)
        chunks.append(imagebind.encode_image(image_to_tensor(pictures, imagebind.dims.image_size)).float())
    return torch.cat(chunks)
