"""LSE-C and LSE-D: how well lips and voice fit, by SyncNet (Chung and Zisserman 2016) with given weights.

Protocol of Wav2Lip's evaluation (Prajwal et al. 2020): 25 frames and 16 kHz, 13 MFCCs at 100 a second, windows of 5
frames against 20 MFCC rows, offsets of up to 15 frames. D is the least of the mean distances over offsets, C their
median minus it. The weights (syncnet_v2.model) are not bundled. Faces are cut by landmarks, not by S3FD boxes, so
expect small differences from published pipelines.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import InputError, damaged, why
from ..rates import FRAME_RATE, SAMPLE_RATE, SAMPLES_PER_FRAME

SIZE = 224
WINDOW = 5
"""Frames of a window."""
OFFSETS = 15
"""Frames by which the voice is shifted either way."""
COEFFICIENTS, FILTERS, POINTS = 13, 26, 512
LENGTH, STEP = 400, 160
"""Samples of an MFCC frame (25 ms) and between two (10 ms)."""
LIFTER = 22
ROWS_PER_FRAME = SAMPLE_RATE // STEP // FRAME_RATE
PORTION = 10


def mfcc(wave: NDArray[np.floating]) -> NDArray[np.float64]:
    """13 mel cepstra [R, 13] of a sound [S] of full scale 1, 100 rows a second; the first is the log energy.

    As SyncNet was trained on: 16-bit values, pre-emphasis 0.97, rectangular windows, 26 mel filters up to 8 kHz,
    orthonormal DCT, sine lifter 22.
    """
    samples = np.asarray(wave, np.float64) * 32768
    if not len(samples):
        raise InputError("no sound to take MFCCs of")
    emphasised = np.append(samples[0], samples[1:] - 0.97 * samples[:-1])
    rows = 1 + max(0, -(-(len(emphasised) - LENGTH) // STEP))
    padded = np.pad(emphasised, (0, max(0, (rows - 1) * STEP + LENGTH - len(emphasised))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, LENGTH)[::STEP][:rows]
    power = np.abs(np.fft.rfft(frames, POINTS)) ** 2 / POINTS
    smallest = np.finfo(float).eps
    energy = np.maximum(power.sum(1), smallest)
    bands = np.log(np.maximum(power @ _mel_filters().T, smallest))
    cepstra = scipy.fft.dct(bands, type=2, norm="ortho", axis=1)[:, :COEFFICIENTS]
    cepstra = cepstra * (1 + LIFTER / 2 * np.sin(np.pi * np.arange(COEFFICIENTS) / LIFTER))
    cepstra[:, 0] = np.log(energy)
    return cepstra


def _mel_filters() -> NDArray[np.float64]:
    """Triangles [26, 257] between corners that are equally far apart in mel."""
    top = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    hertz = 700 * (10 ** (np.linspace(0, top, FILTERS + 2) / 2595) - 1)
    corners = np.floor((POINTS + 1) * hertz / SAMPLE_RATE)
    bins = np.arange(POINTS // 2 + 1)
    rising = (bins - corners[:-2, None]) / np.diff(corners)[:-1, None]
    falling = (corners[2:, None] - bins) / np.diff(corners)[1:, None]
    up = (bins >= corners[:-2, None]) & (bins < corners[1:-1, None])
    down = (bins >= corners[1:-1, None]) & (bins < corners[2:, None])
    return np.where(up, rising, np.where(down, falling, 0.0))


class SyncNet(nn.Module):
    """Both towers, named as in the published weights: 5 frames of lips and 20 rows of MFCCs to 1024 numbers each."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *_stage(nn.Conv2d(1, 64, 3, padding=1), nn.MaxPool2d(1)),
            *_stage(nn.Conv2d(64, 192, 3, padding=1), nn.MaxPool2d(3, (1, 2))),
            *_stage(nn.Conv2d(192, 384, 3, padding=1)),
            *_stage(nn.Conv2d(384, 256, 3, padding=1)),
            *_stage(nn.Conv2d(256, 256, 3, padding=1), nn.MaxPool2d(3, 2)),
            *_stage(nn.Conv2d(256, 512, (5, 4))),
        )
        pool = (1, 3, 3), (1, 2, 2)
        self.netcnnlip = nn.Sequential(
            *_stage(nn.Conv3d(3, 96, (5, 7, 7), (1, 2, 2)), nn.MaxPool3d(*pool)),
            *_stage(nn.Conv3d(96, 256, (1, 5, 5), (1, 2, 2), (0, 1, 1)), nn.MaxPool3d(*pool, (0, 1, 1))),
            *_stage(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))),
            *_stage(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))),
            *_stage(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1)), nn.MaxPool3d(*pool)),
            *_stage(nn.Conv3d(256, 512, (1, 6, 6))),
        )
        self.netfcaud, self.netfclip = _head(), _head()

    @staticmethod
    def load(path: str | Path) -> SyncNet:
        """Weights from syncnet_v2.model (a state dict). Raises InputError: absent, unreadable, of another network."""
        if not os.path.isfile(path):
            raise InputError(f"no SyncNet weights at {path}; LSE needs syncnet_v2.model")
        with damaged(path, "weights"):
            state = torch.load(path, map_location="cpu", weights_only=True)
        network = SyncNet()
        try:
            network.load_state_dict(state)
        except (RuntimeError, AttributeError, TypeError) as error:
            raise InputError(f"{path} holds weights of another network than SyncNet: {why(error)}") from None
        return network.eval().requires_grad_(False)

    def lips(self, frames: Tensor) -> Tensor:
        """[B, 3, 5, 224, 224] in 0..255, BGR -> [B, 1024]."""
        return self.netfclip(self.netcnnlip(frames).flatten(1))

    def voice(self, rows: Tensor) -> Tensor:
        """[B, 1, 13, 20] -> [B, 1024]."""
        return self.netfcaud(self.netcnnaud(rows).flatten(1))


