"""Resampling and the filter bank have torchaudio's numbers, whether it is installed or not, at bounded cost at any
rate."""

import math
import subprocess
import sys

import pytest
import torch
from any2pix.stages.sound import filter_bank, mono, resample, resampled_length
from torch.testing import assert_close

TARGET = 16_000
USUAL = (8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 96000)
CLOSE = {"atol": 1e-5, "rtol": 0}

# torchaudio 2.11.0's functional.resample and compliance.kaldi.fbank of chirp(rate), at these places
PLACES = [0, 1, 57, 400, -1]
RESAMPLED = {
    8000: [0.0010955, 0.1645379, -0.4802485, 1.31e-05, -0.2720817],
    11025: [0.000775, 0.1824085, -0.4800456, 9.33e-05, -0.2066263],
    22050: [0.0116534, 0.198616, -0.479991, 4.85e-05, -0.304595],
    24000: [0.0132904, 0.1984536, -0.4799837, 4e-07, -0.3567993],
    32000: [0.017025, 0.1981851, -0.4799905, 4e-07, -0.3562005],
    44100: [0.0191625, 0.198121, -0.4799895, 3e-07, -0.3560564],
    48000: [0.0195225, 0.1981139, -0.4799894, 4e-07, -0.3560401],
    96000: [0.0209608, 0.1981066, -0.4799894, 4e-07, -0.3560238],
}
BANDS = [0, 20, 40, 64, 100, 127]
BANK = {
    0: [-9.284579, -0.358962, -6.717527, 1.940602, -15.942385, -15.942385],
    2: [-10.149662, -0.358592, -13.196553, -1.333072, -15.942385, -15.942385],
}


def chirp(rate: int, seconds: float = 0.05) -> torch.Tensor:
    time = torch.arange(int(rate * seconds)).double() / rate
    tone, rising = 440 * time, (1000 + 20000 * time) * time
    return (0.5 * torch.sin(2 * torch.pi * tone) + 0.3 * torch.sin(2 * torch.pi * rising)).float()[None]


def noise(rate: int, seconds: float, channels: int = 1) -> torch.Tensor:
    return torch.rand(channels, int(rate * seconds), generator=torch.Generator().manual_seed(rate)) * 2 - 1


