"""Everything that has to be there before anything is paid: each failure comes with its remedy, and unknown is not a yes."""

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from crpbot.cloud.aws import Aws
from crpbot.cloud.order import Wish
from crpbot.cloud.prices import VCPUS
from crpbot.doctor import Finding
from crpbot.errors import AwsError

_IMAGE = re.compile(r"(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com/([a-z0-9._/-]+)(?::([\w.-]+)|@(sha256:[0-9a-f]{64}))")
_MISSING = {"404", "NoSuchBucket", "NotFound", "NoSuchEntity", "NoSuchEntityException"}
_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403", "Forbidden"}


def find_account(aws: Aws) -> str:
    """Return the number of the account that the credentials belong to.

    Raises:
        AwsError: there are none, or AWS refuses them.

    """
    return str(aws.ask("sts", "get_caller_identity")["Account"])


def preflight(wish: Wish, aws: Aws, *, machines: int) -> tuple[Finding, ...]:
    """Look at everything that a plan needs; `wish` has the true account.

    Args:
        wish: what a person wants.
        aws: the region.
        machines: that would run at the same time.

    """
    checks = [
        Finding(name="credentials", status="good", words=f"account {wish.account}"),
        _region(wish),
        _bucket(wish, aws),
        _role(wish, aws) if wish.backend == "sagemaker" else _profile(wish, aws),
        _container(wish, aws) if wish.backend == "sagemaker" else _ami(wish, aws),
        _quota(wish, aws, machines),
    ]
    return tuple(checks)


def _region(wish: Wish) -> Finding:
    import boto3  # noqa: PLC0415

    service = "sagemaker" if wish.backend == "sagemaker" else "ec2"
    known = boto3.Session().get_available_regions(service)
    if wish.region in known:
        return Finding(name="region", status="good", words=f"{wish.region} has {service}")
    remedy = "choose one with --region or AWS_REGION, such as us-east-1"
    return Finding(name="region", status="bad", words=f"{wish.region} is no region with {service}", remedy=remedy)


def _bucket(wish: Wish, aws: Aws) -> Finding:
    name = wish.chosen_bucket
    try:
        answer = aws.ask("s3", "head_bucket", Bucket=name, ExpectedBucketOwner=wish.account)
    except AwsError as error:
        if error.code in _MISSING:
            remedy = f"make it: aws s3 mb s3://{name} --region {wish.region}"
            return Finding(name="bucket", status="bad", words=f"there is no bucket {name}", remedy=remedy)
        if error.code in _DENIED:
            words = f"{name} belongs to somebody else, or may not be looked at"
            return Finding(name="bucket", status="bad", words=words, remedy="choose one of your own with --bucket")
        if error.code in {"301", "PermanentRedirect", "400"}:
            words = f"{name} is in another region than {wish.region}"
            return Finding(name="bucket", status="bad", words=words, remedy="choose a bucket of this region with --bucket")
        return _unreachable("bucket", error)
    region = answer.get("BucketRegion") or wish.region
    if region != wish.region:
        words = f"{name} is in {region}, the machines would be in {wish.region}"
        return Finding(name="bucket", status="bad", words=words, remedy="choose a bucket of this region with --bucket")
    return Finding(name="bucket", status="good", words=f"{name} is ours, in {region}")


def _role(wish: Wish, aws: Aws) -> Finding:
    name = wish.role_name
    try:
        role = aws.ask("iam", "get_role", RoleName=name)["Role"]
    except AwsError as error:
        return _of_iam("role", f"role {name}", error)
    if role["Arn"] != wish.role_arn:
        words = f"the role is {role['Arn']}, the job would be given {wish.role_arn}"
        return Finding(name="role", status="bad", words=words, remedy=f"say --role {role['Arn']}")
    trusted = role["AssumeRolePolicyDocument"]
    if not _trusts(trusted if isinstance(trusted, dict) else json.loads(unquote(trusted)), "sagemaker.amazonaws.com"):
        words = f"{name} does not let sagemaker.amazonaws.com take it on"
        remedy = f"give it that trust: aws iam update-assume-role-policy --role-name {name} --policy-document (see docs/cloud)"
        return Finding(name="role", status="bad", words=words, remedy=remedy)
    return Finding(name="role", status="good", words=f"{name} trusts SageMaker")


def _profile(wish: Wish, aws: Aws) -> Finding:
    name = wish.role_name
    try:
        profile = aws.ask("iam", "get_instance_profile", InstanceProfileName=name)["InstanceProfile"]
    except AwsError as error:
        return _of_iam("role", f"instance profile {name}", error)
    if not profile["Roles"]:
        remedy = f"aws iam add-role-to-instance-profile --instance-profile-name {name} --role-name {name}"
        return Finding(name="role", status="bad", words=f"instance profile {name} has no role", remedy=remedy)
    return Finding(name="role", status="good", words=f"instance profile {name} has the role {profile['Roles'][0]['RoleName']}")


