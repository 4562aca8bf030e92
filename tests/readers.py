"""What the tests of hostile files share: a small good file of every kind, and who reads it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import numpy as np
import scipy.io
import soundfile
import torch
from PIL import Image

from dmt import media
from dmt.batch.jobs import read_jobs
from dmt.checkpoint import load_model, read_record, save_model
from dmt.cli.learn import _config
from dmt.config import DenoiserConfig, ModelConfig, SpeechConfig, TacotronConfig
from dmt.data.clip import Clip
from dmt.data.dreamtalk import _features
from dmt.data.shards import PreparedClips, write_shard
from dmt.data.tracks import read_motion
from dmt.dreamtalk.checkpoint import is_foreign, read_state
from dmt.dreamtalk.files import read_picture
from dmt.evaluation.lips import _reference
from dmt.evaluation.lpips import _from_file
from dmt.face.basis import LandmarkBasis
from dmt.face.image import read_image
from dmt.face.landmarks import read_landmarks
from dmt.face.pose import load_pose
from dmt.face.styles import load_style
from dmt.features.weights import read_weights
from dmt.inspection import inspect
from dmt.media.film import film_info, film_pictures
from dmt.model import MotionModel
from dmt.scene import asset
from dmt.training.state import load_state, save_state

Reader = Callable[[Path], object]


@dataclass(frozen=True)
class Kind:
    """name: of a file of this kind, its suffix included; write: a good one; readers: all that may be given it;
    cost: of reading one, compared with most."""

    name: str
    write: Callable[[Path], object]
    readers: tuple[Reader, ...]
    cost: int = 1


def landmarks(path: Path) -> object:
    return read_landmarks(path, (512, 512))


def state(path: Path) -> object:
    return read_state(path, "model_state_dict")


def speech_weights(path: Path) -> object:
    return read_weights(str(path))


def shard(path: Path) -> object:
    return list(PreparedClips([path]))


def settings(path: Path) -> object:
    return _config(ModelConfig(), "", {}, path)


def frames(path: Path) -> object:
    return list(islice(media.read_frames(path), 20))


def film(path: Path) -> object:
    return film_info(path), list(islice(film_pictures(path), 20))


RANDOM = np.random.default_rng(0)
ROWS = RANDOM.standard_normal((6, 257)).astype(np.float32)
POINTS = RANDOM.uniform(100, 400, (478, 2)).astype(np.float32)
TONE = (0.3 * np.sin(0.1 * np.arange(3200))).astype(np.float32)
NOISE = RANDOM.integers(0, 255, (5, 64, 64, 3), dtype=np.uint8)
STATE = {"model_state_dict": {"diff_net.net.content_encoder.a": torch.ones(4, 5), "b": torch.ones(3)}}
TABLE = "audio,image,output,style,intensity,seed,blink\na.wav,b.png,o.mp4,happy,1.5,3,yes\nb.wav,,p.mp4,,,,\n"
LINES = '{"audio": "a.wav", "intensity": 1.5}\n{"audio": "b.wav", "image": "c.png", "output": "x/y.mp4", "seed": 4}\n'


def write_mat(**options: object) -> Callable[[Path], object]:
    return lambda path: scipy.io.savemat(path, {"coeff": ROWS, "transform_params": ROWS[:, :5]}, **options)


def write_model(path: Path) -> None:
    speech = SpeechConfig(None, 8, 1, 2, 8, 8, 4, 8)
    denoiser = DenoiserConfig(8, 2, 8, 1, 1, 1, 8, shared_matrices=2)
    config = ModelConfig("tiny", speech, TacotronConfig(width=8, conv_width=8), denoiser=denoiser)
    save_model(path, MotionModel(config), {"made for": "tests"})


def write_video(path: Path) -> None:
    with media.VideoWriter(path, 64, 64) as out:
        out.write(NOISE)
        out.write_audio(TONE)


def write_onnx(path: Path) -> None:
    import onnx

    number = onnx.TensorProto.FLOAT
    values = [onnx.helper.make_tensor_value_info(name, number, ["batch", 3]) for name in ("x", "y")]
    add = onnx.helper.make_node("Add", ["x", "b"], ["y"])
    bias = onnx.helper.make_tensor("b", number, [3], [1.0, 2.0, 3.0])
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([add], "g", values[:1], values[1:], [bias])), path)


def write_picture(path: Path) -> None:
    Image.fromarray(np.tile(NOISE[0], (2, 2, 1))).save(path)


def write_clips(path: Path) -> None:
    sounds, closures = np.arange(12, dtype=np.int8), np.array([[1, 2]], np.int32)
    rows = {"wave": TONE, "features": np.ones((12, 8), np.float32), "sounds": sounds, "closures": closures}
    write_shard(path, [Clip(name, "somebody", ROWS[:, :64], ROWS[:, :9], **rows) for name in "ab"], [])


NUMBERS = (load_style, load_pose, read_motion, inspect)
PICTURE = (read_image, read_picture)
SOUND = (media.check_audio, inspect)

KINDS = (
    Kind("plain.mat", write_mat(), NUMBERS),
    Kind("packed.mat", write_mat(do_compression=True), NUMBERS),
    Kind("four.mat", write_mat(format="4"), NUMBERS),
    Kind("style.txt", lambda path: np.savetxt(path, ROWS[:, :64]), (load_style, inspect)),
    Kind("motion.npy", lambda path: np.save(path, ROWS[:, :73]), (read_motion, inspect)),
    Kind("features.npy", lambda path: np.save(path, ROWS), (_features, _reference, inspect)),
    Kind("points.npy", lambda path: np.save(path, POINTS), (landmarks, inspect)),
    Kind("points.npz", lambda path: np.savez_compressed(path, landmarks=POINTS), (landmarks, inspect)),
    Kind("points.json", lambda path: path.write_text(json.dumps(POINTS.tolist())), (landmarks,)),
    Kind("points.csv", lambda path: np.savetxt(path, POINTS, delimiter=","), (landmarks, inspect)),
    Kind("basis.npz", lambda path: path.write_bytes(asset("landmark_basis.npz").read_bytes()), (LandmarkBasis.load,)),
    Kind("ours.safetensors", write_model, (load_model, read_record, is_foreign, state, inspect), cost=4),
    Kind("stage.safetensors", lambda path: save_state(path, {"a": [torch.ones(2), {1: "x"}]}), (load_state, inspect)),
    Kind("clips.safetensors", write_clips, (shard, inspect)),
    Kind("zip.pth", lambda path: torch.save(STATE, path), (state, inspect)),
    Kind("weights.pth", lambda path: torch.save({"a.b": torch.ones(2)}, path), (speech_weights, _from_file, inspect)),
    Kind("old.pt", lambda path: torch.save(STATE, path, _use_new_zipfile_serialization=False), (state, inspect)),
    Kind("jobs.csv", lambda path: path.write_text(TABLE), (read_jobs,)),
    Kind("jobs.jsonl", lambda path: path.write_text(LINES), (read_jobs,)),
    Kind("settings.json", lambda path: path.write_text('{"corpus": "c", "seed": 1, "device": "cpu"}'), (settings,)),
    *(
        Kind(f"sound.{suffix}", lambda path: soundfile.write(path, TONE, 16_000), SOUND)
        for suffix in ("wav", "flac", "ogg", "mp3", "aiff")
    ),
    *(Kind(f"face.{suffix}", write_picture, PICTURE) for suffix in ("png", "jpg", "bmp", "gif", "webp", "tiff")),
    Kind("film.mp4", write_video, (media.check_audio, frames, film, inspect)),
    *([Kind("net.onnx", write_onnx, (inspect,))] if find_spec("onnx") else []),
)


def cases() -> Iterator[tuple[str, Reader]]:
    """Every (suffix, reader) once."""
    return iter({(Path(kind.name).suffix, reader): None for kind in KINDS for reader in kind.readers})
