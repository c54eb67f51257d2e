"""What confidence promised while live, and what came true: asked at each change of the journal, and read from it only once."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crpbot.quality.trust import Predictions, Trust, trust
from crpbot.web.house import House

if TYPE_CHECKING:
    from crpbot.live.journal import Journal


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What confidence promised while live, and what came true: of the checks, which do not overlap.

    Attributes:
        n: predictions that count.
        said, came_true: mean confidence, and the share that came true; None without any.
        interval: of that share, 95 %.
        alarm: whether the model has been shown to promise too much.
        words: the same in one sentence.

    """

    n: int
    said: float | None
    came_true: float | None
    interval: tuple[float, float] | None
    alarm: bool
    words: str


def promise(house: House, sha256: str, symbol: str) -> Promise | None:
    """Return what became of what a model said, by its checks; None without a journal."""
    journal = house.journal()
    if journal is None:
        return None
    name = ("promise", sha256, symbol)

    def ask() -> tuple[Predictions, Trust]:
        return _more(journal, sha256, symbol, house.kept.last(name))

    found = house.kept.get(name, house.journal_version(), ask)[1]
    return Promise(
        n=found.n, said=found.said, came_true=found.came_true, interval=found.interval, alarm=found.alarm, words=found.words
    )


def _more(journal: "Journal", sha256: str, symbol: str, before: tuple[Predictions, Trust] | None) -> tuple[Predictions, Trust]:
    """Return what is known with what has become known since: a model's checks are written, and settled, in their order."""
    if before is None or not len(before[0].candle):
        found = journal.predictions(sha256, symbol)
        return found, trust(found)
    old = before[0]
    new = journal.predictions(sha256, symbol, since=int(old.candle[-1]) + 1)
    if not len(new.candle):
        return before
    both = Predictions(
        candle=np.concatenate([old.candle, new.candle]),
        known=np.concatenate([old.known, new.known]),
        confidence=np.concatenate([old.confidence, new.confidence]),
        hit=np.concatenate([old.hit, new.hit]),
    )
    return both, trust(both)
