"""The `dreamtalk` command: the original's flags with the original's meaning, and a few it lacked."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ..errors import InputError


def parser() -> argparse.ArgumentParser:
    """Flags and defaults of the original, then ours."""
    p = argparse.ArgumentParser(
        prog="dreamtalk", description="DreamTalk's command, accelerated; same files, same flags."
    )
    p.add_argument("--wav_path", default="", help="audio, or a video whose sound is used")
    p.add_argument("--image_path", default="", help="portrait")
    p.add_argument(
        "--disable_img_crop", dest="img_crop", action="store_false", help="the portrait already is 256 x 256 and framed"
    )
    p.add_argument("--style_clip_path", default="", help="speaking style, .mat or .txt")
    p.add_argument("--pose_path", default="", help="head pose, .mat; a short one holds its last row")
    p.add_argument("--max_gen_len", type=int, default=1000, help="seconds of speech used at most (default 1000)")
    p.add_argument("--cfg_scale", type=float, default=1.0, help="style guidance scale (default 1.0)")
    p.add_argument("--output_name", default="test", help="name of the video and of its folder under tmp/")
    p.add_argument("--device", default="cuda", help="cuda (default) or cpu")
    ours = p.add_argument_group("not in the original")
    ours.add_argument("--seed", type=int, help="noise of torch.manual_seed(SEED); without it every run differs")
    ours.add_argument("--steps", type=int, default=10, help="DDIM steps, a divisor of 1000 (default 10)")
    ours.add_argument("--no_watermark", dest="watermark", action="store_false", help="leave out the visible mark")
    ours.add_argument("--denoiser", default="checkpoints/denoising_network.pth", help="denoiser checkpoint")
    ours.add_argument("--renderer", default="checkpoints/renderer.pt", help="renderer checkpoint")
    ours.add_argument("--wav2vec", help="hub name or folder of the wav2vec 2.0 model")
    ours.add_argument(
        "--precision", choices=("exact", "fast"), default="exact", help="renderer in float32, or in 16 bits"
    )
    ours.add_argument(
        "--reuse",
        type=float,
        default=0.0,
        help="show a frame again where the face moves less than this many times its mean movement "
        "(lossy: 1 is about 1.4 times faster at 43 dB, 2 about 3 times at 35 dB; 0, the default, computes all)",
    )
    return p


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and leave the process with its exit code."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """0 on success, 2 for input that can be mended (one line on stderr), 130 after Ctrl-C."""
    chosen = {k: v for k, v in vars(parser().parse_args(arguments)).items() if v is not None}
    from .command import Command
    from .command import run as execute

    try:
        for name in ("wav_path", "image_path", "style_clip_path", "pose_path"):
            if not chosen[name]:
                raise InputError(f"--{name} is needed")
        path = execute(Command(**chosen), _show)
    except InputError as error:
        print(f"dreamtalk: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("dreamtalk: interrupted; the video was not written", file=sys.stderr)
        return 130
    print(f"wrote {path}")
    return 0


def _show(stage: str, done: int, total: int) -> None:
    end = "\n" if done >= total else ""
    print(f"\r{stage} {done}/{total}", end=end, file=sys.stderr, flush=True)
