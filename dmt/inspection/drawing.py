"""Drawing a finding: curves over time and a strip of faces, with Pillow alone."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..atomic import atomic, probe
from ..errors import InputError
from ..face.basis import LandmarkBasis
from ..face.landmarks import load_portrait
from ..face.pose import REST
from ..face.styles import emotion_names, load_style
from ..rates import FRAME_RATE
from ..renderer.driver import rotation
from ..renderer.warp import WarpRenderer
from ..scene import asset
from ..types import Motion
from .finding import Finding

WIDTH, LEFT, RIGHT = 960, 70, 16
"""Pixels: of the page, and of the margins of its curves."""
PANEL = 150
"""Height of one panel of curves."""
FACE = 160
"""Side of one face of a strip; six fill the page."""
FACES = 6
COLOURS = ((31, 119, 180), (214, 96, 20), (44, 140, 44), (148, 103, 189))
INK, PALE = (40, 40, 40), (225, 225, 225)
CLOSED_CONTOURS = ("lips_outer", "lips_inner", "left_eye", "right_eye", "oval")
TEETH = (120, 30, 40)


def draw(finding: Finding) -> Image.Image:
    """A page for whatever the finding has to show. InputError where that is nothing."""
    blocks: list[Image.Image] = []
    if finding.picture is not None:
        blocks.append(_picture(finding.picture, finding.landmarks))
    elif finding.landmarks is not None:
        blocks.append(_landmark_face(finding.landmarks))
    if finding.expression is not None:
        basis = LandmarkBasis.load()
        rows = torch.from_numpy(finding.expression)
        curves = {"opening": basis.mouth_opening(rows).numpy(), "width": basis.mouth_width(rows).numpy()}
        blocks.append(panel("mouth, eye distances", curves))
    if finding.pose is not None:
        angles = np.degrees(finding.pose[:, :3])
        blocks.append(panel("head, degrees", dict(zip(("pitch", "yaw", "roll"), angles.T, strict=True))))
    if finding.expression is not None:
        blocks.append(_strip(finding.expression, finding.pose))
    if finding.loudness is not None:
        per_second = len(finding.loudness) / finding.seconds
        blocks.append(panel("loudness (peak)", {"": finding.loudness}, per_second))
    if finding.faces:
        blocks += [*_named_faces(finding.faces)]
    if finding.table is not None:
        blocks.append(_table(finding.table))
    if finding.parts:
        blocks.append(_bars("numbers in each part", finding.parts))
    if not blocks:
        raise InputError(f"there is nothing to draw of {finding.kind}; leave --picture out")
    page = Image.new("RGB", (max(block.width for block in blocks), sum(block.height for block in blocks)), "white")
    top = 0
    for block in blocks:
        page.paste(block, (0, top))
        top += block.height
    return page


def check_png(target: str | Path) -> None:
    """Raises InputError where no PNG can be written: another suffix, a folder, not writable. Leaves nothing behind."""
    if Path(target).suffix.lower() != ".png":
        raise InputError(f"the picture must be named *.png, got {Path(target).name!r}")
    probe(target)


def write_png(page: Image.Image, target: str | Path) -> None:
    """The page as a PNG that appears whole. Raises InputError as `check_png` does."""
    check_png(target)
    memory = io.BytesIO()
    page.save(memory, "PNG", optimize=True)
    with atomic(target) as part:
        part.write_bytes(memory.getvalue())


def emotions_strip(size: int = 256) -> Image.Image:
    """The bundled portrait with the typical expression of each bundled emotion, four in a row."""
    names = emotion_names()
    portrait = load_portrait(asset("portrait.png"), landmarks=asset("portrait_landmarks.npz"), size=size)
    rows = torch.stack([_typical(name) for name in names])
    still = torch.tensor(REST).repeat(len(rows), 1)
    frames = WarpRenderer(portrait).render(Motion(rows, still, torch.zeros(len(rows)))).cpu().numpy()
    side = frames.shape[1]
    page = Image.new("RGB", (4 * side, -(-len(names) // 4) * side), "white")
    for index, (name, frame) in enumerate(zip(names, frames, strict=True)):
        tile = Image.fromarray(frame)
        pen = ImageDraw.Draw(tile)
        pen.text((8, side - 26), name, font=_font(16), fill="white", stroke_width=2, stroke_fill="black")
        page.paste(tile, (index % 4 * side, index // 4 * side))
    return page


def _typical(name: str) -> torch.Tensor:
    """The clip's median expression: what the emotion looks like between words."""
    clip = load_style(name)
    return clip.coefficients[~clip.padding].median(0).values


