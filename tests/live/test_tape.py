"""What a stream has said of a minute: the candle when it is all of it, and nothing when it may not be."""

import json
from importlib.util import find_spec

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import START, walk

from crpbot.live.dialects import DIALECTS, Bar, News, Trade
from crpbot.live.tape import Tape
from crpbot.market.candles import MINUTE

NAMES = {"BTC-USD": "BTC-USD"}
trades = st.lists(
    st.tuples(st.integers(0, 3 * MINUTE - 1), st.integers(1, 500), st.integers(1, 40)), min_size=1, max_size=40
).map(
    lambda found: [
        Trade("BTC-USD", START + time, number, price / 4, size / 8) for number, (time, price, size) in enumerate(found)
    ]
)


def tape(*, since: int = START - 1_000, flags: bool = False) -> Tape:
    made = Tape(NAMES, agreements=1, flags=flags)
    made.hear(News(agreed=1, told=since))
    return made


def candle(of: list[Trade]) -> tuple[float, ...] | None:
    if not of:
        return None
    of = sorted(of, key=lambda trade: (trade.time, trade.number))
    prices = [trade.price for trade in of]
    return prices[0], max(prices), min(prices), prices[-1], sum(trade.size for trade in of)


@given(trades, st.randoms(use_true_random=False))
def test_trades_in_any_order_and_twice_make_the_same_candles(found: list[Trade], chance: object) -> None:
    made = tape()
    for trade in chance.sample([*found, *found], 2 * len(found)):
        made.hear(News(trades=(trade,)))
    made.hear(News(told=START + 3 * MINUTE))
    for minute in range(3):
        time = START + minute * MINUTE
        assert made.candle("BTC-USD", time) == candle([trade for trade in found if time <= trade.time < time + MINUTE])


@given(trades, st.integers(-MINUTE, 3 * MINUTE), st.integers(0, 3 * MINUTE))
def test_a_minute_that_was_not_heard_from_begin_to_end_is_not_told(found: list[Trade], since: int, cut: int) -> None:
    made = tape(since=START + since)
    ordered = sorted(found, key=lambda trade: trade.time)
    for trade in ordered:
        if since <= trade.time - START < cut:
            made.hear(News(told=trade.time, trades=(trade,)))
    made.cut()
    made.hear(News(agreed=1, told=START + cut))
    for trade in ordered:
        if trade.time - START >= cut:
            made.hear(News(told=trade.time, trades=(trade,)))
    made.hear(News(told=START + 4 * MINUTE))
    for minute in range(3):
        time = START + minute * MINUTE
        told = made.candle("BTC-USD", time)
        assert told is None or told == candle([trade for trade in found if time <= trade.time < time + MINUTE])
        if since > minute * MINUTE or minute * MINUTE < cut <= (minute + 1) * MINUTE:
            assert told is None


def test_a_minute_is_not_told_before_the_venue_s_time_is_past_it() -> None:
    made = tape(since=START - 1_000)
    made.hear(News(told=START))
    assert not made.hear(News(told=START + 10, trades=(Trade("BTC-USD", START + 10, 1, 5.0, 1.0),)))
    assert not made.hear(News(told=START + MINUTE - 1))
    assert made.candle("BTC-USD", START) is None
    assert made.hear(News(told=START + MINUTE))
    assert not made.hear(News(told=START + MINUTE + 1))
    assert made.candle("BTC-USD", START) == (5.0, 5.0, 5.0, 5.0, 1.0)
    assert made.hear(News(told=START + 30 * MINUTE))  # and is forgotten in time
    assert made.candle("BTC-USD", START) is None


def test_where_the_venue_says_which_candle_has_closed_its_word_is_waited_for() -> None:
    made, numbers = tape(flags=True), (1.0, 2.0, 0.5, 1.5, 7.0)
    made.hear(News(told=START + 59_000, bars=(Bar("BTC-USD", START, (1.0, 1.0, 1.0, 1.0, 1.0), final=False),)))
    assert made.hear(News(told=START + MINUTE))
    assert made.candle("BTC-USD", START) is None
    made.hear(News(told=START + MINUTE + 40, bars=(Bar("BTC-USD", START, numbers, final=True),)))
    made.hear(News(bars=(Bar("BTC-USD", START, (1.0, 1.0, 1.0, 1.0, 1.0), final=False),)))  # an old message
    assert made.candle("BTC-USD", START) == numbers


def test_nothing_counts_before_the_venue_has_agreed() -> None:
    made = Tape(NAMES, agreements=2, flags=False)
    made.hear(News(agreed=1, told=START - 1))
    assert not made.whole
    made.hear(News(told=START + MINUTE, trades=(Trade("BTC-USD", START + 10, 1, 5.0, 1.0),)))
    made.hear(News(agreed=1, told=START + 2 * MINUTE))
    assert made.whole
    assert made.candle("BTC-USD", START) is None


def test_a_market_that_nobody_asked_for_is_not_kept() -> None:
    made = tape()
    made.hear(News(told=START + 1, trades=(Trade("XRP-USD", START + 1, 1, 5.0, 1.0),)))
    made.hear(News(told=START + MINUTE))
    assert not made._minutes


@pytest.mark.skipif(find_spec("aiohttp") is None, reason="the streams of the tests are aiohttp's, which ccxt brings")
@pytest.mark.parametrize("venue", DIALECTS)
def test_a_venue_s_messages_make_its_candles(venue: str) -> None:
    from streams import SPEECH

    source, how = walk(10, 4, level=60_000.0), DIALECTS[venue]
    made = Tape({how.market("BTC-USD"): "BTC-USD"}, agreements=0, flags=how.flags)
    made.hear(News(told=START - 1_000))
    columns = [getattr(source, name).tolist() for name in ("time", "open", "high", "low", "close", "volume")]
    for row in zip(*columns, strict=True):
        for _, _, message in SPEECH[venue]("BTC-USD", *row):
            made.hear(how.read(json.loads(json.dumps(message))))
    made.hear(News(told=START + 10 * MINUTE))
    for time, *numbers in zip(*columns, strict=True):
        assert made.candle("BTC-USD", time) == tuple(numbers)
