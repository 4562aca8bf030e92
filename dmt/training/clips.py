"""Training clips as the paper's schedule draws them: which clips a step sees, and their speech rows once encoded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..corpus import Corpus
from ..corpus.expression import emotions
from ..data import Clip
from ..errors import InputError
from ..features import FeatureExtractor, SpeechEncoder, TacotronEncoder
from ..rates import FRAME_RATE, ROWS_PER_FRAME, SAMPLES_PER_FRAME
from ..types import Features

SHORTEST = 12
"""Frames of the shortest clip that is used: half a second."""


class CorpusClips(Sequence[Clip]):
    """The synthetic corpus as clips, made when they are asked for."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus

    def __len__(self) -> int:
        return len(self._corpus)

    def __getitem__(self, index: int) -> Clip:
        corpus = self._corpus
        if not 0 <= index < len(self):
            raise IndexError(index)
        frames = len(corpus.coefficients[index])
        closures = corpus.closures[corpus.closures[:, 0] == index, 1:]
        return Clip(
            name=f"corpus-{index:05d}",
            identity="synthetic",
            coefficients=corpus.coefficients[index].astype(np.float32),
            pose=np.zeros((frames, 9), np.float32),
            wave=corpus.wave[index].astype(np.float32) / 32768.0,
            emotion=emotions()[int(corpus.emotion[index])],
            style=corpus.style[index].astype(np.float32),
            closures=closures,
        )


class ClipSet:
    """Clips at 25 frames a second with what drawing needs to know of each: usable frames, and whose mood it is.

    frames [N]: frames with both coefficients and speech. Clips shorter than half a second or without speech are
    left out; `left_out` says how many. Raises InputError where none remain.
    """

    def __init__(self, clips: Sequence[Clip]) -> None:
        self._clips = clips
        lengths = [_usable_frames(clips[i]) for i in range(len(clips))]
        self.places = [i for i, frames in enumerate(lengths) if frames >= SHORTEST]
        self.left_out = len(clips) - len(self.places)
        if not self.places:
            raise InputError(
                f"none of the {len(clips)} clips can be trained on: each needs {SHORTEST} frames or more "
                "and a voice or speech features"
            )
        self.frames = torch.tensor([lengths[i] for i in self.places])
        self.has_sound = all(clips[i].wave is not None for i in self.places)
        self._kin = self._relatives()

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Clip:
        return self._clips[self.places[index]].at_frame_rate()

    @property
    def minutes(self) -> float:
        """Usable minutes in all."""
        return float(self.frames.sum()) / FRAME_RATE / 60

    def relative(self, index: int, chance: float) -> int:
        """Another clip of the same person and mood, chosen by chance in [0, 1); the clip itself if it is the only one.

        A style shown by another clip cannot give the words away.
        """
        kin = self._kin[index]
        if len(kin) == 1:
            return index
        others = [other for other in kin if other != index]
        return others[int(chance * len(others))]

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation [64] of the coefficients of all clips."""
        count, total, squares = 0, 0.0, 0.0
        for index in range(len(self)):
            values = torch.from_numpy(self[index].coefficients).double()
            count, total, squares = count + len(values), total + values.sum(0), squares + values.square().sum(0)
        mean = total / count
        return mean.float(), (squares / count - mean.square()).clamp(min=1e-6).sqrt().float()

    def _relatives(self) -> list[list[int]]:
        groups: dict[tuple[str, str | None], list[int]] = {}
        keys = []
        for index, place in enumerate(self.places):
            clip = self._clips[place]
            keys.append((clip.identity, clip.emotion))
            groups.setdefault(keys[-1], []).append(index)
        return [groups[key] for key in keys]


class Order:
    """An endless order of N clips: every epoch is a permutation of its own, which (seed, epoch) alone decide."""

    def __init__(self, clips: int, seed: int) -> None:
        self._clips, self._seed = clips, seed

    def take(self, first: int, count: int) -> Tensor:
        """Clips number first .. first + count - 1 of the order, [count]."""
        epochs = range(first // self._clips, (first + count - 1) // self._clips + 1)
        whole = torch.cat([self._epoch(e) for e in epochs])
        start = first - epochs[0] * self._clips
        return whole[start : start + count]

    def _epoch(self, epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + epoch)
        return torch.randperm(self._clips, generator=generator)


class RowCache:
    """Speech rows of whole clips by encoders that do not change; the least recently used are forgotten first.

    Each clip is encoded alone and kept in float16, so what comes out does not depend on what is remembered.
    """

    def __init__(
        self, clips: ClipSet, speech: SpeechEncoder | None, tacotron: TacotronEncoder | None, gigabytes: float
    ) -> None:
        self._clips, self._limit = clips, gigabytes * 1e9
        self._speech, self._tacotron = speech, tacotron
        self._kept: OrderedDict[int, Features] = OrderedDict()
        self._bytes = 0

    def __getitem__(self, index: int) -> Features:
        """acoustic [R, D_w2v] and prosodic [R, D_tac] (None without that branch), float16."""
        if index not in self._kept:
            rows = self._encode(self._clips[index])
            self._kept[index] = rows
            self._bytes += _size(rows)
            while self._bytes > self._limit and len(self._kept) > 1:
                self._bytes -= _size(self._kept.popitem(last=False)[1])
        self._kept.move_to_end(index)
        return self._kept[index]

    @torch.no_grad()
    def _encode(self, clip: Clip) -> Features:
        if clip.wave is None:
            if self._tacotron is not None:
                raise InputError(f"{clip.name} has speech features and no sound, which the Tacotron branch needs")
            return Features(torch.from_numpy(clip.features).half())
        device = next(self._speech.parameters()).device
        wave = torch.from_numpy(clip.wave)[None].to(device)
        with torch.autocast(device.type, enabled=False):
            found = FeatureExtractor(self._speech, self._tacotron).eval()(wave)
        prosodic = None if found.prosodic is None else found.prosodic[0].half()
        return Features(found.acoustic[0].half(), prosodic)


def _usable_frames(clip: Clip) -> int:
    """Frames at 25 a second with coefficients and speech; 0 without speech."""
    frames = int(len(clip) * FRAME_RATE / clip.fps)
    if clip.wave is not None:
        return min(frames, len(clip.wave) // SAMPLES_PER_FRAME)
    return 0 if clip.features is None else min(frames, len(clip.features) // ROWS_PER_FRAME)


def _size(rows: Features) -> int:
    return sum(r.numel() * r.element_size() for r in (rows.acoustic, rows.prosodic) if r is not None)
