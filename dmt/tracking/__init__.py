"""From a film of a face to DreamTalk's numbers: expression, head pose and crop, 25 rows a second."""

from .files import check_targets, write_clip
from .recipe import Extraction, Stretch, extract

__all__ = ["Extraction", "Stretch", "check_targets", "extract", "write_clip"]
