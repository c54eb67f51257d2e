"""Bring home what a job made: download, verify, and only then place."""

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path

from crpbot.cloud.aws import NOT_THERE, Aws
from crpbot.cloud.jobs import Sent
from crpbot.cloud.status import logged_manifest, look, manifest_in
from crpbot.cloud.verify import Expected, accept
from crpbot.errors import AwsError, CloudError
from crpbot.market.source import open_source
from crpbot.model.recipe import recipe_from_toml
from crpbot.quality.report.data import Judgement

MOST_ARCHIVE = 256 * 2**20
"""Bytes of a model.tar.gz."""
CHUNK = 2**20


def fetch(
    job: Sent, aws: Aws, *, out: Path, candles: str | None, now: int, told: Callable[[str], None] = lambda _: None
) -> Judgement:
    """Fetch one job and place its model folder.

    Args:
        job: that was sent.
        aws: its region.
        out: the model goes to OUT/SYMBOL.
        candles: where they are now; by default where they were when the job was sent.
        now: milliseconds of UTC.
        told: is told what is being done.

    Raises:
        CrpbotError: it is not done, or is not what was ordered; nothing is placed then.

    """
    status = look(job, aws, now=now)
    if status.state != "Completed":
        because = f": {status.reason}" if status.reason else ""
        raise CloudError(f"{job.name} must be completed, found {status.state}{because}; see crpbot cloud status")
    market = open_source(candles or job.candles or None, symbols=(job.symbol,), seed=job.seed).read(job.symbol)
    if market.sha256 != job.candles_sha256:
        raise CloudError(
            f"the candles of {job.symbol} must be those that {job.name} was trained on, found others; name them with --candles"
        )
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "model.tar.gz"
        told(f"downloading {job.artefact}")
        download(aws, job.bucket, job.artefact, archive, account=job.account)
        logged = manifest_in(status.log) or (logged_manifest(job, aws) if job.backend == "sagemaker" else None)
        if logged is None and job.backend == "sagemaker":
            raise CloudError(
                f"the log of {job.run} must have the line with the digest of its manifest, found none; "
                "CloudWatch may be late: repeat shortly"
            )
        if logged is None:
            told("a machine of EC2 has no log that others cannot write: the manifest was compared with nothing")
        told("verifying")
        expected = Expected(job=job.name, symbol=job.symbol, recipe=recipe_from_toml(job.recipe), seed=job.seed, kind=job.kind)
        return accept(archive, expected, market, out=out, manifest=logged)


def download(aws: Aws, bucket: str, key: str, path: Path, *, account: str, most: int = MOST_ARCHIVE) -> str:
    """Download an object of bounded size to a file, and return its digest.

    Raises:
        CloudError: it is too large, or was cut off.

    """
    try:
        answer = aws.ask("s3", "get_object", Bucket=bucket, Key=key, ExpectedBucketOwner=account)
    except AwsError as error:
        if error.code in NOT_THERE:
            raise CloudError(f"s3://{bucket}/{key} must be there, found nothing; was it deleted?") from None
        raise
    length, got, digest = int(answer["ContentLength"]), 0, hashlib.sha256()
    if length > most:
        raise CloudError(f"s3://{bucket}/{key} must have at most {most:,} bytes, found {length:,}; look at it yourself")
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415
    from urllib3.exceptions import HTTPError  # noqa: PLC0415

    try:
        with path.open("wb") as file:
            while chunk := answer["Body"].read(CHUNK):
                file.write(chunk)
                digest.update(chunk)
                got += len(chunk)
    except (BotoCoreError, HTTPError) as error:
        raise CloudError(f"s3://{bucket}/{key} must arrive whole, found {error}; fetch it again") from None
    if got != length:
        raise CloudError(f"s3://{bucket}/{key} must arrive whole, found {got:,} of {length:,} bytes; fetch it again")
    return digest.hexdigest()
