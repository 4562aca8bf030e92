"""The opening mouth: two lips that part over a drawn interior.

Within a box around the lips the upper sheet is laid over the lower sheet and both over the
interior: dark, with the upper teeth fixed to the head, the lower teeth and the tongue to the jaw.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.interpolate import PchipInterpolator
from torch import Tensor

from .anatomy import LOWER_INNER, LOWER_LIP_RINGS, UPPER_INNER, UPPER_LIP_RINGS, Anatomy
from .field import interpolate, normalised, smoothstep

OPEN_PORTRAIT = 0.02
"""Eye distances between the lips from which a portrait counts as photographed with an open mouth."""


@dataclass(frozen=True)
class MouthView:
    """What the painter needs of one frame, pixels: box (x0, y0, x1, y1); right, left: where the
    corners are [2]; upper, lower [11, 2] inner lips; teeth [2] centre of the upper teeth's edge;
    jaw [2] the jaw's movement; across [2] unit vector along the head's horizontal."""

    box: tuple[int, int, int, int]
    upper: Tensor
    lower: Tensor
    teeth: Tensor
    jaw: Tensor
    across: Tensor


class Mouth:
    """The mouth of one portrait."""

    def __init__(self, image: Tensor, anatomy: Anatomy, device: torch.device) -> None:
        """image [3, H, W] in 0..1."""
        self.unit = anatomy.unit
        _, self.height, self.width = image.shape
        self.open = anatomy.own_gap > OPEN_PORTRAIT
        masks = _lip_masks(anatomy, self.height, self.width, self.open)
        self._sheets = torch.cat([image, masks.to(device)])  # [5, H, W]
        self.side = masks[2].to(device)
        self._paint = _palette(image.cpu(), anatomy).to(device)
        lm = anatomy.landmarks
        self._own_upper = lm[list(UPPER_INNER), :2].to(device)
        self._own_lower = lm[list(LOWER_INNER), :2].to(device)
        # The upper teeth stand a little behind the lips, their edge a little under the lips' resting line.
        middle = (lm[13] + lm[14]) / 2 if not self.open else lm[13] + 0.25 * (lm[14] - lm[13])
        self.teeth = middle + anatomy.unit * anatomy.frame @ torch.tensor([0.0, 0.006, 0.06])

    def view(self, mapped: Tensor, teeth: Tensor, jaw: Tensor, across: Tensor) -> MouthView:
        """One frame: mapped [468, 2] landmarks where they are now."""
        around = mapped[[*UPPER_LIP_RINGS[3], *LOWER_LIP_RINGS[3], 61, 291]]
        margin = 0.05 * self.unit
        low, high = around.amin(0) - margin, around.amax(0) + margin
        x0, y0 = (max(0, int(v)) for v in low.tolist())
        x1, y1 = (min(n, int(v) + 2) for v, n in zip(high.tolist(), (self.width, self.height), strict=True))
        return MouthView((x0, y0, x1, y1), mapped[list(UPPER_INNER)], mapped[list(LOWER_INNER)], teeth, jaw, across)

    def draw(self, frame: Tensor, sources: Tensor, view: MouthView) -> None:
        """Redraw the box of `frame` [3, H, W] (0..1) in place; sources [2, 2, h, w] backward maps."""
        x0, y0, x1, y1 = view.box
        if x1 - x0 < 2 or y1 - y0 < 2:
            return
        y, x = torch.meshgrid(
            torch.arange(y0, y1, device=frame.device, dtype=frame.dtype),
            torch.arange(x0, x1, device=frame.device, dtype=frame.dtype),
            indexing="ij",
        )
        here = torch.stack([x, y])[None]
        at = normalised(here, self.height, self.width).expand(2, -1, -1, -1)
        maps = F.grid_sample(sources, at, padding_mode="border", align_corners=True)  # [2, 2, bh, bw]
        sheets = F.grid_sample(
            self._sheets.expand(2, -1, -1, -1),
            normalised(maps, self.height, self.width),
            padding_mode="border",
            align_corners=True,
        )
        upper, lower = sheets[0], sheets[1]
        over, under = upper[3:4], lower[4:5]
        below = under * lower[:3]
        if float(((1 - over) * (1 - under)).amax()) > 0.002:
            below = below + (1 - under) * self._behind(here[0], view)
        else:
            below = lower[:3]
        drawn = over * upper[:3] + (1 - over) * below
        box = frame[:, y0:y1, x0:x1]
        rim = torch.stack([x - x0, y - y0, x1 - 1 - x, y1 - 1 - y]).amin(0)
        alpha = (rim / (0.03 * self.unit)).clamp(0, 1)
        box.copy_(box + alpha * (drawn - box))

    def _behind(self, here: Tensor, view: MouthView) -> Tensor:
        """Colours [3, h, w] behind the lips: the portrait's own while it is open as photographed, else drawn."""
        drawn = self._interior(here, view)
        if not self.open:
            return drawn
        # Opened twice as wide as in the picture its teeth would be stretched: by then all is drawn.
        ratio = _gap(view.upper, view.lower) / _gap(self._own_upper, self._own_lower)
        share = smoothstep(2.2 - ratio)
        place = _between(self._own_upper, self._own_lower, *_place(here, view.upper, view.lower))
        at = normalised(place[None], self.height, self.width)
        own = F.grid_sample(self._sheets[None, :3], at, padding_mode="border", align_corners=True)[0]
        return share * own + (1 - share) * drawn

    def _interior(self, here: Tensor, view: MouthView) -> Tensor:
        """Colours [3, h, w] behind the lips at pixels `here` [2, h, w]."""
        across, unit = view.across, self.unit
        down = torch.stack([-across[1], across[0]])

        def coordinates(origin: Tensor) -> tuple[Tensor, Tensor]:
            d = (here - origin[:, None, None]) / unit
            return (d * across[:, None, None]).sum(0), (d * down[:, None, None]).sum(0)

        u, v = coordinates(view.teeth)
        dark, tooth, tongue, gum = (c[:, None, None] for c in self._paint)
        roof, floor = self._edges(view, u, view.teeth, across, down)
        depth = (v - roof).clamp_min(0)  # below the upper lip, eye distances
        rise = (floor - v).clamp_min(0)  # above the lower lip
        side = smoothstep(1 - (u.abs() / 0.30))
        colour = dark * (0.55 + 0.45 * smoothstep(depth / 0.25))
        # Tongue: a soft mound that rests in the jaw.
        uj, vj = u, v - (view.jaw @ down) / unit
        mound = smoothstep((vj + 0.03 - 1.1 * uj**2) / 0.06) * smoothstep(1 - uj.abs() / 0.24)
        colour = colour + mound * 0.75 * (tongue * (0.45 + 0.55 * smoothstep(depth / 0.16)) - colour)
        colour = _teeth(colour, tooth * 0.62, gum, uj, vj - 0.042 - 0.10 * uj**2, unit, 0.062)
        colour = _teeth(colour, tooth, gum, u, 0.030 - 0.25 * u**2 - v, unit, 0.092)
        shadow = 0.52 + 0.48 * smoothstep(depth / 0.05)
        shadow = shadow * (0.65 + 0.35 * smoothstep(rise / 0.03)) * (0.30 + 0.70 * side)
        return colour * shadow

    def _edges(self, view: MouthView, u: Tensor, origin: Tensor, across: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
        """Heights of the inner lips over each column u, in units, about `origin`."""
        heights = []
        for curve in (view.upper, view.lower):
            d = (curve - origin) / self.unit
            knots, order = (d @ across).sort()
            heights.append(interpolate(u, knots, (d @ down)[order]))
        return heights[0], heights[1]


def _gap(upper: Tensor, lower: Tensor) -> Tensor:
    """Mean distance of two inner lips [11, 2], at least a pixel."""
    return torch.linalg.vector_norm(upper - lower, dim=-1).mean().clamp_min(1.0)


def _axes(upper: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Origin, unit vector across and unit vector down of a mouth, from its corners."""
    span = upper[-1] - upper[0]
    across = span / torch.linalg.vector_norm(span)
    return upper[0], across, torch.stack([-across[1], across[0]])


def _heights(curve: Tensor, s: Tensor, upper: Tensor) -> Tensor:
    """Height of an inner lip [11, 2] at shares s of the way from corner to corner, pixels."""
    origin, across, down = _axes(upper)
    d = curve - origin
    knots, order = (d @ across / torch.linalg.vector_norm(upper[-1] - upper[0])).sort()
    return interpolate(s, knots, (d @ down)[order])


def _place(here: Tensor, upper: Tensor, lower: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels [2, h, w] as shares: s from corner to corner, t from the upper lip (0) to the lower (1)."""
    origin, across, down = _axes(upper)
    d = here - origin[:, None, None]
    s = (d * across[:, None, None]).sum(0) / torch.linalg.vector_norm(upper[-1] - upper[0])
    roof, floor = _heights(upper, s, upper), _heights(lower, s, upper)
    t = ((d * down[:, None, None]).sum(0) - roof) / (floor - roof).clamp_min(0.5)
    return s, t.clamp(-1, 2)


def _between(upper: Tensor, lower: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """The inverse of `_place`: pixels [2, h, w]."""
    origin, across, down = _axes(upper)
    roof, floor = _heights(upper, s, upper), _heights(lower, s, upper)
    along = s * torch.linalg.vector_norm(upper[-1] - upper[0])
    height = roof + t * (floor - roof).clamp_min(0.5)
    return origin[:, None, None] + along * across[:, None, None] + height * down[:, None, None]


def _teeth(under: Tensor, tooth: Tensor, gum: Tensor, u: Tensor, above: Tensor, unit: float, incisor: float) -> Tensor:
    """Lay a row of teeth over `under`; above [h, w]: height over the row's free edge (units), u across."""
    # Widths shrink from the middle outwards: central, lateral, canine, premolars seen at a slant.
    bounds = incisor * torch.tensor([0.0, 1.0, 1.76, 2.45, 2.95, 3.3], device=u.device)
    middle = u.abs()
    gap = (middle[None] - bounds[:, None, None]).abs().amin(0)
    rounding = 0.007 * torch.exp(-((gap / 0.010) ** 2))
    soft = 0.9 / unit + 0.004
    body = smoothstep((above - rounding) / soft)
    crown = smoothstep((0.115 - above) / 0.02)
    reach = smoothstep((bounds[-1] - middle) / 0.05)
    light = 0.55 + 0.45 * torch.cos((middle / 0.30).clamp(max=1.0) * (torch.pi / 2))
    seam = 1 - 0.13 * torch.exp(-((gap / 0.005) ** 2)) * min(1.0, unit / 120)
    shade = light * seam * (0.86 + 0.14 * smoothstep(above / 0.03))
    colour = gum + crown * (tooth - gum)
    return under + body * reach * (colour * shade - under)


def _palette(image: Tensor, anatomy: Anatomy) -> Tensor:
    """Colours [4, 3] of darkness, teeth, tongue and gums, lit as the portrait's skin and lips are."""
    lm = anatomy.landmarks

    def sample(points: tuple[int, ...]) -> Tensor:
        xy = lm[list(points), :2].round().long()
        x, y = xy[:, 0].clamp(0, image.shape[2] - 1), xy[:, 1].clamp(0, image.shape[1] - 1)
        return image[:, y, x].median(1).values

    skin = sample((50, 280, 205, 425, 118, 347, 199, 200))
    lips = sample((11, 12, 15, 16, 72, 302, 85, 315))
    # Luminance says how bright the light is, the cast of the skin a little of its colour.
    luminance = float(skin @ torch.tensor([0.30, 0.59, 0.11]))
    exposure = min(1.0, 0.35 + 0.75 * luminance)
    cast = (skin / max(luminance, 0.05)).clamp(0.6, 1.5) ** 0.25
    tooth = 0.90 * exposure * torch.tensor([0.93, 0.90, 0.84]) * cast / cast.mean()
    tongue = 0.75 * lips + 0.25 * exposure * torch.tensor([0.62, 0.30, 0.30])
    dark = 0.12 * exposure * torch.tensor([1.6, 0.75, 0.70])
    return torch.stack([dark, tooth, 0.85 * tongue, 0.8 * tongue]).clamp(0, 1)


def _lip_masks(anatomy: Anatomy, height: int, width: int, opened: bool) -> Tensor:
    """Three pictures [3, H, W] on the portrait: upper sheet, lower sheet, and the soft side (1 above).

    Where the lips touch the first two overlap by a pixel, so that no darkness shows through a closed
    mouth. Beyond the corners the upper one fades over the lower, which is whole there.
    """
    lm, unit = anatomy.landmarks[:, :2].double(), anatomy.unit
    right, left = lm[UPPER_INNER[0]], lm[UPPER_INNER[-1]]
    across = (left - right) / torch.linalg.vector_norm(left - right)
    down = torch.stack([-across[1], across[0]])
    y, x = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    d = torch.stack([x, y], -1) - (right + left) / 2
    u, v = d @ across, d @ down
    curves = []
    for index in (UPPER_INNER, LOWER_INNER):
        p = lm[list(index)] - (right + left) / 2
        curves.append(torch.stack([p @ across, p @ down], 1))
    if not opened:
        curves = [(curves[0] + curves[1]) / 2] * 2
    heights = [_curve(c, u) for c in curves]
    reach = 0.5 * float(torch.linalg.vector_norm(left - right))
    outside = ((u.abs() - reach) / (0.10 * unit)).clamp(0, 1)
    soft = 1.0 + outside * 0.10 * unit
    upper = (1 + (heights[0] - v) / soft).clamp(0, 1)
    # Lips part a little inside their corners.
    joined = smoothstep((u.abs() - 0.84 * reach) / (0.12 * reach))
    lower = torch.maximum((1 + (v - heights[1]) / soft).clamp(0, 1), joined)
    middle = (heights[0] + heights[1]) / 2
    side = smoothstep(0.5 + (middle - v) / (2 * (0.03 * unit + outside * 0.2 * unit)))
    return torch.stack([upper, lower, side]).float()


def _curve(points: Tensor, u: Tensor) -> Tensor:
    """Smooth monotone-cubic height over u through points [n, 2]; level beyond the ends."""
    order = points[:, 0].argsort()
    knots, values = points[order, 0].numpy(), points[order, 1].numpy()
    knots = np.maximum.accumulate(knots + 1e-3 * np.arange(len(knots)))
    clamped = u.numpy().clip(knots[0], knots[-1])
    return torch.from_numpy(PchipInterpolator(knots, values)(clamped))
