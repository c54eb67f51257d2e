"""Is the confidence still honest? Asked after every outcome, for months, without ever raising a false alarm too often.

A test that is repeated until it says "significant" always says so in the end. This one may be looked at whenever one likes. It
is a bet against the model: each prediction is said to come true with probability c, and is granted a margin m. Of a capital that
begins as 1, a share is put on "it does not come true" at the price that is fair when it comes true with c − m:

    E_n = mean over λ of Π_i (1 + λ (c_i − m − y_i)),   y_i = 1 where prediction i came true, else 0

If each comes true with at least c_i − m, given everything before, no factor has a mean above 1, E is a nonnegative
supermartingale, and the chance that it *ever* reaches 1/α is at most α (Ville, Étude critique de la notion de collectif, 1939).
So E ≥ 1/α is the alarm. (Betting as testing: Shafer, "Testing by betting", Journal of the Royal Statistical Society A 184, 2021;
these very bets on bounded means: Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting", the same B 86,
2024.)

"Given everything before" is why predictions are thinned first: those whose labels look at the same minutes come true or fail
together, and one unlucky hour would count fifteen times. The next one that counts closes its candle when the one before is known.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crpbot.market.candles import MINUTE
from crpbot.quality.metrics import Z_95, Floats, Ints, percent

MARGIN, ALPHA = 0.05, 0.01
"""Five points are what the calibration gate allows; one honest model in a hundred is suspected, ever."""

BETS = (0.1, 0.2, 0.4, 0.8)
"""λ: no factor is below 0.2. Measured, predictions until the alarm in the median and in nine runs of ten, for 0.70 said and 0.55
true, and for 0.90 and 0.75: these 218, 452 and 135, 280; six from 0.05 to 1.6 244, 486 and 156, 341; only 0.25 244, 391 and 234,
356; six shares of the capital from 0.02 to 0.64 255, 499 and 136, 322. For 0.62 and 0.55, within 6,000: in 52, 48, 21 and 47 runs
of 100."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Predictions:
    """What was said and is known; every column has shape `(n,)`, oldest first.

    Attributes:
        candle: open time of the candle that each was made at the close of, in milliseconds of UTC.
        known: when it was known whether it came true, likewise.
        confidence: the probability that it was given, 0 to 1.
        hit: whether it came true.

    """

    candle: Ints
    known: Ints
    confidence: Floats
    hit: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """How honest the confidence has been.

    Attributes:
        given: predictions before they were thinned.
        n: that count; no two of them look at the same minutes.
        said: their mean confidence; None without any, like the next two.
        came_true: share of them that did.
        interval: of that share, 95 % (Wilson 1927).
        evidence: the largest E so far, 1 at the beginning: what the alarm goes by.
        alarm: whether it has ever reached 1/alpha.
        alarmed_at: after how many predictions; None without an alarm.
        margin: that the confidence was granted.
        alpha: the chance of an alarm over a model that keeps its word, ever.

    """

    given: int
    n: int
    said: float | None
    came_true: float | None
    interval: tuple[float, float] | None
    evidence: float
    alarm: bool
    alarmed_at: int | None
    margin: float
    alpha: float

    @property
    def words(self) -> str:
        """The same in one sentence."""
        if self.n == 0 or self.interval is None:
            return "nothing that was said is known yet"
        low, high = self.interval
        told = f"said {percent(self.said)}, came true {percent(self.came_true)} ({percent(low)} to {percent(high)}) of {self.n:,}"
        bar = f"{1 / self.alpha:,.0f}"
        if self.alarm:
            return (
                f"{told}; that is more than {100 * self.margin:g} points less than it says: evidence {self.evidence:,.3g}, and "
                f"{bar} is enough, reached after {self.alarmed_at:,}"
            )
        return f"{told}; not shown to be off by more than {100 * self.margin:g} points: evidence {self.evidence:,.3g} of {bar}"


def trust(predictions: Predictions, *, margin: float = MARGIN, alpha: float = ALPHA) -> Trust:
    """Ask whether predictions come true as often as they said, less a margin.

    Args:
        predictions: oldest first; overlapping ones are thinned here.
        margin: that the confidence is granted, 0 to 1.
        alpha: the chance of an alarm over a model that keeps its word, however often one looks.

    """
    kept = thin(predictions)
    confidence, hit = predictions.confidence[kept], predictions.hit[kept]
    n = len(kept)
    log_e = log_evidence(confidence, hit, margin=margin)
    reached = np.flatnonzero(log_e >= -np.log(alpha))
    return Trust(
        given=len(predictions.candle),
        n=n,
        said=float(confidence.mean()) if n else None,
        came_true=float(hit.mean()) if n else None,
        interval=wilson(int(hit.sum()), n) if n else None,
        evidence=float(np.exp(min(max(float(log_e.max(initial=0.0)), 0.0), 700.0))),
        alarm=bool(len(reached)),
        alarmed_at=int(reached[0]) + 1 if len(reached) else None,
        margin=margin,
        alpha=alpha,
    )


def thin(predictions: Predictions) -> NDArray[np.intp]:
    """Return those that count, as indices: the first, then always the next whose candle closes once the last one is known.

    >>> at = np.arange(0, 60, 5) * MINUTE
    >>> thin(Predictions(candle=at, known=at + 16 * MINUTE, confidence=np.ones(12), hit=np.ones(12, bool))).tolist()
    [0, 3, 6, 9]
    """
    kept = []
    free = np.iinfo(np.int64).min
    for row, (closed, known) in enumerate(zip((predictions.candle + MINUTE).tolist(), predictions.known.tolist(), strict=True)):
        if closed >= free:
            kept.append(row)
            free = known
    return np.array(kept, np.intp)


def log_evidence(confidence: Floats, hit: NDArray[np.bool_], *, margin: float = MARGIN) -> Floats:
    """Return ln E after each prediction, shape `(n,)`; they must not overlap.

    Args:
        confidence: 0 to 1, shape `(n,)`.
        hit: whether each came true, likewise.
        margin: that the confidence is granted.

    """
    granted = np.maximum(confidence - margin, 0.0)
    bets = np.array(BETS)[:, None]
    capital = np.cumsum(np.log1p(bets * (granted - hit)), axis=1)
    mean: Floats = np.logaddexp.reduce(capital, axis=0) - np.log(len(BETS))
    return mean


def wilson(true: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share, `true` of `n` independent ones.

    (Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the American Statistical
    Association 22, 1927.)

    >>> [round(edge, 4) for edge in wilson(8, 10)]
    [0.4902, 0.9433]
    """
    share, z2 = true / n, Z_95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * float(np.sqrt(share * (1 - share) / n + z2 / (4 * n * n)))
    return max(0.0, middle - half), min(1.0, middle + half)
