"""The sounds of Toyland, synthesised: every subject and every weather has its own.

All tones stay below 7.5 kHz, so a sound keeps its content at every sample rate in `SAMPLE_RATES`, and every sound
repeats its pattern at least once in two seconds, the length of one ImageBind audio clip.
"""

import numpy as np

SUBJECT_SOUNDS = ("cat", "bird", "car", "robot", "frog", "balloon")
WEATHER_SOUNDS = ("sunny", "rain", "snow", "night")
SOUND_KINDS = SUBJECT_SOUNDS + WEATHER_SOUNDS
SAMPLE_RATES = (16000, 22050, 44100, 48000)  # Hz
DURATION = (2.0, 5.0)  # seconds
PEAK = (0.3, 0.95)  # of full scale
BACKGROUND_DB = (-55.0, -38.0)  # the recording's own noise, relative to the peak
TABLE = 2048  # samples in one period of a wave table


def synthesize(kind: str, seed: int) -> tuple[np.ndarray, int]:
    """One of SOUND_KINDS and a seed -> float32 (1 or 2 channels, 2-5 s of samples) in [-1, 1], and its sample rate in
    Hz."""
    if kind not in VOICES:
        raise ValueError(f"There is no sound for {kind!r}. Choose one of {', '.join(SOUND_KINDS)}.")
    rng = np.random.default_rng([seed, SOUND_KINDS.index(kind)])
    rate = int(rng.choice(SAMPLE_RATES))
    samples = int(rng.uniform(*DURATION) * rate / 1000 + 0.5) * 1000  # a length that Fourier transforms like
    voice = VOICES[kind](rng, samples, rate)
    voice /= np.abs(voice).max()
    voice += 10 ** (rng.uniform(*BACKGROUND_DB) / 20) * rng.standard_normal(samples, np.float32)
    channels = _to_stereo(rng, voice, rate) if rng.random() < 0.5 else voice[None]
    return (channels * (rng.uniform(*PEAK) / np.abs(channels).max())).astype(np.float32), rate


def _to_stereo(rng, voice, rate):
    """(T,) -> (2, T): panned, one side late by up to half a millisecond, as two microphones hear it."""
    left = rng.uniform(0.4, 1.0)
    late = np.roll(voice, int(rng.uniform(0, 0.0005) * rate))
    sides = np.stack([left * voice, (1.4 - left) * late])
    return sides[::-1] if rng.random() < 0.5 else sides


def _onsets(rng, samples, rate, period, swing=0.08):
    """Sample positions `period` seconds apart, each off by a share of it, the first within half a period."""
    step = period * rate
    grid = np.arange(rng.uniform(0, 0.5) * step, samples, step)
    return np.maximum(grid + rng.uniform(-swing, swing, grid.shape) * step, 0).astype(int)


def _put(track, start, clip):
    """Add the clip to the track at a sample position; what reaches past the end is cut."""
    part = track[start : start + len(clip)]
    part += clip[: len(part)]


def _seconds(duration, rate):
    return np.arange(int(duration * rate)) / rate


def _hump(count, attack=0.1, release=0.3):
    """An envelope of `count` samples that rises over a share `attack` and falls over a share `release`."""
    at = np.linspace(0, 1, count)
    return np.minimum(np.minimum(at / attack, (1 - at) / release), 1) ** 1.5


def _phase(frequency, rate):
    """Frequency in Hz per sample -> phase in periods."""
    return np.cumsum(frequency) / rate


def _periodic(phase, amplitudes):
    """A tone whose n-th harmonic has amplitude n of the list; phase in periods."""
    at = np.arange(TABLE) / TABLE
    table = sum(a * np.sin(2 * np.pi * n * at) for n, a in enumerate(amplitudes, 1))
    return table[(phase * TABLE).astype(np.int64) % TABLE]


def _band_noise(rng, samples, rate, low, high, tilt=0.0):
    """Noise between two frequencies in Hz with soft shoulders, its amplitude falling as frequency ** -tilt; unit
    deviation."""
    frequency = np.fft.rfftfreq(samples, 1 / rate)[1:]
    gain = frequency**-tilt / (1 + (low / frequency) ** 4) / (1 + (frequency / high) ** 6)
    spectrum = rng.standard_normal(len(gain)) + 1j * rng.standard_normal(len(gain))
    noise = np.fft.irfft(np.concatenate([[0], spectrum * gain]), samples)
    return noise / noise.std()


def _slow(rng, samples, rate, speed):
    """A smooth random curve in about [-1, 1] that turns `speed` times a second."""
    points = int(samples / rate * speed) + 3
    return np.interp(np.arange(samples) / rate * speed, np.arange(points), rng.uniform(-1, 1, points))


