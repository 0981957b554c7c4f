"""ImageBind's own network and data loading: pictures, sounds and token rows -> embeddings."""

import sys
import tempfile
import types
from pathlib import Path

import torch
from golden_inputs import seeded
from golden_inputs.imagebind import EVERY, PICTURES, SEED, SIZES, SOUNDS, token_rows
from PIL import Image

from . import authors

UNUSED = ("depth", "thermal", "imu")


def make(options, size: str) -> None:
    """Write imagebind_<size>.safetensors."""
    data, network = import_released(options.imagebind, options.pytorchvideo)
    unused = {f"{name}_num_blocks": 1 for name in UNUSED}
    model = network.ImageBindModel(**SIZES[size], **unused)
    for part in model.children():
        for name in UNUSED:
            del part[name]
    seeded.fill(model, SEED)
    model.eval()
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        pictures, sounds = _files(Path(folder))
        pixels = data.load_and_transform_vision_data(pictures, "cpu")
        mels = data.load_and_transform_audio_data(sounds, "cpu")
        count = 1 if size == "full" else None  # one of each is enough where it takes long
        found = model({"vision": pixels[:count], "audio": mels[:count], "text": token_rows()[:count]})
    tensors = {**found}
    if size == "small":
        tensors |= {"pixels": pixels[..., ::EVERY, ::EVERY], "mels": mels[..., ::EVERY, ::EVERY]}
    seeded.save(f"imagebind_{size}", tensors, {"seed": SEED, **options.notes("imagebind")})


def _files(folder: Path) -> tuple[list[str], list[str]]:
    pictures, sounds = [], []
    for number, (height, width, seed) in enumerate(PICTURES):
        pictures.append(str(folder / f"{number}.png"))
        Image.fromarray(seeded.picture(height, width, seed).numpy()).save(pictures[-1])
    for number, (samples, rate, seed) in enumerate(SOUNDS):
        sounds.append(str(folder / f"{number}.wav"))
        authors.write_wav(Path(sounds[-1]), seeded.sound(samples, seed), rate)
    return pictures, sounds


def import_released(imagebind: Path, pytorchvideo: Path):
    """imagebind.data and imagebind.models.imagebind_model; of pytorchvideo only the clip sampler is real."""
    authors.on_path(imagebind)
    authors.package("pytorchvideo", pytorchvideo / "pytorchvideo")
    authors.package("pytorchvideo.data", pytorchvideo / "pytorchvideo" / "data")
    for name, attribute in (("transforms", None), ("data.encoded_video", "EncodedVideo")):
        module = sys.modules[f"pytorchvideo.{name}"] = types.ModuleType(f"pytorchvideo.{name}")
        if attribute:
            setattr(module, attribute, None)
    sys.modules["pytorchvideo"].transforms = sys.modules["pytorchvideo.transforms"]
    authors.stand_in("pkg_resources")
    import torchaudio  # the authors' code computes with it; the tests read this file without

    torchaudio.load = authors.read_wav
    from imagebind import data
    from imagebind.models import imagebind_model

    return data, imagebind_model
