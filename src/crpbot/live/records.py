"""What the journal gives back: plain records. Times are milliseconds of UTC."""

import json
from dataclasses import dataclass
from typing import Any, Literal

from crpbot.dataset.labels import CLASSES
from crpbot.errors import JournalError, PlanError
from crpbot.live.outcome import Outcome
from crpbot.market.candles import MINUTE
from crpbot.signals.plan import OrderPlan
from crpbot.signals.rules import MarketRules
from crpbot.signals.signal import Signal

FillKind = Literal["entry", "exit"]


def is_check(candle: int, horizon: int) -> bool:
    """Return whether what is said of a candle is kept as a check: every horizon-th minute, so that no two labels overlap.

    >>> [minute for minute in range(40) if is_check(minute * MINUTE, 15)]
    [0, 15, 30]
    """
    return candle // MINUTE % horizon == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalRecord:
    """A signal as it was said, and what became of it.

    Attributes:
        id: in the journal.
        model_sha256, symbol, stage, status, side, confidence, probabilities, ledger_head, override: as in `Signal`.
        candle: open time of the candle it is of.
        horizon: of the model's label, in candles.
        recorded: when it was written down.
        json: all of it, as it was said.
        settled: when it was known what became of it; None while it is not.
        outcome: what became of it; None likewise.

    """

    id: int
    model_sha256: str
    symbol: str
    candle: int
    horizon: int
    stage: str
    status: str
    side: str
    confidence: float
    probabilities: tuple[float, float, float]
    ledger_head: str
    override: str
    recorded: int
    json: str
    settled: int | None
    outcome: Outcome | None

    @property
    def said(self) -> dict[str, Any]:
        """The signal as `Signal.to_dict` gave it."""
        found: dict[str, Any] = json.loads(self.json)
        return found

    @property
    def plan(self) -> OrderPlan:
        """The order."""
        return OrderPlan(**self.said["plan"])

    @property
    def signal(self) -> Signal:
        """The signal itself.

        Raises:
            JournalError: it is not what `Signal.to_dict` gave.

        """
        try:
            said = self.said
            del said["format"]
            down, neutral, up = (float(said["probabilities"][name]) for name in CLASSES)
            parts = {"probabilities": (down, neutral, up), "plan": self.plan, "rules": MarketRules(**said["rules"])}
            return Signal(**said | parts)
        except (ValueError, KeyError, TypeError, AttributeError, PlanError) as error:
            raise JournalError(
                f"a journal must hold each signal as it was said, found signal {self.id} with {error!r}; take it from a backup"
            ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRecord:
    """What a model said of every horizon-th candle, spoken or not.

    Attributes:
        id, model_sha256, symbol, candle, horizon, probabilities, recorded, settled: as in `SignalRecord`.
        top: the most probable class.
        confidence: its probability.
        label: what came; None while that is not known, or never will be.
        hit: whether that was the top class; None likewise.

    """

    id: int
    model_sha256: str
    symbol: str
    candle: int
    horizon: int
    probabilities: tuple[float, float, float]
    top: int
    confidence: float
    recorded: int
    label: int | None
    hit: bool | None
    settled: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message to people that has not been sent.

    Attributes:
        key: says whether two messages are the same.
        title, body: its text.
        until: when it is of no use any more.
        tries: how often it could not be sent.
        created: when it was put here.
        tried: when it last could not be sent; None where it was not tried.

    """

    key: str
    title: str
    body: str
    until: int
    tries: int
    created: int
    tried: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """One paper fill.

    Attributes:
        signal: id of the signal that is followed.
        kind: `entry` or `exit`.
        time: when.
        price: paid or got, in quote currency.
        size: in base currency.
        fee: in quote currency.

    """

    signal: int
    kind: FillKind
    time: int
    price: float
    size: float
    fee: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperSummary:
    """What paper trading has earned.

    Attributes:
        trades: that are over.
        open: that are not.
        won: of those that are over, how many earned something after fees.
        earned: by those that are over, after fees, in quote currency.
        fees: of those that are over, in quote currency.

    """

    trades: int
    open: int
    won: int
    earned: float
    fees: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to the runtime.

    Attributes:
        time: when.
        kind: such as `start`, `stop`, `promoted`, `demoted`, `gap`.
        text: in words.
        symbol: None where it is of no one market.
        model_sha256: None where it is of no one model.

    """

    time: int
    kind: str
    text: str
    symbol: str | None = None
    model_sha256: str | None = None
