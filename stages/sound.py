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
AS_TORCHAUDIO = 1000  # largest term of a ratio whose kernel is computed in single precision, as torchaudio computes all
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
    """(C, T) at ``rate`` Hz -> its channels' mean at ``target`` Hz, samples ``start`` to ``end``: (end - start,) float32.

    Windowed-sinc interpolation with torchaudio's kernel. Time and memory follow what is asked for: each sample costs
    12 * max(1, rate / target) multiplications, however long the sound is and whatever the two rates share, and some 50 MB
    are taken beside the samples that are heard.

    Where the rates stand to each other as whole numbers up to 1000 (8, 11.025, 22.05, 24, 32, 44.1, 48, 96 kHz to 16 kHz),
    places are rounded as torchaudio rounds them and the result is torchaudio's to 1e-6. At any other rate, 42777 or 96001
    Hz, torchaudio takes gigabytes, and its rounded places cost it 4e-4 at 9001 Hz; here they are exact, and the result is
    within 1e-6 of the same sum of sincs in double precision.
    """
    end = resampled_length(waveform.shape[-1], rate, target) if end is None else end
    if rate == target:
        return mono(waveform, start, end)
    up, down = _ratio(rate, target)
    reach = math.ceil(ZEROS * down / (ROLLOFF * min(up, down)))  # samples heard on each side of one
    taps = torch.arange(-reach, reach + 2)
    first, last = start * down // up - reach, (end - 1) * down // up + reach + 1
    heard = mono(waveform, max(first, 0), last + 1)
    heard = F.pad(heard, (max(-first, 0), last + 1 - max(first, 0) - len(heard)))  # silence before and after the sound
    table = _kernel(torch.arange(up), taps, up, down) if up * len(taps) <= AT_ONCE else None
    chunks = []
    for chunk in torch.arange(start, end).split(max(1, AT_ONCE // len(taps))):
        phases = chunk % up
        kernel = _kernel(phases, taps, up, down) if table is None else table[phases]
        places = (chunk * down // up - first)[:, None] + taps
        chunks.append((heard[places] * kernel).sum(dim=1))
    return torch.cat(chunks) if chunks else heard.new_zeros(0)


def filter_bank(clip: Tensor, rate: int, bands: int, frame: int, shift: int) -> Tensor:
    """(T,) at ``rate`` Hz, T >= ``frame`` -> (frames, bands): the logarithm of the energy in each mel band, as Kaldi has it.

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


def _kernel(phases: Tensor, taps: Tensor, up: int, down: int) -> Tensor:
    """(P,), (N,) -> (P, N) float32: what the input samples around output sample ``phases`` (0 to up - 1) weigh in it."""
    lower = ROLLOFF * min(up, down)
    samples = phases * down // up  # the last one at or before it
    if max(up, down) <= AS_TORCHAUDIO:
        places = ((-phases.float() / up)[:, None] + (samples[:, None] + taps).float() / down) * lower
    else:  # differences first, of whole numbers: they are small, and nothing is lost in single precision
        places = ((samples * up - phases * down).double() / up).float()[:, None] * (lower / down) + taps * (lower / down)
    places = places.clamp_(-ZEROS, ZEROS)  # in zeros of the sinc
    window = torch.cos(places * (math.pi / ZEROS / 2)).square_()
    return torch.sinc(places).mul_(window).mul_(lower / down)


def _mel_bands(bands: int, size: int, rate: int) -> Tensor:
    """(bands, size / 2 + 1): triangles in mel from LOWEST_MEL_HZ to half the rate, each from its neighbour's peak to the
    other's. The highest frequency belongs to none."""
    low, high = (1127.0 * math.log(1.0 + hertz / 700.0) for hertz in (LOWEST_MEL_HZ, rate / 2))
    step = (high - low) / (bands + 1)
    left = low + torch.arange(bands)[:, None] * step
    centre, right = (low + (torch.arange(bands)[:, None] + above) * step for above in (1.0, 2.0))
    mel = 1127.0 * (1.0 + rate / size * torch.arange(size // 2, dtype=torch.float32) / 700.0).log()
    triangles = torch.minimum((mel - left) / (centre - left), (right - mel) / (right - centre)).clamp(min=0)
    return F.pad(triangles, (0, 1))
