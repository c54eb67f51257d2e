import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from live.worlds import CHECKPOINT, judged, promoted
from models import market
from shell import crpbot
from venues import serving

from crpbot.cli.options import now
from crpbot.live.journal import open_journal
from crpbot.market.candles import MINUTE, Candles
from crpbot.market.files import write_candles

pytestmark = pytest.mark.slow  # each starts an interpreter


@pytest.fixture
def home(tmp_path: Path) -> Path:
    promoted(tmp_path / "home", tmp_path / "models")
    return tmp_path / "home"


def test_a_recording_is_played_tells_its_signals_and_changes_nothing_else(home: Path, tmp_path: Path) -> None:
    write_candles(market()[:700], tmp_path / "BTC-USD.parquet")
    ledger = (home / "registry" / "ledger.jsonl").read_bytes()
    done = crpbot("live", "--replay", tmp_path / "BTC-USD.parquet", "--home", home, "--paper")
    assert done.returncode == 0, done.stderr
    assert "its model has learned from a part of this recording" in done.stderr
    journal = open_journal(home / "replay.db")
    signals = journal.signals(limit=1_000)
    journal.close()
    assert done.stdout.count("valid until") == len(signals) > 100
    assert (home / "registry" / "ledger.jsonl").read_bytes() == ledger
    assert not (home / "journal.db").exists()
    assert not (home / "live").exists()
    shown = crpbot("journal", "--journal", home / "replay.db", "--json", "--limit", 5)
    plain = json.loads(shown.stdout)
    assert [one["candle"] for one in plain["signals"]] == [one.said["candle"] for one in signals[:5]]
    assert {one["of"] for one in plain["trust"]} == {"signals", "checks"}
    assert plain["paper"]["trades"] > 0
    text = crpbot("journal", "--journal", home / "replay.db", "--limit", 5)
    for word in ("came true", "on paper:", "its signals: said", "is served by live"):
        assert word in text.stdout


def test_it_runs_on_a_venue_until_it_is_asked_to_stop(home: Path) -> None:
    shift = (now() // MINUTE - 5) * MINUTE - int(market().time[2_700])
    columns = (market().open, market().high, market().low, market().close, market().volume)
    candles = Candles(market().time + shift, *columns)
    with serving({"BTC-USD": candles}, now) as house:
        words = ["live", "--home", str(home), "--venue", "coinbase", "--address", house.address, "--metrics-port", "0"]
        refused = crpbot(*words[:-1], "70000")
        assert refused.returncode == 2
        words[-1] = str(free_port())
        command = [sys.executable, "-m", "crpbot", *words]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ})
        try:
            file = home / "live" / "health.json"
            while not file.exists() or json.loads(file.read_text())["markets"]["BTC-USD"]["candle"] is None:
                assert child.poll() is None, child.communicate()
                time.sleep(0.1)
            asked = crpbot("live", "--health", "--home", home)
            assert (asked.returncode, asked.stdout.startswith("alive")) == (1, True), asked.stdout
            assert "its live model has expired" in asked.stdout  # the market is of 2024: it is right
            with urllib.request.urlopen(f"http://127.0.0.1:{words[-1]}/metrics", timeout=10) as answer:
                assert b"crpbot_well 0.0" in answer.read()
        finally:
            child.send_signal(signal.SIGTERM)
        out, err = child.communicate(timeout=30)
    assert (child.returncode, err) == (0, "")
    assert "ILL: 1 markets" in out
    assert (home / "live" / "BTC-USD.json").exists()
    assert crpbot("journal", "--home", home).stdout.count("stop:") == 1


