"""The network that measures similarities, from the name or the path that a command is given."""

from pathlib import Path

import torch

from ..loading.imagebind import load_imagebind
from ..miniature import manifest
from ..stages.similarity import Embedder, clip_embedder, imagebind_embedder

PUBLISHED_CLIP = "openai/clip-vit-large-patch14"  # the ViT-L/14 of the authors' metrics/clip_similarity.py


def load_embedder(place: str | Path, device="cpu", dtype=torch.float32) -> Embedder:
    """`place`: "miniature", an ImageBind file, or a folder or name of a transformers CLIP."""
    if place == manifest.NAME or Path(place).is_file():
        file = manifest.FOLDER / manifest.IMAGEBIND if place == manifest.NAME else place
        return imagebind_embedder(load_imagebind(file, device=device, dtype=dtype))
    from transformers import CLIPModel, CLIPProcessor

    return clip_embedder(
        CLIPModel.from_pretrained(place).to(device, dtype).eval(), CLIPProcessor.from_pretrained(place)
    )
