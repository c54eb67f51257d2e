"""The one door to AWS: every call that crpbot makes is in the table here, and every refusal becomes one line."""

import os
import re
from collections.abc import Mapping
from configparser import ConfigParser
from configparser import Error as ConfigParserError
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from crpbot.errors import AwsError

Caller = Literal["you", "instance"]

ACTIONS: Mapping[tuple[str, str], tuple[str, tuple[Caller, ...]]] = {
    ("sts", "get_caller_identity"): ("sts:GetCallerIdentity", ("you",)),
    ("s3", "head_bucket"): ("s3:ListBucket", ("you",)),
    ("s3", "list_objects_v2"): ("s3:ListBucket", ("you", "instance")),
    ("s3", "head_object"): ("s3:GetObject", ("you", "instance")),
    ("s3", "get_object"): ("s3:GetObject", ("you", "instance")),
    ("s3", "put_object"): ("s3:PutObject", ("you", "instance")),
    ("iam", "get_role"): ("iam:GetRole", ("you",)),
    ("iam", "get_instance_profile"): ("iam:GetInstanceProfile", ("you",)),
    ("ecr", "describe_images"): ("ecr:DescribeImages", ("you",)),
    ("service-quotas", "list_service_quotas"): ("servicequotas:ListServiceQuotas", ("you",)),
    ("service-quotas", "list_aws_default_service_quotas"): ("servicequotas:ListAWSDefaultServiceQuotas", ("you",)),
    ("ssm", "get_parameter"): ("ssm:GetParameter", ("you",)),
    ("sagemaker", "create_training_job"): ("sagemaker:CreateTrainingJob", ("you",)),
    ("sagemaker", "describe_training_job"): ("sagemaker:DescribeTrainingJob", ("you",)),
    ("sagemaker", "stop_training_job"): ("sagemaker:StopTrainingJob", ("you",)),
    ("sagemaker", "list_training_jobs"): ("sagemaker:ListTrainingJobs", ("you",)),
    ("logs", "describe_log_streams"): ("logs:DescribeLogStreams", ("you",)),
    ("logs", "get_log_events"): ("logs:GetLogEvents", ("you",)),
    ("ec2", "create_security_group"): ("ec2:CreateSecurityGroup", ("you",)),
    ("ec2", "run_instances"): ("ec2:RunInstances", ("you",)),
    ("ec2", "describe_instances"): ("ec2:DescribeInstances", ("you",)),
    ("ec2", "terminate_instances"): ("ec2:TerminateInstances", ("you",)),
}
"""Operation, as boto3 names it: the permission that it needs, and who makes the call. `docs/cloud` explains each."""

DEFAULT_REGION = "us-east-1"
TRIES = 6
"""How often a call is tried in all; botocore waits longer each time when AWS says that it is throttled."""
PATIENCE = 60
"""Seconds that AWS has to connect, and to answer."""

NOT_THERE = frozenset({"404", "NoSuchKey", "NotFound"})
"""What S3 says of an object that is not there."""


@dataclass(frozen=True, eq=False)
class Aws:
    """A region of AWS. Credentials and addresses come from the AWS_* variables and files, as always; none is kept here.

    Attributes:
        region: that every call goes to.

    """

    region: str
    _clients: dict[str, Any] = field(default_factory=dict, repr=False)

    def ask(self, service: str, operation: str, /, **parameters: Any) -> dict[str, Any]:  # noqa: ANN401
        """Make one call and return its answer.

        Raises:
            AwsError: AWS refused, or did not answer.

        """
        action = ACTIONS[service, operation][0]
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  only who goes to AWS needs boto3

        try:
            return dict(getattr(self._client(service), operation)(**parameters))
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            said = _said(code, str(error.response.get("Error", {}).get("Message", "")))
            raise AwsError(f"AWS must do {action}, found {code}{said}; {_remedy(code, action)}", code=code) from None
        except BotoCoreError as error:
            raise AwsError(f"AWS must answer {action} in {self.region}, found {error}; {_UNREACHED}") from None

    def pages(self, service: str, operation: str, list_name: str, /, **parameters: Any) -> list[Any]:  # noqa: ANN401
        """Make a call as often as it has pages, and return everything under `list_name`."""
        found: list[Any] = []
        token: dict[str, str] = {}
        while True:
            answer = self.ask(service, operation, **parameters, **token)
            found += answer.get(list_name, ())
            following = {name: answer[name] for name in ("NextToken", "nextToken") if answer.get(name)}
            if answer.get("NextContinuationToken"):
                following = {"ContinuationToken": answer["NextContinuationToken"]}
            if not following or following == token:
                return found
            token = following

    @cached_property
    def _session(self) -> Any:  # noqa: ANN401
        import boto3  # noqa: PLC0415

        return boto3.Session()

    def _client(self, service: str) -> Any:  # noqa: ANN401
        from botocore.config import Config  # noqa: PLC0415

        if service not in self._clients:
            retries = {"mode": "standard", "total_max_attempts": TRIES}
            config = Config(region_name=self.region, retries=retries, connect_timeout=PATIENCE, read_timeout=PATIENCE)
            self._clients[service] = self._session.client(service, config=config)
        return self._clients[service]


def region_of(chosen: str | None) -> str:
    """Return the region that is meant: the one chosen, else AWS_REGION, AWS_DEFAULT_REGION, the profile's, us-east-1."""
    return chosen or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or _of_profile() or DEFAULT_REGION


def _of_profile() -> str | None:
    """Return the region of the profile in AWS's own file, read without boto3: a plan does not need it."""
    path = Path(os.environ.get("AWS_CONFIG_FILE", "~/.aws/config")).expanduser()
    name = os.environ.get("AWS_PROFILE", "default")
    found = ConfigParser(interpolation=None, strict=False)
    try:
        found.read(path)
    except (ConfigParserError, OSError, ValueError):
        return None  # boto3 says what is wrong with it, as soon as it is needed
    return found.get("default" if name == "default" else f"profile {name}", "region", fallback=None)


_UNREACHED = "check credentials (AWS_PROFILE or AWS_ACCESS_KEY_ID), network and region"
_THROTTLED = {"ThrottlingException", "Throttling", "RequestLimitExceeded", "TooManyRequestsException", "SlowDown"}
_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403", "Forbidden"}
_STRANGERS = {"InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch", "ExpiredToken", "AuthFailure"}
_STRANGERS |= {"InvalidSignatureException", "IncompleteSignature", "InvalidToken", "ExpiredTokenException", "InvalidAccessKeyId"}
_STRANGERS |= {"RequestTimeTooSkewed", "AuthorizationHeaderMalformed", "MissingAuthenticationToken"}

_QUOTES = re.compile(r"canonical|signature|string.to.sign|security.token|x-amz-|authorization", re.IGNORECASE)
"""What a message says that may quote the signed request, and with it the session token and the signature."""


def _said(code: str, message: str) -> str:
    """Return what AWS said; of a message that may hold a secret, nothing: the code says enough."""
    if not message or code in _STRANGERS or _QUOTES.search(message):
        return ""
    return f": {message}"


def _remedy(code: str, action: str) -> str:
    if code in _THROTTLED:
        return f"too many calls, {TRIES} tries were refused: wait a minute and repeat the command, which goes on where it was"
    if code in _DENIED:
        return f"allow {action} (docs/cloud has the policies), or use the right account"
    if code in _STRANGERS:
        return "check the credentials, and whether they have expired"
    if code == "ResourceLimitExceeded":
        return "ask for a higher quota in Service Quotas, or train fewer symbols at once"
    return "correct what it names, and repeat the command: what is done is not done twice"