def _cat(rng, samples, rate):
    """Meows: a voice of many harmonics whose pitch and vowel (two formants) glide from 'ee' over 'ah' to 'oo'."""
    track, pitch, length = np.zeros(samples), rng.uniform(380, 560), rng.uniform(0.55, 0.8)
    for start in _onsets(rng, samples, rate, length + rng.uniform(0.1, 0.35)):
        at = np.linspace(0, 1, int(length * rng.uniform(0.9, 1.1) * rate))
        f0 = pitch * rng.uniform(0.92, 1.08) * np.interp(at, [0, 0.3, 0.6, 1], [0.75, 1.3, 1.2, 0.7])
        formants = (np.interp(at, [0, 0.5, 1], [500, 1100, 550]), np.interp(at, [0, 0.5, 1], [2500, 1700, 950]))
        carrier = np.exp(2j * np.pi * _phase(f0, rate))
        harmonic, clip = np.ones_like(carrier), np.zeros(len(at))
        for number in range(1, 10):
            harmonic = harmonic * carrier
            near = sum(np.exp(-(((number * f0 - formant) / 350) ** 2)) for formant in formants)
            clip += (0.08 / number + near) * harmonic.imag
        _put(track, start, clip * _hump(len(clip), 0.15, 0.35))
    return track


def _bird(rng, samples, rate):
    """Songs of three to five quick whistles that sweep through 2.5-6 kHz."""
    track, height = np.zeros(samples), rng.uniform(2600, 3800)
    song = [(rng.uniform(0.8, 1.15), rng.uniform(1.15, 1.5)) for _ in range(rng.integers(3, 6))]
    if rng.random() < 0.5:
        song = [(high, low) for low, high in song]
    length = rng.uniform(0.06, 0.1)
    for start in _onsets(rng, samples, rate, len(song) * length * 1.3 + rng.uniform(0.12, 0.35)):
        for number, (first, last) in enumerate(song):
            sweep = height * np.geomspace(first, last, int(length * rate))
            _put(
                track,
                start + int(number * length * 1.3 * rate),
                np.sin(2 * np.pi * _phase(sweep, rate)) * _hump(len(sweep), 0.2, 0.4),
            )
    return track


def _car(rng, samples, rate):
    """A humming engine with two blasts of a two-tone horn again and again."""
    speed = rng.uniform(45, 85) * (1 + 0.2 * _slow(rng, samples, rate, 0.7))
    engine = _periodic(_phase(speed, rate), [1 / n**0.8 for n in range(1, 16)])
    track = engine + 0.5 * _band_noise(rng, samples, rate, 60, 500, 0.5)
    pitch, length = rng.uniform(340, 440), rng.uniform(0.16, 0.28)
    time = _seconds(length, rate)
    horn = sum(_periodic(pitch * ratio * time, [1, 0.7, 0.6, 0.4, 0.3, 0.2]) for ratio in (1, 1.26)) * _hump(
        len(time), 0.06, 0.12
    )
    for start in _onsets(rng, samples, rate, rng.uniform(1.0, 1.4)):
        _put(track, start, 1.5 * horn)
        _put(track, start + int(1.35 * length * rate), 1.5 * horn)
    return track


def _robot(rng, samples, rate):
    """Beeps and boops: square tones that jump between steps of a scale, here and there a falling boop."""
    track, base, length = np.zeros(samples), rng.uniform(500, 750), rng.uniform(0.09, 0.14)
    for start in _onsets(rng, samples, rate, length * rng.uniform(1.15, 1.5), 0.02):
        if rng.random() < 0.12:
            continue
        pitch = np.full(int(length * rate), base * 2 ** (rng.choice([0, 3, 5, 7, 10, 12, 15, 17]) / 12))
        if rng.random() < 0.25:
            pitch = pitch * np.geomspace(1.3, 0.6, len(pitch))
        _put(track, start, _periodic(_phase(pitch, rate), [1, 0, 1 / 3, 0, 1 / 5]) * _hump(len(pitch), 0.04, 0.08))
    return track


def _frog(rng, samples, rate):
    """Croaks in two parts ('rib-bit'): a throat resonance struck 50 to 80 times a second."""
    track, throat, pulses = np.zeros(samples), rng.uniform(480, 700), rng.uniform(45, 75)
    first, last = rng.uniform(0.1, 0.16), rng.uniform(0.18, 0.28)
    for start in _onsets(rng, samples, rate, first + last + rng.uniform(0.15, 0.4)):
        for delay, length, bend in ((0, first, 0.9), (first + 0.04, last, 1.15)):
            time = _seconds(length, rate)
            struck = np.exp(-5 * (time * pulses * bend % 1))
            body = np.sin(2 * np.pi * throat * bend * time) + 0.6 * np.sin(2 * np.pi * 2.4 * throat * bend * time)
            _put(track, start + int(delay * rate), struck * body * _hump(len(time), 0.1, 0.3))
    return track


