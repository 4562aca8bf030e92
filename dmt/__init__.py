"""DreamTalk-DMT: a portrait and a voice go in, a talking head comes out.

    import dmt
    result = dmt.load().generate("voice.wav", "portrait.png", output="out.mp4", style="happy")

Nothing heavy is imported until it is used.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .pipeline import Pipeline

__version__ = "0.1.0"


def load(
    checkpoint: str | os.PathLike[str] | None = None,
    device: str = "auto",
    *,
    renderer: str | os.PathLike[str] | None = None,
    wav2vec: str | None = None,
) -> Pipeline:
    """A pipeline with its model loaded; see `dmt.pipeline.load`."""
    from .pipeline import load

    return load(checkpoint, device, renderer=renderer, wav2vec=wav2vec)


__all__ = ["__version__", "load"]
