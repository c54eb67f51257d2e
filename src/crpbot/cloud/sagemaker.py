"""A training job of SageMaker, as a request."""

from typing import Any

from crpbot.cloud.pack import Package
from crpbot.cloud.plan import Job, Request, tags

FRAMEWORK_IMAGE = "763104351884.dkr.ecr.{region}.amazonaws.com/pytorch-training:2.6.0-gpu-py312-cu126-ubuntu22.04-sagemaker"
"""AWS's own PyTorch image for training: Python 3.12, which crpbot needs, and a torch that reads and writes our checkpoints."""
METRICS = {
    "epoch": r"epoch ([0-9]+)/",
    "loss": r"rows/s  loss ([0-9.]+)",
    "calibration": r"  calibration ([0-9.]+)",
}
"""What SageMaker draws from the lines of `crpbot train`."""
ENTRY = (
    "cd /opt/ml/input/data/package&&for f in crpbot.zip requirements.txt constraints.txt start.sh;"
    "do set -- $(sha256sum $f);echo $f $1;done|sha256sum|grep -q ^$0&&exec bash start.sh;"
    "echo the package was changed>/opt/ml/output/failure;exit 1"
)
"""Holds the very files that were sent against their digest ($0) before any of them runs; SageMaker takes 256 characters."""
VOLUME_GB = 30
MAX_WAIT = 2
"""A spot job may wait for a machine until this many times its time to run has passed."""


def training_request(
    job: Job,
    *,
    bucket: str,
    package: Package,
    recipe_key: str,
    candles_key: str,
    instance: str,
    image: str,
    role: str,
    spot: bool,
    limit_seconds: int,
) -> Request:
    """Return the request that starts the training of one symbol.

    Args:
        job: to start.
        bucket: where everything lies.
        package: the code.
        recipe_key: of the uploaded recipe.
        candles_key: of the uploaded candles; empty where the job has them.
        instance: type of the machine.
        image: of the container.
        role: that the job acts as, an ARN.
        spot: whether the machine may be taken away, for less money; it goes on from its last epoch then.
        limit_seconds: after which SageMaker stops it.

    """
    channels = [_channel("package", f"s3://{bucket}/{package.prefix}"), _channel("recipe", f"s3://{bucket}/{recipe_key}")]
    if candles_key:
        channels.append(_channel("candles", f"s3://{bucket}/{candles_key}"))
    stopping = {"MaxRuntimeInSeconds": limit_seconds}
    if spot:
        stopping["MaxWaitTimeInSeconds"] = MAX_WAIT * limit_seconds
    parameters: dict[str, Any] = {
        "TrainingJobName": job.name,
        "AlgorithmSpecification": {
            "TrainingImage": image,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["/bin/bash", "-c", ENTRY, package.sha256],
            "MetricDefinitions": [{"Name": name, "Regex": regex} for name, regex in METRICS.items()],
        },
        "RoleArn": role,
        "HyperParameters": job.hyperparameters(),
        "InputDataConfig": channels,
        "OutputDataConfig": {"S3OutputPath": f"s3://{bucket}/crpbot/jobs"},
        "ResourceConfig": {"InstanceType": instance, "InstanceCount": 1, "VolumeSizeInGB": VOLUME_GB},
        "StoppingCondition": stopping,
        "EnableManagedSpotTraining": spot,
        "CheckpointConfig": {"S3Uri": f"s3://{bucket}/crpbot/state/{job.name}", "LocalPath": "/opt/ml/checkpoints"},
        "Tags": tags(job.name, job.symbol, job.recipe.name, limit_seconds),
    }
    return Request(
        service="sagemaker",
        operation="create_training_job",
        parameters=parameters,
        why=f"train {job.symbol}, stopped after {limit_seconds / 3_600:.2f} hours whatever happens",
        job=job.name,
    )


def _channel(name: str, uri: str) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}, "InputMode": "File"}
