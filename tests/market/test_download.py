"""The whole way: the command, ccxt, a venue with faults on loopback, the lake; killed again and again."""

import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from shell import crpbot
from venues import serving

from crpbot.market.candles import Candles
from crpbot.market.files import COLUMNS
from crpbot.market.lake import Lake
from crpbot.market.synthetic import START, make_market

pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_spec("ccxt") is None, reason="downloading needs the extra live")]
SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD")


def market(symbol: str, rows: int) -> Candles:
    """Return a walk in which some minutes are missing, as no venue is without."""
    whole = make_market("random-walk", symbol, rows=rows)
    kept = np.delete(np.arange(rows), [rows // 3, rows // 2, rows // 2 + 1])
    return Candles(*(getattr(whole, name)[kept] for name in COLUMNS))


def words(lake: Path, address: str, rows: int) -> list[str]:
    since, until = (datetime.fromtimestamp((START + minutes * 60_000) / 1_000, UTC).isoformat() for minutes in (0, rows))
    span = ["--since", since, "--until", until]
    return ["candles", "download", *SYMBOLS, "--venue", "binance", *span, "--lake", str(lake), "--address", address]


def test_a_download_that_is_killed_at_random_moments_is_the_source_row_for_row(tmp_path: Path) -> None:
    rows, chance, lake = 60_000, random.Random(5), tmp_path / "lake"  # noqa: S311  moments to kill at, no secret
    markets = {symbol: market(symbol, rows) for symbol in SYMBOLS}
    with serving(markets, lambda: START + (rows + 10) * 60_000, faults=0.02) as house:
        call = words(lake, house.address, rows)
        for _ in range(5):
            command, nowhere = [sys.executable, "-m", "crpbot", *call], subprocess.DEVNULL
            process = subprocess.Popen(command, stderr=nowhere, stdout=nowhere)
            moment = len(house.asked) + chance.randint(1, 30)
            while len(house.asked) < moment:
                assert process.poll() is None, "it has ended before it was killed"
                time.sleep(0.002)
            time.sleep(chance.uniform(0.0, 0.05))
            process.send_signal(signal.SIGKILL)
            process.wait()
        done = crpbot(*call)
        assert done.returncode == 0, done.stderr
        asked = len(house.asked)
        for symbol in SYMBOLS:
            assert Lake(lake).read(symbol).sha256 == markets[symbol].sha256
            assert Lake(lake).damaged(symbol) == ()
        assert crpbot(*call).returncode == 0
        assert len(house.asked) == asked  # nothing was missing, so nothing was asked for
