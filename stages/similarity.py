"""How alike pictures and captions are in the space of a network that embeds both, CLIP or ImageBind.

As in InstructPix2Pix (arXiv 2211.09800), sec. 3.1.2.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from .encode import encode_images, encode_patches, encode_text


@dataclass(frozen=True)
class Embedder:
    """Two functions into one space: pictures -> (B, D), texts -> (B, D), of any length of vector.

    `patches`: pictures -> (B, P, W), what the image tower's last layer says of each of its P patches.
    """

    pictures: Callable[[Sequence[Image.Image]], Tensor]
    texts: Callable[[Sequence[str]], Tensor]
    patches: Callable[[Sequence[Image.Image]], Tensor]


@dataclass(frozen=True)
class Similarity:
    """Cosines in [-1, 1]: between the pictures, of each with its caption, and of the change in pictures with that in
    captions."""

    image_image: float
    source_caption: float
    edited_caption: float
    direction: float


def measure(
    embedder: Embedder, pairs: Sequence[tuple[Image.Image, Image.Image]], source: str, edited: str
) -> list[Similarity]:
    """The similarities of some candidates of one caption pair."""
    images = F.normalize(embedder.pictures([picture for pair in pairs for picture in pair]).float(), dim=-1)
    before, after = images[0::2], images[1::2]
    texts = F.normalize(embedder.texts([source, edited]).float(), dim=-1)
    columns = (
        (before * after).sum(-1),
        before @ texts[0],
        after @ texts[1],
        F.cosine_similarity(after - before, (texts[1] - texts[0])[None]),
    )
    return [Similarity(*row) for row in torch.stack(columns, 1).tolist()]


def patch_similarity(embedder: Embedder, before: Image.Image, after: Image.Image) -> float:
    """How alike two pictures are place by place: the cosine of their patches, the mean over all. 1 for the same
    picture."""
    return float(F.cosine_similarity(*embedder.patches([before, after]).float(), dim=-1).mean())


def clip_embedder(model, processor) -> Embedder:
    """Of a transformers CLIPModel with its processor; captions are cut at CLIP's length."""

    def pixels(images: Sequence[Image.Image]) -> Tensor:
        found = processor.image_processor(images=list(images), return_tensors="pt").pixel_values
        return found.to(model.device, model.dtype)

    @torch.no_grad()
    def pictures(images: Sequence[Image.Image]) -> Tensor:
        return _features(model.get_image_features(pixel_values=pixels(images)))

    @torch.no_grad()
    def patches(images: Sequence[Image.Image]) -> Tensor:
        return model.vision_model(pixel_values=pixels(images)).last_hidden_state[:, 1:]  # the first is the class token

    @torch.no_grad()
    def texts(lines: Sequence[str]) -> Tensor:
        tokens = processor.tokenizer(list(lines), padding=True, truncation=True, return_tensors="pt").to(model.device)
        return _features(model.get_text_features(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask))

    return Embedder(pictures, texts, patches)


def imagebind_embedder(imagebind) -> Embedder:
    """Of an ImageBind that has its tokenizer."""

    def opened(images: Sequence[Image.Image]) -> list[Tensor]:
        return [torch.from_numpy(np.array(image.convert("RGB"))).float() / 255 for image in images]

    def pictures(images: Sequence[Image.Image]) -> Tensor:
        return encode_images(imagebind, opened(images))

    def patches(images: Sequence[Image.Image]) -> Tensor:
        return encode_patches(imagebind, opened(images))

    def texts(lines: Sequence[str]) -> Tensor:
        return torch.stack([encode_text(imagebind, line) for line in lines])

    return Embedder(pictures, texts, patches)


def _features(found) -> Tensor:
    """transformers 5 returns the features inside an output object, transformers 4 as they are."""
    return found if isinstance(found, Tensor) else found.pooler_output
