"""MediaPipe's face mesh, followed through a film. Needs the package (extra `face`)."""

from __future__ import annotations

from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ..face.landmarks import mesh_faces
from ..face.quiet import native_stderr_silenced

FACES = 5
"""Faces looked for in a whole picture."""
MARGIN = 0.6
"""What is looked at around the last face, on each side, as a share of its size."""
SMALL = 192
"""Pixels; closer looks at less than this do not find more."""


class MeshTracker:
    """478 landmarks a picture. Every picture is measured by itself, so that quick closures are not averaged away.

    The largest face of the first picture with one is followed: the next pictures are searched around where it was
    last, and only when it is lost there, as a whole again.
    """

    name = "MediaPipe's face mesh"
    pitch = 0.10
    """Radians by which its faces look down more than DreamTalk's coefficients say (mean over the published clip)."""
    blind_to_opening = False

    def __init__(self) -> None:
        import mediapipe

        with native_stderr_silenced():
            options = {"static_image_mode": True, "refine_landmarks": True, "min_detection_confidence": 0.5}
            self._mesh = mediapipe.solutions.face_mesh.FaceMesh(max_num_faces=FACES, **options)
            # Its threads write their log lines when they first run, so that must be now.
            self._mesh.process(np.zeros((64, 64, 3), np.uint8))
        self._last: NDArray[np.float32] | None = None
        self.faces = 0
        """Most faces seen in one picture so far."""

    def __enter__(self) -> MeshTracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._mesh.close()

    def __call__(self, picture: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """Landmarks [478, 3] in pixels of an RGB picture [H, W, 3]; None where the face is not to be seen."""
        found = self._near(picture) if self._last is not None else []
        if not found:
            found = self._look(picture)
        self.faces = max(self.faces, len(found))
        if not found:
            return None
        face = max(found, key=_size) if self._last is None else min(found, key=self._distance)
        if self._last is not None and self._distance(face) > 1.5:
            return None  # somebody else; ours may come back
        self._last = face
        return face

    def _look(self, picture: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        with native_stderr_silenced():
            return mesh_faces(self._mesh, picture)

    def _near(self, picture: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Faces around the last one; the same as in the whole picture where that is hardly larger."""
        assert self._last is not None
        low, high = self._last[:, :2].min(0), self._last[:, :2].max(0)
        reach = max(MARGIN * float((high - low).max()), (SMALL - float((high - low).max())) / 2)
        x0, y0 = np.maximum(0, low - reach).astype(int)
        x1, y1 = np.minimum(picture.shape[1::-1], high + reach + 1).astype(int)
        if x1 - x0 < 16 or y1 - y0 < 16:
            return []
        offset = np.array([x0, y0, 0], np.float32)
        return [face + offset for face in self._look(picture[y0:y1, x0:x1])]

    def _distance(self, face: NDArray[np.float32]) -> float:
        """How far from the last face, in its sizes."""
        assert self._last is not None
        return float(np.linalg.norm(face[:, :2].mean(0) - self._last[:, :2].mean(0)) / np.sqrt(_size(self._last)))


def _size(face: NDArray[np.float32]) -> float:
    return float(np.prod(np.ptp(face[:, :2], axis=0)))
