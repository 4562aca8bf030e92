"""Room: two speech encoders become one stream of feature rows."""

from .gated import GatedFusion

__all__ = ["GatedFusion"]
