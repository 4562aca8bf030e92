"""`dmt inspect` names what there is, and says one sentence about what it cannot read."""

import numpy as np
import pytest
import scipy.io
import soundfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from dmt.cli.app import run
from dmt.errors import InputError
from dmt.inspection import draw, inspect
from dmt.media import VideoWriter
from dmt.scene import asset

SUFFIXES = (".mat", ".npy", ".npz", ".txt", ".pth", ".safetensors", ".mp4", ".wav", ".png", "")


def style_mat(path, frames=60, crop=True):
    random = np.random.default_rng(0)
    arrays = {"coeff": (0.1 * random.standard_normal((frames, 257))).astype(np.float32)}
    if crop:
        arrays["transform_params"] = np.tile(np.float32([256, 256, 0.9, 127, 129]), (frames, 1))
    scipy.io.savemat(path, arrays)
    return path


def made(folder, name):
    path = folder / name
    if name.endswith(".mat"):
        return style_mat(path, crop="pose" in name)
    if name.endswith(".npy"):
        np.save(path, np.zeros((30, {"f": 73, "e": 64, "w": 1024}[name[0]]), np.float32))
    elif name.endswith(".txt"):
        np.savetxt(path, np.zeros((30, 64)))
    elif name.endswith(".wav"):
        soundfile.write(path, 0.3 * np.sin(np.arange(16000) / 20).astype(np.float32), 16000)
    elif name.endswith(".mp4"):
        with VideoWriter(path, 64, 64, audio_rate=None) as writer:
            writer.write(np.zeros((20, 64, 64, 3), np.uint8))
    elif name.endswith(".png"):
        Image.new("RGB", (80, 90)).save(path)
    elif name.endswith(".pth"):
        torch.save({"model_state_dict": {"diff_net.net.x": torch.zeros(3, 4)}}, path)
    elif name.endswith(".pt"):
        torch.save({"net_G_ema": {"mapping_net.first.weight": torch.zeros(2)}}, path)
    return path


@pytest.mark.parametrize(
    ("name", "kind", "use"),
    [
        ("style.mat", "style clip (DreamTalk", "dmt generate --style"),
        ("pose.mat", "style clip and head pose", "dmt generate --pose"),
        ("f.npy", "face motion", "dmt evaluate lips"),
        ("e.npy", "expression coefficients", "dmt evaluate lips"),
        ("w.npy", "speech features", ""),
        ("s.txt", "expression coefficients", "dmt generate --style"),
        ("v.wav", "sound", "dmt generate --audio"),
        ("v.mp4", "film", "dmt extract"),
        ("p.png", "picture without a face", ""),
        ("d.pth", "DreamTalk's denoiser", "dreamtalk"),
        ("r.pt", "DreamTalk's renderer", "dreamtalk"),
    ],
)
def test_kinds(tmp_path, name, kind, use):
    found = inspect(made(tmp_path, name))
    assert kind in found.kind and found.facts
    assert any(use in command for command in found.takes) or not use
    page = np.asarray(draw(found).convert("L"))
    assert page.shape[1] <= 960 and (page.min() < 128 or name[0] == "w")  # features of zeros are one grey


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("demo.safetensors", "dreamtalk-dmt motion model"),
        ("landmark_basis.npz", "landmark basis"),
        ("portrait_landmarks.npz", "face-mesh landmarks"),
        ("styles.npz", "style clips by name"),
        ("portrait.png", "portrait"),
        ("demo.flac", "sound"),
    ],
)
def test_what_is_bundled(name, kind):
    found = inspect(asset(name))
    assert kind in found.kind
    if name == "landmark_basis.npz":
        with pytest.raises(InputError, match="nothing to draw"):
            draw(found)
    else:
        assert (np.asarray(draw(found).convert("L")) < 128).sum() > 300


