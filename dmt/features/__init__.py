"""Speech features: wav2vec 2.0 and the Tacotron branch, 50 rows per second, and windows of them for 25 frames."""

from .alignment import CharacterSpan, CtcHead, align_text, spread
from .chunks import Chunking, rows_for, samples_for
from .extractor import FeatureExtractor, Statistics
from .speech import SpeechEncoder
from .tacotron import TacotronEncoder
from .windows import WindowBuffer, pad_blocks, silence_after, windows

__all__ = [
    "CharacterSpan",
    "Chunking",
    "CtcHead",
    "FeatureExtractor",
    "SpeechEncoder",
    "Statistics",
    "TacotronEncoder",
    "WindowBuffer",
    "align_text",
    "pad_blocks",
    "rows_for",
    "samples_for",
    "silence_after",
    "spread",
    "windows",
]
