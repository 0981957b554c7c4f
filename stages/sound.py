"""Resampling and Kaldi's filter bank, with the numbers of torchaudio, through which the published ImageBind heard.

torchaudio is not used: ComfyUI no longer brings it, and installing it can replace an artist's torch. What transformers
offers in its place, ``audio_utils.spectrogram``, differs from it by 2e-3 for a pure tone.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# torchaudio.functional.resample's own settings: a sinc of six zeros on each side under a Hann window.
ZEROS = 6
ROLLOFF = 0.99  # of the lower of both Nyquist frequencies
AS_TORCHAUDIO = 1000  # largest term of a ratio that is resampled in blocks, as torchaudio does all
AT_ONCE = 1 << 20  # kernel values held at a time; more of them no longer fit a processor's cache and take twice as long

PREEMPHASIS = 0.97
LOWEST_MEL_HZ = 20.0
QUIETEST = torch.finfo(torch.float32).eps  # energy, below which all is alike


def resampled_length(samples: int, rate: int, target: int) -> int:
    """How many samples at ``target`` Hz ``samples`` at ``rate`` Hz become."""
    if rate == target:
        return samples
    up, down = _ratio(rate, target)
    # single precision, in which torchaudio counts: past 2^24 samples (17 minutes at 16 kHz) up to two more or less
    counted = math.ceil(float(torch.tensor(up * samples / down, dtype=torch.float32)))
    return min(counted, (samples // down + 1) * up)


def resample(waveform: Tensor, rate: int, target: int, start: int = 0, end: int | None = None) -> Tensor:
    """(C, T) at ``rate`` Hz -> its channels' mean at ``target`` Hz, samples ``start`` to ``end``: (end - start,)
    float32.

    Windowed-sinc interpolation with torchaudio's kernel. Time and memory follow what is asked for: each sample costs
    12 * max(1, rate / target) multiplications, however long the sound is and whatever the two rates share, and some 50
    MB are taken beside the samples that are heard.

    Where the rates stand to each other as whole numbers up to 1000 (8, 11.025, 22.05, 24, 32, 44.1, 48, 96 kHz to 16
    kHz), the result is torchaudio's, its rounding included. At any other rate, 42777 or 96001 Hz, torchaudio takes
    gigabytes, and its rounding costs it 4e-4 at 9001 Hz; here the result is within 1e-6 of the same sum of sincs in
    double precision.
    """
    end = resampled_length(waveform.shape[-1], rate, target) if end is None else end
    if rate == target:
        return mono(waveform, start, end)
    if end <= start:
        return torch.zeros(0)
    up, down = _ratio(rate, target)
    reach = math.ceil(ZEROS * down / (ROLLOFF * min(up, down)))  # samples heard on each side of one
    parts = _in_blocks if max(up, down) <= AS_TORCHAUDIO else _one_by_one
    return parts(waveform, up, down, reach, start, end)


def _in_blocks(waveform: Tensor, up: int, down: int, reach: int, start: int, end: int) -> Tensor:
    """``resample`` as torchaudio does it: blocks of ``up`` samples from ``down`` samples and their neighbours."""
    first, last = start // up, -(-end // up)  # blocks
    heard = _padded(waveform, first * down - reach, last * down + reach)
    taps = torch.arange(-reach, reach + down)
    places = -torch.arange(up).float()[:, None] / up + taps.float() / down
    blocks = F.conv1d(heard[None, None], _sinc(places, up, down)[:, None], stride=down)[0]  # (up, last - first)
    return blocks.T.flatten()[start - first * up : end - first * up]


def _one_by_one(waveform: Tensor, up: int, down: int, reach: int, start: int, end: int) -> Tensor:
    """``resample`` at rates that share little, where a block would be seconds long: each sample from its neighbours
    alone."""
    first = start * down // up - reach
    heard = _padded(waveform, first, (end - 1) * down // up + reach + 2)
    taps = torch.arange(-reach, reach + 2)
    steps = taps * (1 / down)
    chunks = []
    for chunk in torch.arange(start, end).split(max(1, AT_ONCE // len(taps))):
        before = chunk * down // up  # the last sample at or before it
        places = ((before * up - chunk * down).double() / (up * down)).float()[
            :, None
        ] + steps  # no large numbers subtracted
        chunks.append((heard[(before - first)[:, None] + taps] * _sinc(places, up, down)).sum(dim=1))
    return torch.cat(chunks)


def filter_bank(clip: Tensor, rate: int, bands: int, frame: int, shift: int) -> Tensor:
    """(T,) at ``rate`` Hz, T >= ``frame`` -> (frames, bands): the logarithm of the energy in each mel band, as Kaldi
    has it.

    ``frame`` and ``shift`` in samples. Hann windows without the mean, with preemphasis; only whole frames.
    """
    frames = clip.unfold(0, frame, shift)
    frames = frames - frames.mean(dim=1, keepdim=True)
    before = torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
    frames = (frames - PREEMPHASIS * before) * torch.hann_window(frame, periodic=False, device=clip.device)
    size = 1 << (frame - 1).bit_length()  # of the Fourier transform: a power of two
    power = torch.fft.rfft(F.pad(frames, (0, size - frame))).abs().square()  # (frames, size / 2 + 1)
    return (power @ _mel_bands(bands, size, rate).to(power).T).clamp(min=QUIETEST).log()


def _ratio(rate: int, target: int) -> tuple[int, int]:
    shared = math.gcd(rate, target)
    return target // shared, rate // shared


def mono(waveform: Tensor, start: int, end: int) -> Tensor:
    """Samples ``start`` to ``end`` of (C, T) -> the channels' mean, float32 in [-1, 1], on the processor.

    Whole numbers are PCM: the farthest from the middle that their type holds is 1.
    """
    samples = waveform[:, start:end].to("cpu")
    if not samples.is_floating_point():
        scale = torch.iinfo(samples.dtype)
        middle = (scale.max + scale.min + 1) // 2  # 128 of unsigned bytes, 0 of all others
        samples = (samples.float() - middle) / (scale.max + 1 - middle)
    return samples.float().mean(dim=0)


def _padded(waveform: Tensor, start: int, end: int) -> Tensor:
    """``mono`` with silence before and after the sound."""
    heard = mono(waveform, max(start, 0), end)
    return F.pad(heard, (max(-start, 0), end - max(start, 0) - len(heard)))


def _sinc(places: Tensor, up: int, down: int) -> Tensor:
    """Distances between a sample and those around it, in units of ``down`` samples, -> what these weigh in it."""
    lower = ROLLOFF * min(up, down)
    zeros = (places * lower).clamp_(-ZEROS, ZEROS)
    window = torch.cos(zeros * math.pi / ZEROS / 2).square_()
    zeros *= math.pi
    return torch.where(zeros == 0, 1.0, zeros.sin() / zeros) * (window * (lower / down))


def _mel_bands(bands: int, size: int, rate: int) -> Tensor:
    """(bands, size / 2 + 1): triangles in mel from LOWEST_MEL_HZ to half the rate, each from its neighbour's peak to
    the other's. The highest frequency belongs to none."""
    low, high = (1127.0 * math.log(1.0 + hertz / 700.0) for hertz in (LOWEST_MEL_HZ, rate / 2))
    step = (high - low) / (bands + 1)
    left = low + torch.arange(bands)[:, None] * step
    centre, right = (low + (torch.arange(bands)[:, None] + above) * step for above in (1.0, 2.0))
    mel = 1127.0 * (1.0 + rate / size * torch.arange(size // 2, dtype=torch.float32) / 700.0).log()
    triangles = torch.minimum((mel - left) / (centre - left), (right - mel) / (right - centre)).clamp(min=0)
    return F.pad(triangles, (0, 1))
