"""A ComfyUI node: a portrait (IMAGE) and a voice (AUDIO) become frames (IMAGE) that ComfyUI's own nodes save as video.

Values of ComfyUI: IMAGE is a float tensor [N, H, W, 3] in [0, 1]; AUDIO is {"waveform": [B, C, S] float,
"sample_rate": Hz}.
"""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from PIL import Image
from torch import Tensor

import dmt
from dmt.face.styles import emotion_names

BUNDLED = "bundled"
SIZES = {"default": 512, "min": 64, "max": 2048, "step": 32}


@lru_cache(maxsize=2)
def _pipeline(checkpoint: str, renderer: str):
    """Models stay loaded between runs of a workflow."""
    return dmt.load(None if checkpoint == BUNDLED else checkpoint, renderer=renderer or None)


class TalkingHead:
    """Frames at 25 per second of a portrait that says a recording."""

    CATEGORY = "DreamTalk-DMT"
    FUNCTION = "talk"
    RETURN_TYPES = ("IMAGE", "AUDIO", "FLOAT")
    RETURN_NAMES = ("frames", "audio", "fps")
    DESCRIPTION = "A portrait and a voice become a talking, feeling head."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, tuple[Any, ...]]]:
        real = {"default": 1.0, "min": 0.0, "max": 2.0, "step": 0.05}
        return {
            "required": {
                "portrait": ("IMAGE",),
                "audio": ("AUDIO",),
                "emotion": (emotion_names(),),
                "intensity": ("FLOAT", real),
                "head": (["natural", "still"],),
                "blink": ("BOOLEAN", {"default": True}),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**31 - 1}),
            },
            "optional": {
                "steps": ("INT", {"default": 10, "min": 1, "max": 1000}),
                "guidance": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 10.0, "step": 0.1}),
                "size": ("INT", SIZES),
                "style_clip": ("STRING", {"default": "", "tooltip": "path of a style .mat, instead of the emotion"}),
                "pose_clip": ("STRING", {"default": "", "tooltip": "path of a pose .mat, instead of natural or still"}),
                "checkpoint": ("STRING", {"default": BUNDLED}),
                "renderer": ("STRING", {"default": "", "tooltip": "path of DreamTalk's renderer.pt, or nothing"}),
            },
        }

    def talk(
        self,
        portrait: Tensor,
        audio: dict[str, Any],
        emotion: str,
        intensity: float,
        head: str,
        blink: bool,
        seed: int,
        steps: int = 10,
        guidance: float = 1.0,
        size: int = 512,
        style_clip: str = "",
        pose_clip: str = "",
        checkpoint: str = BUNDLED,
        renderer: str = "",
    ) -> tuple[Tensor, dict[str, Any], float]:
        """The frames [T, size, size, 3] in [0, 1], the sound as it came, and 25.0."""
        with tempfile.TemporaryDirectory() as folder:
            picture, voice = Path(folder, "portrait.png"), Path(folder, "voice.wav")
            pixels = (portrait[0, :, :, :3].clamp(0, 1) * 255).round().to("cpu", torch.uint8)
            Image.fromarray(pixels.numpy()).save(picture)
            samples = audio["waveform"][0].to("cpu", torch.float32).T.numpy()
            soundfile.write(voice, samples, int(audio["sample_rate"]), subtype="FLOAT")
            frames = _pipeline(checkpoint, renderer).stream(
                voice,
                picture,
                style=style_clip or emotion,
                intensity=intensity,
                pose=pose_clip or head,
                blink=blink,
                seed=seed,
                steps=steps,
                guidance=guidance,
                size=None if renderer else size,
            )
            made = torch.from_numpy(np.stack(list(frames)))
        return made.float().div_(255), audio, 25.0


NODE_CLASS_MAPPINGS = {"DreamTalkDMTTalkingHead": TalkingHead}
NODE_DISPLAY_NAME_MAPPINGS = {"DreamTalkDMTTalkingHead": "Talking Head (DreamTalk-DMT)"}