def test_shown_and_drawn(tmp_path, capsys):
    path = style_mat(tmp_path / "a clip.mat")
    assert run(["inspect", str(path), "--picture", str(tmp_path / "page.png")]) == 0
    out = capsys.readouterr().out
    assert "60 frames, 2.40 s" in out and f"dmt generate --style '{path}'" in out and "mouth opening" in out
    page = np.asarray(Image.open(tmp_path / "page.png").convert("L"))
    assert page.shape[1] == 960 and (page < 128).mean() > 0.002


def refusals(folder):
    (folder / "empty.mat").touch()
    (folder / "text.mat").write_text("hello " * 100)
    scipy.io.savemat(folder / "other.mat", {"x": np.zeros((3, 3))})
    scipy.io.savemat(folder / "nan.mat", {"coeff": np.full((5, 257), np.nan)})
    np.save(folder / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    torch.save({"model": Bad()}, folder / "hostile.pth")
    torch.save({"no": "tensors"}, folder / "none.pth")
    (folder / "notes.md").write_text("# notes")
    return {
        "empty.mat": "is empty",
        "text.mat": "cannot be read as a MATLAB",
        "other.mat": "needs 'coeff'",
        "nan.mat": "not finite",
        "pickled.npy": "plain numbers",
        "hostile.pth": "could run code",
        "none.pth": "holds no tensors",
        "notes.md": "of no kind known here",
        "absent": "no such file",
        ".": "is a folder",
    }


class Bad:
    """What a pickle may bring along."""

    def __reduce__(self):
        return (print, ("this must never be printed",))


def test_refused_in_one_sentence(tmp_path, capsys):
    for name, said in refusals(tmp_path).items():
        assert run(["inspect", str(tmp_path / name)]) == 2, name
        shown = capsys.readouterr()
        assert said in shown.err and shown.err.count("\n") == 1 and shown.out == "", shown
        assert "must never" not in shown.err


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=300),
    suffix=st.sampled_from(SUFFIXES),
    magic=st.sampled_from(
        [b"", b"\x93NUMPY\x01\x00", b"MATLAB 5.0 MAT-file", b"PK\x03\x04", b"RIFF", b"\x89PNG\r\n\x1a\n", b"\x80\x02"]
    ),
)
def test_random_bytes(tmp_path, content, suffix, magic):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(magic + content)
    understood_or_refused(path)


@pytest.mark.parametrize("name", ["pose.mat", "f.npy", "s.txt", "v.wav", "v.mp4", "p.png", "d.pth"])
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1), flips=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=8))
def test_truncated_and_altered_files(tmp_path, name, share, flips):
    data = bytearray((made(tmp_path, name)).read_bytes())
    data = data[: max(1, int(share * len(data)))]
    for where, value in flips:
        data[int(where * len(data))] = value
    (tmp_path / name).write_bytes(data)
    understood_or_refused(tmp_path / name)


def understood_or_refused(path):
    try:
        assert inspect(path).kind
    except InputError as error:
        assert str(path) in str(error) and "Traceback" not in str(error)


def test_names_in_an_onnx_file_that_are_no_text(tmp_path):
    """protobuf hands them out as bytes."""
    onnx = pytest.importorskip("onnx", reason="onnx comes with the extra [onnx]")
    number, path = onnx.TensorProto.FLOAT, tmp_path / "net.onnx"
    ends = [onnx.helper.make_tensor_value_info(name, number, ["batch_size", 3]) for name in ("entrance", "exit")]
    add = onnx.helper.make_node("Add", ["entrance", "bias_of_it"], ["exit"])
    bias = onnx.helper.make_tensor("bias_of_it", number, [3], [1.0, 2.0, 3.0])
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([add], "g", ends[:1], ends[1:], [bias])), path)
    content = path.read_bytes()
    for name in (b"entrance", b"bias_of_it", b"batch_size"):
        content = content.replace(name, b"\xff" * len(name))
    path.write_bytes(content)
    found = inspect(path)
    assert found.parts == {"\ufffd" * 10: 3}
    assert ("takes " + "\ufffd" * 8, "float [" + "\ufffd" * 10 + ", 3]") in found.facts
