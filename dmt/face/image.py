"""Reading pictures as people have them: rotated by EXIF, grey, transparent, 16 bit, CMYK."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import InputError, why

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "QOI", "AVIF", "JPEG2000")
"""Of Pillow's: those of cameras, browsers and drawing programs. Others run a program (PostScript) or take gigabytes
because a file of a hundred bytes says so (GIMP's brushes)."""
MINIMUM = 64
"""Pixels that the shorter side of a picture must have."""
LARGEST = 4096
"""Longer pictures are reduced to this many pixels: a face never needs more."""
BACKDROP = (232, 232, 232)
"""What transparent pixels are laid on."""


def open_picture(path: str | os.PathLike[str]) -> Image.Image:
    """The picture in a file, not decoded yet; Pillow's errors, for one of no kind in `FORMATS` too."""
    Image.init()  # or only the commonest are known by name; AVIF not to every Pillow
    return Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN])


def read_image(path: str | Path) -> np.ndarray:
    """A picture as uint8 RGB [H, W, 3], upright (EXIF applied); the first frame of an animation.

    InputError: no such file, not a picture, truncated, or a side shorter than 64 pixels.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise InputError(f"no such image: {path}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's of damaged headers; if it matters, an error follows
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with open_picture(path) as opened:
                opened.load()
                upright = ImageOps.exif_transpose(opened)
                picture = _rgb(upright)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InputError(f"{path} has too many pixels to be read safely; reduce it below 80 megapixels") from None
    except UnidentifiedImageError:
        raise InputError(f"{path} cannot be read as an image: it is of no kind known here") from None
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError) as error:
        raise InputError(f"{path} cannot be read as an image: {why(error)}") from None
    if min(picture.size) < MINIMUM:
        raise InputError(
            f"{path} is only {picture.width} x {picture.height} pixels; at least {MINIMUM} x {MINIMUM} are needed"
        )
    if max(picture.size) > LARGEST:
        picture.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    return np.asarray(picture).copy()


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith(("I", "F")):
        picture = _eight_bit(picture)
    if "transparency" in picture.info or picture.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        layer = picture.convert("RGBA")
        below = Image.new("RGBA", layer.size, (*BACKDROP, 255))
        return Image.alpha_composite(below, layer).convert("RGB")
    return picture.convert("RGB")


def _eight_bit(picture: Image.Image) -> Image.Image:
    """16-bit, 32-bit and floating grey to 8 bits by what the format means, or by the largest value."""
    values = np.nan_to_num(np.asarray(picture).astype(np.float64))
    if picture.mode.startswith("I;16") or values.max(initial=0) > 255:
        top = 65535.0 if values.max(initial=0) <= 65535 else values.max()
    else:
        top = 1.0 if picture.mode == "F" and values.max(initial=0) <= 1 else 255.0
    return Image.fromarray((values / top * 255).clip(0, 255).round().astype(np.uint8), "L")
