"""The rules of a market that an order must keep: the grid of its prices, the grid of its sizes, and its least order."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crpbot.errors import PlanError

Floats = NDArray[np.float64]

_ON_GRID = 1e-6
"""A number this near to the grid, in steps, is on it: 0.3 is 2.9999999999999996 steps of 0.1 to a processor."""
_DECIMAL_PLACES, _TICK_SIZE = 2, 4
"""How ccxt says what its `precision` means (`exchange.precisionMode`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketRules:
    """What a venue asks of an order; None is unknown, and then nothing is rounded or refused for it.

    Attributes:
        tick: step of its prices, in quote currency.
        lot: step of its sizes, in base currency.
        min_notional: least worth of an order, in quote currency.

    Raises:
        PlanError: one of them is not a finite number above 0.

    """

    tick: float | None = None
    lot: float | None = None
    min_notional: float | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and not 0 < value < math.inf:
                raise PlanError(
                    f"{name} of a market must be a finite number above 0, found {value:g}; correct it or leave it out"
                )

    @property
    def price_decimals(self) -> int | None:
        """How many decimals its prices have; None where the tick is unknown."""
        return None if self.tick is None else decimals_of(self.tick)

    @property
    def size_decimals(self) -> int | None:
        """How many decimals its sizes have; None where the lot is unknown."""
        return None if self.lot is None else decimals_of(self.lot)


UNKNOWN = MarketRules()


def rules_of_ccxt(market: Mapping[str, Any], *, precision_mode: int = _TICK_SIZE) -> MarketRules:
    """Return the rules in one entry of ccxt's `exchange.markets`; what it does not say is unknown.

    Args:
        market: with `precision` (`price`, `amount`) and `limits` (`cost`: `min`).
        precision_mode: the exchange's `precisionMode`: 4 counts in steps, 2 in decimals; any other has no fixed step.

    """

    def step(value: Any) -> float | None:  # noqa: ANN401
        if value is None or precision_mode not in {_DECIMAL_PLACES, _TICK_SIZE}:
            return None
        return float(value) if precision_mode == _TICK_SIZE else float(Decimal(10) ** -int(value))

    precision, cost = market.get("precision") or {}, (market.get("limits") or {}).get("cost") or {}
    least = cost.get("min")
    return MarketRules(
        tick=step(precision.get("price")),
        lot=step(precision.get("amount")),
        min_notional=float(least) if least else None,
    )


def decimals_of(step: float) -> int:
    """Return how many decimals a multiple of `step` has.

    >>> decimals_of(0.01), decimals_of(1e-8), decimals_of(0.25), decimals_of(10.0)
    (2, 8, 2, 0)
    """
    exponent = Decimal(repr(float(step))).normalize().as_tuple().exponent
    return max(0, -int(exponent))


def round_down(x: Floats, step: float | None) -> Floats:
    """Return the largest multiple of `step` not above `x`; `x` itself where the step is unknown."""
    return x if step is None else _multiple(_steps(x, step, np.floor), step)


def round_up(x: Floats, step: float | None) -> Floats:
    """Return the least multiple of `step` not below `x`; `x` itself where the step is unknown."""
    return x if step is None else _multiple(_steps(x, step, np.ceil), step)


def _steps(x: Floats, step: float, rounding: np.ufunc) -> Floats:
    exact = x / step
    nearest = np.rint(exact)
    steps: Floats = np.where(np.abs(exact - nearest) <= _ON_GRID, nearest, rounding(exact))
    return steps


def _multiple(steps: Floats, step: float) -> Floats:
    """Return `steps` of them as the number that its decimals name: 3 steps of 0.1 are 0.3, not 0.30000000000000004."""
    return np.round(steps * step, decimals_of(step))
