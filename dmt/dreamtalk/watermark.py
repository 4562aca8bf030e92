"""A visible mark that says a machine made this, where DreamTalk puts its own."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

TEXT = "AI generated"
SIZE = (108, 22)
POSITION = (142, 228)
"""Left and top of the mark in a 256 x 256 picture; scaled with the picture."""


def stamp(frames: np.ndarray) -> np.ndarray:
    """uint8 [T, H, W, 3] -> the same with the mark in the lower right corner."""
    height, width = frames.shape[1:3]
    scale = min(height, width) / 256
    mark = _mark(scale)
    top, left = height - round((256 - POSITION[1]) * scale), width - round((256 - POSITION[0]) * scale)
    out = frames.copy()
    area = out[:, top : top + mark.shape[0], left : left + mark.shape[1]]
    alpha = mark[: area.shape[1], : area.shape[2], 3:].astype(np.float32) / 255
    colour = mark[: area.shape[1], : area.shape[2], :3]
    area[:] = np.rint(area * (1 - alpha) + colour * alpha).astype(np.uint8)
    return out


@cache
def _mark(scale: float) -> np.ndarray:
    """uint8 RGBA, white letters on a translucent plate."""
    width, height = (max(8, round(side * scale)) for side in SIZE)
    mark = Image.new("RGBA", (width, height), (0, 0, 0, 0))
    draw = ImageDraw.Draw(mark)
    draw.rounded_rectangle((0, 0, width - 1, height - 1), radius=height // 3, fill=(0, 0, 0, 110))
    font = ImageFont.load_default(size=max(6, round(14 * scale)))
    draw.text((width / 2, height / 2), TEXT, font=font, anchor="mm", fill=(255, 255, 255, 220))
    return np.asarray(mark)