def free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("live",), "must be live or in shadow, found none"),
        (("live", "--symbols", "BTC-USD"), "a model of BTC-USD must be live or in shadow"),
        (("live", "--feed", "pigeon"), "--feed must be rest or websocket"),
        (("live", "--replay", "nowhere"), "a replay must have a model"),
        (("rollback", "BTC-USD"), "must have an earlier live model of BTC-USD"),
        (("retrain", "--symbols", "BTC-USD"), "found no live model of BTC-USD"),
        (("models", "retire", "abc", "--why", "x"), "must be the first 12 characters"),
        (("journal", "--journal", "mysql://u:secret@h/d"), "must be in SQLite or PostgreSQL, found mysql"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_2(tmp_path: Path, words: tuple[str, ...], error: str) -> None:
    done = crpbot(*words, *(() if words[0] == "journal" else ("--home", tmp_path / "home")))
    assert (done.returncode, done.stdout) == (2, "")
    assert error in done.stderr
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stderr


def test_nothing_to_retrain_is_no_error(tmp_path: Path) -> None:
    done = crpbot("retrain", "--when-expiring", "--home", tmp_path)
    assert (done.returncode, done.stdout) == (0, "nothing to retrain: no live model expires within a week\n")


def test_without_a_sign_of_life_it_is_not_healthy(tmp_path: Path) -> None:
    done = crpbot("live", "--health", "--home", tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert "no sign of life" in done.stdout


def test_a_refused_model_rehearses_only_by_an_override_which_every_signal_says(tmp_path: Path) -> None:
    file, place = judged(tmp_path / "models")[0], tmp_path / "fresh"
    words = ("promote", file, "--candles", "synthetic:random-walk:12000", "--home", place)
    assert crpbot(*words).returncode == 1
    assert crpbot("models", "--home", place).stdout.startswith("no model has passed")
    assert crpbot("models", "--all", "--home", place).stdout.split()[:2] == ["BTC-USD", "candidate"]
    done = crpbot(*words, "--override", "I want to watch it")
    assert done.returncode == 0, done.stderr
    write_candles(market()[-3_000:], tmp_path / "BTC-USD.parquet")
    said = crpbot("signal", "--candles", tmp_path / "BTC-USD.parquet", "--home", place, "--threshold", "0.34")
    assert "REHEARSAL" in said.stdout
    assert "REFUSED by its gates, and let speak all the same: I want to watch it" in said.stdout
    ledger = crpbot("models", "ledger", "--home", place)
    assert [line.split()[1] for line in ledger.stdout.splitlines()] == ["refuse", "override"]


def test_a_byte_that_was_changed_is_refused_wherever_it_is(home: Path, tmp_path: Path) -> None:
    """In the file that is to be promoted, in what was promoted, in the ledger, and in what was measured."""
    candles = ("--candles", "synthetic:random-walk:12000")
    file = tmp_path / "models" / "4" / CHECKPOINT
    doctored = bytearray(file.read_bytes())
    doctored[len(doctored) // 2] ^= 1
    (tmp_path / CHECKPOINT).write_bytes(doctored)
    assert crpbot("promote", tmp_path / CHECKPOINT, *candles, "--home", tmp_path / "other").returncode == 2
    registry = home / "registry"
    (stored,) = (registry / "judgements").iterdir()
    (place,) = (registry / "models").iterdir()
    for path in (place / CHECKPOINT, place / "model.onnx", stored, registry / "ledger.jsonl"):
        honest = path.read_bytes()
        path.chmod(0o644)
        altered = bytearray(honest)
        altered[len(honest) // 2] ^= 1
        path.write_bytes(honest.replace(b'"passed": true', b'"passed": false', 1) if path == stored else altered)
        assert path.read_bytes() != honest
        assert crpbot("signal", *candles, "--home", home).returncode == 2, path
        again = crpbot("promote", file, *candles, "--home", home)  # what was measured once is not even looked at
        assert again.returncode == (1 if path == stored else 2), path
        path.write_bytes(honest)
    assert crpbot("signal", *candles, "--home", home).returncode == 0


def test_a_verdict_that_was_edited_beside_a_model_does_not_promote_it(tmp_path: Path) -> None:
    folder = judged(tmp_path / "BTC-USD")[0].parent
    (folder / "diagnosis.json").write_text(json.dumps({"format": "crpbot.diagnosis/1", "passed": True, "gates": []}))
    done = crpbot("promote", folder, "--candles", "synthetic:random-walk:12000", "--home", tmp_path / "fresh")
    assert done.returncode == 1
    assert crpbot("models", "--home", tmp_path / "fresh", "--json").stdout.strip() == "[]"
