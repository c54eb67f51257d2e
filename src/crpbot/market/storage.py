"""Where a lake lies: a folder, or a bucket that speaks S3. A file appears whole or not at all on both."""

import io
import os
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from crpbot.disk import locked, write_whole
from crpbot.errors import CandleError

STALE = 3_600.0
"""Seconds after which the lock of a bucket counts as left behind by a process that was killed: every write renews it."""


class Storage(Protocol):
    """Named files; a name has at most one slash."""

    def names(self, folder: str = "*/") -> Mapping[str, int]:
        """Return every file, or those of one `folder/`, with its size in bytes."""

    def read(self, name: str) -> bytes:
        """Return a file; `FileNotFoundError` where there is none."""

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all."""

    def lock(self, name: str) -> AbstractContextManager[bool]:
        """Hold a lock; say whether it is ours."""


class Folder:
    """Files under a folder of this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __str__(self) -> str:
        return str(self._root)

    def names(self, folder: str = "*/") -> Mapping[str, int]:
        """Return every file, or those of one `folder/`, with its size in bytes."""
        found = {}
        for path in self._root.glob(f"{folder}[!.]*"):  # names with a dot in front are locks and work in progress
            try:
                found[path.relative_to(self._root).as_posix()] = path.stat().st_size
            except FileNotFoundError:  # renamed since it was listed
                continue
        return found

    def read(self, name: str) -> bytes:
        """Return a file."""
        return (self._root / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all."""
        write_whole(self._root / name, content)

    @contextmanager
    def lock(self, name: str) -> Iterator[bool]:
        """Hold a lock file; the system lets go of it when the process ends."""
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path) as ours:
            yield ours


class Bucket:
    """Objects under a prefix of a bucket; credentials, region and address come from the AWS_* variables and files, as always."""

    def __init__(self, address: str) -> None:
        import boto3  # noqa: PLC0415  only who has a lake in a bucket needs it

        bucket, _, prefix = address.removeprefix("s3://").partition("/")
        if not bucket:
            raise CandleError(f"a lake in a bucket must be s3://BUCKET/PREFIX, found {address!r}; name the bucket")
        self._bucket, self._prefix = bucket, f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._held: dict[str, tuple[bytes, float]] = {}
        with self._speaking():
            self._client: Any = boto3.client("s3")

    def __str__(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def names(self, folder: str = "*/") -> Mapping[str, int]:
        """Return every object, or those of one `folder/`, with its size in bytes."""
        under = self._prefix + folder.removeprefix("*/")
        with self._speaking():
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=under)
            return {one["Key"].removeprefix(self._prefix): int(one["Size"]) for page in pages for one in page.get("Contents", ())}

    def read(self, name: str) -> bytes:
        """Return an object."""
        with self._speaking():
            try:
                return bytes(self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)["Body"].read())
            except self._client.exceptions.NoSuchKey:
                raise FileNotFoundError(f"{self}/{name}") from None

    def write(self, name: str, content: bytes) -> None:
        """Write an object, which a bucket does whole or not at all."""
        with self._speaking():
            self._renew()
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=io.BytesIO(content))

    @contextmanager
    def lock(self, name: str) -> Iterator[bool]:
        """Hold an object that only one may create; each write renews it, and one of an hour ago was left behind."""
        owner = f"{socket.gethostname()} {os.getpid()} {uuid.uuid4()}".encode()
        with self._speaking():
            ours = self._take(name, owner)
        if ours:
            self._held[name] = (owner, time.monotonic())
        try:
            yield ours
        finally:
            if ours:
                del self._held[name]
                with self._speaking(), suppress(FileNotFoundError):
                    if self.read(name) == owner:  # else somebody thought that we were gone
                        self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)

    def _renew(self) -> None:
        for name, (owner, since) in list(self._held.items()):
            if time.monotonic() - since < STALE / 20:
                continue
            if self.read(name) != owner:
                raise CandleError(f"{self}/{name} must stay ours while we write, found another owner; run one process at a time")
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=owner)
            self._held[name] = (owner, time.monotonic())

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        """Turn what boto3 raises into one line of ours; it names no secret."""
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        try:
            yield
        except (BotoCoreError, ClientError) as error:
            raise CandleError(
                f"the bucket of {self} must answer, found {error}; check credentials, region, address and rights"
            ) from None

    def _take(self, name: str, owner: bytes) -> bool:
        from botocore.exceptions import ClientError  # noqa: PLC0415

        key = self._prefix + name
        for _ in range(2):
            try:
                self._client.put_object(Bucket=self._bucket, Key=key, Body=owner, IfNoneMatch="*")
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") not in {"PreconditionFailed", "ConditionalRequestConflict"}:
                    raise
                held = self._client.head_object(Bucket=self._bucket, Key=key)["LastModified"].timestamp()
                if time.time() - held < STALE:
                    return False
                self._client.delete_object(Bucket=self._bucket, Key=key)
            else:
                return True
        return False


def storage_of(place: Path | str) -> Storage:
    """Return the storage that a folder or `s3://BUCKET/PREFIX` is."""
    return Bucket(str(place)) if str(place).startswith("s3://") else Folder(Path(place))
