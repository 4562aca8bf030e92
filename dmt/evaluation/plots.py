"""Curves over the frames of one video, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..atomic import atomic
from ..rates import FRAME_RATE
from .compare import VideoScores
from .images import need

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("SSIM", (("ssim_gaussian11", "Gaussian 11 x 11"), ("ssim_uniform7", "uniform 7 x 7"))),
    ("PSNR, dB", (("psnr", "generated"),)),
    ("LPIPS", (("lpips_alex", "AlexNet"), ("lpips_vgg", "VGG-16"))),
    ("CPBD", (("cpbd", "generated"), ("cpbd_reference", "reference"))),
    ("lips apart, eye distances", (("aperture", "generated"), ("aperture_reference", "reference"))),
    ("LMD, pixels", (("m_lmd", "mouth"), ("f_lmd", "face"))),
)
"""Title of each panel and its curves with their names; curves that were not measured are not drawn."""

_COLOURS = ("#1f6fb4", "#d9822b")
_INK, _GRID = "#333333", "#e3e3e3"


def plot_curves(video: VideoScores, target: Path) -> None:
    """A PNG with one panel for each kind of curve over seconds. Needs matplotlib (extra `evaluate`)."""
    need("matplotlib", "drawing curves")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [(title, [c for c in curves if c[0] in video.curves]) for title, curves in PANELS]
    panels = [(title, curves) for title, curves in panels if curves]
    figure = Figure(figsize=(9, 1.2 + 1.6 * len(panels)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (title, curves) in zip(axes, panels, strict=True):
        _panel(axis, title, curves, video)
    axes[-1].set_xlabel("seconds", color=_INK)
    figure.suptitle(f"{video.pair.name}: {video.frames} frames", color=_INK, fontsize=11)
    with atomic(target) as part:
        figure.savefig(part, format="png")


def _panel(axis: Axes, title: str, curves: list[tuple[str, str]], video: VideoScores) -> None:
    for (name, label), colour in zip(curves, _COLOURS, strict=False):
        values = video.curves[name]
        seconds = np.arange(len(values)) / FRAME_RATE
        marker = "o" if len(values) == 1 else None
        axis.plot(
            seconds, values, color=colour, linewidth=1.3, marker=marker, label=f"{label}, mean {np.nanmean(values):.3f}"
        )
    axis.set_title(title, loc="left", fontsize=9, color=_INK)
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)
    axis.grid(color=_GRID, linewidth=0.6)
    axis.tick_params(labelsize=8, colors=_INK)
    axis.margins(x=0.01)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
