"""Draws the bundled portrait: a person who does not exist, rendered from a mesh by plain arithmetic.

No photograph, no sample pixels and no trained network take part. The surface of the face is the
neutral MediaPipe mesh of the landmark basis, made symmetric and sculpted (geometry), so that
the landmarks saved beside the picture are points of the very surface that was drawn.

    python -m dmt.portrait -o portrait.png

Frame of all modules: 1 unit = distance between the outer eye corners of the basis; x right, y down,
z away from the viewer; the picture is an orthographic view along z. Colours are linear light.
"""

from .render import Look, Picture, render

__all__ = ["Look", "Picture", "render"]
