"""Names of all measures of videos, with unit and direction: what tables and plots call them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """label: for tables; better: "up", "down", "close" (to the reference's own) or "" where neither is better."""

    label: str
    unit: str
    better: str

    @property
    def arrow(self) -> str:
        """The label's arrow."""
        return {"up": " ↑", "down": " ↓", "close": " (≈ reference)", "": ""}[self.better]


MEASURES: dict[str, Measure] = {
    "ssim_gaussian11": Measure("SSIM (Gaussian 11 x 11, RGB)", "", "up"),
    "ssim_uniform7": Measure("SSIM (uniform 7 x 7, RGB)", "", "up"),
    "psnr": Measure("PSNR (mean over frames)", "dB", "up"),
    "psnr_pooled": Measure("PSNR (pooled over the video)", "dB", "up"),
    "lpips_alex": Measure("LPIPS (AlexNet)", "", "down"),
    "lpips_vgg": Measure("LPIPS (VGG-16)", "", "down"),
    "cpbd": Measure("CPBD", "", "up"),
    "cpbd_reference": Measure("CPBD of the reference", "", ""),
    "m_lmd": Measure("M-LMD (mouth)", "pixels", "down"),
    "f_lmd": Measure("F-LMD (face)", "pixels", "down"),
    "aperture_correlation": Measure("Aperture correlation", "", "up"),
    "aperture_best_lag": Measure("Aperture's best lag", "frames", ""),
    "blink_rate": Measure("Blinks", "per minute", "close"),
    "blink_rate_reference": Measure("Blinks of the reference", "per minute", ""),
    "jitter": Measure("Jitter", "eye distances / 1000", "close"),
    "jitter_reference": Measure("Jitter of the reference", "eye distances / 1000", ""),
    "coefficients_upper": Measure("Coefficient error, upper face (51)", "", "down"),
    "coefficients_lower": Measure("Coefficient error, lower face (13)", "", "down"),
    "landmarks_mouth": Measure("Coefficient error seen at the mouth", "eye distances / 1000", "down"),
    "landmarks_upper": Measure("Coefficient error seen at eyes and brows", "eye distances / 1000", "down"),
    "opening_correlation": Measure("Mouth opening correlation (coefficients)", "", "up"),
    "pose_degrees": Measure("Head angle error", "degrees", "down"),
    "lse_c": Measure("LSE-C", "", "up"),
    "lse_d": Measure("LSE-D", "", "down"),
    "lse_offset": Measure("LSE offset", "frames", ""),
    "fid": Measure("FID", "", "down"),
    "fvd": Measure("FVD", "", "down"),
}

OF_ALL = ("fid", "fvd")
"""Measures of all videos together; the others are of each and averaged."""
