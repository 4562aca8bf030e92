"""How videos are compared."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError


@dataclass(frozen=True)
class EvaluationConfig:
    """size: side in pixels that pictures are compared at; crop: "none" or "face"; landmarks: "auto", "mediapipe",
    "pixels" or "none"; lpips: path of the backbone, "hub" to download it, or None; lpips_net: alex or vgg;
    syncnet, fid_network, fvd_network: paths of weights, or None."""

    size: int = 256
    crop: str = "none"
    landmarks: str = "auto"
    lpips: str | None = None
    lpips_net: str = "alex"
    syncnet: str | None = None
    fid_network: str | None = None
    fvd_network: str | None = None

    def check(self) -> None:
        """InputError for values that cannot be."""
        if not 32 <= self.size <= 2048:
            raise InputError(f"size must lie in 32..2048 pixels, got {self.size}")
        if self.crop not in ("none", "face"):
            raise InputError(f"unknown crop {self.crop!r}: expected none or face")
        if self.crop == "face" and self.landmarks == "none":
            raise InputError("a face crop needs landmarks; use --landmarks auto, or --crop none")
