"""What DreamTalk's command does, step by step, with the files it leaves at the places it leaves them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import media
from ..config import preset
from ..errors import InputError
from ..face.pose import load_pose
from ..face.styles import load_style
from ..features import FeatureExtractor, SpeechEncoder, windows
from ..rates import COEFFICIENTS, FEATURE_RATE, ROWS_PER_FRAME, SAMPLE_RATE, WINDOW
from ..renderer.flow_frames import FlowFrames, Precision
from ..renderer.flow_reuse import TemporalReuse
from ..types import Motion, as_device
from .checkpoint import Source
from .crop import SIZE, crop_portrait
from .denoiser import FRAMES_AT_ONCE, SPEECH_WIDTH, DreamTalkDenoiser, load_denoiser
from .files import (
    Wav,
    face_motion,
    hold_last,
    prepare_folder,
    read_picture,
    read_rows,
    write_array,
    write_picture,
    write_rows,
    write_wav,
)
from .renderer import load_renderer
from .watermark import stamp

RENDERED_AT_ONCE = 16
"""Frames the renderer takes together."""

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
    pose = load_pose(command.pose_path).numpy()
    portrait = _portrait(command)
    media.check_audio(command.wav_path)
    denoiser = load_denoiser(command.denoiser).to(device)
    denoiser.schedule.times(command.steps)
    renderer = load_renderer(command.renderer).to(device)

    write_picture(folder / "src_img.png", portrait)
    sound = Wav(folder / f"{command.output_name}_16K.wav")
    write_wav(sound.path, media.audio_blocks(command.wav_path, 10 * SAMPLE_RATE))
    features = folder / f"{command.output_name}_wav2vec.npy"
    written = write_rows(features, _features(command, sound, device), SPEECH_WIDTH)
    report("features", 1, 1)
    rows = min(written, command.max_gen_len * FEATURE_RATE)
    frames = rows // ROWS_PER_FRAME
    if not frames:
        raise InputError(f"{command.wav_path} is too short: one frame needs 0.05 s of sound")

    clip = style.coefficients[None].to(device), style.padding[None].to(device)
    expression = _expression(command, denoiser, (features, rows), clip, device, report)
    motion = face_motion(expression.numpy(), hold_last(pose, frames))
    write_array(folder / f"{command.output_name}_facemotion.npy", motion)

    pictures = FlowFrames(renderer, portrait, device, command.precision, command.reuse).stream(_pieces(motion))
    _write_video(command, video, pictures, sound, frames, report)
    return video


def _portrait(command: Command) -> np.ndarray:
    picture = read_picture(command.image_path)
    if command.img_crop:
        return crop_portrait(picture)
    if picture.shape[:2] != (SIZE, SIZE):
        raise InputError(
            f"{command.image_path} is {picture.shape[1]} x {picture.shape[0]}; with --disable_img_crop "
            f"the picture must already be {SIZE} x {SIZE}"
        )
    return picture


def _features(command: Command, sound: Wav, device: torch.device) -> Iterator[np.ndarray]:
    """wav2vec 2.0 rows [t, 1024] float32, 50 per second, piece by piece; the sound is read twice."""
    config = replace(preset("dreamtalk").speech, pretrained=command.wav2vec)
    extractor = FeatureExtractor(SpeechEncoder.from_pretrained(config)).to(device).eval()
    statistics = extractor.measure(sound.blocks(SAMPLE_RATE))
    for piece in extractor.stream(sound.blocks(SAMPLE_RATE), statistics=statistics):
        yield piece.acoustic[0].float().cpu().numpy()


def _expression(
    command: Command,
    denoiser: DreamTalkDenoiser,
    features: tuple[Path, int],
    clip: tuple[Tensor, Tensor],
    device: torch.device,
    report: Report,
) -> Tensor:
    """Coefficients [L, 64]; noise for the whole clip is drawn at once, so a seed means what it always meant.

    features: the file of rows and how many of them count.
    """
    frames = features[1] // ROWS_PER_FRAME
    generator = None if command.seed is None else torch.Generator().manual_seed(command.seed)
    noise = torch.randn(1, frames, COEFFICIENTS, generator=generator)
    expression = torch.empty(frames, COEFFICIENTS)
    for first in range(0, frames, FRAMES_AT_ONCE):
        stop = min(first + FRAMES_AT_ONCE, frames)
        audio = _windows_between(*features, first, stop).to(device)
        some = noise[:, first:stop].to(device)
        sampled = denoiser.sample(audio, *clip, steps=command.steps, guidance=command.cfg_scale, noise=some)
        expression[first:stop] = sampled[0].cpu()
        report("motion", stop, frames)
    return expression


def _windows_between(path: Path, rows: int, first: int, stop: int) -> Tensor:
    """Windows [1, stop - first, 11, 1024] of frames first .. stop - 1, from the file's first `rows` rows."""
    lead = min(first, WINDOW // 2)  # frames before, so that the first window is not at an edge of the piece
    start = ROWS_PER_FRAME * (first - lead)
    piece = read_rows(path, start, min(rows, ROWS_PER_FRAME * stop + WINDOW))
    return windows(torch.from_numpy(piece)[None], lead, stop - first)


def _pieces(motion: np.ndarray) -> Iterator[Motion]:
    for first in range(0, len(motion), RENDERED_AT_ONCE):
        rows = torch.from_numpy(motion[first : first + RENDERED_AT_ONCE])
        yield Motion(rows[:, :COEFFICIENTS], rows[:, COEFFICIENTS:], torch.zeros(len(rows)))


def _write_video(
    command: Command, video: Path, pictures: Iterator[Tensor], sound: Wav, frames: int, report: Report
) -> None:
    per_frame = SAMPLE_RATE // 25
    with media.VideoWriter(video, SIZE, SIZE, audio_rate=SAMPLE_RATE) as writer:
        for block in pictures:
            shown = writer.frames
            block = block.cpu().numpy()
            writer.write(stamp(block) if command.watermark else block)
            writer.write_audio(sound.read(shown * per_frame, writer.frames * per_frame))
            report("render", writer.frames, frames)