def panel(title: str, curves: dict[str, NDArray], per_second: float = FRAME_RATE) -> Image.Image:
    """Curves of the same length over time with labelled axes, WIDTH x PANEL pixels."""
    page = Image.new("RGB", (WIDTH, PANEL), "white")
    pen = ImageDraw.Draw(page)
    pen.text((LEFT, 4), title, font=_font(13), fill=INK)
    values = np.concatenate(list(curves.values()))
    low, high = float(values.min()), float(values.max())
    low, high = (low - 0.5, high + 0.5) if high - low < 1e-6 else (low, high)
    top, bottom = 26, PANEL - 24

    def height(value: NDArray | float) -> NDArray:
        return bottom - (np.asarray(value) - low) / (high - low) * (bottom - top)

    for value in _ticks(low, high):
        y = float(height(value))
        pen.line([(LEFT, y), (WIDTH - RIGHT, y)], fill=PALE)
        pen.text((LEFT - 6, y), f"{value:g}", font=_font(11), fill=INK, anchor="rm")
    count = len(next(iter(curves.values())))
    for second in _ticks(0, count / per_second):
        x = LEFT + (WIDTH - LEFT - RIGHT) * second * per_second / max(1, count - 1)
        if x <= WIDTH - RIGHT:
            pen.text((x, bottom + 4), f"{second:g} s", font=_font(11), fill=INK, anchor="mt")
    label = WIDTH - RIGHT
    for colour, (name, curve) in zip(COLOURS, curves.items(), strict=False):
        pen.line(_points(height(curve)), fill=colour, width=2)
        pen.text((label, 4), name, font=_font(13), fill=colour, anchor="ra")
        label -= 20 + int(_font(13).getlength(name))
    return page


def _points(heights: NDArray) -> list[tuple[float, float]]:
    """At most one point for half a pixel: long clips keep their extremes."""
    room = WIDTH - LEFT - RIGHT
    if len(heights) > 2 * room:
        parts = np.array_split(heights, room)
        heights = np.array([end for part in parts for end in (part.min(), part.max())])
    if len(heights) == 1:
        heights = np.repeat(heights, 2)
    return list(zip(np.linspace(LEFT, WIDTH - RIGHT, len(heights)).tolist(), heights.tolist(), strict=True))


