"""The recipe of `dmt extract`: pictures -> landmarks -> face of the clip -> rows -> 25 rows a second."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..face.basis import LandmarkBasis
from ..face.landmarks import why_no_mesh
from ..media.film import FASTEST, FilmInfo, film_info, film_pictures
from ..rates import FRAME_RATE
from .expression import ExpressionSolver, lip_gaps
from .head import SAMPLE, angles, attitude, clip_face, pose_rows, unturned
from .spool import Spool
from .timeline import (
    FACE_WINDOW,
    HEAD_WINDOW,
    resampled,
    smoothed,
    smoothed_gaps,
    stretch_with_face,
)

BLOCK = 256
"""Frames solved at once."""
FAR_TURN = 0.7
"""Radians of yaw from which half of the face can hardly be seen."""
SMALL_FACE = 24.0
"""Pixels between the outer eye corners under which the lips' movement drowns in noise."""

Report = Callable[[str, int, int], None]
FilePath = str | os.PathLike[str]


class Tracker(Protocol):
    """Finds one face in picture after picture."""

    name: str
    pitch: float
    """Radians to take off angle 0."""
    blind_to_opening: bool
    """Whether it sees lips move but not how far they are apart."""
    faces: int

    def __enter__(self) -> Tracker: ...
    def __exit__(self, *error: object) -> None: ...
    def __call__(self, picture: NDArray[np.uint8]) -> NDArray[np.float32] | None: ...


@dataclass(frozen=True)
class Stretch:
    """The part of a film to use, seconds: from `start` on, `length` of it (None: to the end)."""

    start: float = 0.0
    length: float | None = None

    @property
    def stop(self) -> float:
        return math.inf if self.length is None else self.start + self.length


@dataclass(frozen=True)
class Extraction:
    """What a film shows, 25 rows a second.

    expression [T, 64] coefficients and pose [T, 9] (face.pose), float32; lasting [64]: the clip's own expression;
    start: seconds into the film of the first row;
    tracker: what found the landmarks; bridged: pictures without a face whose rows are interpolated; pictures: how
    many were looked at; notes: sentences the user should read.
    """

    expression: NDArray[np.float32]
    pose: NDArray[np.float32]
    lasting: NDArray[np.float64]
    start: float
    tracker: str
    pictures: int
    bridged: int
    notes: tuple[str, ...]


def extract(
    path: FilePath, stretch: Stretch | None = None, *, tracker: Tracker | None = None, report: Report | None = None
) -> Extraction:
    """Track the face of a film and solve it into DreamTalk's numbers.

    tracker: None takes MediaPipe where it is installed, the pixel tracker otherwise; `notes` say which.
    report: called with (stage, done, total). Pictures are held one at a time and landmarks lie in a temporary
    file (6 kB a picture); in memory grow only the rows of the result and their working copies, 5 MB a minute.
    InputError: no such file, no picture track, damaged, no face, face lost for more than 0.4 s, bad stretch.
    """
    stretch = stretch or Stretch()
    _check(stretch)
    info = film_info(path)
    report = report or (lambda stage, done, total: None)
    notes: list[str] = []
    with tracker or _best_tracker(notes) as follow, Spool() as spool:
        times, found = _track(path, stretch, info, follow, spool, report)
        kept = stretch_with_face(times, found)
        solver, rows = _solve(spool, follow.blind_to_opening, report)
        notes += _notes(path, follow, info, times, found, kept)
        name, pitch = follow.name, follow.pitch
    seen = times[kept][found[kept]]
    expression, pose = _timeline(seen, rows, solver, pitch)
    notes += _warnings(rows)
    return Extraction(
        expression,
        pose,
        solver.lasting,
        float(seen[0]),
        name,
        len(times),
        int((~found[kept]).sum()),
        tuple(notes),
    )


def _check(stretch: Stretch) -> None:
    if not (math.isfinite(stretch.start) and stretch.start >= 0):
        raise InputError(f"start must be at least 0 seconds, got {stretch.start}")
    if stretch.length is not None and not (math.isfinite(stretch.length) and stretch.length > 0):
        raise InputError(f"seconds must be more than 0, got {stretch.length}")


def _best_tracker(notes: list[str]) -> Tracker:
    missing = why_no_mesh()
    if missing is None:
        from .mesh import MeshTracker

        return MeshTracker()
    from .pixels import PixelTracker

    notes.append(
        f"MediaPipe {missing}; the face is followed by its pixels instead, which is less exact (lips are taken to "
        "be closed where they are closest)"
    )
    return PixelTracker()


def _pictures(path: FilePath, stretch: Stretch) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    for time, picture in film_pictures(path):
        if time >= stretch.stop - 1e-6:
            return
        if time >= stretch.start - 1e-6:
            yield time, picture


