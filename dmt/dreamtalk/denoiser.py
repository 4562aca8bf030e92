"""DreamTalk's denoising network behind the interface its users know."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..config import DiffusionConfig, SparsityConfig, preset
from ..denoiser import Denoiser
from ..diffusion import NoiseSchedule, ddim, guided
from ..errors import InputError
from ..rates import COEFFICIENTS, STYLE_FRAMES, WINDOW
from .checkpoint import Source, load_strictly, read_state

SPEECH_WIDTH = 1024
FRAMES_AT_ONCE = 256
"""Frames sampled together; frames are independent, so this bounds memory and changes no result."""

_SCHEDULE = "var_sched."
_DYNAMIC = ".dynamic_conv."


class DreamTalkDenoiser(nn.Module):
    """The network, its noise schedule and its sampler.

    dynamic: the StyleTalk variant, whose decoders have dynamic linear layers.
    """

    def __init__(self, *, dynamic: bool = False) -> None:
        super().__init__()
        config = preset("dreamtalk").denoiser
        if dynamic:
            config = replace(config, decoder="styletalk", shared_matrices=8, temperature=30.0, reduction=4)
        self.net = Denoiser(config, SparsityConfig(enabled=False), SPEECH_WIDTH)
        self.schedule = NoiseSchedule(DiffusionConfig())
        self.eval()

    @torch.no_grad()
    def encode_style(self, style: Tensor, padding: Tensor) -> Tensor:
        """style [B, 256, 64], padding [B, 256] bool, True where padded -> style code [B, 256]."""
        check_style(style, padding)
        return self.net.encode_style(style, padding)

    @torch.no_grad()
    def predict(self, x_t: Tensor, t: Tensor, audio: Tensor, style: Tensor, padding: Tensor) -> Tensor:
        """One call of the network: x_t [B, L, 64] at times t [B], audio [B, L, 11, 1024] -> x0 [B, L, 64]."""
        _check_audio(audio)
        check_style(style, padding)
        return self.net(x_t, t, audio, style, padding)

    @torch.no_grad()
    def sample(
        self,
        audio: Tensor,
        style: Tensor,
        padding: Tensor,
        *,
        steps: int = 10,
        guidance: float = 1.0,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
        exact_path: bool = False,
    ) -> Tensor:
        """DDIM from noise to coefficients: audio [B, L, 11, 1024] -> [B, L, 64].

        noise [B, L, 64], or drawn by `generator` (the CPU's, so that a seed means what
        `torch.manual_seed` means for the original), or by torch's default generator.
        guidance 1 skips the unconditional half, which the original computes and cancels.
        exact_path: every step through the plain network, nothing hoisted; for comparison.
        """
        _check_audio(audio)
        check_style(style, padding)
        shape = (*audio.shape[:2], COEFFICIENTS)
        if noise is None:
            noise = torch.randn(shape, generator=generator).to(audio.device)
        if tuple(noise.shape) != shape:
            raise InputError(f"expected noise {list(shape)} for this audio, got {list(noise.shape)}")
        self.schedule.times(steps)  # refuses a number of steps that does not divide 1000, also for empty audio
        run = self._plain if exact_path else self.run
        pieces = [
            run(a, style, padding, n, steps, guidance)
            for a, n in zip(audio.split(FRAMES_AT_ONCE, 1), noise.split(FRAMES_AT_ONCE, 1), strict=True)
        ]
        return torch.cat(pieces, 1)

    @torch.no_grad()
    def run(
        self, audio: Tensor, style: Tensor, padding: Tensor, noise: Tensor, steps: int = 10, guidance: float = 1.0
    ) -> Tensor:
        """`sample` without its checks: nothing that the host reads from the device or writes to it.

        Arguments as there, all on one device and checked. It is what `GraphedSampler` captures.
        """
        prepared = self.net.prepare(audio, style, padding, guided=guidance != 1.0)
        denoise = guided(
            lambda x, t: self.net.step(prepared, x, _times(t, audio)),
            lambda x, t: self.net.step_pair(prepared, x, _times(t, audio)),
            guidance,
        )
        return ddim(denoise, noise, self.schedule, steps)

    def _plain(
        self, audio: Tensor, style: Tensor, padding: Tensor, noise: Tensor, steps: int, guidance: float
    ) -> Tensor:
        """Both halves through the whole network at every scale, as the original computes them."""
        null = self.net.null_style(len(audio))

        def denoise(x: Tensor, t: int) -> Tensor:
            unconditional = self.net(x, _times(t, audio), audio, *null)
            return unconditional + guidance * (self.net(x, _times(t, audio), audio, style, padding) - unconditional)

        return ddim(denoise, noise, self.schedule, steps)


def _times(t: int, audio: Tensor) -> Tensor:
    return torch.full((len(audio),), t, device=audio.device)


def load_denoiser(source: Source) -> DreamTalkDenoiser:
    """DreamTalk's denoiser from `denoising_network.pth`, safetensors or a state dict.

    Understands the released nesting (`model_state_dict`, keys under `diff_net.`) and bare
    keys; the dynamic-linear variant is recognised by its keys. InputError lists every
    missing, unexpected or misshapen key.
    """
    state = read_state(source, "model_state_dict")
    if any(k.startswith("diff_net.") for k in state):
        state = {k.removeprefix("diff_net."): v for k, v in state.items() if k.startswith("diff_net.")}
    if any(k.startswith(("mapping_net.", "warpping_net.", "editing_net.")) for k in state):
        raise InputError("this is a renderer checkpoint, not a denoiser; pass it as the renderer")
    model = DreamTalkDenoiser(dynamic=any(_DYNAMIC in k for k in state))
    schedule = {k.removeprefix(_SCHEDULE): v for k, v in state.items() if k.startswith(_SCHEDULE)}
    null = {k: v for k, v in state.items() if k.startswith("null_")}
    if any(v.any() for v in null.values()):
        raise InputError("the checkpoint's null style is not the clip of zeros that this network uses")
    network = {
        k.removeprefix("net."): v for k, v in state.items() if not k.startswith(_SCHEDULE) and not k.startswith("null_")
    }
    load_strictly(model.net, network, "DreamTalk denoiser")
    if schedule:
        load_strictly(model.schedule, schedule, "DreamTalk noise schedule")
    return model


def export_denoiser(model: DreamTalkDenoiser) -> dict[str, Tensor]:
    """A state dict with the keys of the released file, below `model_state_dict` and `diff_net.`."""
    state = {f"net.{k}": v for k, v in model.net.state_dict().items()}
    state |= {f"{_SCHEDULE}{k}": v for k, v in model.schedule.state_dict().items()}
    state["null_style_clip"] = torch.zeros(STYLE_FRAMES, COEFFICIENTS)
    state["null_pad_mask"] = torch.zeros(STYLE_FRAMES, dtype=torch.bool)
    return state


def _check_audio(audio: Tensor) -> None:
    if audio.ndim != 4 or tuple(audio.shape[2:]) != (WINDOW, SPEECH_WIDTH):
        raise InputError(f"expected speech windows [B, L, {WINDOW}, {SPEECH_WIDTH}], got {list(audio.shape)}")


def check_style(style: Tensor, padding: Tensor) -> None:
    """InputError unless style is [B, 256, 64] and padding [B, 256] leaves each clip a frame; waits for the device."""
    if style.ndim != 3 or tuple(style.shape[1:]) != (STYLE_FRAMES, COEFFICIENTS) or padding.shape != style.shape[:2]:
        raise InputError(
            f"expected style [B, {STYLE_FRAMES}, {COEFFICIENTS}] and padding [B, {STYLE_FRAMES}], "
            f"got {list(style.shape)} and {list(padding.shape)}"
        )
    if padding.all(1).any():
        raise InputError("a style clip is padding from end to end; it needs at least one frame")
