"""Making synthetic speech sound like anything but one synthesiser in a quiet room.

espeak-ng is a formant synthesiser with one idea of every sound; what is learned from it
must not depend on that idea. Voices are changed (other excitation, vocal tracts,
spectra, balance between sounds) and then recorded badly (rooms, noises, filters,
telephones, clipping). All functions take and give float arrays [S] at 16 kHz.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d, zoom
from scipy.signal import fftconvolve, istft, lfilter, stft

from ..rates import SAMPLE_RATE

HOP, WINDOW, POINTS = 160, 400, 512
BINS = POINTS // 2 + 1


def change_voice(wave: np.ndarray, voiced: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another speaker saying the same at the same time.

    wave: [S]; voiced: [S / 160] in 0..1, which 10 ms frames have a voice (known from the phonemes).
    The spectral envelope is warped and smoothed, and in most clips a new excitation
    (jittered glottal pulses with breath) replaces espeak's.
    """
    spectrum = _analyse(wave)
    magnitude = np.abs(spectrum)
    envelope = _envelope(magnitude, int(rng.integers(14, 34)))
    shaped = _warp(envelope, _frequency_warp(rng)) if rng.random() < 0.6 else envelope
    shaped = shaped * _random_spectral_gain(shaped.shape, rng)
    if rng.random() < 0.6:
        source = _analyse(_excitation(len(wave), voiced, rng))
        carrier = source / (_envelope(np.abs(source), 12) + 1e-9)
        if rng.random() < 0.3:  # part of the old voice shines through
            carrier = 0.5 * carrier + 0.5 * spectrum[:, : carrier.shape[1]] / (envelope + 1e-9)
    else:
        carrier = spectrum / (envelope + 1e-9)
    changed = _synthesise(carrier * shaped, len(wave))
    return changed * (np.sqrt((wave**2).mean()) / (np.sqrt((changed**2).mean()) + 1e-9))


