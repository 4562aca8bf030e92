"""Outputs that appear whole or not at all, and the folders for them."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from .errors import InputError

try:
    import fcntl
except ImportError:  # Windows, which has no flock
    fcntl = None  # type: ignore[assignment]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No space, no quota, file larger than allowed."""


@contextmanager
def atomic(target: str | os.PathLike[str]) -> Iterator[Path]:
    """An empty file beside `target` to write to: renamed into place on success, removed on any failure.

    It lies in the same folder, so that the rename is one step, is hidden, ends in .part, and no other run has it:
    of several that write one target at once each writes a file of its own, and the last to finish wins. One that a
    killed process left behind is taken over by the next run with the same target.
    Raises InputError: `target` is a folder or no name for a file, its folder is missing or cannot be written to, or
    the disk is full.
    """
    target = Path(target)
    _check(target)
    try:
        part, lock = _own_part(target)
    except OSError as error:
        raise InputError(
            f"cannot write {target}: the folder {target.parent} is not writable ({error.strerror}); choose another"
        ) from None
    try:
        yield part
        os.replace(part, target)
    except BaseException as error:
        full = _disk_is_full(error, part.parent)
        part.unlink(missing_ok=True)  # not after success: by then another run may have made one of the same name
        if isinstance(error, InputError) or not full:
            raise
        raise InputError(
            f"cannot write {target}: the disk is full; free some space, or choose another folder"
        ) from None
    finally:
        os.close(lock)


def probe(target: str | os.PathLike[str]) -> None:
    """Raises what `atomic` would before anything is written; leaves nothing behind."""
    with suppress(_Probed), atomic(target):
        raise _Probed


class _Probed(Exception):
    """Leaves `atomic` without a rename."""


def made_folder(folder: str | os.PathLike[str]) -> Path:
    """`folder`, made with its parents where it is not there. Raises InputError where that cannot be done."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the folder {folder} cannot be made ({error.strerror or error}); choose another place"
        ) from None
    return folder


def _check(target: Path) -> None:
    try:
        os.stat(target)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass
    except (OSError, ValueError) as error:  # a name too long, a loop of links, a zero byte
        raise InputError(f"cannot write {str(target)!r}: {getattr(error, 'strerror', None) or error}") from None
    if os.path.isdir(target):
        raise InputError(f"cannot write {target}: it is a folder; name a file in it")
    if not os.path.isdir(target.parent):
        raise InputError(f"cannot write {target}: the folder {target.parent} does not exist; create it first")


def _own_part(target: Path) -> tuple[Path, int]:
    """An empty file that this call alone has, and the open descriptor that keeps it so.

    Whoever writes a part holds a lock on it, which ends with the process however that ends: a part that can be locked
    is new or was left behind.
    """
    stem = f".{target.stem[:40]}"
    for number in count() if fcntl else ():
        part = target.with_name(f"{stem}-{number}.part")
        try:
            lock = os.open(part, os.O_RDWR | os.O_CREAT, 0o666)
        except PermissionError:
            if part.exists():  # somebody else's, in a shared folder
                continue
            raise
        if _locked(part, lock):
            os.ftruncate(lock, 0)
            return part, lock
        os.close(lock)
        if number >= 99:  # a file system without locks, or a crowd
            break
    part = target.with_name(f"{stem}-{secrets.token_hex(4)}.part")
    return part, os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)


def _locked(part: Path, descriptor: int) -> bool:
    """Whether the lock was to be had and the file was not renamed or removed while we waited for it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.stat(part), os.fstat(descriptor))
    except OSError:
        return False


def _disk_is_full(error: BaseException, folder: Path) -> bool:
    """By the error's number; where a library hides it, by the system's words (safetensors) or by a look (numpy)."""
    if getattr(error, "errno", None) in _FULL or any(os.strerror(number) in str(error) for number in _FULL):
        return True
    return isinstance(error, OSError) and error.errno is None and shutil.disk_usage(folder).free < 64 << 10
