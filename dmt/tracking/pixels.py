"""Following a face without a landmark model: the first picture's skin is laid over every later one.

The landmarks of the first picture with a face (face.fallback) carry its grey values. In each later picture head
movement and the likeliest directions of the landmark basis are sought that bring those values back (Gauss-Newton
on the pixels, coarse to fine; direct alignment as in Baker and Matthews 2004, with the basis' prior on
expression). Always compared with the first picture, it does not drift.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType

import numpy as np
import scipy.ndimage as nd
from numpy.typing import NDArray

from ..face.basis import LandmarkBasis
from ..face.fallback import estimate_landmarks, face_boxes
from .head import attitude, unturned

MODES = 20
"""Directions of expression that are sought, by how much they move the face."""
LEVELS = ((28.0, 8), (80.0, 12))
"""Coarse to fine: pixels per eye distance, and steps at most."""
REACH = 1.5
"""Half side of the square that is looked at, eye distances."""
NOISE = 30.0
"""Spread of a grey value's error; far above a camera's, for neighbouring errors are alike."""
LOOK_EVERY = 3
"""While there is no face, one is looked for in one of so many pictures; looking takes far longer than following."""
LIKE = 0.75
"""Correlation with the first picture under which the face counts as lost."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class _State:
    """landmarks = scale R(turn) (face + modes . mode) + shift; turn: rotation [3, 3]."""

    turn: Array
    scale: float
    shift: Array
    mode: Array


