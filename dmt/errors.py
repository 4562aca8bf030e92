"""The one exception for input that a person can mend, and how what is wrong with a file becomes its sentence."""

from __future__ import annotations

import os
import pickle
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HEAD, TAIL = 1500, 400
"""Characters of a sentence that are kept, at the least."""


class InputError(ValueError):
    """Bad input: one sentence that says what was expected, what came and what to do.

    The command line prints the sentence and exits with status 2; no other
    exception is shown to a user without its traceback. It may name what lies in
    a file, so it holds nothing that a terminal would obey, and its middle is
    left out where that is pages.
    """

    def __init__(self, sentence: str = "") -> None:
        if len(sentence) > HEAD + TAIL:
            sentence = f"{sentence[:HEAD]} ... {sentence[-TAIL:]}"
        super().__init__(printable(sentence))


LONGEST = 200
"""Characters of another library's words that a sentence of ours may quote."""


def why(error: BaseException) -> str:
    """What another library says of its error, fit for a sentence: one line, cut where it is long.

    Such words may quote pages of a damaged file. Lines are joined, not dropped: torch's first one often only announces
    what the next ones say.
    """
    if isinstance(error, pickle.UnpicklingError):  # torch's own words are pages on how to load it all the same
        return "no plain data: Python objects are not loaded, because they could run code"
    said = " ".join(str(error).split())
    return (said if len(said) <= LONGEST else f"{said[:LONGEST]}...") or type(error).__name__


def printable(text: str) -> str:
    """The text with a ? for every character that a terminal would obey, or could not show."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def brief(value: object) -> str:
    """What came instead, for a sentence: not whole where it is long or deeply nested."""
    return reprlib.repr(value)


def file_at(path: str | os.PathLike[str], what: str) -> Path:
    """The path of a file; InputError, saying that it should be `what`, where it is none. A pipe would be waited for."""
    path = Path(path)
    if os.path.isfile(path):  # which is False, and no error, for a name that no file can have
        return path
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder; {what} was expected")
    if os.path.exists(path):
        raise InputError(f"{path} is a pipe or a device; save it to a file first")
    raise InputError(f"no such file: {path}; {what} was expected")


@contextmanager
def damaged(path: str | os.PathLike[str], what: str) -> Iterator[None]:
    """Whatever a library raises for a damaged file becomes one sentence; they raise dozens of kinds."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path} cannot be read as {what}; it is damaged or of another kind ({why(error)})") from None