def _container(wish: Wish, aws: Aws) -> Finding:
    image = wish.chosen_image
    match = _IMAGE.fullmatch(image)
    if match is None:
        remedy = "write ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME:TAG"
        return Finding(name="image", status="bad", words=f"{image} is no image of ECR with a tag", remedy=remedy)
    registry, region, repository, tag, digest = match.groups()
    if region != wish.region:
        remedy = "choose the image of this region: SageMaker takes no other"
        return Finding(name="image", status="bad", words=f"the image is in {region}, not in {wish.region}", remedy=remedy)
    wanted = {"imageTag": tag} if tag else {"imageDigest": digest}
    try:
        found = aws.ask("ecr", "describe_images", registryId=registry, repositoryName=repository, imageIds=[wanted])
    except AwsError as error:
        if registry != wish.account and error.code in _DENIED:
            words = f"{image} is in an account of others, which does not let one look"
            remedy = "a tag that does not exist ends the job within minutes, before it trains; compare it with AWS's own list"
            return Finding(name="image", status="unknown", words=words, remedy=remedy)
        if error.code in {"ImageNotFoundException", "RepositoryNotFoundException"}:
            remedy = "push it (docs/cloud/Dockerfile), or choose another tag with --image"
            return Finding(name="image", status="bad", words=f"there is no image {image}", remedy=remedy)
        return _unreachable("image", error)
    pushed = found["imageDetails"][0]
    return Finding(
        name="image", status="good", words=f"{repository}:{tag or digest} is there ({pushed.get('imageDigest', '')[:19]})"
    )


def _ami(wish: Wish, aws: Aws) -> Finding:
    image = wish.chosen_image
    if image.startswith("ami-"):
        return Finding(
            name="image", status="unknown", words=f"{image} is taken as given", remedy="an SSM parameter can be checked"
        )
    try:
        value = aws.ask("ssm", "get_parameter", Name=image)["Parameter"]["Value"]
    except AwsError as error:
        if error.code == "ParameterNotFound":
            remedy = "choose another with --image: an SSM parameter that names an AMI, or ami-…"
            return Finding(name="image", status="bad", words=f"there is no SSM parameter {image}", remedy=remedy)
        return _unreachable("image", error)
    if not str(value).startswith("ami-"):
        return Finding(name="image", status="bad", words=f"{image} holds {value!r}, no AMI", remedy="choose another with --image")
    return Finding(name="image", status="good", words=f"{value}, by {image}")


def _quota(wish: Wish, aws: Aws, machines: int) -> Finding:
    """Past jobs died on a quota of 0: compare what is allowed with what would run at once."""
    service, name, needed = _needed(wish, machines)
    try:
        allowed = _allowed(aws, service, name)
    except AwsError as error:
        if error.code in _DENIED:
            remedy = "allow servicequotas:ListServiceQuotas to let it be checked"
            return Finding(name="quota", status="unknown", words=f"quota {name!r} may not be looked at", remedy=remedy)
        return _unreachable("quota", error)
    if allowed is None:
        remedy = "look into Service Quotas in the console: AWS stops the job at once where it is 0"
        return Finding(name="quota", status="unknown", words=f"Service Quotas lists no {name!r}", remedy=remedy)
    if allowed < needed:
        words = f"{name!r} is {allowed:g}, and {needed:g} would be needed"
        fewer = ", or train fewer symbols at once" if allowed > 0 and machines > 1 else ""
        remedy = f"ask for {needed:g} in Service Quotas ({wish.region}), which takes hours to days{fewer}"
        return Finding(name="quota", status="bad", words=words, remedy=remedy)
    return Finding(name="quota", status="good", words=f"{name!r} is {allowed:g}, {needed:g} needed")


def _needed(wish: Wish, machines: int) -> tuple[str, str, float]:
    if wish.backend == "sagemaker":
        kind = "spot training" if wish.spot else "training"
        return "sagemaker", f"{wish.chosen_instance} for {kind} job usage", machines
    family = "G and VT" if wish.chosen_instance.startswith("g") else "Standard (A, C, D, H, I, M, R, T, Z)"
    name = f"All {family} Spot Instance Requests" if wish.spot else f"Running On-Demand {family} instances"
    return "ec2", name, VCPUS.get(wish.chosen_instance, 4)


def _allowed(aws: Aws, service: str, name: str) -> float | None:
    """Return a quota by its name: the account's own value first, else AWS's default."""
    for operation in ("list_service_quotas", "list_aws_default_service_quotas"):
        for quota in aws.pages("service-quotas", operation, "Quotas", ServiceCode=service):
            if quota.get("QuotaName") == name:
                return float(quota["Value"])
    return None


def _trusts(policy: Mapping[str, Any], service: str) -> bool:
    statements = policy.get("Statement", [])
    for one in statements if isinstance(statements, list) else [statements]:
        principal = one.get("Principal", {})
        named = principal.get("Service", []) if isinstance(principal, dict) else []
        actions = one.get("Action", [])
        if (
            one.get("Effect") == "Allow"
            and service in ([named] if isinstance(named, str) else named)
            and "sts:AssumeRole" in ([actions] if isinstance(actions, str) else actions)
        ):
            return True
    return False


def _of_iam(name: str, what: str, error: AwsError) -> Finding:
    if error.code in _MISSING:
        return Finding(
            name=name, status="bad", words=f"there is no {what}", remedy="make it as docs/cloud says, or name one with --role"
        )
    if error.code in _DENIED:
        remedy = "allow iam:GetRole and iam:GetInstanceProfile to let it be checked"
        return Finding(name=name, status="unknown", words=f"{what} may not be looked at", remedy=remedy)
    return _unreachable(name, error)


def _unreachable(name: str, error: AwsError) -> Finding:
    return Finding(name=name, status="bad", words=str(error), remedy="follow the message, and repeat the command")


def refusal(checks: tuple[Finding, ...]) -> str:
    """Return every bad check in one line; empty where there is none."""
    return "; ".join(f"{check.name}: {check.words} ({check.remedy})" for check in checks if check.status == "bad")
