"""Speech features: wav2vec 2.0 and the Tacotron branch, 50 rows per second, and windows of them for 25 frames."""

from .chunks import Chunking, rows_for, samples_for
from .extractor import FeatureExtractor
from .speech import SpeechEncoder
from .tacotron import TacotronEncoder
from .windows import windows

__all__ = [
    "Chunking",
    "FeatureExtractor",
    "SpeechEncoder",
    "TacotronEncoder",
    "rows_for",
    "samples_for",
    "windows",
]
