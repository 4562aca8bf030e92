"""What is to be made: jobs read from a CSV or JSON-lines table, or from a folder of voices and portraits."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import product
from pathlib import Path, PurePosixPath

from ..errors import InputError, brief, why
from ..scene import Options

VOICES = {".wav", ".mp3", ".m4a", ".flac", ".ogg", ".opus", ".aac", ".mp4", ".mkv", ".webm", ".mov"}
PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
OPTIONS = {field.name: str(field.type) for field in fields(Options)}
COLUMNS = ("audio", "image", "output", *OPTIONS)
FILES = {"audio", "image", "output", "style", "pose", "landmarks"}
LONGEST_NAME = 120
MOST_BYTES = 255
"""Of a file's name, on every file system in use."""
LONGEST_PATH = 1000
MOST_JOBS = 1_000_000


@dataclass(frozen=True)
class Maker:
    """The models all jobs of a batch share; the arguments of `dmt.load`."""

    checkpoint: str | None = None
    renderer: str | None = None
    wav2vec: str | None = None
    device: str = "auto"


@dataclass(frozen=True)
class Job:
    """One video. audio, image (None: the bundled portrait): absolute paths; output: relative to the batch's folder."""

    audio: str
    image: str | None
    output: str
    options: Options

    def key(self, maker: Maker) -> str:
        """A name that changes with everything the video depends on: options, models, and the input files' contents
        as their size and time of change tell them."""
        named = [self.audio, self.image, maker.checkpoint, maker.renderer]
        named += [str(value) for value in (self.options.style, self.options.pose, self.options.landmarks) if value]
        facts = [asdict(self), asdict(maker), [_stamp(name) for name in named if name]]
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:24]


def _stamp(name: str) -> list[int]:
    try:
        stat = Path(name).stat()
    except (OSError, ValueError):  # an emotion's name, or a file that is missing: the job itself will say so
        return []
    return [stat.st_size, stat.st_mtime_ns]


def read_jobs(source: str | Path, *, styles: Sequence[str] = ("neutral",)) -> list[Job]:
    """The jobs of a .csv (with a heading) or .jsonl table, or of a folder: each voice x each portrait x each style.

    Columns: audio (needed), image, output, and the options of `dmt generate`; empty or missing ones take their
    defaults. Paths are relative to the table. styles: of a folder's jobs. Raises InputError, naming the line, for an
    unknown column, a value of the wrong kind, an output outside the batch's folder, or two jobs with one output.
    """
    source = Path(source)
    if os.path.isdir(source):
        jobs = _of_folder(source, styles)
    elif not os.path.isfile(source):
        raise InputError(
            f"there are no jobs at {source}; give a .csv or .jsonl file, or a folder of sound and pictures"
        )
    elif source.suffix == ".csv":
        jobs = [_job(row, source, line) for line, row in _csv_rows(source)]
    elif source.suffix == ".jsonl":
        jobs = [_job(row, source, line) for line, row in _json_rows(source)]
    else:
        raise InputError(f"jobs come as .csv, .jsonl or a folder, got {source.name}")
    if not jobs:
        raise InputError(f"{source} holds no jobs")
    _distinct(jobs, source)
    return jobs


def _text(source: Path) -> str:
    try:
        return source.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{source} is not text in UTF-8; save the table as UTF-8") from None
    except OSError as error:
        raise InputError(f"{source} cannot be read ({why(error)})") from None


def _csv_rows(source: Path) -> Iterable[tuple[int, dict[str, object]]]:
    try:
        reader = csv.DictReader(_text(source).splitlines(), strict=True)
        for row in reader:
            if None in row or None in row.values():
                raise InputError(f"{source}, line {reader.line_num}: expected {len(reader.fieldnames or ())} columns")
            yield reader.line_num, {name: value for name, value in row.items() if value.strip()}
    except csv.Error as error:
        raise InputError(f"{source} is not a CSV table ({why(error)})") from None


