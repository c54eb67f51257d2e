"""A week of the bundled year through the live loop, as fast as it goes, to see what grows: `growth.py [DAYS]`.

It prints one line of JSON: memory at the end of each day, bytes of the journal, and signals. Exit code 1: memory grew by more
than `MOST` from the end of the first day to that of the last.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

from crpbot.live.health import Health
from crpbot.live.journal import open_journal
from crpbot.live.service import Watch
from crpbot.web import played
from crpbot.web.demo import unpack

MOST = 16 * 2**20
"""Bytes by which memory may grow in a week after its first day."""


def resident() -> int:
    """Return bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main(days: int) -> int:
    """Play so many days on the models of the demo."""
    memory: dict[int, int] = {}
    start = played.END - days * played.DAY

    def watch(health: Health) -> None:
        memory[(health.time - start) // played.DAY] = resident()

    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        unpack(home)
        for old in home.glob(f"{played.JOURNAL}*"):
            old.unlink()
        played.play(home, start=start, until=played.END, speed=0, watch=Watch(health=watch))
        size = sum(file.stat().st_size for file in home.glob(f"{played.JOURNAL}*"))
        journal = open_journal(home / played.JOURNAL)
        signals = len(journal.signals(limit=1_000_000))
        journal.close()
    ends = [memory[day] for day in sorted(memory) if 0 <= day < days]
    grown = ends[-1] - ends[0]
    found = {
        "days": days, "mebibytes": [round(one / 2**20, 1) for one in ends], "grown_bytes": grown, "journal_bytes": size,
        "signals": signals, "bytes_per_signal": round(size / max(1, signals)), "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip
    print(json.dumps(found))
    return int(grown > MOST or len(ends) < days)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 7))
