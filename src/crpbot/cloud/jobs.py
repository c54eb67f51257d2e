"""What was sent, as files under the home folder, so that status, fetch and stop know it later."""

import json
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args

from crpbot.cloud.plan import Backend
from crpbot.disk import read_regular, write_whole
from crpbot.errors import CloudError
from crpbot.market.source import SourceKind

FORMAT = "crpbot.cloud-job/1"
MOST = 1e15
"""Of any number in a record: milliseconds up to the year 33658."""
_MOST_BYTES = 2**20
"""Of a record; the longest thing in it is a recipe."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One job that was sent.

    Attributes:
        name: of the work, as in its plan.
        run: what AWS runs it as: a training job, or the machine of EC2.
        attempt: how often it was started, from 1; a training job's name is used up by the first.
        backend, region, account, bucket: where.
        symbol: of the market.
        recipe: the TOML of it.
        seed: of the training.
        kind, candles: where the candles are from, and what a person typed.
        candles_sha256: their digest.
        instance: type of the machine.
        instance_id: of the machine of EC2; empty for SageMaker.
        spot: whether it may be taken away.
        usd_per_hour: expected price.
        usd_on_demand: price on demand, which is above the other one for spot only.
        limit_seconds: after which it is stopped.
        created: when, in milliseconds of UTC.

    """

    name: str
    run: str
    attempt: int
    backend: Backend
    region: str
    account: str
    bucket: str
    symbol: str
    recipe: str
    seed: int
    kind: SourceKind
    candles: str
    candles_sha256: str
    instance: str
    instance_id: str
    spot: bool
    usd_per_hour: float
    limit_seconds: int
    created: int
    usd_on_demand: float = 0.0

    @property
    def artefact(self) -> str:
        """Key of what the job made."""
        if self.backend == "sagemaker":
            return f"crpbot/jobs/{self.run}/output/model.tar.gz"
        return f"crpbot/jobs/{self.name}/output/model.tar.gz"


class Jobs:
    """The jobs under one home folder, one file each."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "cloud" / "jobs"

    def write(self, job: Sent) -> None:
        """Keep a job, or what has changed of it."""
        write_whole(
            self._folder / f"{job.account}-{job.region}-{job.name}.json",
            json.dumps({"format": FORMAT, **asdict(job)}, indent=1) + "\n",
        )

    def all(self) -> tuple[Sent, ...]:
        """Return every job, oldest first."""
        found = [self._read(path) for path in sorted(self._folder.glob("*.json"))]
        return tuple(sorted(found, key=lambda job: (job.created, job.symbol)))

    def readable(self) -> tuple[tuple[Sent, ...], tuple[str, ...]]:
        """Return every job that can be read, oldest first, and what is wrong with each of the others."""
        found: list[Sent] = []
        wrong: list[str] = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                found.append(self._read(path))
            except CloudError as error:
                wrong.append(str(error))
        return tuple(sorted(found, key=lambda job: (job.created, job.symbol))), tuple(wrong)

    def chosen(self, names: tuple[str, ...]) -> tuple[Sent, ...]:
        """Return the jobs of these names or symbols; all of them where none is named.

        Raises:
            CloudError: one is not known here, or there is none at all.

        """
        known = self.all()
        if not known:
            raise CloudError(f"there must be a job that was sent from here, found none in {self._folder}; crpbot cloud train")
        if not names:
            return known
        chosen = [job for job in known if {job.name, job.run, job.symbol} & set(names)]
        unknown = set(names) - {name for job in chosen for name in (job.name, job.run, job.symbol)}
        if unknown:
            have = ", ".join(job.name for job in known)
            raise CloudError(f"a job must be one that was sent from here, found {', '.join(sorted(unknown))}; these are: {have}")
        return tuple(chosen)

    def get(self, name: str, *, region: str, account: str) -> Sent | None:
        """Return the job of that name in that region of that account, or None."""
        path = self._folder / f"{account}-{region}-{name}.json"
        return self._read(path) if path.is_file() else None

    def _read(self, path: Path) -> Sent:
        try:
            plain = json.loads(read_regular(path, most=_MOST_BYTES))
            said = plain.pop("format")
            job = Sent(**plain) if said == FORMAT else None  # a later version may have other fields
            if job is not None:
                _check(job)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CloudError(
                f"{path} must be a whole record of a job, found {error!r}; delete it, and look at the console"
            ) from None
        if job is None or not (NAME.fullmatch(job.name) and job.backend in get_args(Backend)):
            raise CloudError(f"{path} must be a record in the format {FORMAT}, found {said!r}; update crpbot, or delete it")
        return job


def _check(job: Sent) -> None:
    """Refuse a record whose values are of other kinds than ours.

    Raises:
        TypeError: a text is none, or a number is none that can be counted with.

    """
    for field in fields(job):
        value = getattr(job, field.name)
        kind: Any = int | float if field.type is float else field.type if field.type in {int, bool} else str
        right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        if not right or (kind not in {bool, str} and not -MOST < value < MOST):
            raise TypeError(f"{field.name} is {str(value)[:40]!r}")
