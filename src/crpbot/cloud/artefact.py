"""What a job hands over: its model folder and a manifest of digests, as model.tar.gz."""

import gzip
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from crpbot.errors import CloudError
from crpbot.model.loading import file_sha256

FORMAT = "crpbot.artefact/1"
MANIFEST = "manifest.json"
MOST_FILES, MOST_BYTES = 32, 512 * 2**20
CHUNK = 2**20
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is in an artefact, as it says itself; nothing of it is believed before it was checked.

    Attributes:
        facts: job, symbol, recipe, digests of candles, versions.
        files: size and digest, by name.

    """

    facts: Mapping[str, Any]
    files: Mapping[str, tuple[int, str]]


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> str:
    """Write the manifest of a folder, last of all, and return its digest."""
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != MANIFEST
    }
    text = json.dumps({"format": FORMAT, **facts, "files": files}, indent=1) + "\n"
    (folder / MANIFEST).write_text(text)
    return hashlib.sha256(text.encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of an unpacked artefact, and hold every file against it.

    Raises:
        CloudError: a file is missing, is not named, or is another.

    """
    path = folder / MANIFEST
    try:
        plain = json.loads(path.read_text())
        said = plain.pop("format")
        if said != FORMAT:
            raise CloudError(f"an artefact must have the format {FORMAT}, found {said!r:.80}; update crpbot, or train it again")
        files = {str(name): (int(one["bytes"]), str(one["sha256"])) for name, one in plain.pop("files").items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise CloudError(f"an artefact must have a whole {MANIFEST}, found {error!r}; it was altered: train it again") from None
    there = {one.name for one in folder.iterdir()} - {MANIFEST}
    if there != set(files):
        wrong = ", ".join(sorted(there ^ set(files)))
        raise CloudError(f"an artefact must hold the files of its manifest, found a difference in {wrong}; train it again")
    for name, (size, sha256) in files.items():
        if (folder / name).stat().st_size != size or file_sha256(folder / name) != sha256:
            raise CloudError(f"{name} must have the digest of its manifest, found another; it was altered: train it again")
    return Manifest(plain, files)


def pack(folder: Path, archive: Path) -> None:
    """Write the files of a folder as a .tar.gz."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz") as tar:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                tar.add(path, arcname=path.relative_to(folder).as_posix(), recursive=False)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an artefact of a stranger: plain files with plain names, of bounded number and size, and nothing else.

    Raises:
        CloudError: there is anything else in it, or it is damaged; then nothing of it may be used.

    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with gzip.open(archive) as stream, tarfile.open(fileobj=_Bounded(stream), mode="r|") as tar:
            _unpack_all(tar, folder)
    except CloudError:
        raise
    except Exception as error:  # noqa: BLE001  tarfile, gzip and zlib answer damage with whatever comes: it is never a bug of ours
        raise CloudError(f"an artefact must be a whole model.tar.gz, found a damaged one: {error!r}; fetch it again") from None


def _unpack_all(tar: tarfile.TarFile, folder: Path) -> None:
    total = 0
    for count, member in enumerate(tar, start=1):
        total += member.size
        if count > MOST_FILES:
            raise CloudError(f"an artefact must hold at most {MOST_FILES} files, found more; train it again")
        if not 0 <= member.size <= MOST_BYTES or total > MOST_BYTES:
            raise CloudError(f"an artefact must unpack to at most {MOST_BYTES / 2**20:.0f} MiB, found more; train it again")
        _unpack(tar, member, folder)


def _unpack(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    name = member.name.removeprefix("./")
    if member.isdir() and name in {"", "."}:
        return
    plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse()
    if not plain or not _NAME.fullmatch(name) or (folder / name).exists():
        raise CloudError(f"an artefact must hold plain files with plain names, each once, found {member.name!r}; train it again")
    content = tar.extractfile(member)
    assert content is not None
    got = 0
    with (folder / name).open("xb") as file:
        while chunk := content.read(CHUNK):
            file.write(chunk)
            got += len(chunk)
    if got != member.size:
        raise CloudError(f"an artefact must be whole, found {name!r} cut off; fetch it again")


class _Bounded(io.RawIOBase):
    """A stream that refuses to give more than an artefact may hold: a small archive can unpack to anything."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile) -> None:
        super().__init__()
        self._stream, self._left = stream, MOST_BYTES

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size if 0 <= size <= self._left else self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            raise CloudError(f"an artefact must unpack to at most {MOST_BYTES / 2**20:.0f} MiB, found more; train it again")
        return data