def _ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers in low..high."""
    raw = (high - low) / 4
    power = 10.0 ** np.floor(np.log10(raw))
    step = power * min((1, 2, 5, 10), key=lambda m: abs(m * power - raw))
    return [float(round(k * step, 10)) for k in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]


def _strip(expression: NDArray, pose: NDArray | None) -> Image.Image:
    """Landmark faces at evenly spread moments."""
    moments = np.linspace(0, len(expression) - 1, min(FACES, len(expression))).round().astype(int)
    faces = LandmarkBasis.load().landmarks(torch.from_numpy(expression[moments]))
    if pose is not None:
        faces = faces @ rotation(torch.from_numpy(np.asarray(pose[moments], np.float32))).mT
    return _row(faces.numpy(), [f"{moment / FRAME_RATE:.2f} s" for moment in moments])


def _named_faces(faces: Mapping[str, NDArray]) -> Iterator[Image.Image]:
    """Rows of landmark faces, `FACES` in each."""
    names = list(faces)
    points = LandmarkBasis.load().landmarks(torch.from_numpy(np.stack([faces[name] for name in names]))).numpy()
    for start in range(0, len(names), FACES):
        yield _row(points[start : start + FACES], names[start : start + FACES])


def _row(faces: NDArray, labels: Sequence[str]) -> Image.Image:
    """Faces [n, 478, 3] beside one another, each over its label."""
    page = Image.new("RGB", (WIDTH, FACE + 24), "white")
    pen = ImageDraw.Draw(page)
    for index, (label, face) in enumerate(zip(labels, faces, strict=True)):
        at = np.array([FACE * (index + 0.5), 0.36 * FACE + 8])
        _outline(pen, face[:, :2] * 0.42 * FACE + at)
        pen.text((at[0], FACE + 8), label, font=_font(11), fill=INK, anchor="mt")
    return page


def _bars(title: str, sizes: Mapping[str, int]) -> Image.Image:
    """A bar for each name."""
    page = Image.new("RGB", (WIDTH, 34 + 20 * len(sizes)), "white")
    pen = ImageDraw.Draw(page)
    pen.text((10, 4), title, font=_font(13), fill=INK)
    left, room = WIDTH // 3, WIDTH // 2
    for index, (name, size) in enumerate(sizes.items()):
        y = 38 + 20 * index
        pen.text((left - 8, y), name[-45:], font=_font(11), fill=INK, anchor="rm")
        pen.rectangle([left, y - 6, left + room * size / max(1, *sizes.values()), y + 6], fill=COLOURS[0])
        pen.text((WIDTH - RIGHT, y), f"{size:,}", font=_font(11), fill=INK, anchor="rm")
    return page


def _table(values: NDArray) -> Image.Image:
    """Each number of [T, n] a grey, time to the right; black and white are the 2nd and 98th percentile."""
    low, high = np.percentile(values, (2, 98))
    shades = (255 * np.clip((values.T - low) / max(1e-12, high - low), 0, 1)).astype(np.uint8)
    return Image.fromarray(shades).convert("RGB").resize((WIDTH, 300), Image.Resampling.BOX)


def _outline(pen: ImageDraw.ImageDraw, points: NDArray) -> None:
    """Contours, brows and the inside of the mouth of a face [478, 2] in pixels of the page."""
    contours = LandmarkBasis.load().contours
    pen.polygon([tuple(p) for p in points[contours["lips_inner"].numpy()]], fill=TEETH)
    for name in CLOSED_CONTOURS:
        loop = points[contours[name].numpy()]
        pen.line([tuple(p) for p in (*loop, loop[0])], fill=COLOURS[1] if "lips" in name else INK, width=1)
    for name in ("left_brow", "right_brow"):
        for point in points[contours[name].numpy()]:
            pen.ellipse([*(point - 1), *(point + 1)], fill=INK)


def _landmark_face(landmarks: NDArray) -> Image.Image:
    low, high = landmarks[:, :2].min(0), landmarks[:, :2].max(0)
    zoom = 300 / max(1e-6, float((high - low).max()))
    page = Image.new("RGB", (320, 320), "white")
    _outline(ImageDraw.Draw(page), (landmarks[:, :2] - low) * zoom + 10)
    return page


def _picture(picture: NDArray, landmarks: NDArray | None) -> Image.Image:
    zoom = min((WIDTH - 20) / picture.shape[1], 360 / picture.shape[0])
    size = (max(1, round(picture.shape[1] * zoom)), max(1, round(picture.shape[0] * zoom)))
    shown = Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)
    page = Image.new("RGB", (size[0] + 20, size[1] + 20), "white")
    page.paste(shown, (10, 10))
    if landmarks is not None:
        pen = ImageDraw.Draw(page)
        for x, y in landmarks[:, :2] * zoom + 10:
            pen.point([(float(x), float(y))], fill=(0, 255, 90))
    return page


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=size)  # type: ignore[return-value]
