"""What DreamTalk's command does, step by step, with the files it leaves at the places it leaves them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import media
from ..config import preset
from ..conventions import DREAMTALKS
from ..driving import condition_rows, expression_pieces, recording_statistics
from ..errors import InputError
from ..face.pose import load_pose
from ..face.styles import load_style
from ..model import MotionModel
from ..rates import COEFFICIENTS, FEATURE_RATE, ROWS_PER_FRAME, SAMPLE_RATE, SAMPLES_PER_FRAME
from ..renderer.flow_frames import FlowFrames, Precision
from ..renderer.flow_reuse import TemporalReuse
from ..types import Motion, StyleClip, as_device
from .checkpoint import Source
from .crop import SIZE, framed_portrait
from .denoiser import SPEECH_WIDTH, load_denoiser
from .files import (
    Wav,
    face_motion,
    prepare_folder,
    read_rows,
    write_array,
    write_picture,
    write_rows,
    write_wav,
)
from .motion import motion_model
from .renderer import load_renderer
from .watermark import stamp

RENDERED_AT_ONCE = 16
"""Frames the renderer takes together."""

ROWS_AT_ONCE = 1000
"""Feature rows read from their file at a time."""

Report = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""


@dataclass(frozen=True)
class Command:
    """The original's flags under the original's names, then what it has hard-coded.

    max_gen_len: seconds; seed: None draws noise from torch's default generator, as the original
    does; wav2vec: hub name or folder; root: where `tmp/` and `output_video/` are made.
    """

    wav_path: str
    image_path: str
    style_clip_path: str
    pose_path: str
    img_crop: bool = True
    max_gen_len: int = 1000
    cfg_scale: float = 1.0
    output_name: str = "test"
    device: str = "cuda"
    seed: int | None = None
    steps: int = 10
    watermark: bool = True
    denoiser: Source = "checkpoints/denoising_network.pth"
    renderer: Source = "checkpoints/renderer.pt"
    wav2vec: str = preset("dreamtalk").speech.pretrained
    precision: Precision = "exact"
    reuse: float = 0.0
    root: Path = Path(".")


def run(command: Command, report: Report = lambda stage, done, total: None) -> Path:
    """Make `output_video/NAME.mp4` and the files under `tmp/NAME/`; returns the video's path.

    Raises InputError for anything a person can mend, before the long work where it can be known.
    """
    if not command.output_name or Path(command.output_name).name != command.output_name:
        raise InputError(f"output_name must be a plain file name, got {command.output_name!r}")
    TemporalReuse(command.reuse)  # refuses a bad threshold before the long work
    device = as_device(command.device)
    video = prepare_folder(command.root / "output_video") / f"{command.output_name}.mp4"
    folder = prepare_folder(command.root / "tmp" / command.output_name)
    media.check_output(video)
    style = load_style(Path(command.style_clip_path))
    pose = DREAMTALKS.pose(load_pose(command.pose_path))
    portrait = framed_portrait(command.image_path, crop=command.img_crop)
    samples = media.check_audio(command.wav_path).samples
    model = motion_model(load_denoiser(command.denoiser), command.wav2vec).to(device)
    model.schedule.times(command.steps)
    renderer = load_renderer(command.renderer).to(device)

    write_picture(folder / "src_img.png", portrait)
    sound = Wav(folder / f"{command.output_name}_16K.wav")
    write_wav(sound.path, media.audio_blocks(command.wav_path, 10 * SAMPLE_RATE))
    features = folder / f"{command.output_name}_wav2vec.npy"
    written = write_rows(features, _features(model, sound, samples), SPEECH_WIDTH)
    report("features", 1, 1)
    rows = min(written, command.max_gen_len * FEATURE_RATE)
    frames = rows // ROWS_PER_FRAME
    if not frames:
        raise InputError(f"{command.wav_path} is too short: one frame needs 0.05 s of sound")

    expression = _expression(command, model, style, _rows(features, rows, device), frames, report)
    motion = face_motion(expression.numpy(), pose.next(frames).numpy())
    write_array(folder / f"{command.output_name}_facemotion.npy", motion)

    pictures = FlowFrames(renderer, portrait, device, command.precision, command.reuse).stream(_pieces(motion))
    _write_video(command, video, pictures, sound, frames, report)
    return video


def _features(model: MotionModel, sound: Wav, samples: int) -> Iterator[np.ndarray]:
    """wav2vec 2.0 rows [t, 1024] float32, 50 per second, piece by piece; long sound is read twice."""
    statistics = recording_statistics(model, samples, sound.blocks(SAMPLE_RATE))
    for rows in condition_rows(model, sound.blocks(SAMPLE_RATE), statistics=statistics):
        yield rows[0].float().cpu().numpy()


def _rows(path: Path, rows: int, device: torch.device) -> Iterator[Tensor]:
    """The first `rows` feature rows of a file, in pieces [1, r, 1024]."""
    for first in range(0, rows, ROWS_AT_ONCE):
        yield torch.from_numpy(read_rows(path, first, min(rows, first + ROWS_AT_ONCE)))[None].to(device)


def _expression(
    command: Command, model: MotionModel, style: StyleClip, rows: Iterator[Tensor], frames: int, report: Report
) -> Tensor:
    """Coefficients [L, 64] on the CPU."""
    expression, done = torch.empty(frames, COEFFICIENTS), 0
    noise = DREAMTALKS.noise(command.seed)
    for piece in expression_pieces(model, rows, style, noise, steps=command.steps, guidance=command.cfg_scale):
        expression[done : done + len(piece)] = piece.cpu()
        done += len(piece)
        report("motion", done, frames)
    return expression


def _pieces(motion: np.ndarray) -> Iterator[Motion]:
    for first in range(0, len(motion), RENDERED_AT_ONCE):
        rows = torch.from_numpy(motion[first : first + RENDERED_AT_ONCE])
        yield Motion(rows[:, :COEFFICIENTS], rows[:, COEFFICIENTS:], torch.zeros(len(rows)))


def _write_video(
    command: Command, video: Path, pictures: Iterator[Tensor], sound: Wav, frames: int, report: Report
) -> None:
    with media.VideoWriter(video, SIZE, SIZE, audio_rate=SAMPLE_RATE) as writer:
        for block in pictures:
            shown = writer.frames
            block = block.cpu().numpy()
            writer.write(stamp(block) if command.watermark else block)
            writer.write_audio(sound.read(shown * SAMPLES_PER_FRAME, writer.frames * SAMPLES_PER_FRAME))
            report("render", writer.frames, frames)
