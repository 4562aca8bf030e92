"""What each speech sound asks of the lips: a table over IPA letters.

Openings and widths are in eye distances (face units). The values are ours: vowel
height opens the jaw, rounding narrows and protrudes, bilabials close, labiodentals
nearly close, and sounds made with tongue or throat leave the lips to their
neighbours (small weights), as in Cohen and Massaro's dominance model (1993).
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from enum import IntEnum


class Sound(IntEnum):
    """Classes told apart by the eye; also the targets of the encoders' auxiliary head."""

    PAUSE = 0
    BILABIAL = 1
    LABIODENTAL = 2
    DENTAL = 3
    SIBILANT = 4
    POSTALVEOLAR = 5
    ALVEOLAR = 6
    LATERAL = 7
    RHOTIC = 8
    BACK = 9
    GLIDE_ROUND = 10
    GLIDE_SPREAD = 11
    VOWEL_CLOSE_SPREAD = 12
    VOWEL_MID_SPREAD = 13
    VOWEL_OPEN = 14
    VOWEL_CENTRAL = 15
    VOWEL_MID_ROUND = 16
    VOWEL_CLOSE_ROUND = 17


@dataclass(frozen=True)
class Viseme:
    """opening and width (offset from the speaking mouth's) in eye distances, each with its dominance in 0..1."""

    sound: Sound
    opening: float
    width: float
    opening_weight: float
    width_weight: float
    voiced: bool = True


def _rows(
    sound: Sound, letters: str, opening: float, width: float, ow: float, ww: float, unvoiced: str = ""
) -> dict[str, Viseme]:
    return {c: Viseme(sound, opening, width, ow, ww, c not in unvoiced) for c in letters}


PAUSE = Viseme(Sound.PAUSE, 0.02, 0.0, 1.0, 1.0, voiced=False)

VISEMES: dict[str, Viseme] = {
    **_rows(Sound.BILABIAL, "pbmʙɓʘ", -0.02, 0.0, 1.0, 0.15, "pʘ"),
    **_rows(Sound.BILABIAL, "βɸ", 0.02, 0.0, 0.8, 0.2, "ɸ"),
    **_rows(Sound.LABIODENTAL, "fvɱʋⱱ", 0.018, 0.01, 0.9, 0.25, "f"),
    **_rows(Sound.DENTAL, "θð", 0.075, 0.01, 0.45, 0.15, "θ"),
    **_rows(Sound.SIBILANT, "sz", 0.055, 0.02, 0.6, 0.3, "s"),
    **_rows(Sound.SIBILANT, "ɕʑ", 0.06, 0.0, 0.6, 0.3, "ɕ"),
    **_rows(Sound.POSTALVEOLAR, "ʃʒʂʐ", 0.075, -0.05, 0.6, 0.6, "ʃʂ"),
    **_rows(Sound.ALVEOLAR, "tdnɗʈɖɳ", 0.065, 0.0, 0.4, 0.12, "tʈ"),
    **_rows(Sound.LATERAL, "lɫɭɬɮʎ", 0.085, 0.0, 0.35, 0.12, "ɬ"),
    **_rows(Sound.RHOTIC, "ɹɻɚɝ", 0.08, -0.035, 0.4, 0.4),
    **_rows(Sound.RHOTIC, "rɾɽɺ", 0.085, 0.0, 0.3, 0.1),
    **_rows(Sound.BACK, "kgɡŋxɣqɢχʁħʕhɦʔcɟɠɴʀ", 0.09, 0.0, 0.18, 0.06, "kxqχħhʔc"),
    **_rows(Sound.GLIDE_ROUND, "wʍɥɰ", 0.035, -0.09, 0.7, 0.9, "ʍ"),
    **_rows(Sound.GLIDE_SPREAD, "jçɲʝ", 0.07, 0.03, 0.4, 0.4, "ç"),
    **_rows(Sound.VOWEL_CLOSE_SPREAD, "iɪɨɯĭ", 0.085, 0.045, 0.6, 0.6),
    **_rows(Sound.VOWEL_MID_SPREAD, "eɛɘ", 0.135, 0.035, 0.75, 0.5),
    **_rows(Sound.VOWEL_OPEN, "aɑæɐʌɒ", 0.205, 0.01, 0.95, 0.4),
    **_rows(Sound.VOWEL_CENTRAL, "əɜɞɤɘᵻ", 0.11, 0.0, 0.45, 0.2),
    **_rows(Sound.VOWEL_MID_ROUND, "oɔœøɵɶ", 0.125, -0.06, 0.75, 0.8),
    **_rows(Sound.VOWEL_CLOSE_ROUND, "uʊyʏʉ", 0.06, -0.085, 0.7, 0.95),
}

# Letters that differ from their class: (opening, width).
_FINE = {
    "i": (0.075, 0.05), "ɪ": (0.095, 0.03), "ɨ": (0.085, 0.02), "ɯ": (0.085, 0.02),
    "e": (0.115, 0.045), "ɛ": (0.145, 0.035), "æ": (0.19, 0.035), "ɐ": (0.17, 0.0), "ʌ": (0.165, 0.0),
    "ɑ": (0.215, -0.005), "ɒ": (0.175, -0.035), "ɜ": (0.115, -0.02), "ɔ": (0.15, -0.05), "o": (0.11, -0.07),
    "œ": (0.13, -0.05), "ø": (0.095, -0.065), "u": (0.055, -0.09), "ʊ": (0.08, -0.06), "ʏ": (0.07, -0.06),
}  # fmt: skip
for _letter, (_opening, _width) in _FINE.items():
    _base = VISEMES[_letter]
    VISEMES[_letter] = Viseme(_base.sound, _opening, _width, _base.opening_weight, _base.width_weight)

_STOPS = frozenset("pbtdkgɡqʈɖcɟ")


def letters(symbol: str) -> list[str]:
    """The letters of one espeak phoneme that the table knows: "ˈaɪ" -> ["a", "ɪ"], "tʃ" -> ["t", "ʃ"]."""
    bare = "".join(c for c in unicodedata.normalize("NFD", symbol) if not unicodedata.combining(c))
    found = [c for c in bare if c in VISEMES]
    # Aspiration is written as a trailing h ("th", "tɕh"): breath, not a gesture of its own.
    return found[:-1] if len(found) > 1 and found[-1] == "h" else found


def stress(symbol: str) -> float:
    """How much of its opening a sound reaches: primary stress 1.12, secondary 1.04, none 0.9."""
    if "ˈ" in symbol:
        return 1.12
    return 1.04 if "ˌ" in symbol else 0.9


def is_stop(letter: str) -> bool:
    """Whether the sound begins with silence that espeak counts to the phoneme before."""
    return letter in _STOPS
