"""Room: the denoiser, from noisy coefficients, speech windows and a style to clean coefficients."""

from .network import Denoiser
from .prepared import Prepared

__all__ = ["Denoiser", "Prepared"]
