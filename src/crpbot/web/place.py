"""The temporary folders of a server: gone with it, or, where it was killed, when the next one starts."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from crpbot.disk import locked

ERRANDS, DEMO = "crpbot-errands-", "crpbot-demo-"
"""How their names begin."""
LOCK = ".lock"
"""Held as long as the owner lives."""


@contextmanager
def place(prefix: str) -> Iterator[Path]:
    """Give a new folder that nobody else may read; it is gone afterwards."""
    with ExitStack() as held:
        folder, ours = Path(), False
        while not (ours and (folder / LOCK).exists()):  # once in a while another server has just taken it for an abandoned one
            folder = Path(tempfile.mkdtemp(prefix=prefix))
            held.callback(shutil.rmtree, folder, ignore_errors=True)
            with suppress(FileNotFoundError):
                ours = held.enter_context(locked(folder / LOCK))
        yield folder


def sweep() -> None:
    """Remove the folders of servers that were killed: those of ours that nobody holds."""
    for prefix in (ERRANDS, DEMO):
        for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
            with suppress(OSError):
                if not _is_ours(folder) or not (folder / LOCK).exists():  # without a lock nobody knows whose it is
                    continue
                with locked(folder / LOCK) as abandoned:
                    if abandoned:
                        shutil.rmtree(folder, ignore_errors=True)
                if abandoned:
                    shutil.rmtree(folder, ignore_errors=True)  # where a file that is open stays


def _is_ours(folder: Path) -> bool:
    """Return whether we have made a folder; anybody may put a link into a temporary folder."""
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and (not hasattr(os, "getuid") or found.st_uid == os.getuid())
