"""Draws and synthesises the pictures and sounds that the example workflows open with: workflows/inputs/.

Run it again only when Toyland changes: python tools/make_example_inputs.py
"""

import wave
from pathlib import Path

import numpy as np
from any2pix.datagen.sounds import synthesize
from any2pix.datagen.toyland import render
from PIL import Image
from workflow_data.example_inputs import MASKED, PICTURES, SOUNDS

INPUTS = Path(__file__).resolve().parent.parent / "workflows" / "inputs"


def write_sound(path: Path, waveform: np.ndarray, sample_rate: int) -> None:
    """(C, T) in [-1, 1] -> a 16 bit WAV file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(waveform))
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes((waveform.T * 32767).round().astype("<i2").tobytes())


def half_masked(picture: np.ndarray) -> Image.Image:
    """uint8 (H, W, 3) -> RGBA, the right half see-through with its colors kept below."""
    alpha = np.full(picture.shape[:2], 255, np.uint8)
    alpha[:, picture.shape[1] // 2 :] = 0
    return Image.fromarray(np.dstack([picture, alpha]))


def main() -> None:
    INPUTS.mkdir(parents=True, exist_ok=True)
    for name, scene in PICTURES.items():
        Image.fromarray(render(scene)).save(INPUTS / name, optimize=True)
    for name, scene in MASKED.items():
        half_masked(render(scene)).save(INPUTS / name, optimize=True)
    for name, (kind, seed) in SOUNDS.items():
        write_sound(INPUTS / name, *synthesize(kind, seed))


if __name__ == "__main__":
    main()
