"""A runtime on a loopback venue whose clock it moves itself, to be killed: `python child.py HOME ADDRESS THRESHOLD`."""

import json
import os
import sys
from pathlib import Path
from urllib.request import urlopen

from crpbot.live.desk import Style
from crpbot.live.health import Health
from crpbot.live.service import Order, Watch, live
from crpbot.signals.follow import Costs
from crpbot.signals.plan import ATR_PRESET


class HouseClock:
    """The venue's clock, which stands still but for the sleep of this process: a week takes minutes."""

    stopped = False

    def __init__(self, address: str) -> None:
        self._address = f"{address}/test/clock"
        self._now = self._ask(self._address)

    def now(self) -> int:
        return self._now

    def sleep(self, seconds: float) -> None:
        if seconds > 0 and not self.stopped:
            self._now = self._ask(f"{self._address}?advance={int(seconds * 1_000) + 1}", data=b"")

    def wake(self) -> None:
        """Nobody sleeps for long."""

    def stop(self) -> None:
        self.stopped = True

    def _ask(self, address: str, data: bytes | None = None) -> int:
        with urlopen(address, data=data, timeout=30) as answer:  # noqa: S310  the house is on loopback
            return json.loads(answer.read())["now"]


def resident() -> int:
    """Return bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main(home: str, address: str, threshold: str) -> None:
    seen = []

    def health(_: Health) -> None:
        seen.append(resident())
        if len(seen) % 100 == 0:
            sys.stdout.write(json.dumps({"turns": len(seen), "resident": seen[-1]}) + "\n")
            sys.stdout.flush()

    style = Style(threshold=float(threshold), preset=ATR_PRESET, costs=Costs())
    order = Order(home=Path(home), symbols=("BTC-USD",), journal=None, style=style, paper=True)
    live(order, venue="coinbase", kind="rest", address=address, watch=Watch(health=health), clock=HouseClock(address))


if __name__ == "__main__":
    main(*sys.argv[1:])
