"""Memory of the drop-in command does not grow with the audio."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image

from dmt.dreamtalk import command
from dmt.dreamtalk.files import Wav, read_rows, write_rows, write_wav

RUN = """
import sys
from dataclasses import replace
from pathlib import Path
import numpy as np, torch
from dmt.dreamtalk import command, crop
from dmt.dreamtalk.denoiser import DreamTalkDenoiser
from dmt.renderer.flow import FlowRenderer
from dmt.features import SpeechEncoder
from dmt.progress import peak_memory
torch.set_num_threads(1)
folder, seconds = Path(sys.argv[1]), int(sys.argv[2])
from dmt.model import MotionModel
SpeechEncoder.from_pretrained = staticmethod(
    lambda c: SpeechEncoder(replace(c, layers=0, feed_forward=8, conv_width=8, positional_kernel=8)))
torch.manual_seed(0)
command.load_denoiser = lambda source: DreamTalkDenoiser()
command.load_renderer = lambda source: FlowRenderer()
command.SIZE = crop.SIZE = 32
MotionModel.sample = lambda self, rows, style, *, noise, **options: noise + rows.mean()
class Still:
    def __init__(self, renderer, picture, *options): self.picture = torch.from_numpy(np.array(picture))
    def stream(self, pieces):
        for piece in pieces: yield self.picture.expand(len(piece), -1, -1, -1)
command.FlowFrames = Still
command.run(command.Command(
    wav_path=str(folder / f"{seconds}.wav"), image_path=str(folder / "face.png"),
    style_clip_path=str(folder / "style.mat"),
    pose_path=str(folder / "pose.mat"), img_crop=False, device="cpu", watermark=False, seed=1, max_gen_len=10_000,
    output_name=str(seconds), root=folder))
print(peak_memory() // 1024)
"""


def peak(folder: Path, seconds: int) -> int:
    """Largest resident memory, in kB, of a whole run on `seconds` of sound."""
    random = np.random.default_rng(0)
    write_wav(folder / f"{seconds}.wav", (0.1 * random.standard_normal(16000) for _ in range(seconds)))
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(folder), str(seconds)], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert len(np.load(folder / f"tmp/{seconds}/{seconds}_wav2vec.npy", mmap_mode="r")) == seconds * 50 - 1
    return int(done.stdout.split()[-1])


@pytest.fixture
def files(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(tmp_path / "face.png")
    scipy.io.savemat(tmp_path / "style.mat", {"coeff": random.standard_normal((40, 257))})
    scipy.io.savemat(tmp_path / "pose.mat", {"coeff": np.zeros((3, 257)), "transform_params": np.zeros((3, 5))})
    return tmp_path


def test_five_minutes_need_what_twenty_seconds_need(files: Path) -> None:
    assert peak(files, 300) < 1.1 * peak(files, 20)


@pytest.mark.slow
def test_twenty_minutes_need_what_twenty_seconds_need(files: Path) -> None:
    assert peak(files, 1200) < 1.2 * peak(files, 20)


@pytest.mark.parametrize("rows", [1, 2, 15, 41, 50])
def test_rows_come_back_from_their_file(tmp_path: Path, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.random.default_rng(0).standard_normal((50, 1024)).astype(np.float32)
    assert write_rows(tmp_path / "rows.npy", np.array_split(whole, 7), 1024) == 50
    assert np.array_equal(np.load(tmp_path / "rows.npy"), whole)
    assert np.array_equal(read_rows(tmp_path / "rows.npy", 4, 9), whole[4:9])
    monkeypatch.setattr(command, "ROWS_AT_ONCE", 20)
    pieces = list(command._rows(tmp_path / "rows.npy", rows, torch.device("cpu")))
    assert max(piece.shape[1] for piece in pieces) <= 20
    assert np.array_equal(torch.cat(pieces, dim=1)[0], whole[:rows])


def test_a_wav_is_read_in_any_pieces(tmp_path: Path) -> None:
    sound = np.random.default_rng(0).uniform(-1.2, 1.2, 1000)
    assert write_wav(tmp_path / "a.wav", [sound[:300], sound[300:]]) == 1000
    expected = np.clip(np.rint(sound * 32768), -32768, 32767).astype(np.float32) / 32768
    wav = Wav(tmp_path / "a.wav")
    assert np.array_equal(np.concatenate(list(wav.blocks(64))), expected)
    assert np.array_equal(wav.read(290, 310), expected[290:310])
    assert len(wav.read(990, 1100)) == 10 and len(wav.read(2000, 2100)) == 0
