"""Outputs that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import InputError


@contextmanager
def atomic(target: str | os.PathLike[str]) -> Iterator[Path]:
    """An empty file beside `target` to write to: renamed into place on success, removed on any failure.

    It lies in the same folder, so that the rename is one step, and has a name that no other run uses.
    Raises InputError: `target` is a folder, its folder is missing or cannot be written to.
    """
    target = Path(target)
    part = target.with_name(f".{target.stem[:40]}-{secrets.token_hex(4)}.part")
    if target.is_dir():
        raise InputError(f"cannot write {target}: it is a folder; name a file in it")
    if not target.parent.is_dir():
        raise InputError(f"cannot write {target}: the folder {target.parent} does not exist; create it first")
    try:
        part.touch(exist_ok=False)
    except OSError as error:
        raise InputError(
            f"cannot write {target}: the folder {target.parent} is not writable ({error.strerror}); choose another"
        ) from None
    try:
        yield part
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
