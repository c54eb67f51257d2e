"""Files that appear whole or not at all."""

import errno
import os
import stat
import sys
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO


def write_whole(path: Path, content: bytes | str, *, lasting: bool = True) -> None:
    """Write `content` to `path` so that nobody ever reads half of it.

    The bytes go to a neighbour in the same folder, reach the disk, and take the name in one step, which reaches the disk too if
    it is to be `lasting`. What is written every minute, and made anew where it is lacking, need not be: a loss of power leaves
    the former one.
    """
    with whole_file(path, lasting=lasting) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def whole_file(path: Path, *, lasting: bool = True) -> Iterator[Path]:
    """Give a path to write to; it becomes `path` when the block ends, and vanishes when the block fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=".partial", delete=False) as file:
        partial = Path(file.name)
    try:
        with naming(path):
            yield partial
            with partial.open("rb+") as written:
                os.fsync(written.fileno())
            partial.chmod(0o644)
            partial.replace(path)
            if lasting:
                settle(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def settle(folder: Path) -> None:
    """Let the names in a folder reach the disk: without that, a loss of power takes a file back that was already there.

    Windows has no such call, and some file systems refuse it: there the system itself decides when.
    """
    if sys.platform == "win32":
        return
    file = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(file)
    finally:
        os.close(file)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an error of the system say which file it is about: a write that finds the disk full does not, nor does Polars."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            reason = error.strerror or " ".join(str(error).split())
            raise OSError(error.errno or errno.EIO, reason, str(path)) from None
        raise


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read; a pipe, which may keep a reader waiting for ever, or a device is refused.

    Raises:
        OSError: it is none, or cannot be opened.

    """
    file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(file, "rb")


def read_regular(path: Path, *, most: int) -> bytes:
    """Return what a regular file holds, of at most so many bytes.

    Raises:
        OSError: it is none, holds more, or cannot be read.

    """
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"more than {most:,} bytes", str(path))
    return content


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold a lock file; say whether it is ours. The system lets go of it when the process ends, however that happens."""
    with path.open("a") as file:
        ours = True
        try:
            if sys.platform == "win32":
                import msvcrt  # noqa: PLC0415  only there

                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl  # noqa: PLC0415  not there

                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            ours = False
        yield ours


def stamp(path: Path) -> Hashable:
    """Return what changes when a file does; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
