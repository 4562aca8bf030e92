"""espeak-ng through ctypes: speech as an array, with the exact time of every phoneme.

The library and its data come in the `espeakng-loader` wheel (extra `[train]`).
espeak-ng keeps global state, so one process holds one `Espeak` and no thread may
share it; the corpus is built by processes. Its flutter and noise run on from one
utterance to the next, so what must be repeatable starts from a `fresh_synthesiser`.
"""

from __future__ import annotations

import _ctypes
import ctypes
from typing import Any

import numpy as np

from ..errors import InputError
from .spoken import Phoneme, Spoken

_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: speech is handed to the callback, in this thread
_PHONEME_EVENTS, _IPA_EVENTS = 1, 2
_LIST_TERMINATED, _PHONEME = 0, 7
_CHARACTERS_UTF8 = 1
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class Espeak:
    """The synthesiser; `synthesiser()` and `fresh_synthesiser()` keep to one per process."""

    def __init__(self, seed: int = 0) -> None:
        try:
            import espeakng_loader
        except ImportError:
            raise InputError(
                "the corpus needs espeak-ng: install the extra with pip install 'dreamtalk-dmt[train]'"
            ) from None
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self._library.espeak_Synth.argtypes = [
            ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int,
            ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p,
        ]  # fmt: skip
        data = espeakng_loader.get_data_path().encode()
        self.rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, data, _PHONEME_EVENTS | _IPA_EVENTS)
        if self.rate <= 0:
            raise RuntimeError("espeak-ng did not start: its data folder could not be read")
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
        self._blocks: list[np.ndarray] = []
        self._events: list[tuple[str, int]] = []
        self._callback = _Callback(self._receive)  # kept alive: the library holds only a pointer
        self._library.espeak_SetSynthCallback(self._callback)

    def close(self) -> None:
        """Unload the library; the object must not be used again."""
        self._library.espeak_Terminate()
        _ctypes.dlclose(self._library._handle)

    def _receive(self, wave: Any, samples: int, events: Any) -> int:
        if wave and samples > 0:
            self._blocks.append(np.ctypeslib.as_array(wave, shape=(samples,)).copy())
        index = 0
        while events[index].type != _LIST_TERMINATED:
            event = events[index]
            if event.type == _PHONEME:
                # The name fills up to eight bytes without a terminator, so it is read as raw memory.
                raw = ctypes.string_at(ctypes.addressof(event.id), 8).split(b"\0")[0]
                self._events.append((raw.decode("utf-8", errors="ignore"), event.sample))
            index += 1
        return 0

    def seed(self, number: int) -> None:
        """Fix the breath noise of what follows; espeak-ng otherwise seeds it with the time of day."""
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(number))

    def say(self, text: str, voice: str, *, rate: int = 175, pitch: int = 50, pitch_range: int = 50) -> Spoken:
        """Speak `text` with a voice such as "en-us+f3".

        rate: words per minute, 80..450; pitch and pitch_range: 0..99.
        Raises InputError for an unknown voice.
        """
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise InputError(f"espeak-ng has no voice {voice!r}")
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, pitch_range), (_VOLUME, 100)):
            self._library.espeak_SetParameter(parameter, int(value), 0)
        self._blocks, self._events = [], []
        data = text.encode()
        self._library.espeak_Synth(data, len(data) + 1, 0, 0, 0, _CHARACTERS_UTF8, None, None)
        self._library.espeak_Synchronize()
        wave = np.concatenate(self._blocks) if self._blocks else np.zeros(0, np.int16)
        phonemes = tuple(Phoneme(symbol, sample / self.rate) for symbol, sample in self._events)
        return Spoken(wave.astype(np.float32) / 32768.0, self.rate, phonemes)


def fresh_synthesiser(seed: int) -> Espeak:
    """A synthesiser in its first state: what it says from here on depends on `seed` alone.

    espeak-ng keeps some of its state in static variables that nothing resets, so the library
    is unloaded and loaded again (a few milliseconds). Earlier synthesisers of this process are dead.
    """
    global _current
    if _current is not None:
        _current.close()
    _current = Espeak(seed)
    return _current


def synthesiser() -> Espeak:
    """This process's synthesiser, started at the first call."""
    return _current or fresh_synthesiser(0)


_current: Espeak | None = None
