"""DreamTalk's network in the place of ours, so that one pipeline drives both."""

from __future__ import annotations

from dataclasses import replace

from ..config import preset
from ..model import MotionModel
from .denoiser import DreamTalkDenoiser


def motion_model(denoiser: DreamTalkDenoiser, wav2vec: str | None = None) -> MotionModel:
    """A motion model whose network and noise schedule are the denoiser's own; in evaluation mode.

    wav2vec: hub name or folder of the wav2vec 2.0 model; None: the one that DreamTalk was trained with.
    """
    config = preset("dreamtalk")
    speech = config.speech if wav2vec is None else replace(config.speech, pretrained=wav2vec)
    model = MotionModel(replace(config, speech=speech, denoiser=denoiser.net.config))
    model.denoiser, model.schedule = denoiser.net, denoiser.schedule
    return model.eval()