class PixelTracker:
    """478 landmarks a picture from pixels alone. Lips are seen to move, not how far they are apart."""

    name = "the face's pixels"
    pitch = 0.0
    blind_to_opening = True

    def __init__(self) -> None:
        basis = LandmarkBasis.load()
        self._neutral = basis.neutral.double().numpy()
        self._modes = _modes(basis)
        triangles = basis.triangles.numpy()
        vertices = np.eye(len(self._neutral))[:468]
        self._spread = np.concatenate([vertices, _means(triangles, len(self._neutral))])
        self._face: Array | None = None
        self._templates: list[Array] = []
        self._state: _State | None = None
        """Where the face was last."""
        self._missed = 0
        self.faces = 0

    def __enter__(self) -> PixelTracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._state = None

    def __call__(self, picture: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """Landmarks [478, 3] in pixels of an RGB picture [H, W, 3]; None where the face is not to be seen."""
        grey = picture @ np.array([0.30, 0.59, 0.11])
        look = self._missed % LOOK_EVERY == 0
        self._missed += 1
        if self._face is None:
            return self._begin(picture, grey) if look else None
        assert self._state is not None
        state = self._followed(grey, self._state)
        if state is None and look:
            again = self._found(picture)
            state = None if again is None else self._followed(grey, again)
        if state is None:
            return None
        self._state, self._missed = state, 0
        return self._landmarks(state).astype(np.float32)

    def _begin(self, picture: NDArray[np.uint8], grey: Array) -> NDArray[np.float32] | None:
        boxes = face_boxes(picture)
        self.faces = max(self.faces, len(boxes))
        if not boxes:
            return None
        landmarks = estimate_landmarks(picture, boxes[0])
        head = attitude(landmarks[None], self._neutral)
        self._face = unturned(landmarks[None], head)[0]
        self._surface = self._spread @ self._face
        self._moves = np.einsum("pn,mni->pmi", self._spread, self._modes)
        self._state = _State(head.rotation[0], float(head.scale[0]), head.shift[0], np.zeros(MODES))
        for size, _ in LEVELS:
            view = _View.around(grey, self._state, size)
            self._templates.append(view.values(self._placed(self._state)[:, :2]))
        self._missed = 0
        return landmarks

    def _found(self, picture: NDArray[np.uint8]) -> _State | None:
        """Where a lost face seems to be again."""
        boxes = face_boxes(picture)
        self.faces = max(self.faces, len(boxes))
        if not boxes:
            return None
        assert self._face is not None
        head = attitude(estimate_landmarks(picture, boxes[0])[None], self._face)
        return _State(head.rotation[0], float(head.scale[0]), head.shift[0], np.zeros(MODES))

    def _followed(self, grey: Array, state: _State) -> _State | None:
        likeness = 0.0
        for (size, steps), template in zip(LEVELS, self._templates, strict=True):
            view = _View.around(grey, state, size)
            for _ in range(steps):
                state, likeness, moved = self._step(view, template, state)
                if moved < 2e-3:
                    break
        inside = np.all((state.shift[:2] > 0) & (state.shift[:2] < np.array(grey.shape[::-1])))
        return state if inside and likeness > LIKE else None

    def _step(self, view: _View, template: Array, state: _State) -> tuple[_State, float, float]:
        """One Gauss-Newton step -> (new state, correlation before it, its length in eye distances)."""
        points = (self._surface + np.einsum("pmi,m->pi", self._moves, state.mode)) @ state.turn.T
        at = state.scale * points[:, :2] + state.shift[:2]
        values, slope = view.values(at), view.slopes(at)
        gain = np.sqrt(template.var() / (values.var() + 1e-9))
        error = template - (gain * (values - values.mean()) + template.mean())
        likeness = float(np.corrcoef(values, template)[0, 1])
        jacobian = self._jacobian(points, slope * gain, state)
        weight = 1 / (1 + (error / (2 * error.std() + 1e-9)) ** 2) / NOISE**2
        prior = np.concatenate([np.full(6, 1e-6), np.ones(MODES)])
        pull = jacobian.T @ (weight * error) - prior * np.concatenate([np.zeros(6), state.mode])
        step = np.linalg.solve((jacobian.T * weight) @ jacobian + np.diag(prior), pull)
        turn = _rotation(step[:3]) @ state.turn
        shift = state.shift + state.scale * np.append(step[4:6], 0)
        new = _State(turn, state.scale * float(np.exp(step[3])), shift, state.mode + step[6:])
        return new, likeness, float(np.abs(step[:6]).max())

    def _jacobian(self, points: Array, slope: Array, state: _State) -> Array:
        """Change of each grey value with turn 3, log scale 1, shift 2 (eye distances) and modes: [P, 6 + M]."""
        x, y, z = points.T
        nil = np.zeros_like(x)
        # d(w x p) for the three axes, then scale and shift, as movements [P, 6, 2]
        rigid = np.stack([[nil, -z], [z, nil], [-y, x], [x, y], [nil + 1, nil], [nil, nil + 1]]).transpose(2, 0, 1)
        modes = (self._moves @ state.turn.T)[..., :2]
        return state.scale * np.einsum("pki,pi->pk", np.concatenate([rigid, modes], 1), slope)

    def _placed(self, state: _State) -> Array:
        points = self._surface + np.einsum("pmi,m->pi", self._moves, state.mode)
        return state.scale * points @ state.turn.T + state.shift

    def _landmarks(self, state: _State) -> Array:
        assert self._face is not None
        face = self._face + np.einsum("mni,m->ni", self._modes, state.mode)
        return state.scale * face @ state.turn.T + state.shift


class _View:
    """A square of a grey picture around a face, at `size` pixels per eye distance."""

    def __init__(self, picture: Array, corner: Array, zoom: float) -> None:
        self._corner, self._zoom = corner, zoom
        self._picture = picture
        self._y, self._x = nd.sobel(picture, 0) / 8, nd.sobel(picture, 1) / 8

    @staticmethod
    def around(grey: Array, state: _State, size: float) -> _View:
        zoom = size / state.scale
        side = round(2 * REACH * size)
        corner = state.shift[:2] + np.array([0.0, 0.35 * state.scale]) - REACH * state.scale
        y, x = np.mgrid[0:side, 0:side] / zoom
        x0, y0 = np.maximum(0, corner - 4 / zoom).astype(int)
        x1, y1 = np.maximum(1, np.minimum(grey.shape[::-1], corner + 2 * REACH * state.scale + 4 / zoom)).astype(int)
        part = grey[min(y0, grey.shape[0] - 1) : y1, min(x0, grey.shape[1] - 1) : x1]
        smooth = nd.gaussian_filter(part, max(0.6, 0.9 / zoom), truncate=2.5)
        square = nd.map_coordinates(smooth, [y + corner[1] - y0, x + corner[0] - x0], order=1, mode="nearest")
        # Light changes slowly over a face, features do not: the former is taken out.
        return _View(square - nd.gaussian_filter(square, 0.35 * size), corner, zoom)

    def values(self, at: Array) -> Array:
        """Grey values at points [P, 2] of the picture."""
        return self._sampled(self._picture, at)

    def slopes(self, at: Array) -> Array:
        """Change per pixel of the picture along x and y, [P, 2]."""
        return self._zoom * np.stack([self._sampled(self._x, at), self._sampled(self._y, at)], 1)

    def _sampled(self, plane: Array, at: Array) -> Array:
        x, y = ((at - self._corner) * self._zoom).T
        return nd.map_coordinates(plane, [y, x], order=1, mode="nearest")


def _modes(basis: LandmarkBasis) -> Array:
    """The likeliest movements of the face, [M, 478, 3] per standard deviation: principal ones under the prior."""
    moves = basis.basis.double().numpy().reshape(len(basis.basis), -1)
    values, vectors = np.linalg.eigh(basis.coef_cov.double().numpy())
    spread = (vectors * np.sqrt(np.clip(values, 0, None))).T @ moves
    _, s, directions = np.linalg.svd(spread, full_matrices=False)
    return (s[:MODES, None] * directions[:MODES]).reshape(MODES, -1, 3)


def _means(triangles: NDArray, count: int) -> Array:
    """Rows [F, count] that average the three corners of each triangle."""
    rows = np.zeros((len(triangles), count))
    np.put_along_axis(rows, triangles, 1 / 3, axis=1)
    return rows


def _rotation(vector: Array) -> Array:
    """Rodrigues' formula."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
