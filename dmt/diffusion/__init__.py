"""Room: noise schedule, guidance and samplers; it knows nothing of faces or networks."""

from .guidance import guided
from .noise import SmoothNoise
from .samplers import SAMPLERS, ddim, ddpm, dpm_solver_pp_2m
from .schedule import NoiseSchedule

__all__ = ["SAMPLERS", "NoiseSchedule", "SmoothNoise", "ddim", "ddpm", "dpm_solver_pp_2m", "guided"]
