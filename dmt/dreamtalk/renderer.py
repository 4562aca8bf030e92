"""DreamTalk's renderer file."""

from __future__ import annotations

import torch

from ..errors import InputError
from ..renderer.flow import FlowRenderer
from .checkpoint import Source, load_strictly, read_state


def load_renderer(source: Source) -> FlowRenderer:
    """The learned renderer from `renderer.pt` (entry `net_G_ema`), safetensors or a state dict.

    Extra keys are ignored, as the original does; missing or misshapen ones are an InputError.
    """
    state = read_state(source, "net_G_ema")
    if any(k.removeprefix("diff_net.").startswith("net.content_encoder") for k in state):
        raise InputError("this is a denoiser checkpoint, not a renderer; pass it as the denoiser")
    with torch.device("meta"):  # no values: every one of them comes from the file
        model = FlowRenderer().eval()
    known = model.state_dict()
    model.to_empty(device="cpu")
    load_strictly(model, {k: v for k, v in state.items() if k in known}, "DreamTalk renderer")
    return model
