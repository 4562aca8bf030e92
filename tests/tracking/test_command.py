"""`dmt extract` as it is typed: files in each layout, read back by what takes them; nothing left of a failure."""

import numpy as np
import pytest
import torch
from filmed import Performance, Scripted

from dmt.cli.app import run
from dmt.face.pose import load_pose
from dmt.face.styles import load_style


@pytest.fixture
def film_of_a_face(film, monkeypatch):
    """A film, and what a perfect tracker sees in it."""
    truth = Performance(40)
    monkeypatch.setattr("dmt.tracking.recipe._best_tracker", lambda notes: Scripted(truth.landmarks))
    return film(np.arange(40) / 25)


def test_mat_serves_as_style_and_pose(film_of_a_face, tmp_path, capsys):
    clip, pose = tmp_path / "clip.mat", tmp_path / "pose.mat"
    assert run(["extract", str(film_of_a_face), "-o", str(clip), "--pose", str(pose)]) == 0
    out = capsys.readouterr().out
    assert "40 pictures followed with a script" in out and f"wrote {pose}: 40 frames, 1.60 s" in out
    style = load_style(clip)
    assert int((~style.padding).sum()) == 40
    assert torch.equal(load_pose(clip), load_pose(pose)) and load_pose(pose).shape == (40, 9)


def test_npy_and_txt(film_of_a_face, tmp_path):
    for name in ("m.npy", "s.txt", "c.mat"):
        assert run(["extract", str(film_of_a_face), "-o", str(tmp_path / name)]) == 0
    rows = np.load(tmp_path / "m.npy")
    assert rows.shape == (40, 73) and rows.dtype == np.float32
    text, mat = load_style(tmp_path / "s.txt"), load_style(tmp_path / "c.mat")
    np.testing.assert_allclose(text.coefficients, mat.coefficients, atol=1e-6)
    np.testing.assert_array_equal(rows[:, :64], mat.coefficients[:40].numpy())
    assert np.array_equal(rows[:, 64:], load_pose(tmp_path / "c.mat").numpy())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-o", "clip.mp4"], "must be named *.mat"),
        (["-o", "absent/clip.mat"], "does not exist"),
        (["-o", "."], "must be named"),
        (["-o", "clip.mat", "--pose", "pose.txt"], "the pose must be named *.mat"),
        (["-o", "clip.mat", "--pose", "clip.mat"], "named twice"),
        (["-o", "clip.mat", "--start", "-1"], "start must be"),
        (["-o", "clip.mat", "--seconds", "0.2"], "at least 0.5 s"),
    ],
)
def test_refused(film_of_a_face, tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert run(["extract", str(film_of_a_face), *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert error[-1].startswith("dmt: ") and said in error[-1]
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("command", [["styles"], ["inspect", "voice.wav"]])
@pytest.mark.parametrize(
    ("name", "said"),
    [("x.mp4", "must be named *.png, got 'x.mp4'"), ("absent/x.png", "does not exist"), ("folder.png", "is a folder")],
)
def test_a_picture_that_cannot_be_written_is_refused_first(tmp_path, monkeypatch, capsys, voice, command, name, said):
    monkeypatch.chdir(tmp_path)
    voice(tmp_path / "voice.wav", 0.2)
    (tmp_path / "folder.png").mkdir()
    before = sorted(tmp_path.iterdir())
    assert run([*command, "--picture", name]) == 2
    shown = capsys.readouterr()
    assert not shown.out and shown.err.count("\n") == 1 and said in shown.err
    assert sorted(tmp_path.iterdir()) == before


def test_styles(tmp_path, capsys):
    assert run(["styles", "--picture", str(tmp_path / "s.png")]) == 0
    out = capsys.readouterr().out
    assert "happy" in out and out.count(" s\n") == 8
    from PIL import Image

    page = np.asarray(Image.open(tmp_path / "s.png"))
    tiles = page.reshape(2, 256, 4, 256, 3).swapaxes(1, 2).reshape(8, 256, 256, 3).astype(int)
    differences = [np.abs(tiles[i, :220] - tiles[j, :220]).max() for i in range(8) for j in range(i)]
    assert min(differences) > 20  # eight different faces
