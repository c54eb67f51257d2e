"""What runs on AWS: machines and training jobs, whether they are ours, and how they are stopped."""

from collections.abc import Mapping
from typing import Any

from crpbot.cloud.aws import Aws
from crpbot.errors import AwsError

ALIVE = ("pending", "running", "stopping", "stopped")
"""States of a machine of EC2 that is still there."""
OURS = "crpbot-"
"""What every name of ours begins with."""


def machines(aws: Aws, run: str | None = None) -> list[dict[str, Any]]:
    """Return the machines of EC2 that are ours, or those of one run."""
    tag = {"Name": "tag-key", "Values": ["crpbot:job"]} if run is None else {"Name": "tag:crpbot:job", "Values": [run]}
    found = aws.pages("ec2", "describe_instances", "Reservations", Filters=[tag])
    return [one for reservation in found for one in reservation["Instances"] if labels(one)["crpbot:job"].startswith(OURS)]


def training_job(aws: Aws, name: str) -> Mapping[str, Any] | None:
    """Return what SageMaker says of a training job, or None where it knows none of that name."""
    try:
        return aws.ask("sagemaker", "describe_training_job", TrainingJobName=name)
    except AwsError as error:
        if error.code == "ResourceNotFound" or (error.code == "ValidationException" and "not found" in str(error).lower()):
            return None
        raise


def is_ours(job: Mapping[str, Any]) -> bool:
    """Say whether a training job is one that crpbot has sent: its name and what it was told have to agree."""
    name, told = str(job["TrainingJobName"]), str(job.get("HyperParameters", {}).get("job", ""))
    attempt = name.removeprefix(told).removeprefix("-")
    return told.startswith(OURS) and name.startswith(told) and (name == told or attempt.isdecimal())


def stop_run(aws: Aws, backend: str, run: str, instance_id: str) -> None:
    """Stop a training job, or a machine: without its id, every machine of that run. What has ended is left alone."""
    if backend == "sagemaker":
        found = training_job(aws, run)
        if found is not None and found["TrainingJobStatus"] == "InProgress":
            unless(aws, {"ValidationException"}, "sagemaker", "stop_training_job", TrainingJobName=run)  # it has just ended
        return
    there = (
        [one["InstanceId"] for one in machines(aws, run) if one["State"]["Name"] in ALIVE] if not instance_id else [instance_id]
    )
    for one in there:
        unless(aws, {"InvalidInstanceID.NotFound"}, "ec2", "terminate_instances", InstanceIds=[one])


def unless(aws: Aws, codes: set[str], service: str, operation: str, /, **parameters: object) -> None:
    """Make a call; a refusal with one of these codes is as good as done."""
    try:
        aws.ask(service, operation, **parameters)
    except AwsError as error:
        if error.code not in codes:
            raise


def limit_of(machine: Mapping[str, Any]) -> int | None:
    """Return the seconds after which a machine of EC2 ends itself, as its label says; None where it does not."""
    text = labels(machine).get("crpbot:seconds", "")
    return int(text) if text.isdecimal() else None


def labels(machine: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of a machine of EC2, with an empty `crpbot:job` where it has none."""
    return {"crpbot:job": "", **{str(tag["Key"]): str(tag["Value"]) for tag in machine.get("Tags", ())}}
