"""Everything is looked at before anything is paid; each failure names its remedy."""

import dataclasses
import json
from typing import Any

import pytest
from aws import ACCOUNT, BUCKET, IMAGE, Aws

from crpbot.cloud.aws import Aws as Door
from crpbot.cloud.order import Wish
from crpbot.cloud.preflight import find_account, preflight, refusal
from crpbot.doctor import Finding
from crpbot.errors import AwsError

pytestmark = pytest.mark.slow
WISH = Wish(account=ACCOUNT, image=IMAGE)
EC2 = Wish(backend="ec2", account=ACCOUNT, image="/crpbot/ami")


def looked(wish: Wish, machines: int = 3) -> dict[str, Finding]:
    return {check.name: check for check in preflight(wish, Door(wish.region), machines=machines)}


@pytest.mark.parametrize("wish", [WISH, dataclasses.replace(WISH, spot=True), EC2, dataclasses.replace(EC2, spot=True)])
def test_where_everything_is_there_everything_is_good(aws: Aws, wish: Wish) -> None:
    found = looked(wish)
    assert {check.status for check in found.values()} == {"good"}, found
    assert list(found) == ["credentials", "region", "bucket", "role", "image", "quota"]
    assert aws.runs == {}


def broken(aws: Aws, name: str) -> Wish:
    """Break one thing, and return what is wished."""
    iam = aws.client("iam")
    if name == "role without trust":
        iam.update_assume_role_policy(RoleName="crpbot-sagemaker", PolicyDocument=json.dumps(TRUST_OF_OTHERS))
    elif name == "quota of 0":
        aws.quotas["ml.g5.xlarge for training job usage"] = 0
    elif name == "spot quota of 0":
        aws.quotas["ml.g5.xlarge for spot training job usage"] = 0
    elif name == "quota below what runs at once":
        aws.quotas["ml.g5.xlarge for training job usage"] = 2
    elif name == "quota of processors":
        aws.quotas["Running On-Demand G and VT instances"] = 0
    elif name == "somebody else's bucket":
        aws.client("s3").create_bucket(Bucket="famous-bucket")
        aws.owners["famous-bucket"] = "999999999999"
    elif name == "bucket in another region":
        where = {"LocationConstraint": "eu-west-1"}
        aws.client("s3").create_bucket(Bucket="far-away", CreateBucketConfiguration=where)
    elif name == "instance profile without role":
        iam.remove_role_from_instance_profile(InstanceProfileName="crpbot-instance", RoleName="crpbot-instance")
    return dataclasses.replace(
        EC2 if "processors" in name or "profile" in name or "AMI" in name else WISH, **CHANGES.get(name, {})
    )


TRUST_OF_OTHERS = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
CHANGES: dict[str, dict[str, Any]] = {
    "region that is none": {"region": "moon-north-1"},
    "role that is none": {"role": "nobody"},
    "role of another path": {"role": f"arn:aws:iam::{ACCOUNT}:role/other/crpbot-sagemaker"},
    "image tag that is none": {"image": IMAGE.replace(":1", ":2")},
    "image repository that is none": {"image": IMAGE.replace("crpbot:", "nothing:")},
    "image without tag": {"image": "pytorch"},
    "image in another region": {"image": IMAGE.replace("us-east-1", "eu-west-1")},
    "bucket that is none": {"bucket": "nowhere-at-all"},
    "somebody else's bucket": {"bucket": "famous-bucket"},
    "bucket in another region": {"bucket": "far-away"},
    "spot quota of 0": {"spot": True},
    "instance profile that is none": {"role": "nobody"},
    "AMI parameter that is none": {"image": "/nothing"},
}


@pytest.mark.parametrize(
    ("name", "check", "words"),
    [
        ("region that is none", "region", "is no region with sagemaker"),
        ("role that is none", "role", "there is no role nobody"),
        ("role without trust", "role", "does not let sagemaker.amazonaws.com take it on"),
        ("role of another path", "role", "the job would be given"),
        ("image tag that is none", "image", "there is no image"),
        ("image repository that is none", "image", "there is no image"),
        ("image without tag", "image", "no image of ECR with a tag"),
        ("image in another region", "image", "not in us-east-1"),
        ("bucket that is none", "bucket", "there is no bucket"),
        ("somebody else's bucket", "bucket", "belongs to somebody else"),
        ("bucket in another region", "bucket", "eu-west-1"),
        ("quota of 0", "quota", "is 0, and 3 would be needed"),
        ("spot quota of 0", "quota", "'ml.g5.xlarge for spot training job usage' is 0"),
        ("quota below what runs at once", "quota", "is 2, and 3 would be needed"),
        ("quota of processors", "quota", "'Running On-Demand G and VT instances' is 0, and 4 would be needed"),
        ("instance profile that is none", "role", "there is no instance profile nobody"),
        ("instance profile without role", "role", "has no role"),
        ("AMI parameter that is none", "image", "there is no SSM parameter /nothing"),
    ],
)
def test_each_fault_is_named_with_its_remedy(aws: Aws, name: str, check: str, words: str) -> None:
    found = looked(broken(aws, name))
    assert (found[check].status, words in found[check].words) == ("bad", True), found[check]
    assert found[check].remedy
    assert words in refusal(tuple(found.values()))
    if check != "region":
        assert [one.name for one in found.values() if one.status == "bad"] == [check]


def test_what_may_not_be_looked_at_is_unknown_and_no_yes(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """The framework image is in an account of AWS's own, which most do not let one look into."""
    real = Door.ask

    def refuse(door: Door, service: str, operation: str, /, **parameters: Any) -> dict[str, Any]:
        if service in {"ecr", "iam", "service-quotas"}:
            raise AwsError("denied", code="AccessDeniedException")
        return real(door, service, operation, **parameters)

    monkeypatch.setattr(Door, "ask", refuse)
    found = looked(dataclasses.replace(WISH, image=None))
    assert {name for name, check in found.items() if check.status == "unknown"} == {"role", "image", "quota"}
    assert refusal(tuple(found.values())) == ""
    assert looked(WISH)["image"].status == "bad"  # our own account: the right to look is ours to give
    assert aws.runs == {}


def test_wrong_credentials_are_one_line_without_the_credentials(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")  # moto takes any; a wrong one is AWS's own to tell
    with pytest.raises(AwsError, match=r"AWS must answer sts:GetCallerIdentity.*check credentials"):
        find_account(Door("us-east-1"))
    assert aws.objects() == {}
    assert BUCKET.startswith("crpbot")
