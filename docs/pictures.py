"""The pictures of the README, made by the program itself: python docs/pictures.py

hero.png: moments of the bundled sentence; emotions.png: one moment under each of the eight emotions; mark.png: the
mark of --watermark.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import dmt
from dmt.face.styles import emotion_names
from dmt.scene import asset

HERE = Path(__file__).parent
TILE = 256
MOMENTS = (30, 58, 83, 121, 150)
"""Frames of the bundled sentence that the hero picture shows."""


def sheet(tiles: list[tuple[str, np.ndarray]], columns: int) -> Image.Image:
    """Labelled uint8 pictures side by side, `columns` in a row."""
    rows = -(-len(tiles) // columns)
    page = Image.new("RGB", (columns * TILE, rows * TILE), "white")
    font = ImageFont.load_default(size=18)
    for index, (label, picture) in enumerate(tiles):
        tile = Image.fromarray(picture).resize((TILE, TILE), Image.Resampling.LANCZOS)
        ImageDraw.Draw(tile).text((10, TILE - 28), label, font=font, fill="white", stroke_width=2, stroke_fill="black")
        page.paste(tile, (index % columns * TILE, index // columns * TILE))
    return page


def main() -> None:
    pipeline = dmt.load()
    voice = asset("demo.flac")
    frames = list(pipeline.stream(voice, style="happy"))
    sheet([(f"{i / 25:.1f} s", frames[i]) for i in MOMENTS], len(MOMENTS)).save(HERE / "hero.png", optimize=True)
    tiles = []
    for emotion in emotion_names():
        for index, frame in enumerate(pipeline.stream(voice, style=emotion, pose="still", blink=False)):
            if index == MOMENTS[1]:
                tiles.append((emotion, frame))
                break
    sheet(tiles, 4).save(HERE / "emotions.png", optimize=True)
    marked = next(iter(pipeline.stream(voice, watermark=True)))
    Image.fromarray(marked).resize((TILE, TILE), Image.Resampling.LANCZOS).save(HERE / "mark.png", optimize=True)


if __name__ == "__main__":
    main()
