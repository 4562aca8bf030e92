"""What a file is, what it holds, which command takes it, and how it looks."""

from .drawing import check_png, draw, emotions_strip, write_png
from .identify import Finding, inspect

__all__ = ["Finding", "check_png", "draw", "emotions_strip", "inspect", "write_png"]