def _balloon(rng, samples, rate):
    """Bursts of a gas burner: a deep roar that flutters, each opened by a hiss and followed by a short silence."""
    roar = _band_noise(rng, samples, rate, 120, rng.uniform(900, 1500), 0.5)
    hiss = _band_noise(rng, samples, rate, 2500, 6000)
    length = rng.uniform(0.7, 1.1)
    blast, opening = np.zeros(samples), np.zeros(samples)
    for start in _onsets(rng, samples, rate, length + rng.uniform(0.25, 0.45)):
        _put(blast, start, _hump(int(length * rate), 0.12, 0.3))
        _put(opening, start, np.exp(-_seconds(0.25, rate) / 0.06))
    flutter = 1 + 0.5 * np.sin(2 * np.pi * rng.uniform(14, 22) * np.arange(samples) / rate)
    return roar * (np.minimum(blast, 1) * flutter + 0.02) + 0.5 * hiss * opening


def _sunny(rng, samples, rate):
    """A cheerful major arpeggio, plucked, up and down over an octave and a third."""
    track, base, beat = np.zeros(samples), rng.uniform(420, 620), rng.uniform(0.13, 0.19)
    steps = [0, 4, 7, 12, 16, 12, 7, 4]
    time = _seconds(0.5, rate)
    pluck = np.exp(-time / 0.14) * np.minimum(time / 0.004, 1)
    offset = rng.integers(len(steps))
    for number, start in enumerate(_onsets(rng, samples, rate, beat, 0.03)):
        pitch = base * 2 ** (steps[(number + offset) % len(steps)] / 12)
        _put(track, start, rng.uniform(0.8, 1.0) * _periodic(pitch * time, [1, 0.35, 0.12, 0.06]) * pluck)
    return track


def _rain(rng, samples, rate):
    """A steady rush of rain, with single drops that ring for a moment."""
    track = _band_noise(rng, samples, rate, rng.uniform(500, 900), 7000, 0.3) * (
        1 + 0.15 * _slow(rng, samples, rate, 2)
    )
    time = _seconds(0.015, rate)
    for start in rng.integers(0, samples, int(samples / rate * rng.uniform(20, 35))):
        ring = np.sin(2 * np.pi * rng.uniform(1500, 5000) * time) * np.exp(-time / 0.003)
        _put(track, start, rng.uniform(1, 4) * ring)
    return track


def _snow(rng, samples, rate):
    """Soft sleigh bells, a jingle on every beat, in a hushed wind."""
    wind = _band_noise(rng, samples, rate, 180, 600, 1.0) * (1 + 0.5 * _slow(rng, samples, rate, 1))
    time, height = _seconds(0.3, rate), rng.uniform(0.88, 1.05)
    partials = height * np.array([3300, 4150, 5050, 5900, 6700]) * rng.uniform(0.98, 1.02, 5)
    bell = sum(np.sin(2 * np.pi * f * time) for f in partials) * np.exp(-time / 0.07)
    track = 0.35 * wind
    for number, start in enumerate(_onsets(rng, samples, rate, rng.uniform(0.2, 0.28), 0.04)):
        _put(track, start, (1.0 if number % 2 == 0 else 0.55) * rng.uniform(0.8, 1.0) * bell)
    return track


def _night(rng, samples, rate):
    """Crickets, three or four pulses a chirp at one high pitch, over a low drone."""
    time = np.arange(samples) / rate
    low = rng.uniform(75, 120)
    track = 0.45 * sum(np.sin(2 * np.pi * low * ratio * time + rng.uniform(0, 6)) for ratio in (1, 1.5, 2.005))
    pitch, pulse = rng.uniform(4200, 5000), _seconds(rng.uniform(0.02, 0.03), rate)
    trill = np.sin(2 * np.pi * pitch * pulse) * _hump(len(pulse), 0.3, 0.4)
    count = rng.integers(3, 5)
    for start in _onsets(rng, samples, rate, rng.uniform(0.35, 0.55), 0.05):
        for number in range(count):
            _put(track, start + int(1.5 * number * len(pulse)), trill)
    return track


VOICES = {
    "cat": _cat, "bird": _bird, "car": _car, "robot": _robot, "frog": _frog, "balloon": _balloon,
    "sunny": _sunny, "rain": _rain, "snow": _snow, "night": _night,
}  # fmt: skip
