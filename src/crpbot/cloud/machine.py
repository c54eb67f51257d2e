"""What the machine of EC2 runs: each symbol by the contract of SageMaker, with S3 kept up to date, until all are done.

python -m crpbot.cloud.machine s3://BUCKET/crpbot/jobs/RUN/run.json
"""

import io
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crpbot.cloud import host
from crpbot.cloud.artefact import pack
from crpbot.cloud.aws import Aws, region_of
from crpbot.cloud.child import INTERRUPTED
from crpbot.errors import AwsError, CloudError, CrpbotError

EVERY = 30.0
"""Seconds between two uploads of state and progress: what a spot machine may lose."""


class Store:
    """Objects of one bucket."""

    def __init__(self, aws: Aws, bucket: str) -> None:
        self._aws, self._bucket = aws, bucket

    def names(self, folder: str) -> tuple[str, ...]:
        """Return the keys under a folder, without it."""
        found = self._aws.pages("s3", "list_objects_v2", "Contents", Bucket=self._bucket, Prefix=f"{folder}/")
        return tuple(one["Key"].removeprefix(f"{folder}/") for one in found)

    def has(self, key: str) -> bool:
        """Say whether an object is there."""
        folder, _, name = key.rpartition("/")
        return name in self.names(folder)

    def read(self, key: str) -> bytes:
        """Return an object."""
        return bytes(self._aws.ask("s3", "get_object", Bucket=self._bucket, Key=key)["Body"].read())

    def write(self, key: str, content: bytes) -> None:
        """Write an object, whole or not at all."""
        self._aws.ask("s3", "put_object", Bucket=self._bucket, Key=key, Body=io.BytesIO(content), ChecksumAlgorithm="SHA256")


class Mirror:
    """Keeps the state folder and the progress of a job in S3 while it runs."""

    def __init__(self, store: Store, job: Mapping[str, Any], base: Path) -> None:
        self._store, self._job, self._folder = store, job, base / "checkpoints"
        self._seen: dict[str, tuple[int, int]] = {}
        self._line = ""
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def bring_back(self) -> None:
        """Fetch the state that an earlier machine left."""
        shutil.rmtree(self._folder, ignore_errors=True)
        for name in self._store.names(self._job["state"]):
            path = self._folder / name
            if not path.resolve().is_relative_to(self._folder.resolve()):
                raise CloudError(f"the state of a job must lie in its folder, found {name!r}; delete that object")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._store.read(f"{self._job['state']}/{name}"))

    def start(self) -> None:
        """Begin."""
        self.say("InProgress")
        self._thread.start()

    def told(self, line: str) -> None:
        """Take note of the worker's last line."""
        self._line = line.strip() or self._line

    def finish(self, state: str, detail: str = "") -> None:
        """End, with everything in its place, and say how it went."""
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()
        self._upload()
        self.say(state, detail)

    def say(self, state: str, detail: str = "") -> None:
        """Write the job's status."""
        status = {
            "job": self._job["name"],
            "state": state,
            "detail": detail,
            "line": self._line,
            "machine": os.environ.get("CRPBOT_MACHINE", ""),
            "time": int(time.time() * 1_000),
        }
        self._store.write(f"{self._job['folder']}/status.json", json.dumps(status).encode())

    def _run(self) -> None:
        while not self._done.wait(EVERY):
            try:
                self._upload()
                self.say("InProgress")
            except (AwsError, OSError) as error:  # the next turn tries again; the training goes on
                sys.stderr.write(f"not uploaded this time: {error}\n")

    def _upload(self) -> None:
        for path in sorted(self._folder.rglob("*")):
            if not path.is_file() or path.name.endswith(".partial"):
                continue
            stat = path.stat()
            name, mark = path.relative_to(self._folder).as_posix(), (stat.st_mtime_ns, stat.st_size)
            if self._seen.get(name) != mark:
                self._store.write(f"{self._job['state']}/{name}", path.read_bytes())
                self._seen[name] = mark


def work(store: Store, run: Mapping[str, Any], base: Path) -> int:
    """Train every job of a run; what is done already is left alone. Exit 0 where all are done and sound."""
    failed = 0
    for job in run["jobs"]:
        if store.has(f"{job['folder']}/output/model.tar.gz"):
            sys.stderr.write(f"{job['name']} is done already\n")
            Mirror(store, job, base / job["name"]).say("Completed")
            continue
        code = _train(store, job, base / job["name"])
        if code == INTERRUPTED:
            return code
        failed = failed or code
    return failed


def _train(store: Store, job: Mapping[str, Any], base: Path) -> int:
    channels = {"recipe": {"recipe.toml": store.read(job["recipe"])}}
    if job["candles"]:
        channels["candles"] = {job["candles"].rpartition("/")[2]: store.read(job["candles"])}
    host.lay_out(base, job["hyperparameters"], channels)
    mirror = Mirror(store, job, base)
    mirror.bring_back()
    child = host.start_worker(base)
    mirror.start()
    code, _ = child.wait(mirror.told)
    if child.interrupted:
        mirror.finish("Interrupted", "the machine was taken away or stopped; sent again, it goes on from its last epoch")
        return INTERRUPTED
    name = "model" if code == 0 else "output"
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / f"{name}.tar.gz"
        pack(base / ("model" if code == 0 else "output/data"), archive)
        store.write(f"{job['folder']}/output/{name}.tar.gz", archive.read_bytes())
    mirror.finish("Completed" if code == 0 else "Failed", "" if code == 0 else host.reason(base, code))
    return code


def main() -> int:
    """Do what the machine is for."""
    bucket, _, key = sys.argv[1].removeprefix("s3://").partition("/")
    store = Store(Aws(region_of(None)), bucket)
    try:
        return work(store, json.loads(store.read(key)), Path("/opt/crpbot/jobs") if len(sys.argv) < 3 else Path(sys.argv[2]))
    except CrpbotError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
