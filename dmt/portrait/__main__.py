"""`python -m dmt.portrait -o portrait.png`: draws the portrait and saves its landmarks beside it."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
from PIL import Image

from .render import Look, Picture, render


def save(picture: Picture, path: Path) -> Path:
    """Write `path` (PNG) and `<stem>_landmarks.npz` beside it, each by rename; returns the latter's path."""
    landmarks = path.with_name(path.stem + "_landmarks.npz")
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        Image.fromarray(picture.image).save(file, format="PNG", optimize=True)
    os.replace(part, path)
    part = landmarks.with_name(landmarks.name + ".part")
    with part.open("wb") as file:
        np.savez(file, landmarks=picture.landmarks)
    os.replace(part, landmarks)
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
