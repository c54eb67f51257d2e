"""A machine of EC2 that trains, uploads and ends itself, as requests."""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from crpbot.cloud.pack import PREFIX, Package
from crpbot.cloud.plan import Job, Request, tags
from crpbot.errors import CloudError

DEEP_LEARNING_AMI = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-22.04/latest/ami-id"
"""Where AWS says in SSM which image is the newest Deep Learning AMI with a driver, for Ubuntu 22.04."""
GROUP = "crpbot-no-inbound"
"""Security group without an inbound rule."""
VOLUME_GB = 100
LAST_MINUTES = 1
"""The second timer of a machine, which cuts its power, comes so much later than the first."""
_SAFE = re.compile(r"[A-Za-z0-9._/+-]*")


def group_request() -> Request:
    """Return the request for a security group that lets nobody in."""
    return Request(
        service="ec2",
        operation="create_security_group",
        parameters={"GroupName": GROUP, "Description": "crpbot: no inbound port, outbound only"},
        why="no inbound port; made once",
    )


def run_name(jobs: Sequence[Job]) -> str:
    """Return the name of the machine that trains these jobs; that of the job where there is one only."""
    if len(jobs) == 1:
        return jobs[0].name
    digest = hashlib.sha256("\n".join(job.name for job in jobs).encode()).hexdigest()[:12]
    return f"crpbot-{len(jobs)}-symbols-{digest}"


def run_file(
    jobs: Sequence[Job], *, bucket: str, package: Package, recipe_key: str, candles_keys: Mapping[str, str]
) -> tuple[str, bytes]:
    """Return key and content of the file that tells the machine what to do; it is what a training job would be told.

    Args:
        jobs: to train, one after the other.
        bucket: where everything lies.
        package: the code.
        recipe_key: of the uploaded recipe.
        candles_keys: of the uploaded candles, by symbol.

    """
    content = {
        "bucket": bucket,
        "package": package.prefix,
        "jobs": [
            {
                "name": job.name,
                "folder": job.folder,
                "state": f"{PREFIX}/state/{job.name}",
                "hyperparameters": job.hyperparameters(),
                "recipe": recipe_key,
                "candles": candles_keys.get(job.symbol, ""),
            }
            for job in jobs
        ],
    }
    return f"{PREFIX}/jobs/{run_name(jobs)}/run.json", (json.dumps(content, indent=1) + "\n").encode()


def run_request(
    jobs: Sequence[Job],
    *,
    bucket: str,
    region: str,
    package: Package,
    instance: str,
    image: str,
    profile: str,
    spot: bool,
    limit_seconds: int,
    subnet: str | None = None,
    group: str | None = None,
) -> Request:
    """Return the request that starts the machine.

    Args:
        jobs: to train.
        bucket: where everything lies.
        region: of machine and bucket.
        package: the code.
        instance: type of the machine.
        image: an AMI, or the SSM parameter that names one.
        profile: instance profile that the machine acts as.
        spot: whether the machine may be taken away, for less money.
        limit_seconds: after which it ends itself.
        subnet: where there is no default network; then `group` is needed too.
        group: id of a security group without inbound rules; by default ours, by name.

    """
    name = run_name(jobs)
    image_id = image if image.startswith("ami-") else f"resolve:ssm:{image}"
    script = user_data(name, bucket=bucket, region=region, package=package, limit_seconds=limit_seconds)
    parameters: dict[str, Any] = {
        "ImageId": image_id,
        "InstanceType": instance,
        "MinCount": 1,
        "MaxCount": 1,
        "ClientToken": name,
        "IamInstanceProfile": {"Name": profile},
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": {"HttpTokens": "required", "HttpEndpoint": "enabled", "HttpPutResponseHopLimit": 1},
        "BlockDeviceMappings": [
            {
                "DeviceName": "/dev/sda1",
                "Ebs": {"VolumeSize": VOLUME_GB, "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True},
            }
        ],
        "TagSpecifications": [
            {
                "ResourceType": kind,
                "Tags": [
                    {"Key": "Name", "Value": name},
                    *tags(name, " ".join(job.symbol for job in jobs), jobs[0].recipe.name, limit_seconds),
                ],
            }
            for kind in ("instance", "volume")
        ],
        "UserData": script,  # boto3 encodes it
    }
    if subnet:
        if not group:
            raise CloudError("a subnet must come with a security group, found none; give it with --security-group")
        parameters |= {"SubnetId": subnet, "SecurityGroupIds": [group]}
    else:
        parameters |= {"SecurityGroupIds": [group]} if group else {"SecurityGroups": [GROUP]}
    if spot:
        options = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}
        parameters["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": options}
    return Request(
        service="ec2",
        operation="run_instances",
        parameters=parameters,
        why=f"train {', '.join(job.symbol for job in jobs)} in turn; ends itself after {limit_seconds / 3_600:.2f} hours",
        job=name,
    )


def user_data(name: str, *, bucket: str, region: str, package: Package, limit_seconds: int) -> str:
    """Return the script of the machine. Nothing in it is secret, and nothing in it can be read as a command of its own."""
    minutes = max(1, math.floor(limit_seconds / 60))
    values = {
        "MINUTES": str(minutes),
        "LAST_SECONDS": str((minutes + LAST_MINUTES) * 60),
        "REGION": region,
        "BUCKET": bucket,
        "FOLDER": f"{PREFIX}/jobs/{name}",
        "PACKAGE": package.prefix,
        "DIGEST": package.sha256,
        "TORCH": version("torch").partition("+")[0],
    }
    script = (files("crpbot.cloud") / "user_data.sh").read_text(encoding="utf-8")
    for key, value in values.items():
        if not _SAFE.fullmatch(value):
            raise CloudError(f"{key.lower()} must be letters, digits and ._/+- only, found {value!r}; correct it")
        script = script.replace(f"@{key}@", value)
    return script
