"""LPIPS (Zhang et al. 2018): distance of two pictures in the features of a trained network, version 0.1.

The calibrating heads (one weight per channel) come with torchmetrics' wheel. The backbone, trained on ImageNet, does
not: it is read from a file in torchvision's layout, or fetched from PyTorch's model hub when asked for. torchvision
itself is not needed.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import InputError, damaged, why

HUB = "hub"
"""In place of a path: fetch the backbone from PyTorch's model hub (or its cache)."""

_HUB_FILES = {
    "alex": "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    "vgg": "https://download.pytorch.org/models/vgg16-397923af.pth",
}
_TAPS = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29)}
"""Layers of the backbone after which features are compared: its ReLUs, for VGG the last of each resolution."""

_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
"""ImageNet's mean and deviation, for pictures in -1..1."""

PORTION = 8
SMALLEST = 32
"""Pixels along the shorter side under which the backbone's last features vanish."""


def alexnet_features() -> nn.Sequential:
    """The convolutions of AlexNet (Krizhevsky 2014), numbered as torchvision numbers them."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
    )


def vgg16_features() -> nn.Sequential:
    """The convolutions of VGG-16 (Simonyan and Zisserman 2015), numbered as torchvision numbers them."""
    layers: list[nn.Module] = []
    width = 3
    for stage, (channels, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))):
        layers += [nn.MaxPool2d(2)] if stage else []
        for _ in range(count):
            layers += [nn.Conv2d(width, channels, 3, padding=1), nn.ReLU()]
            width = channels
    return nn.Sequential(*layers)


class Lpips(nn.Module):
    """The measure with one backbone. net: "alex" (the usual for comparing) or "vgg" (the usual for training)."""

    def __init__(self, net: str, backbone: nn.Sequential, heads: list[Tensor]) -> None:
        super().__init__()
        self.net = net
        self.backbone = backbone.eval().requires_grad_(False)
        for i, head in enumerate(heads):
            self.register_buffer(f"head{i}", head)

    @staticmethod
    def load(weights: str | Path, net: str = "alex") -> Lpips:
        """Backbone from `weights`: a .pth or .safetensors file with torchvision's keys (features.0.weight, ...),
        or "hub" to download it.

        Raises InputError: unknown net, torchmetrics missing, file unreadable or of another network, no connection.
        """
        if net not in _TAPS:
            raise InputError(f"unknown LPIPS backbone {net!r}: expected alex or vgg")
        heads = _heads(net)
        backbone = alexnet_features() if net == "alex" else vgg16_features()
        state = _from_hub(net) if str(weights) == HUB else _from_file(Path(weights))
        wanted = backbone.state_dict()
        kept = {key.removeprefix("features."): value for key, value in state.items()}
        wrong = [key for key in wanted if key not in kept or kept[key].shape != wanted[key].shape]
        if wrong:
            raise InputError(
                f"{weights} is not torchvision's {'alexnet' if net == 'alex' else 'vgg16'}: "
                f"features.{wrong[0]} is missing or of another shape"
            )
        backbone.load_state_dict({key: kept[key] for key in wanted})
        return Lpips(net, backbone, heads)

    def forward(self, made: Tensor, reference: Tensor) -> Tensor:
        """LPIPS of two batches in -1..1, [B, 3, H, W] each -> [B]; differentiable in both."""
        both = torch.cat([made, reference])
        shift, scale = (both.new_tensor(v)[:, None, None] for v in (_SHIFT, _SCALE))
        x = (both - shift) / scale
        total = made.new_zeros(len(made))
        tap = 0
        for number, layer in enumerate(self.backbone):
            x = layer(x)
            if number not in _TAPS[self.net]:
                continue
            unit = x / torch.sqrt(1e-8 + (x**2).sum(1, keepdim=True))
            a, b = unit.chunk(2)
            total = total + torch.einsum("bchw,c->bhw", (a - b) ** 2, getattr(self, f"head{tap}")).mean((1, 2))
            tap += 1
        return total

    @torch.no_grad()
    def frames(self, made: NDArray[np.uint8], reference: NDArray[np.uint8]) -> NDArray[np.float64]:
        """LPIPS of each pair of frames, uint8 [T, H, W, 3] -> [T]."""
        if min(made.shape[1:3]) < SMALLEST:
            raise InputError(f"LPIPS needs frames of at least {SMALLEST} pixels, got {made.shape[2]} x {made.shape[1]}")
        parts = []
        for start in range(0, len(made), PORTION):
            a, b = (_signed(x[start : start + PORTION]).to(self.head0.device) for x in (made, reference))
            parts.append(self(a, b).double().cpu().numpy())
        return np.concatenate(parts)


def _signed(frames: NDArray[np.uint8]) -> Tensor:
    """uint8 [B, H, W, 3] -> float32 [B, 3, H, W] in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 127.5 - 1


def _heads(net: str) -> list[Tensor]:
    """The calibrated weight of every channel, one [C] for each tap."""
    found = find_spec("torchmetrics")
    if found is None or found.origin is None:
        raise InputError("LPIPS needs torchmetrics, which is not installed: pip install 'dreamtalk-dmt[evaluate]'")
    path = Path(found.origin).parent / "functional" / "image" / "lpips_models" / f"{net}.pth"
    if not os.path.isfile(path):
        raise InputError(f"this torchmetrics brings no LPIPS heads ({path.name} is missing); reinstall it")
    state = torch.load(path, map_location="cpu", weights_only=True)
    return [state[f"lin{i}.model.1.weight"].flatten() for i in range(len(_TAPS[net]))]


def _from_hub(net: str) -> dict[str, Tensor]:
    try:
        return torch.hub.load_state_dict_from_url(
            _HUB_FILES[net], map_location="cpu", progress=False, check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"the LPIPS backbone could not be fetched from {_HUB_FILES[net]} ({why(error)}); "
            "download it elsewhere and give its path"
        ) from None


def _from_file(path: Path) -> dict[str, Tensor]:
    if not os.path.isfile(path):
        raise InputError(f"no LPIPS backbone at {path}; give a file in torchvision's layout, or {HUB!r} to download it")
    with damaged(path, "weights"):
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path} is not a table of weights (a state dict)")
    return state
