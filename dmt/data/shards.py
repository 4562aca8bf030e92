"""Prepared data on disk: shards of clips in safetensors, read clip by clip or window by window, never unpickled."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from ..atomic import atomic
from ..errors import InputError, damaged, file_at, why
from ..media import to_float, to_int16
from ..rates import FEATURE_RATE, FRAME_RATE, SAMPLE_RATE
from .clip import Clip

NOTE = "data.json"
"""What a prepared folder holds; its presence makes the folder one."""

_WORDS = ("name", "identity", "sentence", "emotion", "partition")
_RATES = {"coefficients": 0, "pose": 0, "wave": SAMPLE_RATE, "features": FEATURE_RATE, "sounds": FEATURE_RATE}
"""Arrays that run along with the clip and their rows per second (0: one row a frame)."""
_STORED = {"wave": np.int16, "features": np.float16, "sounds": np.int8}


@dataclass(frozen=True)
class Failure:
    """A clip that could not be used: its name, the data it is from and one sentence that says why."""

    name: str
    folder: str
    reason: str


def write_shard(path: Path, clips: Sequence[Clip], failures: Sequence[Failure]) -> None:
    """Clips at 25 frames a second, whole or not at all; sound in 16 bits, features in float16, the rest as it is."""
    arrays, described = {}, []
    for index, clip in enumerate(clips):
        assert clip.fps == FRAME_RATE, "clips are stored at 25 frames a second"
        for name in (*_RATES, "style", "closures"):
            values = getattr(clip, name)
            if values is not None:
                arrays[_key(index, name)] = _stored(name, values)
        described.append({**{word: getattr(clip, word) for word in _WORDS}, "frames": len(clip)})
    # One entry, for safetensors orders several at random and equal data should be equal bytes.
    note = json.dumps({"clips": described, "failures": [asdict(f) for f in failures]})
    with atomic(path) as part:
        save_file(arrays, str(part), {"note": note})


def shard_notes(path: Path) -> tuple[list[dict[str, Any]], list[Failure]]:
    """Words and frames of the shard's clips, and what failed, without reading arrays. InputError: damaged."""
    file_at(path, "a shard of prepared data")
    try:
        with safe_open(str(path), "numpy") as file:
            note = json.loads((file.metadata() or {})["note"])
        if not all({*_WORDS, "frames"} <= clip.keys() and clip["frames"] > 0 for clip in note["clips"]):
            raise ValueError("its clips are not described")
        return note["clips"], [Failure(**failure) for failure in note["failures"]]
    except Exception as error:  # a note of another making fails in any of its pieces
        raise InputError(
            f"{path} is not a whole shard of prepared data ({why(error)}); remove it and run dmt prepare again"
        ) from None


class PreparedClips(Sequence[Clip]):
    """The clips of one split of a prepared folder, read from disk when they are asked for.

    frames: length of each clip [N]; notes: the words of each (name, identity, sentence, emotion, partition, frames).
    Files are opened when first needed and may be shared with worker processes (they open their own).
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._places: list[tuple[Path, int]] = []
        self.notes: list[dict[str, Any]] = []
        for path in paths:
            described, _ = shard_notes(path)
            self._places += [(path, index) for index in range(len(described))]
            self.notes += described
        self.frames = np.array([note["frames"] for note in self.notes], np.int64)
        self._open: dict[Path, Any] = {}

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Clip:
        return self.window(index, 0, None)

    def window(self, index: int, first: int, stop: int | None) -> Clip:
        """Frames first .. stop - 1 of a clip (None: to its end), reading no more than that; as `Clip.cut`."""
        path, place = self._places[index]
        note = self.notes[index]
        stop = note["frames"] if stop is None else stop
        if not 0 <= first < stop <= note["frames"]:
            raise InputError(f"frames {first} to {stop} were asked of {note['name']}, which has {note['frames']}")
        end = None if stop == note["frames"] else stop
        words = {word: note[word] for word in _WORDS}
        with damaged(path, "a shard of prepared data"):
            file = self._file(path)
            rows = {name: self._rows(file, place, name, first, end, rate) for name, rate in _RATES.items()}
            if rows["coefficients"] is None or len(rows["coefficients"]) != stop - first:
                raise ValueError(f"{note['name']} lacks frames")
            return Clip(
                **words,
                **rows,
                style=self._array(file, place, "style"),
                closures=_closures(self._array(file, place, "closures"), first, stop),
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}

    def _file(self, path: Path) -> Any:
        if path not in self._open:
            if len(self._open) >= 64:  # each open shard is a mapping; do not run out of them
                self._open.clear()
            file = safe_open(str(path), "numpy")
            self._open[path] = (file, set(file.keys()))
        return self._open[path]

    def _array(self, opened: Any, place: int, name: str) -> NDArray | None:
        file, keys = opened
        key = _key(place, name)
        return file.get_tensor(key) if key in keys else None

    def _rows(self, opened: Any, place: int, name: str, first: int, stop: int | None, rate: int) -> NDArray | None:
        file, keys = opened
        key = _key(place, name)
        if key not in keys:
            return None
        per_frame = rate // FRAME_RATE or 1
        values = file.get_slice(key)[first * per_frame : None if stop is None else stop * per_frame]
        if name == "wave":
            return to_float(values)
        return values if name == "sounds" else values.astype(np.float32)


def open_clips(folder: str | Path, split: str = "train") -> PreparedClips:
    """The split `train`, `validation` or `test` of what `dmt prepare` made. InputError where there is none."""
    folder = Path(folder)
    if not (folder / NOTE).is_file():
        raise InputError(f"{folder} holds no prepared data; make it with: dmt prepare FOLDERS -o {folder}")
    paths = sorted(folder.glob(f"{split}-*.safetensors"))
    clips = PreparedClips(paths)
    if not len(clips):
        raise InputError(f"{folder} holds no clips of the split {split!r}; its report.md says what was made")
    return clips


def _key(index: int, name: str) -> str:
    return f"{index:04d}.{name}"


def _stored(name: str, values: NDArray) -> NDArray:
    if name == "wave":
        return to_int16(values)
    return np.ascontiguousarray(values.astype(_STORED.get(name, values.dtype)))


def _closures(closures: NDArray | None, first: int, stop: int) -> NDArray | None:
    if closures is None:
        return None
    inside = (closures[:, 1] >= first) & (closures[:, 0] < stop)
    return np.clip(closures[inside] - first, 0, stop - first - 1)
