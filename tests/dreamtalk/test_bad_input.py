"""What people hand to the drop-in by mistake, or what only looks odd: one clear line each, or the right result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image

from dmt import media
from dmt.cli.app import run as dmt_run
from dmt.dreamtalk import load_denoiser, load_renderer
from dmt.dreamtalk.cli import run as dreamtalk_run
from dmt.errors import InputError
from dmt.face.styles import load_style

pytestmark = pytest.mark.usefixtures("small_wav2vec")

CHECKPOINTS = {"denoiser": "checkpoints/denoising_network.pth", "renderer": "checkpoints/renderer.pt"}
LOADERS = {"denoiser": load_denoiser, "renderer": load_renderer}
WRAPPERS = {"denoiser": "model_state_dict", "renderer": "net_G_ema"}


class Hostile:
    def __reduce__(self) -> tuple:
        return (exec, ("raise SystemExit('the pickle ran')",))


def good(world: Path, kind: str) -> dict[str, torch.Tensor]:
    return dict(torch.load(world / CHECKPOINTS[kind], weights_only=True)[WRAPPERS[kind]])


@pytest.mark.parametrize("kind", ["denoiser", "renderer"])
def test_files_that_are_no_checkpoints(world: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "cut.pt").write_bytes((world / CHECKPOINTS[kind]).read_bytes()[:300_000])
    tensor = {"a.weight": torch.zeros(2)}
    torch.save({WRAPPERS[kind]: tensor, "hook": Hostile()}, tmp_path / "hostile.pt")
    torch.save({WRAPPERS[kind]: {"inner": Hostile()}}, tmp_path / "hostile inside.pt")
    torch.save({"state": tensor, "epoch": 7}, tmp_path / "other keys.pt")
    torch.save({WRAPPERS[kind]: {}}, tmp_path / "hollow.pt")
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    for name, words in {
        "cut.pt": "cut short|damaged",
        "hostile.pt": "could run code",
        "hostile inside.pt": "could run code",
        "other keys.pt": f"expected them under '{WRAPPERS[kind]}' or at the top, found state, epoch",
        "hollow.pt": "holds no tensors",
        "tensor.pt": "holds a Tensor",
    }.items():
        with pytest.raises(InputError, match=words) as caught:
            LOADERS[kind](tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["denoiser", "renderer"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_loaded(world: Path, kind: str, dtype: torch.dtype) -> None:
    state = good(world, kind)
    other = {k: v.to(dtype) if v.is_floating_point() and "var_sched" not in k else v for k, v in state.items()}
    loaded = LOADERS[kind]({WRAPPERS[kind]: other})
    exact = LOADERS[kind](state)
    for ours, theirs in zip(loaded.parameters(), exact.parameters(), strict=True):
        assert ours.dtype == torch.float32 and torch.allclose(ours, theirs, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("kind", ["denoiser", "renderer"])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite(world: Path, kind: str, value: float) -> None:
    state = good(world, kind)
    name = list(state)[5]
    state[name] = torch.full_like(state[name], value)
    with pytest.raises(InputError, match="not finite") as caught:
        LOADERS[kind](state)
    assert name in str(caught.value)


@pytest.mark.parametrize("rows", [256, 257, 10_000])
def test_long_style_clips_count_with_their_first_256_rows(tmp_path: Path, rows: int) -> None:
    values = np.random.default_rng(0).standard_normal((rows, 257)).astype(np.float32)
    scipy.io.savemat(tmp_path / "s.mat", {"coeff": values})
    np.savetxt(tmp_path / "s.txt", values[:300, 80:144])
    for name in ("s.mat", "s.txt"):
        clip = load_style(tmp_path / name)
        assert not clip.padding.any() and np.abs(clip.coefficients.numpy() - values[:256, 80:144]).max() < 1e-6


def mat(name: str, **arrays: np.ndarray) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        scipy.io.savemat(folder / name, arrays)
        return folder / name

    return make


def text(name: str, content: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_text(content)
        return folder / name

    return make


def picture(name: str, width: int, height: int) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        Image.new("RGB", (width, height)).save(folder / name)
        return folder / name

    return make


def same(path: str) -> Callable[[Path], str]:
    return lambda folder: path


ZEROS = np.zeros((4, 257), np.float32)

CASES = [
    ("style", mat("no coeff.mat", other=ZEROS), ["no coeff.mat", "no array 'coeff'"]),
    ("style", mat("none.mat", coeff=ZEROS[:0]), ["none.mat", "at least one frame"]),
    ("style", text("none.txt", ""), ["none.txt", "at least one frame"]),
    ("style", text("words.txt", "not numbers\n"), ["words.txt", "64 numbers"]),
    ("pose", mat("no coeff.mat", transform_params=ZEROS[:, :5]), ["no coeff.mat", "no array 'coeff'"]),
    ("pose", mat("none.mat", coeff=ZEROS[:0], transform_params=ZEROS[:0, :5]), ["none.mat", "at least one frame"]),
    ("image", picture("wide.png", 300, 256), ["wide.png", "300 x 256", "256 x 256"]),
    ("image", text("é.png", "no picture"), ["é.png", "cannot be read as an image"]),
    ("checkpoint", same(CHECKPOINTS["renderer"]), ["renderer checkpoint, not a denoiser"]),
    ("renderer", same(CHECKPOINTS["denoiser"]), ["denoiser checkpoint, not a renderer"]),
    ("checkpoint", text("words é.pth", "no checkpoint"), ["words é.pth"]),
    ("renderer", text("words é.pt", "no checkpoint"), ["words é.pt"]),
]
THEIRS = {"style": "style_clip_path", "pose": "pose_path", "image": "image_path", "checkpoint": "denoiser"}


def dreamtalk(world: Path, tmp_path: Path, changes: dict[str, object]) -> int:
    flags = {"wav_path": "a voice.wav", "image_path": "face.png", "style_clip_path": "style ñ.mat"}
    flags |= {"pose_path": "short pose.mat", "output_name": "bad input", "device": "cpu", "steps": "1", "seed": "0"}
    flags |= {THEIRS.get(name, name): value for name, value in changes.items()}
    return dreamtalk_run(["--disable_img_crop", *(part for k, v in flags.items() for part in (f"--{k}", str(v)))])


def generate(world: Path, tmp_path: Path, changes: dict[str, object]) -> int:
    flags = {"audio": "a voice.wav", "image": "face.png", "style": "style ñ.mat", "pose": "short pose.mat"}
    flags |= {"checkpoint": CHECKPOINTS["denoiser"], "renderer": CHECKPOINTS["renderer"], "steps": "1", "device": "cpu"}
    flags |= {"output": tmp_path / "sortie é 出.mp4"} | changes
    return dmt_run(["generate", "--no-crop", *(part for k, v in flags.items() for part in (f"--{k}", str(v)))])


@pytest.mark.filterwarnings("error::UserWarning")  # a warning would be a second line
@pytest.mark.parametrize("command", [dreamtalk, generate])
@pytest.mark.parametrize(("flag", "make", "words"), CASES)
def test_one_line_and_nothing_written(
    command: Callable[[Path, Path, dict[str, object]], int],
    flag: str,
    make: Callable[[Path], str | Path],
    words: list[str],
    world: Path,
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(world)
    (tmp_path / "made").mkdir()
    usual = {} if command is dreamtalk or flag == "checkpoint" else {"checkpoint": tiny_checkpoint}
    assert command(world, tmp_path, usual | {flag: make(tmp_path / "made")}) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert all(word in line for word in words), line
    assert not (world / "output_video/bad input.mp4").exists() and not list(tmp_path.glob("*.mp4"))


def test_speech_weights_that_are_not_there(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()  # the real loader
    monkeypatch.chdir(world)
    (tmp_path / "an empty folder").mkdir()
    for command in (dreamtalk, generate):
        assert command(world, tmp_path, {"wav2vec": tmp_path / "an empty folder"}) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert "an empty folder" in line and "config.json" in line


def test_speech_weights_for_a_model_that_has_its_own(
    tiny_checkpoint: Path,
    world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(world)
    assert generate(world, tmp_path, {"wav2vec": "some/model", "checkpoint": tiny_checkpoint}) == 2
    assert "holds its own speech encoder" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--size", "512"], "learned renderer makes 256 x 256"),
        (["--landmarks", "face.npz"], "landmarks are for the warp renderer"),
        (["--precision", "sloppy"], "precision must be exact or fast"),
        (["--reuse", "-1"], "reuse must be"),
    ],
)
def test_options_of_the_learned_renderer(
    arguments: list[str],
    words: str,
    tiny_checkpoint: Path,
    world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(world)
    flags = ["--audio", "a voice.wav", "--image", "face.png", "--checkpoint", str(tiny_checkpoint), "--steps", "1"]
    code = dmt_run(
        ["generate", *flags, "--renderer", CHECKPOINTS["renderer"], "-o", str(tmp_path / "o.mp4"), *arguments]
    )
    (line,) = capfd.readouterr().err.splitlines()
    assert code == 2 and words in line


@pytest.mark.parametrize("arguments", [["--precision", "fast"], ["--reuse", "1"], ["--no-crop"]])
def test_options_that_need_the_learned_renderer(
    arguments: list[str], tiny_checkpoint: Path, world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    flags = ["--audio", str(world / "a voice.wav"), "--checkpoint", str(tiny_checkpoint), "-o", str(tmp_path / "o.mp4")]
    assert dmt_run(["generate", *flags, *arguments]) == 2
    assert "are for the learned renderer" in capfd.readouterr().err


def test_one_row_of_pose_an_alpha_channel_and_odd_names(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world)
    (tmp_path / "dossier à part").mkdir()
    face = Image.open("face.png").convert("RGBA")
    face.putalpha(100)
    face.save(tmp_path / "dossier à part/visage 4 canaux.png")
    one = {"coeff": ZEROS[:1], "transform_params": ZEROS[:1, :5]}
    scipy.io.savemat(tmp_path / "dossier à part/une pose.mat", one)
    odd = {
        "image": tmp_path / "dossier à part/visage 4 canaux.png",
        "pose": tmp_path / "dossier à part/une pose.mat",
        "output": tmp_path / "dossier à part/sortie 出.mp4",
        "reuse": "1000",  # one picture for all frames: what is asked here is that they come
    }
    assert generate(world, tmp_path, odd) == 0, capfd.readouterr().err
    made = np.stack(list(media.read_frames(odd["output"])))
    assert made.shape == (4, 256, 256, 3)
    del odd["output"]
    assert dreamtalk(world, tmp_path, odd | {"output_name": "odd é"}) == 0
    assert len(list(media.read_frames(world / "output_video/odd é.mp4"))) == 4
    motion = np.load(world / "tmp/odd é/odd é_facemotion.npy")
    assert not motion[:, 64:].any() and np.isfinite(motion).all()
