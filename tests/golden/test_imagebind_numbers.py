"""ImageBind against the numbers of the authors' code: from picture, sound and tokens to embeddings."""

from dataclasses import replace

import pytest
import torch
from any2pix.models.imagebind import ImageBind, ImageBindDims
from any2pix.stages.preprocess import image_to_tensor, waveform_to_clips
from golden_inputs import seeded
from golden_inputs.imagebind import EVERY, PICTURES, SIZES, SOUNDS, token_rows

TOLERANCE = 1e-4  # relative error of every output, issue 3
PUBLISHED = ImageBindDims.published()
WIDE = pytest.param("wide", marks=pytest.mark.slow)


def dims_of(size: str) -> ImageBindDims:
    theirs = SIZES[size]
    ours = {"embed": theirs["out_embed_dim"]}
    for modality in ("vision", "audio", "text"):
        ours |= {
            f"{modality}_width": theirs[f"{modality}_embed_dim"],
            f"{modality}_blocks": theirs[f"{modality}_num_blocks"],
            f"{modality}_heads": theirs[f"{modality}_num_heads"],
        }
    return ImageBindDims(**ours)


def pictures() -> torch.Tensor:
    rows = [image_to_tensor(seeded.picture(*picture)[None] / 255, PUBLISHED.image_size) for picture in PICTURES]
    return torch.cat(rows)


def sounds() -> torch.Tensor:
    return torch.stack(
        [waveform_to_clips(seeded.sound(samples, seed) / 32768, rate, PUBLISHED) for samples, rate, seed in SOUNDS]
    )


def test_pictures_are_prepared_as_the_authors_do():
    golden = seeded.load("imagebind_small")
    assert seeded.relative_error(pictures()[..., ::EVERY, ::EVERY], golden["pixels"]) < TOLERANCE


def test_sounds_are_prepared_as_the_authors_do():
    golden = seeded.load("imagebind_small")
    assert seeded.relative_error(sounds()[..., ::EVERY, ::EVERY], golden["mels"]) < TOLERANCE


@pytest.mark.parametrize("size", ["small", WIDE])
def test_embeddings_are_the_authors(size):
    golden = seeded.load(f"imagebind_{size}")
    with seeded.Unfilled():
        network = ImageBind(dims_of(size)).eval()
    seeded.fill(network, golden.notes["seed"])
    with torch.no_grad():
        ours = {
            "vision": network.encode_image(pictures()),
            "audio": network.encode_audio(sounds()),
            "text": network.encode_text(token_rows()),
        }
    errors = {name: seeded.relative_error(value, golden[name]) for name, value in ours.items()}
    assert max(errors.values()) < TOLERANCE, errors


@pytest.mark.slow
@pytest.mark.parametrize("modality", ["vision", "audio", "text"])
def test_the_whole_network_at_full_size(modality):
    """One modality at a time, the others cut to one block: 2.5 GB of weights at most."""
    golden = seeded.load("imagebind_full")
    dims = dims_of("full")
    dims = replace(dims, **{f"{other}_blocks": 1 for other in ("vision", "audio", "text") if other != modality})
    with seeded.Unfilled():
        network = ImageBind(dims).eval()
    seeded.fill(network, golden.notes["seed"])
    with torch.no_grad():
        if modality == "vision":
            ours = network.encode_image(pictures()[:1])
        elif modality == "audio":
            ours = network.encode_audio(sounds()[:1])
        else:
            ours = network.encode_text(token_rows()[:1])
    assert seeded.relative_error(ours, golden[modality]) < TOLERANCE
