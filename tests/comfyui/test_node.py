"""The node by the contract through which ComfyUI calls it."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from dmt.scene import asset

FOLDER = Path(__file__).resolve().parents[2] / "comfyui"


@pytest.fixture(scope="module")
def node():
    """Loaded as ComfyUI loads a custom node: the folder as a package, under a name of ComfyUI's making."""
    spec = importlib.util.spec_from_file_location("custom_nodes_talking", FOLDER / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    (name,) = module.NODE_CLASS_MAPPINGS
    assert module.NODE_DISPLAY_NAME_MAPPINGS.keys() == {name}
    return module.NODE_CLASS_MAPPINGS[name]


def test_inputs_are_the_functions_arguments(node) -> None:
    declared = node.INPUT_TYPES()
    names = [*declared["required"], *declared["optional"]]
    parameters = inspect.signature(getattr(node, node.FUNCTION)).parameters
    assert names == list(parameters)[1:]
    for name, (_, *settings) in declared["optional"].items():
        assert parameters[name].default == settings[0]["default"]
    assert len(node.RETURN_TYPES) == len(node.RETURN_NAMES) == 3


def test_it_talks(node, voice, tmp_path) -> None:
    samples, rate = soundfile.read(voice(tmp_path / "voice.wav", 0.5), dtype="float32", always_2d=True)
    sound = {"waveform": torch.from_numpy(np.ascontiguousarray(samples.T))[None], "sample_rate": rate}
    portrait = torch.from_numpy(np.array(Image.open(asset("portrait.png")).convert("RGB")))
    portrait = portrait[None].float() / 255
    frames, heard, fps = getattr(node(), node.FUNCTION)(portrait, sound, "happy", 1.0, "still", True, 0, size=128)
    assert frames.shape[1:] == (128, 128, 3) and len(frames) == 13 and fps == 25 and heard is sound
    assert frames.dtype == torch.float32 and frames.min() >= 0 and 0.3 < frames.max() <= 1
    assert (frames[1:] - frames[:-1]).abs().max() > 0.01  # it moves
