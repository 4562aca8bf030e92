"""Smooth displacement fields on a coarse grid: built once per portrait, two small products per frame.

Inside and around the face a regularised thin-plate spline carries the movement of landmarks to
every grid node; windows take it to exactly zero at the frame's edge and in the background.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FOLD_LIMIT = 0.8
"""Strongest compression a field may have; at 1 neighbouring pixels would change places."""


def grid_nodes(height: int, width: int, cell: float) -> Tensor:
    """Pixel coordinates [h, w, 2] of a grid that spans the picture's corner pixels, spacing about `cell`."""
    rows, columns = (max(9, round((n - 1) / cell) + 1) for n in (height, width))
    y, x = torch.linspace(0, height - 1, rows), torch.linspace(0, width - 1, columns)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


def thin_plate(points: Tensor, nodes: Tensor, unit: float, smoothing: float = 2e-3) -> Tensor:
    """Operator [M, N]: values at `points` [N, 2] -> smoothed interpolation at `nodes` [M, 2].

    Thin-plate spline (kernel r^2 log r plus an affine part) in units of `unit` pixels;
    `smoothing` trades exactness for bending energy.
    """
    p, q = points.double() / unit, nodes.double() / unit
    n = len(p)
    one = torch.ones(n, 1, dtype=torch.float64)
    affine = torch.cat([one, p], 1)
    system = torch.zeros(n + 3, n + 3, dtype=torch.float64)
    system[:n, :n] = _kernel(torch.cdist(p, p)) + smoothing * torch.eye(n, dtype=torch.float64)
    system[:n, n:], system[n:, :n] = affine, affine.T
    solve = torch.linalg.inv(system)[:, :n]  # [N + 3, N]
    out = torch.empty(len(q), n, dtype=torch.float32)
    for start in range(0, len(q), 4096):
        block = q[start : start + 4096]
        rows = torch.cat([_kernel(torch.cdist(block, p)), torch.ones(len(block), 1, dtype=torch.float64), block], 1)
        out[start : start + 4096] = (rows @ solve).float()
    return out


def _kernel(distance: Tensor) -> Tensor:
    return distance**2 * torch.log(distance.clamp_min(1e-9))


def border_window(nodes: Tensor, height: int, width: int, margin: float) -> Tensor:
    """1 inside, falling smoothly to 0 on the outermost pixels: [h, w, 2] -> [h, w]."""
    x, y = nodes[..., 0], nodes[..., 1]
    edge = torch.stack([x, y, width - 1 - x, height - 1 - y]).amin(0)
    return smoothstep(edge / margin)


def ring_window(nodes: Tensor, centre: Tensor, outline: Tensor, inner: float, outer: float) -> Tensor:
    """1 within `inner` times an outline around `centre`, 0 beyond `outer` times: [h, w, 2] -> [h, w].

    outline [n, 2] is star-shaped about the centre.
    """
    offset = outline - centre
    angle = torch.atan2(offset[:, 1], offset[:, 0])
    order = angle.argsort()
    angle, radius = angle[order], torch.linalg.vector_norm(offset[order], dim=-1)
    angle = torch.cat([angle[-1:] - torch.pi * 2, angle, angle[:1] + torch.pi * 2])
    radius = torch.cat([radius[-1:], radius, radius[:1]])
    d = nodes - centre
    at = interpolate(torch.atan2(d[..., 1], d[..., 0]), angle, radius)
    return smoothstep((outer - torch.linalg.vector_norm(d, dim=-1) / at) / (outer - inner))


def interpolate(x: Tensor, knots: Tensor, values: Tensor) -> Tensor:
    """Piecewise linear, constant beyond the ends; knots [n] increasing, values [n], x any shape."""
    knots = knots.contiguous()
    right = torch.searchsorted(knots, x.contiguous()).clamp(1, len(knots) - 1)
    low, high = knots[right - 1], knots[right]
    share = ((x - low) / (high - low).clamp_min(1e-6)).clamp(0, 1)
    return values[right - 1] + share * (values[right] - values[right - 1])


def smoothstep(x: Tensor) -> Tensor:
    """3 x^2 - 2 x^3, x clamped to [0, 1]: rises from 0 to 1 without a kink."""
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)


def gradient(field: Tensor, height: int, width: int) -> Tensor:
    """Derivatives of a grid field [N, 2, h, w] by pixel: [N, 2 (component), 2 (d/dx, d/dy), h, w]."""
    h, w = field.shape[-2:]
    padded = F.pad(field, (1, 1, 1, 1), mode="replicate")
    step_x, step_y = (width - 1) / (w - 1), (height - 1) / (h - 1)
    dx = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / (2 * step_x)
    dy = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / (2 * step_y)
    return torch.stack([dx, dy], 2)


def compression(jacobian: Tensor) -> Tensor:
    """Strongest compression anywhere in each field: [N, 2, 2, h, w] -> [N], >= 0.

    It is minus the smallest eigenvalue of the symmetric part. While it stays under 1 the map
    x -> x + field(x) is one-to-one.
    """
    a, d = jacobian[:, 0, 0], jacobian[:, 1, 1]
    b = (jacobian[:, 0, 1] + jacobian[:, 1, 0]) / 2
    smallest = (a + d) / 2 - torch.sqrt(((a - d) / 2) ** 2 + b**2)
    return (-smallest).flatten(1).amax(1).clamp_min(0)


CONTINUATION = (0.35, 0.7, 1.0, 1.0)
"""Shares of the field for which the inverse is sought in turn, each from the last one's answer."""


def invert(field: Tensor, nodes: Tensor, height: int, width: int) -> Tensor:
    """Where each grid node comes from: x with x + field(x) = node.

    field [N, 2, h, w] in pixels without folds; returns source coordinates [N, 2, h, w].
    Newton's method with continuation (a wide open mouth stretches so much that the plain one
    overshoots); derivatives and values are interpolated on the grid.
    """
    count, _, h, w = field.shape
    table = torch.cat([field, gradient(field, height, width).flatten(1, 2)], 1)  # [N, 6, h, w]
    goal = nodes.permute(2, 0, 1).expand(count, 2, h, w)
    x = goal
    for share in CONTINUATION:
        at = normalised(x, height, width)
        value = share * F.grid_sample(table, at, padding_mode="border", align_corners=True)
        rest = goal - x - value[:, :2]
        a, b, c, d = 1 + value[:, 2], value[:, 3], value[:, 4], 1 + value[:, 5]
        determinant = (a * d - b * c).clamp_min(0.05)
        step = torch.stack([d * rest[:, 0] - b * rest[:, 1], a * rest[:, 1] - c * rest[:, 0]], 1)
        x = x + step / determinant[:, None]
    return x


def normalised(xy: Tensor, height: int, width: int) -> Tensor:
    """Pixels [N, 2, h, w] -> grid_sample's coordinates [N, h, w, 2] (align_corners=True)."""
    size = torch.tensor([2 / (width - 1), 2 / (height - 1)], device=xy.device, dtype=xy.dtype)
    return xy.permute(0, 2, 3, 1) * size - 1
