"""`python -m dmt.portrait -o portrait.png`: draws the portrait and saves its landmarks beside it."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from ..atomic import atomic
from .render import Look, Picture, render


def save(picture: Picture, path: Path) -> Path:
    """Write `path` (PNG) and `<stem>_landmarks.npz` beside it, each by rename; returns the latter's path."""
    landmarks = path.with_name(path.stem + "_landmarks.npz")
    with atomic(path) as part:
        Image.fromarray(picture.image).save(part, format="PNG", optimize=True)
    with atomic(landmarks) as part, part.open("wb") as file:
        np.savez(file, landmarks=picture.landmarks)
    return landmarks


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m dmt.portrait", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("portrait.png"))
    parser.add_argument("--size", type=int, default=Look.size, help="width and height in pixels")
    parser.add_argument("--supersample", type=int, default=Look.supersample, help="samples per pixel and side")
    parser.add_argument("--hairs", type=int, default=Look.hairs, help="strands of hair")
    options = parser.parse_args()
    landmarks = save(render(Look(options.size, options.supersample, options.hairs)), options.output)
    print(f"{options.output} and {landmarks}")


if __name__ == "__main__":
    main()
