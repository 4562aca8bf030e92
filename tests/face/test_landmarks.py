"""Faces are found, framed and refused as promised; files of landmarks are believed but checked."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dmt.face.landmarks as module
from dmt.errors import InputError
from dmt.face.crop import crop_portrait
from dmt.face.fallback import closed_face, estimate_landmarks, face_boxes
from dmt.face.landmarks import load_portrait, read_landmarks

SHARED = Path(os.environ.get("DMT_SHARED", Path(__file__).parents[3] / "shared"))
SAMPLES = SHARED / "dreamtalk" / "samples" / "image"
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"sample portraits are not at {SAMPLES}")

# The line between the lips (points 13 and 14), pupils (468, 473) as MediaPipe 0.10.21 sees them, pixels.
TRUTH = {
    "male_face.png": {"unit": 195.9, "line": 449.4, 468: (205.7, 287.6), 473: (342.4, 287.9)},
    "uncut_src_img.jpg": {"unit": 143.0, "line": 324.9, 468: (209.5, 223.5), 473: (310.9, 225.9)},
    "cut_img.png": {"unit": 94.4, "line": 178.7, 468: (88.2, 112.3), 473: (155.4, 114.0)},
    "zp1.png": {"unit": 92.4, "line": 185.0, 468: (95.7, 107.8), 473: (162.0, 105.5)},
}


def face_points(width, height, eyes=100.0, centre=(0.5, 0.42)):
    return (closed_face() * eyes + [centre[0] * width, centre[1] * height, 0]).astype(np.float32)


def picture(path, width=400, height=500, seed=0):
    noise = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return noise


def write(path, points):
    if path.suffix == ".npy":
        np.save(path, points)
    elif path.suffix == ".npz":
        np.savez(path, landmarks=points, other=np.zeros(3))
    elif path.suffix == ".json":
        path.write_text(json.dumps(points.tolist()))
    else:
        np.savetxt(path, points, delimiter=",", header="x,y,z", comments="")
    return path


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".json", ".csv"])
@pytest.mark.parametrize("axes", [2, 3])
def test_landmark_files_of_every_kind(tmp_path, suffix, axes):
    points = face_points(400, 500)
    read = read_landmarks(write(tmp_path / f"l{suffix}", points[:, :axes]), (500, 400))
    np.testing.assert_allclose(read[:, :2], points[:, :2], atol=1e-3)
    np.testing.assert_allclose(read[:, 2], points[:, 2], atol=1e-3 if axes == 3 else 3)


def test_bad_landmark_files(tmp_path):
    points = face_points(400, 500)
    cases = {
        "short.npy": (points[:468], "478"),
        "nan.npy": (np.where(np.arange(478)[:, None] == 3, np.nan, points), "finite"),
        "far.npy": (points + 5000, "outside"),
        "share.npy": (points / 500, "pixels, not shares"),
    }
    for name, (values, message) in cases.items():
        with pytest.raises(InputError, match=message):
            read_landmarks(write(tmp_path / name, values), (500, 400))
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="cannot be read"):
        read_landmarks(tmp_path / "object.npy", (500, 400))
    (tmp_path / "l.txt").write_text("1,2")
    with pytest.raises(InputError, match="unknown kind"):
        read_landmarks(tmp_path / "l.txt", (500, 400))
    with pytest.raises(InputError, match="no such"):
        read_landmarks(tmp_path / "absent.npy", (500, 400))


def test_crop_keeps_pixels_under_their_landmarks():
    """A white dot at a landmark is still at that landmark after the crop."""
    image = np.zeros((700, 600, 3), np.uint8)
    points = face_points(600, 700, eyes=150)
    for index in (33, 263, 152, 13):
        x, y = points[index, :2].round().astype(int)
        image[y - 2 : y + 3, x - 2 : x + 3] = 255
    cropped, moved = crop_portrait(image, points, 512)
    assert cropped.shape[0] == cropped.shape[1] and cropped.shape[0] % 2 == 0
    for index in (33, 263, 152, 13):
        x, y = moved[index, :2].round().astype(int)
        assert cropped[y, x].min() > 200


@pytest.mark.parametrize(("width", "height"), [(600, 700), (300, 900), (900, 300), (260, 260)])
def test_crop_is_square_contains_the_face_and_never_distorts(width, height):
    points = face_points(width, height, eyes=95)
    image = np.full((height, width, 3), 90, np.uint8)
    cropped, moved = crop_portrait(image, points, 256)
    assert cropped.shape[0] == cropped.shape[1] <= 256
    assert (cropped == 90).all()  # padding continues the picture
    before, after = np.ptp(points[:, :2], axis=0), np.ptp(moved[:, :2], axis=0)
    assert after[0] / before[0] == pytest.approx(after[1] / before[1], rel=1e-3)
    assert moved[:, :2].min() > 0 and moved[:, :2].max() < cropped.shape[0]


def test_small_faces_are_not_blown_up_and_tiny_ones_refused():
    image = np.zeros((400, 400, 3), np.uint8)
    cropped, _ = crop_portrait(image, face_points(400, 400, eyes=30), 512)
    assert cropped.shape[0] == 2 * round(3.4 * np.linalg.norm((closed_face()[33] - closed_face()[263]) * 30)) // 2 * 2
    with pytest.raises(InputError, match="too small"):
        crop_portrait(image, face_points(400, 400, eyes=9), 512)


def test_no_face_is_refused(tmp_path):
    picture(tmp_path / "noise.png", 200, 200)
    with pytest.raises(InputError, match=r"no face found in .*noise\.png"):
        load_portrait(tmp_path / "noise.png")
    with pytest.raises(InputError, match="size"):
        load_portrait(tmp_path / "noise.png", size=8)


def test_given_landmarks_need_no_face(tmp_path):
    picture(tmp_path / "noise.png")
    portrait = load_portrait(
        tmp_path / "noise.png", landmarks=write(tmp_path / "l.npz", face_points(400, 500)), size=256
    )
    assert portrait.image.shape == (256, 256, 3) and portrait.landmarks.shape == (478, 3) and portrait.notes == ()


@pytest.fixture
def without_mediapipe(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)


def test_a_mediapipe_without_a_mesh_is_said(monkeypatch):
    import sys
    import types

    hollow = types.ModuleType("mediapipe")
    hollow.__version__ = "0.10.31"
    monkeypatch.setitem(sys.modules, "mediapipe", hollow)
    monkeypatch.setattr(module, "find_spec", lambda name: object())
    assert "0.10.31 has no face mesh" in module.why_no_mesh()


def test_a_mediapipe_that_cannot_be_loaded_is_said(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "mediapipe", None)  # what makes `import` raise ImportError
    monkeypatch.setattr(module, "find_spec", lambda name: object())
    assert "cannot be loaded" in module.why_no_mesh()


@needs_samples
@pytest.mark.parametrize("name", ["male_face.png", "uncut_src_img.jpg", "cut_img.png", "zp1.png"])
def test_estimated_landmarks_find_pupils_and_mouth(name):
    image = np.asarray(Image.open(SAMPLES / name).convert("RGB"))
    (box,) = face_boxes(image)
    found = estimate_landmarks(image, box)
    expected = TRUTH[name]
    unit = expected["unit"]
    for index in (468, 473):
        assert np.abs(found[index, :2] - expected[index]).max() < 0.035 * unit
    line = (found[13, 1] + found[14, 1]) / 2
    assert abs(line - expected["line"]) < 0.025 * unit


@needs_samples
def test_two_faces_take_the_larger_and_say_so(tmp_path, without_mediapipe):
    face = Image.open(SAMPLES / "cut_img.png").convert("RGB")
    both = Image.new("RGB", (640, 360), (120, 120, 120))
    both.paste(face.resize((160, 160)), (20, 100))
    both.paste(face.resize((320, 320)), (260, 20))
    both.save(tmp_path / "two.png")
    portrait = load_portrait(tmp_path / "two.png")
    assert any("2 faces" in note and "largest" in note for note in portrait.notes)
    eyes = np.linalg.norm(portrait.landmarks[33] - portrait.landmarks[263])
    assert portrait.image.shape[0] / eyes < 4
    assert any("MediaPipe" in note for note in portrait.notes)


@needs_samples
def test_grey_and_turned_pictures_still_have_a_face(tmp_path, without_mediapipe):
    face = Image.open(SAMPLES / "cut_img.png")
    face.convert("L").save(tmp_path / "grey.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    face.rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    plain = load_portrait(SAMPLES / "cut_img.png")
    for name in ("grey.png", "turned.png"):
        portrait = load_portrait(tmp_path / name)
        difference = np.linalg.norm(portrait.landmarks[:, :2] - plain.landmarks[:, :2], axis=1).mean()
        assert difference < 0.04 * np.linalg.norm(plain.landmarks[33] - plain.landmarks[263])
