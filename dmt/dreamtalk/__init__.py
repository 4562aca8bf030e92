"""Everything that exists only to be a drop-in for DreamTalk: its files, its flags, its numbers."""

from .denoiser import DreamTalkDenoiser, export_denoiser, load_denoiser
from .renderer import load_renderer

__all__ = ["DreamTalkDenoiser", "export_denoiser", "load_denoiser", "load_renderer"]
