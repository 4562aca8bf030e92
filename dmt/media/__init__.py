"""The only door to containers and codecs: sound in, video out, always a block at a time.

PyAV brings its own FFmpeg with x264 and AAC, so no system program is needed.
"""

from .fragments import FragmentWriter
from .pcm import to_float, to_int16
from .reading import AAC_RATES, MIN_SAMPLES, SoundInfo, audio_blocks, check_audio, check_length, read_audio, read_frames
from .writing import PROVENANCE, VideoWriter, check_output, encoders

__all__ = [
    "AAC_RATES",
    "MIN_SAMPLES",
    "PROVENANCE",
    "FragmentWriter",
    "SoundInfo",
    "VideoWriter",
    "audio_blocks",
    "check_audio",
    "check_length",
    "check_output",
    "encoders",
    "read_audio",
    "read_frames",
    "to_float",
    "to_int16",
]
