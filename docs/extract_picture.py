"""The pictures of extract.md, made from the bundled portrait alone: python docs/extract_picture.py

extract.png: known motion and what was extracted; inspect.png: what `dmt inspect --picture` draws of the clip.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from dmt.face.basis import LandmarkBasis
from dmt.face.landmarks import find_landmarks, load_portrait
from dmt.face.pose import NaturalPose
from dmt.face.styles import load_style
from dmt.inspection import inspect
from dmt.inspection.drawing import WIDTH, draw, panel
from dmt.media import VideoWriter
from dmt.renderer.warp import WarpRenderer
from dmt.scene import asset
from dmt.tracking import extract
from dmt.tracking.files import write_clip
from dmt.types import Motion

HERE = Path(__file__).parent
FRAMES, SHOWN = 200, 6
TILE = WIDTH // SHOWN


def main() -> None:
    """Known motion is filmed and extracted; above what is filmed and tracked, below what was known and found."""
    clip = load_style("surprised").coefficients[:FRAMES]
    pose = NaturalPose(torch.Generator().manual_seed(2)).next(FRAMES)
    portrait = load_portrait(asset("portrait.png"), landmarks=asset("portrait_landmarks.npz"), size=384)
    frames = WarpRenderer(portrait).render(Motion(clip, pose, torch.zeros(FRAMES))).numpy()
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "film.mp4"
        with VideoWriter(film, *frames.shape[1:3], audio_rate=None) as writer:
            writer.write(frames)
        found = extract(film)
        write_clip(Path(folder) / "me.mat", found.expression, found.pose)
        draw(inspect(Path(folder) / "me.mat")).save(HERE / "inspect.png", optimize=True)
    opening = LandmarkBasis.load().mouth_opening
    lips = {
        "known": opening(clip).numpy(),
        "extracted": opening(torch.from_numpy(found.expression)).numpy(),
    }
    yaw = {"known": np.degrees(pose[:, 1].numpy()), "extracted": np.degrees(found.pose[:, 1])}
    page = Image.new("RGB", (WIDTH, TILE + 300), "white")
    for index, moment in enumerate(np.linspace(10, FRAMES - 10, SHOWN).round().astype(int)):
        page.paste(tracked(frames[moment]), (index * TILE, 0))
    page.paste(panel("opening of the lips, eye distances", lips), (0, TILE))
    page.paste(panel("turn of the head, degrees", yaw), (0, TILE + 150))
    page.save(HERE / "extract.png", optimize=True)


def tracked(picture: np.ndarray) -> Image.Image:
    """The picture with its landmarks on it."""
    landmarks, _ = find_landmarks(picture)
    scale = 2 * TILE / len(picture)
    tile = Image.fromarray(picture).resize((2 * TILE, 2 * TILE), Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(tile)
    for x, y in landmarks[:, :2] * scale:
        pen.ellipse([x - 0.7, y - 0.7, x + 0.7, y + 0.7], fill=(120, 255, 160))
    return tile.resize((TILE, TILE), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
