"""Models in a bucket, by digest: what was pushed is what is pulled, and both sides check it."""

import re
import tempfile
from pathlib import Path

from crpbot.cloud.aws import Aws
from crpbot.cloud.fetch import download
from crpbot.cloud.plan import Request
from crpbot.cloud.preflight import find_account
from crpbot.cloud.send import upload
from crpbot.disk import whole_file
from crpbot.errors import CloudError
from crpbot.model.loading import checkpoint_in, open_model

LEAST_DIGEST = 12
"""Characters of a digest: fewer could be met by a file that somebody has made for it."""
MOST_CHECKPOINT = 256 * 2**20


def parse(address: str) -> tuple[str, str]:
    """Return bucket and prefix of `s3://BUCKET/PREFIX`; the prefix ends with a slash, or is empty.

    >>> parse("s3://models/live")
    ('models', 'live/')
    """
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    if not address.startswith("s3://") or not bucket:
        raise CloudError(f"a place for models must be s3://BUCKET/PREFIX, found {address!r}; correct it")
    return bucket, f"{prefix.strip('/')}/" if prefix.strip("/") else ""


def push(model: Path, address: str, aws: Aws) -> str:
    """Upload a checkpoint under its digest, once, and return its address.

    The name says the digest, S3 checks it on arrival, and keeps it beside the object.

    Raises:
        CrpbotError: it is no checkpoint that can predict, or AWS refused.

    """
    opened = open_model(model)
    if opened.deployed is not None:
        raise CloudError(
            f"what is pushed must be a .pt file, from which the deployed form is made; found {opened.path}: name the .pt"
        )
    checkpoint_in(opened)  # a file that cannot predict is not worth a place
    bucket, prefix = parse(address)
    key = f"{prefix}{opened.sha256}/{opened.path.name}"
    parameters = {
        "Bucket": bucket,
        "Key": key,
        "ExpectedBucketOwner": find_account(aws),
        "ChecksumAlgorithm": "SHA256",
        "IfNoneMatch": "*",
    }
    upload(
        Request(service="s3", operation="put_object", parameters=parameters, why="a model", body=opened.path.read_bytes()), aws
    )
    return f"s3://{bucket}/{key}"


def pull(address: str, digest: str, out: Path, aws: Aws) -> Path:
    """Download the checkpoint whose digest begins with `digest`, verify it, and place it in `out`.

    Raises:
        CrpbotError: there is none or more than one, or it is not the file that its name says.

    """
    bucket, prefix = parse(address)
    if not re.fullmatch(rf"[0-9a-f]{{{LEAST_DIGEST},64}}", digest):
        raise CloudError(
            f"a digest must be at least {LEAST_DIGEST} of its 64 characters 0-9a-f, found {digest!r}; give more of it"
        )
    account = find_account(aws)
    found = aws.pages("s3", "list_objects_v2", "Contents", Bucket=bucket, Prefix=f"{prefix}{digest}", ExpectedBucketOwner=account)
    keys = [str(one["Key"]) for one in found if str(one["Key"]).removeprefix(prefix).count("/") == 1]
    if len(keys) != 1:
        names = ", ".join(key.removeprefix(prefix)[:12] for key in keys[:5]) or "none"
        raise CloudError(f"{address} must have one model whose digest begins with {digest!r}, found {names}; give more of it")
    sha256, _, name = keys[0].removeprefix(prefix).partition("/")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt"
        if download(aws, bucket, keys[0], path, account=account, most=MOST_CHECKPOINT) != sha256:
            raise CloudError(
                f"s3://{bucket}/{keys[0]} must have the digest in its name, found another; it was altered: do not use it"
            )
        checkpoint_in(open_model(path))
        target = out / Path(name).name
        if target.suffix != ".pt" or target.name.startswith("."):
            raise CloudError(f"a checkpoint must be a .pt file, found {name!r}; pull another")
        with whole_file(target) as partial:
            partial.write_bytes(path.read_bytes())
    return target
