"""The pipeline as a page in the browser (gradio, extra [web]).

`launch` serves it until interrupted, `opened` while the body of its `with` runs.
"""

from .page import Bounds, launch, opened

__all__ = ["Bounds", "launch", "opened"]
