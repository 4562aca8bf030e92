"""Training data of every layout as one record, `Clip`: found, split, prepared and read back."""

from .clip import Clip
from .layouts import LAYOUTS, find_sources, read_clip
from .prepare import PrepareConfig, prepare
from .shards import PreparedClips, open_clips
from .splits import SplitConfig
from .tracks import Track, Tracker

__all__ = [
    "LAYOUTS",
    "Clip",
    "PrepareConfig",
    "PreparedClips",
    "SplitConfig",
    "Track",
    "Tracker",
    "find_sources",
    "open_clips",
    "prepare",
    "read_clip",
]
