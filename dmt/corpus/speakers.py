"""Voices made from recordings of people: flite and festival, with the time of every phone.

espeak-ng computes its sounds from formants; these voices join or average pieces of somebody's speech, and come closer
to what a microphone hears. Both are programs (Debian: the packages named in `PACKAGES`), run once for each sentence, so
what is said depends on the text and the pace alone.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import soundfile

from ..errors import InputError
from . import phones
from .spoken import Phoneme, Spoken

Program = Literal["flite", "festival"]

PATIENCE = 120.0
"""Seconds after which a program that says nothing has failed."""


@dataclass(frozen=True)
class Speaker:
    """A voice of one of the programs: its name there, what language it reads in which encoding, and its phones."""

    name: str
    program: Program
    language: str
    encoding: str
    phones: dict[str, str]
    weight: float = 1.0
    """How often it speaks, against the others."""


_PHONES = {
    "en": phones.ENGLISH, "it": phones.ITALIAN, "cs": phones.CZECH, "fi": phones.FINNISH, "ru": phones.RUSSIAN,
    "ca": phones.CATALAN,
}  # fmt: skip


def _voices(program: Program, language: str, encoding: str, names: str, weight: float = 1.0) -> tuple[Speaker, ...]:
    return tuple(Speaker(name, program, language, encoding, _PHONES[language], weight) for name in names.split())


SPEAKERS = (
    *_voices("flite", "en", "ascii", "awb rms slt", 2.0),
    *_voices("flite", "en", "ascii", "kal16"),
    *_voices("festival", "en", "ascii", "kal_diphone cmu_us_slt_arctic_hts"),
    *_voices("festival", "it", "iso-8859-1", "lp_diphone pc_diphone", 0.7),
    *_voices("festival", "cs", "iso-8859-2", "czech_dita czech_krb czech_ph", 0.5),
    *_voices("festival", "fi", "iso-8859-1", "hy_fi_mv_diphone suo_fi_lj_diphone", 0.5),
    *_voices("festival", "ru", "utf-8", "msu_ru_nsh_clunits", 0.7),
    *_voices("festival", "ca", "iso-8859-1", "upc_ca_ona_hts", 0.5),
)
"""Voices to learn from."""

VALIDATION_SPEAKERS = (
    *_voices("festival", "en", "ascii", "ked_diphone", 2.0),
    *_voices("festival", "cs", "iso-8859-2", "czech_machac"),
)
"""Voices never heard in training, of people never heard in training."""

PACKAGES = (
    "flite festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts festvox-italp16k festvox-itapc16k "
    "festival-czech festvox-czech-dita festvox-czech-krb festvox-czech-machac festvox-czech-ph festvox-suopuhe-lj "
    "festvox-suopuhe-mv festvox-ru festival-ca festvox-ca-ona-hts"
)
"""Debian's packages of the programs and voices above."""

_LIST = {
    "flite": ["flite", "-lv"],
    "festival": ["festival", "-b", '(mapcar (lambda (name) (format t "%s " name)) (voice.list))'],
}


def not_installed(speakers: Sequence[Speaker] = SPEAKERS + VALIDATION_SPEAKERS) -> list[Speaker]:
    """Those of `speakers` that are not installed here."""
    return [s for s in speakers if s.name not in _installed(s.program)]


@cache
def _installed(program: str) -> frozenset[str]:
    """Names of the program's voices; none where there is no such program."""
    if shutil.which(program) is None:
        return frozenset()
    return frozenset(_run(_LIST[program]).removeprefix("Voices available:").split())


def say(text: str, speaker: Speaker, *, stretch: float = 1.0) -> Spoken:
    """Speak `text`, `stretch` times as slowly as the voice does by itself.

    Characters that the voice's encoding lacks are left out. Raises InputError where the program fails or names a phone
    that the speaker's set lacks.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        ends = (_flite if speaker.program == "flite" else _festival)(text, speaker, stretch, path)
        if not path.exists():
            raise InputError(f"{speaker.program} said nothing as {speaker.name}")
        wave, rate = soundfile.read(path, dtype="float32")
    return Spoken(wave, rate, _phonemes(ends, speaker), closures_timed=True)


def _flite(text: str, speaker: Speaker, stretch: float, path: Path) -> list[tuple[str, float]]:
    """Phones with the seconds they end at; the sound appears at `path`."""
    setting = f"duration_stretch={stretch:.4f}"
    plain = text.encode(speaker.encoding, "ignore").decode(speaker.encoding)
    said = _run(["flite", "-voice", speaker.name, "--setf", setting, "-psdur", "-t", plain, "-o", str(path)])
    return [(name, float(end)) for name, _, end in (item.rpartition(":") for item in said.split())]


def _festival(text: str, speaker: Speaker, stretch: float, path: Path) -> list[tuple[str, float]]:
    """As `_flite`."""
    script, segments = path.with_suffix(".scm"), path.with_suffix(".segs")
    escaped = text.replace("\\", "").replace('"', "")
    lines = (
        f"(voice_{speaker.name})",
        f"(Parameter.set 'Duration_Stretch {stretch:.4f})",
        f'(set! said (utt.synth (Utterance Text "{escaped}")))',
        f'(utt.save.segs said "{segments}")',
        f'(utt.save.wave said "{path}")',
    )
    script.write_bytes("\n".join(lines).encode(speaker.encoding, "ignore"))
    _run(["festival", "-b", str(script)])
    rows = segments.read_text("ascii", "replace").split("\n")[1:] if segments.exists() else []
    return [(row.split()[2], float(row.split()[0])) for row in rows if row]


def _phonemes(ends: list[tuple[str, float]], speaker: Speaker) -> tuple[Phoneme, ...]:
    """Each phone starts where the one before ends; the sound's own end ends the last."""
    if unknown := sorted({name for name, _ in ends} - set(speaker.phones)):
        raise InputError(f"{speaker.program} names phones of {speaker.name} that are not known: {', '.join(unknown)}")
    starts = [0.0, *(end for _, end in ends)]
    return tuple(Phoneme(speaker.phones[name], start) for (name, _), start in zip(ends, starts, strict=False))


def _run(command: list[str]) -> str:
    """What the program prints; InputError where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=True)
    except (subprocess.SubprocessError, OSError) as error:
        raise InputError(f"{command[0]} failed: {error}") from None
    return done.stdout.decode("ascii", "replace")
