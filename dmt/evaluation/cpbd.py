"""CPBD: how much of a picture's edges look sharp, without a reference. 0 all blurred, 1 all sharp.

N. D. Narvekar and L. J. Karam, "A No-Reference Image Blur Metric Based on the Cumulative Probability of Blur
Detection (CPBD)", IEEE Transactions on Image Processing 20(9), 2011. Written from the paper; edge widths are
measured along rows between the nearest local extremes (Marziliano et al. 2002).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

BLOCK = 64
"""Side of the blocks that contrast is measured in, pixels."""

EDGE_SHARE = 0.002
"""A block with more than this share of edge pixels counts."""

BETA = 3.6
"""Slope of the psychometric function: P(blur seen) = 1 - exp(-(width / just noticeable width) ** BETA)."""

JUST_NOTICEABLE = 0.63
"""P(blur seen) at the just noticeable width, 1 - 1/e."""

NOTICEABLE_WIDTHS = (5.0, 3.0)
"""Just noticeable widths in pixels at contrasts up to 50 grey levels, and above."""
LOW_CONTRAST = 50

_GREY = (0.299, 0.587, 0.114)


def cpbd(picture: NDArray[np.uint8]) -> float:
    """Share of edge pixels whose blur is not noticed, in 0..1; 0 for a picture without edges.

    picture: uint8 RGB [H, W, 3] or grey [H, W]. The scale of the picture matters: compare equal sizes only.
    """
    grey = picture.astype(np.float64) @ _GREY if picture.ndim == 3 else picture.astype(np.float64)
    widths = edge_widths(grey)
    noticeable = _noticeable_widths(grey)[: grey.shape[0], : grey.shape[1]]
    counted = (widths > 0) & (noticeable > 0)
    if not counted.any():
        return 0.0
    seen = 1 - np.exp(-((widths[counted] / noticeable[counted]) ** BETA))
    # The paper pools a histogram of whole per cents up to 63.
    return float(np.mean(np.floor(100 * seen + 0.5) <= 100 * JUST_NOTICEABLE))


def edge_widths(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pixels between the extremes on either side of each vertical edge, [H, W]; 0 where there is no edge."""
    step = np.diff(grey, axis=1)
    rising, falling = _run(step > 0), _run(step < 0)
    slope = np.gradient(grey, axis=1)
    width = np.where(slope > 0, rising[0] + rising[1], falling[0] + falling[1])
    return np.where(_edges(grey) & _level(slope, np.gradient(grey, axis=0)), width, 0).astype(np.float64)


def _edges(grey: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Vertical edges after Sobel: crests, along or across, of a squared slope that is large enough.

    The threshold compares a square with a root (2 sqrt(mean slope^2), grey levels of 255). So does the cpbd package
    that published figures are made with; scores agree with its to 0.02, with a squared threshold only to 0.2.
    """
    power = (ndimage.sobel(grey, axis=1, mode="nearest") / 8) ** 2
    padded = np.pad(power, 1)
    across = (power > padded[1:-1, :-2]) & (power >= padded[1:-1, 2:])
    along = (power > padded[:-2, 1:-1]) & (power > padded[2:, 1:-1])
    return (across | along) & (power > 2 * np.sqrt(power.mean()))


def _level(slope: NDArray[np.float64], across: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where the gradient points along the row, within 22.5 degrees."""
    return (np.abs(across) < np.tan(np.pi / 8) * np.abs(slope)) & (slope != 0)


def _run(steps: NDArray[np.bool_]) -> tuple[NDArray, NDArray]:
    """Pixels to the extremes left and right of each pixel along steps that hold, [H, W] each.

    At least 1: its neighbours belong to an edge, and the walk begins at them.
    """
    left = _ending(steps)
    right = _ending(steps[:, ::-1])[:, ::-1]
    return 1 + np.pad(left, ((0, 0), (1, 0)))[:, :-1], 1 + np.pad(right, ((0, 0), (0, 1)))[:, 1:]


def _ending(steps: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For pixels 0..W-1: the length of the run of True that ends right before them, from steps [H, W - 1]."""
    position = np.arange(1, steps.shape[1] + 1)
    last_break = np.maximum.accumulate(np.where(steps, 0, position), axis=1)
    return np.pad(position - last_break, ((0, 0), (1, 0)))


def _noticeable_widths(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """The just noticeable width of the block around each pixel, [H, W]; 0 in blocks without edges or beyond them."""
    from skimage.feature import canny

    edges = canny(grey / 255)
    result = np.zeros(grey.shape)
    for top in range(0, grey.shape[0], BLOCK):
        for left in range(0, grey.shape[1], BLOCK):
            part = (slice(top, top + BLOCK), slice(left, left + BLOCK))
            if edges[part].mean() > EDGE_SHARE:
                contrast = grey[part].max() - grey[part].min()
                result[part] = NOTICEABLE_WIDTHS[int(contrast > LOW_CONTRAST)]
    return result