def _json_rows(source: Path) -> Iterable[tuple[int, dict[str, object]]]:
    for line, text in enumerate(_text(source).splitlines(), 1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:  # ValueError: also a number of thousands of digits
            raise InputError(f"{source}, line {line}: not JSON ({why(error)})") from None
        if not isinstance(row, dict):
            raise InputError(f"{source}, line {line}: expected an object with the fields of a job, got {text[:40]!r}")
        yield line, {name: value for name, value in row.items() if value is not None}


def _job(row: dict[str, object], source: Path, line: int) -> Job:
    where = f"{source}, line {line}"
    unknown = [name for name in row if name not in COLUMNS]
    if unknown:
        raise InputError(f"{where}: unknown column {unknown[0][:40]!r}; known are {', '.join(COLUMNS)}")
    if "audio" not in row:
        raise InputError(f"{where}: a job needs an audio file; name it in the column audio")
    for name in FILES & row.keys():
        _check_name(name, row[name], where)
    audio = _path(row["audio"], source.parent)
    image = _path(row["image"], source.parent) if "image" in row else None
    options = {name: _value(name, row[name], where) for name in OPTIONS if name in row}
    for name in ("style", "pose", "landmarks"):
        if name in options and os.path.isfile(near := source.parent / str(options[name])):
            options[name] = str(near.resolve())
    made = Options(**options)
    return Job(audio, image, _output(row.get("output"), audio, image, made, where), made)


def _check_name(name: str, value: object, where: str) -> None:
    """InputError for what no file can be called; found here, it does not end a batch of hours when its turn comes."""
    if not isinstance(value, str):
        raise InputError(f"{where}: {name} should be the name of a file, got {brief(value)}")
    try:
        longest = max((len(part) for part in value.encode().split(b"/")), default=0)
    except UnicodeEncodeError:
        raise InputError(f"{where}: {name} holds half a character, got {value[:40]!r}") from None
    if longest > MOST_BYTES or len(value) > LONGEST_PATH or "\0" in value:
        raise InputError(f"{where}: {name} should be the name of a file, which {value[:40]!r}... cannot be")


def _path(value: object, folder: Path) -> str:
    return str((folder / str(value)).absolute())


def _value(name: str, value: object, where: str) -> object:
    """A table's text as the type of the option."""
    kind = OPTIONS[name]
    text = str(value).strip()
    try:
        if kind == "bool":
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[text.lower()]
        if kind.startswith("int"):
            return int(text)
        return float(text) if kind == "float" else text
    except (KeyError, ValueError):
        raise InputError(f"{where}: {name} should be of the kind {kind}, got {text[:40]!r}") from None


def _output(given: object, audio: str, image: str | None, options: Options, where: str) -> str:
    if given is None:
        parts = [Path(audio).stem, Path(image).stem if image else "portrait", Path(str(options.style)).stem]
        return "-".join(parts)[:LONGEST_NAME] + ".mp4"
    path = PurePosixPath(str(given))
    if path.is_absolute() or ".." in path.parts or path.suffix != ".mp4":
        raise InputError(f"{where}: output must be an .mp4 inside the batch's folder, got {str(given)!r}")
    if path.parts[0].startswith("."):
        raise InputError(f"{where}: output may not begin with a dot, got {str(given)!r}")
    return str(path)


def _of_folder(folder: Path, styles: Sequence[str]) -> list[Job]:
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    voices = [path for path in files if path.suffix.lower() in VOICES]
    pictures = [path for path in files if path.suffix.lower() in PICTURES]
    if not voices:
        raise InputError(f"the folder {folder} holds no sound; expected files such as voice.wav, and portraits")
    jobs = []
    for voice, picture, style in product(voices, pictures or [None], styles):
        options = Options(style=style)
        audio, image = str(voice.absolute()), None if picture is None else str(picture.absolute())
        jobs.append(Job(audio, image, _output(None, audio, image, options, str(folder)), options))
    return jobs


def _distinct(jobs: Sequence[Job], source: Path) -> None:
    if len(jobs) > MOST_JOBS:
        raise InputError(f"{source} holds {len(jobs)} jobs; split it into tables of at most {MOST_JOBS}")
    seen: dict[str, Job] = {}
    for job in jobs:
        if job.output in seen:
            other = seen[job.output]
            raise InputError(
                f"two jobs of {source} write {job.output}: {Path(other.audio).name} and {Path(job.audio).name}; "
                "give them names in the column output"
            )
        seen[job.output] = job
