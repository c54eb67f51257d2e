"""Where each market goes on after a restart."""

import json
from pathlib import Path

from crpbot.disk import write_whole
from crpbot.errors import DatasetError
from crpbot.live.desk import Desk
from crpbot.live.follow_up import FollowUp
from crpbot.market.candles import MINUTE


class States:
    """One file for each market.

    Args:
        folder: of them.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, desk: Desk, follow: FollowUp) -> None:
        """Write down where a market is; one without history is nowhere yet.

        Raises:
            OSError: the disk does not do it.

        """
        if desk.next is not None:
            write_whole(self._file(desk.symbol), json.dumps({"desk": desk.state(), "paper": follow.state()}), lasting=False)

    def restore(self, desk: Desk, follow: FollowUp, *, now: int) -> bool:
        """Go on where a market was left, and return whether that was possible.

        A state that is damaged, of the future, or older than what history gives as well, is not used.
        """
        try:
            state = json.loads(self._file(desk.symbol).read_text())
            paper = {str(sha256): int(free) for sha256, free in state["paper"].items()}
            if not -MINUTE <= now - int(state["desk"]["next"]) <= desk.memory * MINUTE:
                return False
            desk.restore(state["desk"])
            follow.restore(paper)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, DatasetError):
            return False
        return True

    def _file(self, symbol: str) -> Path:
        return self._folder / f"{symbol}.json"
