"""A lake in a bucket: real boto3 over HTTP to a server that speaks S3, on loopback."""

import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np
import pytest

from crpbot.errors import CandleError
from crpbot.market.candles import MINUTE
from crpbot.market.lake import Lake, is_lake
from crpbot.market.source import open_source
from crpbot.market.synthetic import make_market

pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_spec("boto3") is None, reason="a lake in a bucket needs the extra cloud")]
MARKET = make_market("random-walk", "BTC-USD", rows=50_000)  # reaches into February


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/moto-api/reset", method="POST")).close()
    boto3.client("s3").create_bucket(Bucket="candles")
    yield "s3://candles/two/years"
    server.stop()


def test_a_bucket_is_a_lake_like_a_folder(bucket: str) -> None:
    lake = Lake(bucket)
    assert (lake.symbols, is_lake(bucket)) == ((), False)
    lake.add("BTC-USD", MARKET[:30_000], venue="here")
    lake.add("BTC-USD", MARKET[29_000:], venue="here", asked=(int(MARKET.time[0]), int(MARKET.time[-1]) + 3 * MINUTE))
    assert lake.read("BTC-USD").sha256 == MARKET.sha256
    assert [month.name for month in lake.manifest("BTC-USD").months] == ["2024-01", "2024-02"]
    assert list(lake.missing("BTC-USD", int(MARKET.time[0]), int(MARKET.time[-1]) + 3 * MINUTE)) == []
    assert lake.damaged("BTC-USD") == ()
    assert open_source(bucket).read("BTC-USD").sha256 == MARKET.sha256
    close = MARKET.close.copy()
    close[10] = MARKET.low[10]
    other = type(MARKET)(MARKET.time, MARKET.open, MARKET.high, MARKET.low, close, MARKET.volume)
    with pytest.raises(CandleError, match=r"s3://candles/two/years/BTC-USD/2024-01\.parquet"):
        lake.add("BTC-USD", other[:20], venue="there")


def test_polars_reads_the_bucket_as_it_is(bucket: str) -> None:
    import os

    import polars as pl

    Lake(bucket).add("BTC-USD", MARKET, venue="here")
    options = {"aws_endpoint_url": os.environ["AWS_ENDPOINT_URL"], "aws_allow_http": "true"}
    frame = pl.read_parquet(f"{bucket}/BTC-USD/*.parquet", storage_options=options)
    np.testing.assert_array_equal(frame["close"].to_numpy(), MARKET.close)


def test_one_at_a_time_writes_to_a_bucket_and_what_was_left_behind_does_not_lock_for_ever(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(bucket)
    with lake.lock("BTC-USD"):
        with pytest.raises(CandleError, match="one process at a time"), Lake(bucket).lock("BTC-USD"):
            pass
        monkeypatch.setattr("crpbot.market.storage.STALE", -1.0)
        with Lake(bucket).lock("BTC-USD"):
            pass
    with lake.lock("BTC-USD"):
        pass
    with pytest.raises(CandleError, match="name the bucket"):
        Lake("s3://")


def test_a_bucket_that_is_not_there_is_one_line(bucket: str) -> None:
    with pytest.raises(CandleError, match=r"the bucket of s3://nobody/here must answer.*check credentials"):
        _ = Lake("s3://nobody/here").symbols
    assert bucket


def test_writing_renews_the_lock_and_a_lock_that_was_taken_over_is_noticed(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crpbot.market.storage.STALE", -1.0)  # everything is stale, and every write renews
    first, second = Lake(bucket), Lake(bucket)
    with first.lock("BTC-USD"):
        first.add("BTC-USD", MARKET[:100], venue="here")
        with second.lock("BTC-USD"):
            with pytest.raises(CandleError, match="must stay ours while we write"):
                first.add("BTC-USD", MARKET[100:200], venue="here")
            second.add("BTC-USD", MARKET[100:200], venue="here")
    assert len(first.read("BTC-USD")) == 200