def _track(
    path: FilePath, stretch: Stretch, info: FilmInfo, follow: Tracker, spool: Spool, report: Report
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Times [n] of the pictures and whether each shows the face, whose landmarks go to the spool."""
    seconds = min(info.seconds, stretch.stop) - stretch.start
    total = max(1, round(seconds * min(info.rate, FASTEST)))
    times, found = [], []
    for time, picture in _pictures(path, stretch):
        landmarks = follow(picture)
        times.append(time)
        found.append(landmarks is not None)
        if landmarks is not None:
            spool.append(landmarks)
        report("track", len(times), max(total, len(times)))
    if not times:
        raise InputError(f"{path} is {info.seconds:.1f} s long and has nothing from {stretch.start:.1f} s on")
    return np.array(times), np.array(found)


def _solve(spool: Spool, blind: bool, report: Report) -> tuple[ExpressionSolver, NDArray[np.float32]]:
    """Rows [n, 73] of the tracked pictures: movement 64, gaps 3, angles 3, log scale 1, place of the origin 2."""
    basis = LandmarkBasis.load()
    face = clip_face(spool.sample(SAMPLE), basis.neutral.double().numpy())
    solver = ExpressionSolver(basis, face)
    parts, done = [], 0
    for landmarks in spool.blocks(BLOCK):
        head = attitude(landmarks, face)
        straight = unturned(landmarks, head)
        columns = (
            solver.movement(straight),
            lip_gaps(straight),
            angles(head.rotation),
            np.log(head.scale)[:, None],
            head.origin(),
        )
        parts.append(np.concatenate(columns, 1).astype(np.float32))
        done += len(landmarks)
        report("solve", done, len(spool))
    rows = np.concatenate(parts)
    if blind:  # the closest that the lips come is taken for touching
        rows[:, 64:67] -= np.quantile(rows[:, 64:67], 0.03, axis=0)
    return solver, rows


def _timeline(
    times: NDArray[np.float64], rows: NDArray[np.float32], solver: ExpressionSolver, pitch: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    even = resampled(times, rows)
    movement, gaps, head = even[:, :64], even[:, 64:67], smoothed(even[:, 67:], HEAD_WINDOW)
    expression = solver.with_gaps(smoothed(movement, FACE_WINDOW), smoothed_gaps(gaps))
    turn = head[:, :3] - np.array([pitch, 0, 0])
    return expression, pose_rows(turn, np.exp(head[:, 3]), head[:, 4:6])


def _notes(
    path: FilePath,
    follow: Tracker,
    info: FilmInfo,
    times: NDArray[np.float64],
    found: NDArray[np.bool_],
    kept: slice,
) -> list[str]:
    notes = []
    if follow.faces > 1:
        notes.append(f"{follow.faces} faces found in {path}; the largest at the beginning is followed")
    if times[kept.start] - times[0] > 0 or not found[-1]:
        head, tail = times[kept.start] - times[0], times[-1] - times[kept.stop - 1]
        notes.append(f"no face in the first {head:.2f} s and the last {tail:.2f} s; they are left out")
    bridged = int((~found[kept]).sum())
    if bridged:
        notes.append(f"the face is lost in {bridged} pictures in between; what it does there is interpolated")
    intervals = np.diff(times)
    if len(intervals) and intervals.max() > 1.5 * max(np.median(intervals), 1e-6):
        low, high = 1 / intervals.max(), 1 / max(intervals.min(), 1e-6)
        notes.append(
            f"the frame rate varies ({low:.0f} to {high:.0f} a second); resampled to {FRAME_RATE} by its times"
        )
    elif abs(info.rate - FRAME_RATE) > 0.01:
        notes.append(f"{info.rate:.4g} frames a second resampled to {FRAME_RATE}")
    return notes


def _warnings(rows: NDArray[np.float32]) -> list[str]:
    notes = []
    turned = float((np.abs(rows[:, 68]) > FAR_TURN).mean())
    if turned > 0.02:
        notes.append(f"in {100 * turned:.0f} % of the pictures the head is turned so far that lips are hard to see")
    eyes = float(np.exp(np.median(rows[:, 70])))
    if eyes < SMALL_FACE:
        notes.append(
            f"the face is small ({eyes:.0f} pixels between the outer eye corners); a closer view is more exact"
        )
    jumps = [k for k, (a, b) in enumerate(pairwise(rows[:, 71:73])) if np.linalg.norm(b - a) > 0.8 * eyes]
    if jumps:
        notes.append(f"the face jumps {len(jumps)} times; cuts between scenes should be extracted one by one")
    return notes