def rebalance(wave: np.ndarray, starts: np.ndarray, ends: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Some sounds louder, others softer: a random gain (about +-5 dB) for each stretch [start, end) in samples."""
    gain = np.zeros(len(wave) // HOP + 2)
    for start, end in zip(starts // HOP, ends // HOP, strict=True):
        gain[start : end + 1] = rng.normal(0, 4.0)
    gain = gaussian_filter1d(gain, 1.5) + rng.normal(0, 1.0)
    gain += 4.0 * gaussian_filter1d(rng.standard_normal(len(gain)), 60) * 8
    return wave * 10 ** (np.interp(np.arange(len(wave)), np.arange(len(gain)) * HOP, gain) / 20)


def record(wave: np.ndarray, rng: np.random.Generator, babble: np.ndarray | None = None) -> np.ndarray:
    """Through a room, noise, a channel and a careless level: float32 in -1..1."""
    wave = wave / (np.sqrt((wave**2).mean()) + 1e-9)
    if rng.random() < 0.45:
        wave = room(wave, rng)
    if rng.random() < 0.65:
        wave = wave + _noise_at(wave, colour(len(wave), rng), rng.uniform(3, 45))
    if babble is not None and rng.random() < 0.18:
        wave = wave + _noise_at(wave, babble, rng.uniform(3, 25))
    if rng.random() < 0.12:
        wave = wave + _noise_at(wave, hum(len(wave), rng), rng.uniform(5, 35))
    if rng.random() < 0.7:
        wave = channel(wave, rng)
    peak = np.abs(wave).max() + 1e-9
    if rng.random() < 0.12:
        limit = peak * rng.uniform(0.25, 0.8)
        wave = np.clip(wave, -limit, limit) if rng.random() < 0.5 else limit * np.tanh(wave / limit)
    wave = wave / (np.abs(wave).max() + 1e-9) * 10 ** (rng.uniform(-26, -0.3) / 20)
    if rng.random() < 0.08:
        wave = np.sign(wave) * (np.round(255 * _mu(np.abs(wave))) / 255) ** 1  # coarse companding stays below
        wave = np.sign(wave) * (np.expm1(np.abs(wave) * np.log1p(255.0)) / 255.0)
    return wave.astype(np.float32)


def room(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A synthetic room: the direct sound, a few early echoes and an exponential tail that darkens."""
    decay = rng.uniform(0.08, 0.7)
    length = int(min(decay, 0.5) * SAMPLE_RATE)
    time = np.arange(length) / SAMPLE_RATE
    tail = rng.standard_normal(length) * np.exp(-6.9 * time / decay)
    tail = lfilter([1 - (a := rng.uniform(0.0, 0.7))], [1, -a], tail)
    tail[: int(rng.uniform(0.002, 0.02) * SAMPLE_RATE)] = 0
    response = 10 ** (-rng.uniform(-2, 18) / 20) * tail / (np.sqrt((tail**2).sum()) + 1e-9)
    response[0] = 1.0
    for _ in range(int(rng.integers(0, 6))):
        response[int(rng.integers(16, 800))] += rng.uniform(-0.5, 0.5)
    return fftconvolve(wave, response)[: len(wave)]


def colour(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Noise whose power falls with frequency to a random degree (white to brown), at times with slow swells."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequency = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    noise = np.fft.irfft(spectrum * np.maximum(frequency, 30.0) ** (-rng.uniform(-0.2, 1.1)), samples)
    if rng.random() < 0.4:
        swell = gaussian_filter1d(rng.standard_normal(samples // 1600 + 2), 2.0)
        noise = noise * np.interp(np.arange(samples) / 1600, np.arange(len(swell)), 1 + np.clip(3 * swell, -0.95, 4))
    return noise


def hum(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Mains hum with harmonics."""
    base = rng.choice([50.0, 60.0]) * (1 + rng.normal(0, 1e-3))
    phase = 2 * np.pi * base * np.arange(samples) / SAMPLE_RATE
    return sum(rng.uniform(0, 1) / k * np.sin(k * phase + rng.uniform(0, 6)) for k in range(1, 9))


def channel(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A microphone or telephone: tilt, a few broad peaks and band limits."""
    frequency = np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE)
    octave = np.log2(np.maximum(frequency, 40.0) / 1000.0)
    decibels = rng.normal(0, 2.5) * octave
    for _ in range(int(rng.integers(0, 5))):
        decibels = decibels + rng.normal(0, 5) * np.exp(
            -0.5 * ((octave - rng.uniform(-3.5, 3)) / rng.uniform(0.2, 1.2)) ** 2
        )
    low, high = (
        (rng.uniform(200, 400), rng.uniform(3000, 3800)) if rng.random() < 0.12 else (rng.uniform(20, 150), 9000)
    )
    if high > 8000 and rng.random() < 0.25:
        high = rng.uniform(4000, 8000)
    decibels = decibels - 24 * np.maximum(0, np.log2(np.maximum(low / np.maximum(frequency, 1), 1e-3)))
    decibels = decibels - 60 * np.maximum(0, np.log2(np.maximum(frequency, 1) / high))
    return np.fft.irfft(np.fft.rfft(wave) * 10 ** (np.clip(decibels, -80, 30) / 20), len(wave))


def _mu(level: np.ndarray) -> np.ndarray:
    return np.log1p(255.0 * level) / np.log1p(255.0)


def _noise_at(wave: np.ndarray, noise: np.ndarray, decibels: float) -> np.ndarray:
    """`noise` scaled to `decibels` below the level of `wave`'s louder parts."""
    level = np.sqrt((wave**2).mean()) + 1e-9
    return noise * (level * 10 ** (-decibels / 20) / (np.sqrt((noise**2).mean()) + 1e-9))


def _analyse(wave: np.ndarray) -> np.ndarray:
    return stft(wave, nperseg=WINDOW, noverlap=WINDOW - HOP, nfft=POINTS, padded=True)[2]


def _synthesise(spectrum: np.ndarray, samples: int) -> np.ndarray:
    wave = istft(spectrum, nperseg=WINDOW, noverlap=WINDOW - HOP, nfft=POINTS)[1]
    return np.pad(wave, (0, max(0, samples - len(wave))))[:samples]


def _envelope(magnitude: np.ndarray, order: int) -> np.ndarray:
    """Cepstrally smoothed magnitude: the first `order` cepstral coefficients of each frame."""
    cepstrum = np.fft.irfft(np.log(magnitude + 1e-6), axis=0)
    lifter = np.zeros(POINTS)
    lifter[:order] = 1.0
    lifter[-order + 1 :] = 1.0
    return np.exp(np.fft.rfft(cepstrum * lifter[:, None], axis=0).real)


def _frequency_warp(rng: np.random.Generator) -> np.ndarray:
    """Source bin of every target bin: a vocal tract 15 % longer or shorter, and uneven along the way."""
    bins = np.arange(BINS)
    uneven = np.interp(bins, np.linspace(0, BINS, 6), rng.normal(0, 0.04, 6))
    return np.clip(bins * (rng.uniform(0.86, 1.16) + uneven), 0, BINS - 1.001)


def _warp(envelope: np.ndarray, source: np.ndarray) -> np.ndarray:
    low = source.astype(int)
    part = (source - low)[:, None]
    return envelope[low] * (1 - part) + envelope[low + 1] * part


def _random_spectral_gain(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Smooth gain over frequency and time with a spread of a few dB, as no two voices share a spectrum."""
    rows, columns = 12, shape[1] // 6 + 4
    field = gaussian_filter(rng.standard_normal((rows, columns)), (0.7, 1.0))
    field = field / (field.std() + 1e-9) * rng.uniform(0, 3.5) + rng.normal(0, 2.5, (rows, 1))
    full = zoom(field, (shape[0] / rows, shape[1] / columns), order=1)
    return 10 ** (full[: shape[0], : shape[1]] / 20)


def _excitation(samples: int, voiced: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Glottal pulses with jitter, shimmer and a wandering pitch where voiced; breath everywhere."""
    frames = samples // HOP + 2
    base = np.exp(rng.uniform(np.log(75), np.log(290)))
    drift = gaussian_filter1d(rng.standard_normal(frames), rng.uniform(10, 40))
    slow = drift / (drift.std() + 1e-9) * rng.uniform(0.03, 0.18)
    pitch = base * np.exp(slow + rng.normal(0, rng.uniform(0.002, 0.02), frames))
    phase = np.cumsum(np.interp(np.arange(samples), np.arange(frames) * HOP, pitch)) / SAMPLE_RATE
    cycle = np.floor(phase).astype(int)
    shimmer = np.exp(rng.normal(0, 0.1, cycle[-1] + 1))[cycle]
    opened = rng.uniform(0.3, 0.7)
    part = phase - cycle
    flow = np.where(part < opened, np.sin(np.pi * part / opened) ** 2, 0.0)
    pulses = np.diff(flow, prepend=0.0) * shimmer
    pulses = pulses / (pulses.std() + 1e-9)
    breath = rng.standard_normal(samples)
    strength = np.interp(np.arange(samples), np.arange(len(voiced)) * HOP, gaussian_filter1d(voiced.astype(float), 1.0))
    noise = rng.uniform(0.03, 0.4) if rng.random() < 0.92 else 3.0  # the last: a whisper
    return strength * (pulses + noise * breath) + (1 - strength) * breath
