"""ImageBind's own network and data loading: pictures, sounds and token rows -> embeddings."""

import sys
import tempfile
import types
from pathlib import Path

import torch
from PIL import Image

from . import authors, seeded

PICTURES = ((256, 300, 1), (333, 225, 2))  # height, width, seed
SOUNDS = ((52800, 16000, 3), (145531, 44100, 4), (17640, 22050, 5))  # samples, rate, seed: 3.3 s, 3.3 s, 0.8 s
TEXTS = ((320, 2368), (539, 1929, 525, 1237, 269), tuple(range(1000, 1090)))  # without start and end; the last is cut
START, END, CONTEXT = 49406, 49407, 77
EVERY = 8  # of the prepared pictures and mels only each eighth row and column is kept
SIZES = {
    "small": dict(
        out_embed_dim=64, vision_embed_dim=64, vision_num_blocks=3, vision_num_heads=4, audio_embed_dim=48,
        audio_num_blocks=3, audio_num_heads=4, text_embed_dim=32, text_num_blocks=3, text_num_heads=4,
    ),
    "wide": dict(
        out_embed_dim=1024, vision_embed_dim=1280, vision_num_blocks=2, vision_num_heads=16, audio_embed_dim=768,
        audio_num_blocks=2, audio_num_heads=12, text_embed_dim=1024, text_num_blocks=2, text_num_heads=16,
    ),
    "full": dict(
        out_embed_dim=1024, vision_embed_dim=1280, vision_num_blocks=32, vision_num_heads=16, audio_embed_dim=768,
        audio_num_blocks=12, audio_num_heads=12, text_embed_dim=1024, text_num_blocks=24, text_num_heads=16,
    ),
}  # fmt: skip
SEED = 20
UNUSED = ("depth", "thermal", "imu")


def token_rows() -> torch.Tensor:
    """(3, 77) int64: start, ids, end, zeros; the last text is too long and cut, as the authors' tokenizer cuts it."""
    rows = torch.zeros(len(TEXTS), CONTEXT, dtype=torch.long)
    for row, ids in zip(rows, TEXTS, strict=True):
        ids = [START, *ids][: CONTEXT - 1] + [END]
        row[: len(ids)] = torch.tensor(ids)
    return rows


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