def sum_of_sincs(sound: torch.Tensor, rate: int, places: torch.Tensor) -> torch.Tensor:
    """What resampling approximates by nothing but rounding: the windowed sincs of ALL samples of (T,), in double
    precision, at samples ``places`` of TARGET."""
    common = rate * TARGET // math.gcd(rate, TARGET)
    distance = torch.arange(len(sound))[None] * (common // rate) - places[:, None] * (common // TARGET)
    zeros = (distance.double() / common * 0.99 * min(rate, TARGET)).clamp(-6, 6)
    kernel = torch.sinc(zeros) * torch.cos(zeros * torch.pi / 12) ** 2 * 0.99 * min(rate, TARGET) / rate
    return (kernel * sound.double()).sum(dim=1).float()


@pytest.mark.parametrize("rate", RESAMPLED)
def test_resampling_has_the_numbers_torchaudio_gave(rate):
    resampled = resample(chirp(rate), rate, TARGET)
    assert len(resampled) == 800
    assert_close(resampled[PLACES], torch.tensor(RESAMPLED[rate]), **CLOSE)


def test_the_filter_bank_has_the_numbers_torchaudio_gave():
    sound = chirp(TARGET)[0]
    bank = filter_bank(sound - sound.mean(), TARGET, 128, 400, 160)
    assert bank.shape == (3, 128)
    for frame, bands in BANK.items():
        assert_close(bank[frame, BANDS], torch.tensor(bands), **CLOSE)


@pytest.mark.parametrize("seconds", [3.0, 0.0373, 1.0007])
@pytest.mark.parametrize("rate", USUAL)
def test_resampling_is_torchaudios(rate, seconds):
    functional = pytest.importorskip(
        "torchaudio.functional", reason="torchaudio is not installed: only its numbers are compared"
    )
    sound = noise(rate, seconds, channels=2)
    assert_close(resample(sound, rate, TARGET), functional.resample(sound.mean(dim=0), rate, TARGET), **CLOSE)


@pytest.mark.parametrize("loudness", [1.0, 1e-4, 0.0])
def test_the_filter_bank_is_torchaudios(loudness):
    kaldi = pytest.importorskip(
        "torchaudio.compliance.kaldi", reason="torchaudio is not installed: only its numbers are compared"
    )
    options = {"htk_compat": True, "use_energy": False, "window_type": "hanning", "dither": 0.0}
    for bands, sound in ((128, noise(TARGET, 2.0)), (64, chirp(TARGET, 0.31)), (128, noise(TARGET, 0.025))):
        expected = kaldi.fbank(loudness * sound, sample_frequency=TARGET, num_mel_bins=bands, **options)
        assert_close(filter_bank(loudness * sound[0], TARGET, bands, 400, 160), expected, **CLOSE)


@pytest.mark.parametrize("rate", [2003, 9001, 15999, 16001, 42777, 44101, 96001, 383981, 4000037])
def test_at_odd_rates_it_is_the_exact_sum_of_sincs(rate):
    sound = noise(rate, 0.02)
    resampled = resample(sound, rate, TARGET)
    places = torch.arange(0, len(resampled), 7)
    assert_close(resampled[places], sum_of_sincs(sound[0], rate, places), atol=2e-6, rtol=0)


@pytest.mark.parametrize("rate", [8000, 16000, 42777, 44100, 1000003])
def test_a_part_is_cut_from_the_whole(rate):
    sound = noise(rate, 0.3, channels=2)
    whole = resample(sound, rate, TARGET)
    assert len(whole) == resampled_length(sound.shape[1], rate, TARGET)
    for start, end in ((0, 100), (1733, 2900), (len(whole) - 5, len(whole)), (700, 700)):
        assert_close(resample(sound, rate, TARGET, start, end), whole[start:end], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "samples, rate", [(57_600_000, 48000), (172_800_001, 48000), (40_000_003, 44100), (29_999, 11025)]
)
def test_a_long_sound_is_as_long_as_torchaudio_makes_it(samples, rate):
    up, down = TARGET // math.gcd(rate, TARGET), rate // math.gcd(rate, TARGET)
    counted = int(torch.ceil(torch.as_tensor(up * samples / down)))
    assert resampled_length(samples, rate, TARGET) == min(counted, (samples // down + 1) * up)
    assert abs(resampled_length(samples, rate, TARGET) - up * samples / down) <= 4


@pytest.mark.parametrize("dtype, one", [(torch.int16, 2**15), (torch.int32, 2**31), (torch.int8, 2**7)])
def test_whole_numbers_are_pcm(dtype, one):
    samples = torch.tensor([[0, one - 1, -one, one // 2]], dtype=torch.int64).to(dtype)
    assert_close(mono(samples, 0, 4), torch.tensor([0.0, 1 - 1 / one, -1.0, 0.5]))


def test_unsigned_bytes_are_pcm_around_128():
    samples = torch.tensor([[128, 255, 0, 192]], dtype=torch.uint8)
    assert_close(mono(samples, 0, 4), torch.tensor([0.0, 127 / 128, -1.0, 0.5]))


COST = """
import resource, sys, time, torch
from any2pix.models.imagebind import ImageBindDims
from any2pix.stages.preprocess import waveform_to_clips
torch.set_num_threads(1)
dims = ImageBindDims.published()
waveform_to_clips(torch.rand(1, 1000), 16000, dims)
for rate, seconds in ((42777, 3), (96001, 3), (9_999_991, 0.3), (44101, 1200)):
    sound = torch.rand(1, int(rate * seconds))
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    assert len(waveform_to_clips(sound, rate, dims)) == 3
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(rate, time.process_time() - start, used / 1024)
"""


def test_no_rate_and_no_length_costs_much():
    """At most 10 s of a processor's time, measured 0.05 to 0.5 s, and 250 MB, measured 5 to 36 MB."""
    done = subprocess.run([sys.executable, "-c", COST], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        rate, seconds, megabytes = map(float, line.split())
        assert seconds < 10, rate
        assert megabytes < 250, rate
