"""`crpbot candles` and `crpbot doctor` as a user types them."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import polars as pl
import pytest
from shell import crpbot

from crpbot.market.candles import MINUTE, Candles
from crpbot.market.files import read_candles, write_candles
from crpbot.market.lake import Lake
from crpbot.market.synthetic import make_market

pytestmark = pytest.mark.slow
MARKET = make_market("random-walk", "BTC-USD", rows=2_000)


def test_complete_candles_pass_and_gaps_are_told_to_the_minute(tmp_path: Path) -> None:
    write_candles(MARKET, tmp_path / "BTC-USD.parquet")
    done = crpbot("candles", "check", tmp_path)
    assert (done.returncode, "complete" in done.stdout) == (0, True)
    rows = np.delete(np.arange(2_000), [700, 701])
    holes = Candles(*(getattr(MARKET, name)[rows] for name in ("time", "open", "high", "low", "close", "volume")))
    write_candles(holes, tmp_path / "BTC-USD.parquet")
    done = crpbot("candles", "check", tmp_path, "--json")
    assert done.returncode == 1
    plain = json.loads(done.stdout)
    gap = {"symbol": "BTC-USD", "last_before": "2024-01-01T11:39Z", "first_after": "2024-01-01T11:42Z", "missing": 2}
    assert (plain["gaps"], plain["passed"], plain["duplicates"]) == ([gap], False, [])
    assert "no window and no label crosses it" in crpbot("candles", "check", tmp_path).stdout


def test_real_candles_have_four_gaps_and_they_are_sol_s(real_candles: Path) -> None:
    done = crpbot("candles", "check", real_candles, "--json")
    assert done.returncode == 1
    gaps = json.loads(done.stdout)["gaps"]
    assert [gap["symbol"] for gap in gaps] == ["SOL-USD"] * 4
    assert [gap["missing"] for gap in gaps[:2]] == [13, 4]


def test_foreign_files_come_in_and_go_out_as_they_were(tmp_path: Path) -> None:
    write_candles(MARKET, tmp_path / "BTC-USD.parquet")
    lake = tmp_path / "lake"
    done = crpbot("candles", "import", tmp_path / "BTC-USD.parquet", "--lake", lake)
    assert done.returncode == 0, done.stderr
    assert Lake(lake).read("BTC-USD").sha256 == MARKET.sha256
    for name in ("BTC_USDT-1m.feather", "BTC_USDT-1m.json.gz", "BTC-USD.csv"):
        assert crpbot("candles", "export", lake, "--symbol", "BTC-USD", "-o", tmp_path / name).returncode == 0
        again = tmp_path / f"again {name}"
        done = crpbot("candles", "import", tmp_path / name, "--lake", again)
        assert done.returncode == 0, done.stderr
        assert Lake(again).read("BTC-USD").sha256 == MARKET.sha256
    done = crpbot("candles", "resample", lake, "--to", "15m", "-o", tmp_path / "quarter.parquet")
    assert done.returncode == 0, done.stderr
    assert np.diff(read_candles(tmp_path / "quarter.parquet").time).max() == 15 * MINUTE


def test_an_import_says_what_is_missing_and_where_to_go_on(tmp_path: Path) -> None:
    frame = pl.DataFrame({name: getattr(MARKET, name) for name in ("time", "open", "high", "low", "close", "volume")})
    twice = pl.concat([frame[:700], frame[703:], frame[800:801]])
    twice.with_columns(pl.col("time") // 1_000).rename({"time": "timestamp"}).write_csv(tmp_path / "BTC-USD.csv")
    refused = crpbot("candles", "check", tmp_path / "BTC-USD.csv")
    assert (refused.returncode, "`crpbot candles import FILE`" in refused.stderr) == (2, True)
    lake = tmp_path / "lake"
    done = crpbot("candles", "import", tmp_path / "BTC-USD.csv", "--lake", lake)
    assert done.stdout.splitlines() == [
        "BTC-USD: 1,997 candles of BTC-USD.csv, minutes missing between them: 3",
        f"in the lake: use it with --candles {lake}",
    ]


def test_an_impossible_candle_is_named_by_row_and_rule_and_the_lake_stays(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    Lake(lake).add("BTC-USD", MARKET[:500], venue="here")
    before = {path: path.read_bytes() for path in lake.rglob("*") if path.is_file()}
    frame = pl.DataFrame({name: getattr(MARKET, name)[500:900] for name in ("time", "open", "high", "low", "close", "volume")})
    frame.with_columns(high=pl.when(pl.int_range(400) == 123).then(1.0).otherwise("high")).write_csv(tmp_path / "BTC-USD.csv")
    done = crpbot("candles", "import", tmp_path / "BTC-USD.csv", "--lake", lake)
    assert done.returncode == 2
    assert "row" in done.stderr
    assert "high must not be below" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert {path: path.read_bytes() for path in lake.rglob("*") if path.is_file()} == before


def test_bad_calls_are_one_line(tmp_path: Path) -> None:
    write_candles(MARKET, tmp_path / "BTC-USD.parquet")
    for words, expected in {
        ("candles", "check", tmp_path / "none"): "nothing at",
        ("candles", "resample", tmp_path, "--to", "soon", "-o", tmp_path / "x.csv"): "such as 5m",
        ("candles", "download", "BTC-USD", "--since", "long ago"): "such as 2y",
        ("doctor", "--venue", "moon"): "must be one of coinbase",
    }.items():
        done = crpbot(*words)
        assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1), done.stderr
        assert expected in done.stderr


class Clock(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_the_doctor_looks_at_everything_and_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIASECRETKEYID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "verysecret")
    lake = tmp_path / "lake"
    Lake(lake).add("BTC-USD", MARKET, venue="here")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Clock)
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/time"
    done = crpbot("doctor", "--lake", lake, "--address", address, "--home", tmp_path, "--json")
    found = {one["name"]: one["status"] for one in json.loads(done.stdout)}
    assert done.returncode == 0, done.stdout
    assert {found[name] for name in ("python", "disk", "venue", "clock", "lake", "aws")} == {"good"}
    assert "secret" not in done.stdout.lower()
    server.shutdown()
    server.server_close()
    (lake / "BTC-USD" / "2024-01.parquet").write_bytes(b"nothing")
    done = crpbot("doctor", "--lake", lake, "--address", address, "--home", tmp_path)
    assert done.returncode == 1
    assert "damaged: BTC-USD 2024-01" in done.stdout
    assert "download again" in done.stdout
    assert "does not answer" in done.stdout
