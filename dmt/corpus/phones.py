"""Phone names of other synthesizers, in IPA: what `phonemes.letters` and `phonemes.stress` read.

A phone set is a dictionary from the synthesizer's names to IPA; "" is a pause. Names that differ only by a
mark of stress or length are derived from the plain ones.
"""

from __future__ import annotations


def _same(letters: str) -> dict[str, str]:
    """Names that are their own IPA letters."""
    return {letter: letter for letter in letters}


_PRIMARY, _SECONDARY = "ˈ", "ˌ"

# DARPA's names, as CMU's voices use them. They do not say where the stress is, but reduced vowels have names of their
# own, so all others count as half stressed.
_REDUCED = {"ax": "ə", "axr": "ɚ", "ih": "ɪ"}
_FULL = {
    "aa": "ɑ", "ae": "æ", "ah": "ʌ", "ao": "ɔ", "aw": "aʊ", "ay": "aɪ", "eh": "ɛ", "er": "ɝ", "ey": "eɪ", "iy": "i",
    "ow": "oʊ", "oy": "ɔɪ", "uh": "ʊ", "uw": "u",
}  # fmt: skip
ENGLISH = {
    "pau": "", "h#": "", "brth": "",
    **_REDUCED,
    **{name: _SECONDARY + ipa for name, ipa in _FULL.items()},
    **_same("bdfklmnpstvwz"),
    "ch": "tʃ", "dh": "ð", "dx": "ɾ", "el": "l", "em": "m", "en": "n", "g": "ɡ", "hh": "h", "hv": "h", "jh": "dʒ",
    "ng": "ŋ", "nx": "n", "r": "ɹ", "sh": "ʃ", "th": "θ", "y": "j", "zh": "ʒ",
}  # fmt: skip

_ITALIAN_VOWELS = _same("ieaou") | {"E": "ɛ", "O": "ɔ"}
ITALIAN = {
    "#": "",
    **_ITALIAN_VOWELS,
    **{f"{name}1": _PRIMARY + ipa for name, ipa in _ITALIAN_VOWELS.items()},
    **_same("jwptkbdfsvzmnlr"),
    "g": "ɡ", "S": "ʃ", "Z": "ʒ", "ts": "ts", "tS": "tʃ", "dz": "dz", "dZ": "dʒ", "J": "ɲ", "ng": "ŋ", "nf": "ɱ",
    "L": "ʎ",
}  # fmt: skip

CZECH = {
    "#": "", "_": "",
    **_same("abdfjklmnoprstuvz"),
    "c": "ts", "c~": "tʃ", "ch": "x", "d~": "ɟ", "dz": "dz", "dz~": "dʒ", "e": "ɛ", "g": "ɡ", "h": "ɦ", "i": "ɪ",
    "n*": "ŋ", "n~": "ɲ", "r~": "ʒ", "r~*": "ʃ", "s~": "ʃ", "t~": "c", "z~": "ʒ",
    "a:": "a", "e:": "ɛ", "i:": "i", "o:": "o", "u:": "u",
}  # fmt: skip

_FINNISH = _same("eiouyptkbdfshvmnlrjwz") | {
    "a": "ɑ", "@": "æ", "7": "ø", "&": "o", "g": "ɡ", "T": "θ", "D": "ð", "S": "ʃ", "Z": "ʒ", "N": "ŋ", "L": "ʎ",
}  # fmt: skip
FINNISH = {"#": "", "##": "", **_FINNISH, **{f"{name}:": ipa for name, ipa in _FINNISH.items()}}

_RUSSIAN = {**_same("pbtdkfvszmnlr"), "g": "ɡ", "h": "x"}
RUSSIAN = {
    "pau": "",
    **{name: _PRIMARY + ipa for name, ipa in zip(("ii", "yy", "uu", "ee", "oo", "aa"), "iɨueoa", strict=True)},
    "a": "ɐ", "e": "ɪ", "i": "ɪ", "y": "ɨ", "u": "ʊ", "ae": "ɪ", "ay": "ə", "ur": "ʊ",
    **_RUSSIAN,
    **{2 * name: ipa for name, ipa in _RUSSIAN.items()},
    "c": "ts", "ch": "tɕ", "sh": "ʂ", "sch": "ɕ", "zh": "ʐ", "j": "j",
}  # fmt: skip

_CATALAN_VOWELS = _same("aeiou") | {"E": "ɛ", "O": "ɔ"}
CATALAN = {
    "pau": "", "_": "", "#": "", "ax": "ə",
    **_CATALAN_VOWELS,
    **{f"{name}1": _PRIMARY + ipa for name, ipa in _CATALAN_VOWELS.items()},
    **_same("bdfjklmnprstwz"),
    "g": "ɡ", "J": "ɲ", "L": "ʎ", "rr": "r", "S": "ʃ", "Z": "ʒ",
}  # fmt: skip

SETS = (ENGLISH, ITALIAN, CZECH, FINNISH, RUSSIAN, CATALAN)
