"""Several processes on one registry, one lake, one journal, at the same moment: nothing is lost, nothing stands twice."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from journals import START, keep, signal

from crpbot.live.journal import open_journal
from crpbot.market.candles import MINUTE
from crpbot.market.lake import Lake
from crpbot.market.synthetic import make_market
from crpbot.registry.ledger import Ledger
from crpbot.registry.registry import Registry

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]

DECIDE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from crash.test_together import line_of
from crpbot.errors import RegistryError
from crpbot.registry.ledger import Ledger
from crpbot.registry.registry import Registry
registry, ledger = Registry(Path(sys.argv[1])), Ledger(Registry(Path(sys.argv[1])).path)
print("ready", flush=True)
sys.stdin.readline()
for n in range(12):
    with ledger.turn():
        ledger.append(line_of(ledger.lines(), f"{sys.argv[2]}{n}"))
    for decide in (lambda: registry.retire(registry.entries()[0], now=n, why=f"retire {sys.argv[2]}"),
                   lambda: registry.demote(registry.entries()[0], now=n, why=f"demote {sys.argv[2]}")):
        try:
            decide()
        except (IndexError, RegistryError):  # another process was first: the answer is no, and nothing is written
            pass
"""

IMPORT = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from crash.test_together import CANDLES
from crpbot.errors import CandleError
from crpbot.market.lake import Lake
lake, half = Lake(Path(sys.argv[1])), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for start in range(half * 400, half * 400 + 1_600, 200):
    while True:
        try:
            with lake.lock("BTC-USD"):
                lake.add("BTC-USD", CANDLES[start : start + 200], venue=f"file {half}")
            break
        except CandleError as error:
            assert "one process at a time" in str(error), error
            time.sleep(0.005)
"""

SPEAK = """
import sys
sys.path.insert(0, sys.argv[3])
from journals import keep, signal
from crpbot.live.journal import open_journal
journal = open_journal(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(sum(keep(journal, signal(at), at) for at in range(40)), flush=True)
journal.close()
"""

CANDLES = make_market("random-walk", "BTC-USD", rows=2_000)


def line_of(lines: tuple, sha256: str) -> object:
    """Return the next line: another model becomes live."""
    from crpbot.registry.ledger import Line, head_of

    files = {"lstm_BTC-USD_v7_enhanced.pt": sha256, "model.onnx": sha256}
    return Line(
        number=len(lines) + 1, previous=head_of(lines), time=len(lines), who="me", move="promote", symbol="BTC-USD",
        sha256=sha256, was=None, stage="live", reason="a test", files=files, code_sha256="c", version="1",
    ).sealed()  # fmt: skip


def together(code: str, place: Path, words: list[str]) -> list[str]:
    """Run processes that begin at the same moment, and return what each has said; none may fail."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, str(place)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    running = [subprocess.Popen([*command, word, str(ROOT)], **pipes) for word in words]
    for one in running:
        assert one.stdout.readline() == "ready\n"
    for one in running:
        one.stdin.write("go\n")
        one.stdin.flush()
    said = [one.communicate(timeout=120)[0] for one in running]
    assert [one.returncode for one in running] == [0] * len(running)
    return said


def test_a_ledger_that_several_write_stays_a_chain_with_every_line_once(tmp_path: Path) -> None:
    together(DECIDE, tmp_path, ["a", "b"])
    lines = Ledger(Registry(tmp_path).path).lines()  # which proves the chain
    promoted = [line.sha256 for line in lines if line.move == "promote"]
    assert sorted(promoted) == sorted(f"{who}{n}" for who in "ab" for n in range(12))
    assert len([one for one in Registry(tmp_path).entries() if one.stage == "live"]) <= 1
    assert {line.move for line in lines} > {"promote"}


def test_a_lake_that_several_write_holds_every_candle_once(tmp_path: Path) -> None:
    together(IMPORT, tmp_path, ["0", "1"])
    lake = Lake(tmp_path)
    found = lake.read("BTC-USD")
    np.testing.assert_array_equal(found.time, CANDLES.time)
    np.testing.assert_array_equal(found.close, CANDLES.close)
    assert not lake.damaged("BTC-USD")
    assert lake.manifest("BTC-USD").rows == 2_000


def test_a_journal_that_several_write_has_each_signal_once(tmp_path: Path) -> None:
    address = tmp_path / "journal.db"
    open_journal(address).close()
    said = together(SPEAK, address, ["a", "b"])
    assert sum(map(int, said)) == 40  # one of them was first, each time
    journal = open_journal(address)
    assert sorted(one.candle for one in journal.signals(limit=1_000)) == [START + at * MINUTE for at in range(40)]
    assert not keep(journal, signal(0), 0)
    journal.close()
