"""What AWS says of a request that it does not accept may quote the request; none of that is repeated."""

import pytest

from crpbot.cloud.aws import Aws
from crpbot.errors import AwsError

TOKEN = "SENTINELtokenTOKENtoken"  # noqa: S105  a made-up word that the test looks for
QUOTED = f"The canonical string for this request should have been 'GET / x-amz-security-token:{TOKEN}'"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("SignatureDoesNotMatch", QUOTED),
        ("InvalidSignatureException", QUOTED),
        ("IncompleteSignature", f"'{TOKEN}' not a valid key=value pair (missing equal-sign) in Authorization header"),
        ("InvalidToken", f"The provided token {TOKEN} is malformed"),
        ("SomethingNew", QUOTED),
        ("SomethingNew", f"Authorization: {TOKEN}"),
    ],
)
def test_no_token_and_no_signature_is_repeated(code: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    error = pytest.importorskip("botocore.exceptions").ClientError(
        {"Error": {"Code": code, "Message": message}}, "GetCallerIdentity"
    )

    class Client:
        def get_caller_identity(self) -> None:
            raise error

    door = Aws("us-east-1")
    monkeypatch.setitem(door._clients, "sts", Client())
    with pytest.raises(AwsError, match=code) as found:
        door.ask("sts", "get_caller_identity")
    assert TOKEN not in str(found.value)
    assert found.value.__cause__ is None


def test_what_quotes_nothing_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    error = pytest.importorskip("botocore.exceptions").ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "X")

    class Client:
        def get_caller_identity(self) -> None:
            raise error

    door = Aws("us-east-1")
    monkeypatch.setitem(door._clients, "sts", Client())
    with pytest.raises(AwsError, match="AccessDenied: no; allow"):
        door.ask("sts", "get_caller_identity")
