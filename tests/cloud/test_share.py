"""Models in a bucket: what was pushed is what is pulled."""

from pathlib import Path

import pytest
from aws import Aws
from models import model

from crpbot.cloud.aws import Aws as Door
from crpbot.cloud.share import parse, pull, push
from crpbot.errors import CrpbotError
from crpbot.factory import export
from crpbot.model.loading import file_sha256
from crpbot.model.pt_file import to_bytes

pytestmark = pytest.mark.slow
NAME = "lstm_BTC-USD_v7_enhanced.pt"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / NAME
    path.write_bytes(to_bytes(model()))
    return path


def test_a_model_is_pushed_once_and_pulled_by_its_digest(aws: Aws, checkpoint: Path, tmp_path: Path) -> None:
    aws.client("s3").create_bucket(Bucket="models")
    door, digest = Door("us-east-1"), file_sha256(checkpoint)
    assert push(checkpoint, "s3://models/live", door) == f"s3://models/live/{digest}/{NAME}"
    assert push(checkpoint, "s3://models/live/", door) == f"s3://models/live/{digest}/{NAME}"
    pulled = pull("s3://models/live", digest[:12], tmp_path / "out", door)
    assert (pulled.name, pulled.read_bytes()) == (NAME, checkpoint.read_bytes())
    with pytest.raises(CrpbotError, match="found none"):
        pull("s3://models/live", "0" * 64, tmp_path / "none", door)
    with pytest.raises(CrpbotError, match="give more of it"):
        pull("s3://models/live", digest[:11], tmp_path / "none", door)
    assert not (tmp_path / "none").exists()


def test_an_altered_model_is_neither_pulled_nor_pushed(aws: Aws, checkpoint: Path, tmp_path: Path) -> None:
    s3, door, digest = aws.client("s3"), Door("us-east-1"), file_sha256(checkpoint)
    s3.create_bucket(Bucket="models")
    push(checkpoint, "s3://models", door)
    s3.put_object(Bucket="models", Key=f"{digest}/{NAME}", Body=b"x" + checkpoint.read_bytes())
    with pytest.raises(CrpbotError, match="must have the digest in its name"):
        pull("s3://models", digest, tmp_path / "out", door)
    with pytest.raises(CrpbotError, match="somebody changed it"):
        push(checkpoint, "s3://models", door)
    assert not (tmp_path / "out").exists()
    checkpoint.write_bytes(b"no checkpoint")
    with pytest.raises(CrpbotError):
        push(checkpoint, "s3://models", door)


def test_a_deployed_form_is_not_pushed(checkpoint: Path) -> None:
    (deployed,) = export(checkpoint, out=checkpoint.with_name("model.onnx"), form="onnx")
    with pytest.raises(CrpbotError, match=r"name the \.pt"):
        push(deployed, "s3://models", Door("us-east-1"))


def test_the_bucket_of_somebody_else_gets_no_model(aws: Aws, checkpoint: Path) -> None:
    aws.client("s3").create_bucket(Bucket="theirs")
    aws.owners["theirs"] = "999999999999"
    with pytest.raises(CrpbotError, match="s3:GetObject, found 403"):
        push(checkpoint, "s3://theirs", Door("us-east-1"))


@pytest.mark.parametrize("address", ["models", "s3://", "https://models"])
def test_an_address_that_is_none_is_one_line(address: str) -> None:
    with pytest.raises(CrpbotError, match="must be s3://BUCKET/PREFIX"):
        parse(address)
