"""The trading rules of a venue's markets, as it states them today."""

from collections.abc import Callable, Sequence
from threading import Event

from crpbot.errors import ExchangeError
from crpbot.live.clock import Clock, SystemClock
from crpbot.market.ask import Manner, client_of, list_markets, no_market, pace_of, venue_of
from crpbot.market.files import check_symbol
from crpbot.signals.rules import MarketRules, rules_of_ccxt

_AFTER = "give tick, lot and least order yourself, or try again {later}"


def find_rules(
    venue: str, symbols: Sequence[str], *, address: str | None = None, clock: Clock, patience: float = 20.0
) -> dict[str, MarketRules]:
    """Return the rules of those markets that the venue has and tells of within `patience` seconds; maybe none.

    The other arguments are those of `market_rules`.
    """
    until = clock.now() + 1_000 * patience
    try:
        return _rules(venue, symbols, address, clock, left=lambda: (until - clock.now()) / 1_000, every=False)
    except ExchangeError:
        return {}


def market_rules(
    venue: str, symbols: Sequence[str], *, address: str | None = None, clock: Clock | None = None
) -> dict[str, MarketRules]:
    """Return tick, lot and least order of each market, with one request; what the venue does not say is unknown.

    Args:
        venue: a name of `VENUES`.
        symbols: in the dashed form.
        address: scheme, host and port to ask instead of the venue's own.
        clock: waits between tries.

    Raises:
        ExchangeError: the venue is unknown, does not answer, or lacks a market.
        CandleError: a symbol has another form.

    """
    return _rules(venue, symbols, address, clock or SystemClock(), left=None, every=True)


def _rules(
    venue: str,
    symbols: Sequence[str],
    address: str | None,
    clock: Clock,
    *,
    left: Callable[[], float] | None,
    every: bool,
) -> dict[str, MarketRules]:
    how = venue_of(venue)
    symbols = [check_symbol(symbol) for symbol in symbols]
    client = client_of(how, address)
    pace = pace_of(client.rateLimit / 1_000, clock.sleep, Event())
    manner = Manner(name=venue, pace=pace, after=_AFTER, **({} if left is None else {"left": left}))
    client.throttle = pace.take
    listed = list_markets(manner, client)
    by_name = {market["id"]: market for market in listed.values() if market.get("spot", True)}
    found = {
        symbol: by_name.get(how.market(symbol)) if how.market else listed.get(symbol.replace("-", "/")) for symbol in symbols
    }
    if every and (unknown := [symbol for symbol, market in found.items() if market is None]):
        raise no_market(manner, unknown)
    return {symbol: rules_of_ccxt(market, precision_mode=client.precisionMode) for symbol, market in found.items() if market}
