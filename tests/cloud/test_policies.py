"""The policies allow what is called, and nothing that is not explained."""

import ast
import json
from itertools import pairwise
from pathlib import Path

import pytest

from crpbot.cloud import aws
from crpbot.cloud.aws import ACTIONS

pytestmark = pytest.mark.slow  # what a cloud does, `make test` asks

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "cloud"
POLICIES = {"you": "caller.json", "SageMaker": "sagemaker-role.json", "machine": "instance-role.json"}
BESIDE = {
    "you": {"iam:PassRole", "sagemaker:AddTags", "ec2:CreateTags", "ssm:GetParameters"},
    "SageMaker": {
        *("s3:ListBucket", "s3:GetObject", "s3:PutObject", "cloudwatch:PutMetricData"),
        *("logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"),
        *("ecr:GetAuthorizationToken", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability"),
    },
    "machine": set(),
}
"""What AWS asks for beside the calls that we make ourselves."""


def allowed(who: str) -> set[str]:
    found: set[str] = set()
    for statement in json.loads((DOCS / POLICIES[who]).read_text())["Statement"]:
        assert statement["Effect"] == "Allow"
        actions = statement["Action"]
        found |= {actions} if isinstance(actions, str) else set(actions)
    return found


@pytest.mark.parametrize("who", POLICIES)
def test_a_policy_allows_what_is_called_and_no_more(who: str) -> None:
    caller = {"you": "you", "machine": "instance"}.get(who)
    called = {action for action, callers in ACTIONS.values() if caller in callers}
    assert allowed(who) == called | BESIDE[who]
    assert not [action for action in allowed(who) if "*" in action]


def test_every_permission_is_explained() -> None:
    page = (DOCS / "README.md").read_text()
    rows = dict(line.split("|")[1:3] for line in page.splitlines() if line.startswith("| `"))
    explained = {name.strip(" `"): {who.strip() for who in whom.split(",")} for name, whom in rows.items()}
    wanted: dict[str, set[str]] = {}
    for who in POLICIES:
        for action in allowed(who):
            wanted.setdefault(action, set()).add(who)
    assert explained == wanted


def test_every_call_of_the_code_goes_through_the_table() -> None:
    """boto3 is used at one place, and every literal service and operation is a row of the table."""
    called = set()
    for path in sorted((ROOT / "src" / "crpbot" / "cloud").glob("*.py")):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
                words = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
                named = {word.arg: word.value for word in node.keywords if word.arg}
                pair = (named.get("service"), named.get("operation"))
                if all(isinstance(one, ast.Constant) for one in pair):
                    called.add((pair[0].value, pair[1].value))  # type: ignore[union-attr]
                called |= {pair for pair in pairwise(words) if pair in ACTIONS}
        if path.name != Path(aws.__file__).name:
            assert ".client(" not in path.read_text(), path.name
    quotas = {(service, operation) for service, operation in ACTIONS if service == "service-quotas"}  # asked in a loop
    assert called | quotas == set(ACTIONS)


def test_nobody_may_touch_more_than_our_part_of_the_bucket() -> None:
    for who in POLICIES:
        for statement in json.loads((DOCS / POLICIES[who]).read_text())["Statement"]:
            resources = statement["Resource"]
            for resource in [resources] if isinstance(resources, str) else resources:
                if resource.startswith("arn:aws:s3"):
                    assert resource.startswith("arn:aws:s3:::crpbot-ACCOUNT-REGION")


def test_trust_is_given_to_one_service_each() -> None:
    for service in ("sagemaker", "ec2"):
        (statement,) = json.loads((DOCS / f"trust-{service}.json").read_text())["Statement"]
        assert statement["Principal"] == {"Service": f"{service}.amazonaws.com"}


def test_operations_exist_as_boto3_names_them() -> None:
    import boto3

    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
    session = boto3.Session()
    for service, operation in ACTIONS:
        assert operation in session.client(service, region_name="us-east-1", **keys).meta.method_to_api_mapping
