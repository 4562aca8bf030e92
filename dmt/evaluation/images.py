"""How like two pictures are, frame by frame: SSIM, PSNR, LPIPS, and CPBD for sharpness alone.

Pictures are uint8 RGB [T, H, W, 3]; every measure gives one number for each frame, [T] float64, so that curves
can be drawn and means taken by whoever reports them. SSIM comes from torchmetrics and scikit-image (extra
`evaluate`): the two disagree in the third digit, so the variant belongs to the name.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import InputError
from .cpbd import cpbd
from .lpips import Lpips

PORTION = 8
"""Frames that are compared together: memory does not grow with the video."""

PSNR_CEILING = 100.0
"""dB that identical pictures count as (their PSNR is infinite), so that a mean over frames stays a number."""

SSIM_WINDOWS = {"gaussian11": 11, "uniform7": 7, "torchmetrics": 11}
"""Pixels along the side of the window of either variant; pictures must be at least as large."""


def ssim(made: NDArray[np.uint8], reference: NDArray[np.uint8], variant: str = "gaussian11") -> NDArray[np.float64]:
    """Structural similarity (Wang et al. 2004) of each pair of frames, mean over the three colours.

    variant: "gaussian11": window 11 x 11 of sigma 1.5, population variance, away from the borders (Wang's own);
    "uniform7": flat 7 x 7 window, sample variance (what scikit-image does unless told otherwise); "torchmetrics":
    Wang's window with the borders reflected (what torchmetrics does).
    Raises InputError: other shapes, unknown variant, a library of the extra `evaluate` missing, frames smaller
    than the window.
    """
    check_pair(made, reference)
    if variant not in SSIM_WINDOWS:
        raise InputError(f"unknown SSIM variant {variant!r}: expected {', '.join(SSIM_WINDOWS)}")
    if min(made.shape[1:3]) < SSIM_WINDOWS[variant]:
        raise InputError(
            f"frames of {made.shape[2]} x {made.shape[1]} pixels are smaller than the window of SSIM {variant}"
        )
    if variant == "torchmetrics":
        return _in_portions(_reflected_ssim, made, reference)
    need("skimage", f"SSIM {variant}")
    from skimage.metrics import structural_similarity

    window = {"win_size": 7}
    if variant == "gaussian11":
        window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    pairs = zip(made, reference, strict=True)
    return np.array([structural_similarity(a, b, data_range=255, channel_axis=-1, **window) for a, b in pairs])


def squared_error(made: NDArray[np.uint8], reference: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean squared difference of each pair of frames, in squared grey levels of 255."""
    check_pair(made, reference)
    pairs = zip(made, reference, strict=True)
    return np.array([np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2) for a, b in pairs])


def psnr(made: NDArray[np.uint8], reference: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Peak signal-to-noise ratio of each pair of frames in dB; peak 255, identical frames count as 100 dB.

    The mean of these is the per-frame mean; `decibels(squared_error(...).mean())` is the pooled PSNR of a video.
    """
    return np.array([decibels(error) for error in squared_error(made, reference)])


def decibels(error: float) -> float:
    """PSNR in dB of a mean squared error in squared grey levels of 255, at most 100 dB."""
    return min(PSNR_CEILING, float(10 * np.log10(255.0**2 / error))) if error > 0 else PSNR_CEILING


def picture_curves(
    made: NDArray[np.uint8], reference: NDArray[np.uint8], lpips: Lpips | None = None
) -> dict[str, NDArray[np.float64]]:
    """Every measure of a stretch of video, name -> [T]: ssim_gaussian11, ssim_uniform7, psnr, squared_error, cpbd
    (of `made`), cpbd_reference, and lpips_alex or lpips_vgg where `lpips` is given."""
    errors = squared_error(made, reference)
    curves = {
        "ssim_gaussian11": ssim(made, reference, "gaussian11"),
        "ssim_uniform7": ssim(made, reference, "uniform7"),
        "psnr": np.array([decibels(error) for error in errors]),
        "squared_error": errors,
        "cpbd": np.array([cpbd(frame) for frame in made]),
        "cpbd_reference": np.array([cpbd(frame) for frame in reference]),
    }
    if lpips is not None:
        curves[f"lpips_{lpips.net}"] = lpips.frames(made, reference)
    return curves


def check_pair(made: NDArray, reference: NDArray) -> None:
    """InputError unless both are uint8 [T, H, W, 3] of one shape with at least one frame."""
    for name, frames in (("made", made), ("reference", reference)):
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size:
            raise InputError(
                f"the {name} frames must be uint8 [T, H, W, 3] with at least one frame, "
                f"got {frames.dtype} {frames.shape}"
            )
    if made.shape != reference.shape:
        raise InputError(
            f"frames of different shapes cannot be compared: {made.shape} and {reference.shape}; "
            "match lengths and sizes first"
        )


def need(module: str, what: str) -> None:
    """InputError that names the extra where `module` is not installed."""
    if find_spec(module) is None:
        raise InputError(f"{what} needs {module}, which is not installed: pip install 'dreamtalk-dmt[evaluate]'")


def _in_portions(
    measure: Callable[[NDArray, NDArray], NDArray], made: NDArray, reference: NDArray
) -> NDArray[np.float64]:
    starts = range(0, len(made), PORTION)
    return np.concatenate([measure(made[i : i + PORTION], reference[i : i + PORTION]) for i in starts])


def _reflected_ssim(made: NDArray[np.uint8], reference: NDArray[np.uint8]) -> NDArray[np.float64]:
    need("torchmetrics", "SSIM torchmetrics")
    from torchmetrics.functional.image import structural_similarity_index_measure

    a, b = (torch.from_numpy(np.ascontiguousarray(x)).permute(0, 3, 1, 2).float() / 255 for x in (made, reference))
    values = structural_similarity_index_measure(a, b, sigma=1.5, data_range=1.0, reduction="none")
    return values.double().reshape(len(made)).numpy()
