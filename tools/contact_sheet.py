"""The demo's contact sheet: source, spectrogram of the sound, instruction, caption, result on one picture."""

import textwrap
from pathlib import Path

import av
import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot
from PIL import Image

WINDOW = 512  # samples of one column of the spectrogram at SAMPLE_RATE
SAMPLE_RATE = 16000  # Hz; what the networks hear
FLOOR_DB = -80.0
LINE = 90  # characters


def read_sound(path: Path) -> np.ndarray:
    """Any sound file -> mono float (T,) at SAMPLE_RATE."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
        frames = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
        frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames])


def spectrogram(sound: np.ndarray) -> np.ndarray:
    """(T,) -> decibels below the loudest (WINDOW/2+1, columns), low frequencies first."""
    padded = np.pad(sound, (0, max(0, WINDOW - len(sound))))
    slices = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[:: WINDOW // 4] * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(slices, axis=1)).T ** 2
    return np.maximum(10 * np.log10(power / max(power.max(), 1e-12) + 1e-12), FLOOR_DB)


def save_contact_sheet(place: Path, image: Path, audio: Path, instruction: str, caption: str, result: Path) -> Path:
    """Draws the sheet from the files and texts of one edit; returns where it lies."""
    sound = read_sound(audio)
    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(13.5, 5.6))
    for axes, path, title in ((left, image, "source"), (right, result, "result")):
        axes.imshow(Image.open(path).convert("RGB"), interpolation="lanczos")
        axes.set_title(title)
        axes.set_axis_off()
    middle.imshow(
        spectrogram(sound),
        origin="lower",
        aspect="auto",
        cmap="magma",
        extent=(0, len(sound) / SAMPLE_RATE, 0, SAMPLE_RATE / 2000),
    )
    middle.set(title=f"sound: {audio.name}", xlabel="seconds", ylabel="kHz", box_aspect=1)
    words = [f"instruction: {instruction}", f"caption: {caption}"]
    text = "\n".join(textwrap.fill(line, LINE, subsequent_indent="    ") for line in words)
    figure.text(0.02, 0.03, text, family="monospace", va="bottom")
    figure.tight_layout(rect=(0, 0.04 + 0.04 * (text.count("\n") + 1), 1, 1))
    figure.savefig(place, dpi=110)
    pyplot.close(figure)
    return place
