"""The market of the demo: the end of the bundled year, played by a process of its own, so that pages need not wait for it.

    python -m crpbot.web.played HOME SPEED UNTIL

It ends when its standard input does: whoever started it is gone then, however that came, and the home goes with it.
"""

import os
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

from crpbot.errors import CrpbotError
from crpbot.live.desk import Style
from crpbot.live.health import Health, write_health
from crpbot.live.service import HEALTH, Order, Watch, replay
from crpbot.market.candles import MINUTE, Candles, utc
from crpbot.market.sample import read_sample
from crpbot.signals.follow import Costs
from crpbot.signals.plan import ATR_PRESET

DAY = 24 * 60 * MINUTE
END = 1_780_272_000_000
"""When the bundled year is over: 2026-06-01T00:00Z, in milliseconds of UTC."""
CUT = END - 14 * DAY
"""The models of the demo know what came before, and nothing after."""
START = END - 7 * DAY + 2 * 60 * MINUTE
"""From here on the market is played while somebody looks, and is spoken of soon; what was said since `CUT` is in the journal."""
HISTORY = 4_000
"""Candles before a replay that it begins with: the features of every recipe have seen enough then."""
SYMBOLS = ("BTC-USD", "ETH-USD")
"""Markets that are played; the other one of the sample ends earlier."""
THRESHOLD = 0.52
"""The demo speaks from here on, so that there is something to see; a real one needs 60 %."""
LIVE, JOURNAL = "live", "replay.db"
_REMOVE = "import shutil, sys; shutil.rmtree(sys.argv[1], ignore_errors=True)"
_AGAIN = 60.0
"""Seconds between two signs of life when there is nothing left to play."""


def recording(symbol: str, *, start: int, until: int) -> Candles:
    """Return the candles that opened before `until`, from enough before `start` on, in milliseconds of UTC."""
    candles = read_sample(symbol)
    first, last = candles.time.searchsorted([start - HISTORY * MINUTE, until])
    return candles[first:last]


def play(home: Path, *, start: int, until: int, speed: float, watch: Watch, shown: Path | None = None) -> None:
    """Replay a part of the year on the models of a home, into its journal."""
    style = Style(threshold=THRESHOLD, preset=ATR_PRESET, costs=Costs())
    order = Order(home=home, symbols=SYMBOLS, journal=str(home / JOURNAL), style=style, paper=True, shown=shown)
    markets = {symbol: recording(symbol, start=start, until=until) for symbol in SYMBOLS}
    replay(order, markets, speed=speed, start=start, watch=watch)


def main(home: Path, speed: float, until: int) -> None:
    """Play until the end, and say then that it is over, until nobody is there to hear it."""
    threading.Thread(target=_end_with_input, args=(home,), daemon=True).start()
    last = Health(time=START, markets={})

    def remember(health: Health) -> None:
        nonlocal last
        last = health

    play(home, start=START, until=until, speed=speed, watch=Watch(health=remember), shown=home / LIVE)
    words = f"the recording is over: it ends at {utc(until)}; start the demo again to see it from the beginning"
    while True:
        write_health(replace(last, over=words), home / LIVE / HEALTH)
        time.sleep(_AGAIN)


def _end_with_input(home: Path) -> None:
    while os.read(sys.stdin.fileno(), 1):  # not by its buffer, whose lock would be held when the interpreter ends
        pass
    # Another thread cannot end the main one, which would write again into what is removed: another program takes our place.
    os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", _REMOVE, str(home)])  # noqa: S606  our own words


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
    except CrpbotError as error:
        sys.exit(str(error))