@torch.no_grad()
def lip_sync(network: SyncNet, faces: Iterable[NDArray[np.uint8]], wave: NDArray[np.float32]) -> dict[str, float]:
    """lse_c, lse_d and lse_offset (frames; positive: the voice comes after the lips) of one video.

    faces: uint8 RGB [224, 224, 3] frame by frame, the face filling the square; wave: its voice [S].
    Raises InputError where there are fewer than 10 frames with sound.
    """
    longest = len(wave) // SAMPLES_PER_FRAME
    seen = _lip_features(network, islice(faces, longest))[:-1]  # as many windows as the published program takes
    if len(seen) < 5:
        raise InputError(f"lip sync needs at least 10 frames with sound, got {len(seen) + WINDOW}")
    cepstra = torch.from_numpy(mfcc(wave).T.copy()).float()
    rows = cepstra.unfold(1, 4 * WINDOW, ROWS_PER_FRAME)[:, : len(seen)].permute(1, 0, 2)[:, None]  # [N, 1, 13, 20]
    heard = torch.cat([network.voice(part) for part in rows.split(PORTION)])
    return sync_scores(seen[: len(heard)], heard)


def _lip_features(network: SyncNet, faces: Iterable[NDArray[np.uint8]]) -> Tensor:
    """[N, 1024] for every window of five frames; only a few frames are held."""
    held: deque[Tensor] = deque(maxlen=WINDOW)
    batch: list[Tensor] = []
    features: list[Tensor] = []
    for face in faces:
        held.append(torch.from_numpy(np.ascontiguousarray(face[..., ::-1])).permute(2, 0, 1))  # BGR
        if len(held) == WINDOW:
            batch.append(torch.stack(list(held), 1))
        if len(batch) == PORTION:
            features.append(network.lips(torch.stack(batch).float()))
            batch = []
    if batch:
        features.append(network.lips(torch.stack(batch).float()))
    return torch.cat(features) if features else torch.zeros(0, 1024)


def sync_scores(seen: Tensor, heard: Tensor) -> dict[str, float]:
    """The same from features [N, D] of the lips and the voice, one each frame; beyond its ends the voice is zero."""
    padded = nn.functional.pad(heard, (0, 0, OFFSETS, OFFSETS))
    shifted = padded.unfold(0, len(seen), 1).permute(0, 2, 1)  # [31, N, D]: the voice from -15 to +15 frames
    distances = nn.functional.pairwise_distance(seen.expand_as(shifted), shifted).mean(1)
    least = int(distances.argmin())
    return {
        "lse_c": float(distances.median() - distances[least]),
        "lse_d": float(distances[least]),
        "lse_offset": float(least - OFFSETS),
    }


def _stage(convolution: nn.Module, pool: nn.Module | None = None) -> list[nn.Module]:
    norm = nn.BatchNorm2d if isinstance(convolution, nn.Conv2d) else nn.BatchNorm3d
    layers = [convolution, norm(convolution.out_channels), nn.ReLU()]
    return layers if pool is None else [*layers, pool]


def _head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 1024))
