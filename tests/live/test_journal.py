"""The journal, the same tests on SQLite and on PostgreSQL."""

import dataclasses
import itertools
import json
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from journals import HORIZON, MODEL, START, check, keep, signal
from sqlalchemy import select

from crpbot.dataset.labels import UNLABELLED
from crpbot.errors import JournalError
from crpbot.live.journal import Journal, open_journal
from crpbot.live.outcome import Outcome
from crpbot.live.records import Event, Fill, Message
from crpbot.live.tables import outbox
from crpbot.market.candles import MINUTE
from crpbot.quality.trust import thin

pytestmark = pytest.mark.slow  # databases

WON = Outcome(
    label=2,
    hit=True,
    outcome="take profit",
    entry_time=START + MINUTE,
    entry=60_123.45,
    exit_time=START + 9 * MINUTE,
    exit=60_285.1,
    gross_bp=26.9,
    net_bp=4.2,
)
NUMBERS = itertools.count()
NOTHING = Outcome(label=None, hit=None, outcome="not filled")


def test_a_signal_is_read_back_as_it_was_said(journal: Journal) -> None:
    said = signal(3, side="SHORT", stage="shadow", override="we want to see it")
    assert keep(journal, said, 3)
    (found,) = journal.signals()
    assert (found.candle, found.horizon, found.recorded) == (START + 3 * MINUTE, HORIZON, START + 4 * MINUTE + 250)
    for name in ("model_sha256", "symbol", "stage", "status", "side", "confidence", "probabilities", "ledger_head", "override"):
        assert getattr(found, name) == getattr(said, name), name
    assert found.said == json.loads(json.dumps(said.to_dict()))
    assert found.plan == said.plan
    assert (found.settled, found.outcome) == (None, None)


def test_a_signal_is_kept_once_however_often_it_is_said(journal: Journal, address: str) -> None:
    assert keep(journal, signal(), 0)
    assert not keep(journal, dataclasses.replace(signal(), confidence=0.9), 0)
    again = open_journal(address)
    assert not keep(again, signal(status="expired", reason="too late"), 0)
    again.close()
    for other in (signal(symbol="ETH-USD"), signal(model="c" * 64)):
        assert keep(journal, other, 0)
    assert [one.confidence for one in journal.signals("BTC-USD", MODEL)] == [0.7]
    assert len(journal.signals()) == 3


def test_numbers_of_numpy_are_numbers(journal: Journal) -> None:
    at = np.int64(START)
    said = signal(confidence=np.float64(0.75), probabilities=tuple(np.array([0.05, 0.2, 0.75])))
    assert journal.add_signal(said, candle=at, horizon=HORIZON, recorded=at)
    shares = tuple(np.array([0.05, 0.2, 0.75], np.float32))
    assert journal.add_check(model=MODEL, symbol="BTC-USD", candle=at, horizon=HORIZON, probabilities=shares, recorded=at)
    assert journal.settle_check(journal.open_checks()[0].id, np.int64(2), now=5)
    assert (journal.signals()[0].candle, journal.signals()[0].confidence) == (START, 0.75)
    assert journal.predictions(MODEL, "BTC-USD").hit.tolist() == [True]


def test_what_was_not_spoken_or_is_of_another_candle_is_no_signal(journal: Journal) -> None:
    with pytest.raises(JournalError, match="must hold what was spoken, found 'no signal'"):
        keep(journal, signal(status="no signal", plan=None), 0)
    with pytest.raises(JournalError, match="must be kept under its own candle, found 2023-11-14T22:16Z for 2023-11-14T22:15Z"):
        keep(journal, signal(0), 1)
    assert journal.signals() == ()


def test_the_first_answer_stands(journal: Journal) -> None:
    for at in (0, 1, 2):
        keep(journal, signal(at), at)
    first, second, third = journal.open_signals()
    assert [one.candle for one in (first, second, third)] == [START, START + MINUTE, START + 2 * MINUTE]
    assert journal.settle_signal(first.id, WON, now=77)
    assert not journal.settle_signal(first.id, NOTHING, now=78)
    assert journal.settle_signal(second.id, NOTHING, now=79)
    assert not journal.settle_signal(10**6, WON, now=80)
    assert [one.id for one in journal.open_signals()] == [third.id]
    found = {one.id: one for one in journal.signals()}
    assert (found[first.id].outcome, found[first.id].settled) == (WON, 77)
    assert (found[second.id].outcome, found[second.id].settled) == (NOTHING, 79)


def test_what_is_open_is_asked_of_one_market_or_one_model_or_all(journal: Journal) -> None:
    for symbol in ("BTC-USD", "ETH-USD"):
        keep(journal, signal(symbol=symbol), 0)
        check(journal, 0, symbol=symbol)
    keep(journal, signal(model="c" * 64), 0)
    assert len(journal.open_signals()) == 3
    assert {one.symbol for one in journal.open_signals("ETH-USD")} == {"ETH-USD"}
    assert [one.model_sha256 for one in journal.open_signals("BTC-USD", "c" * 64)] == ["c" * 64]
    assert [one.symbol for one in journal.open_checks("ETH-USD", MODEL)] == ["ETH-USD"]
    assert len(journal.open_checks()) == 2


def test_a_check_keeps_the_top_class_and_whether_it_came(journal: Journal) -> None:
    said = [(0.5, 0.2, 0.3), (0.1, 0.6, 0.3), (0.2, 0.3, 0.5), (0.2, 0.3, 0.5)]
    for at, probabilities in enumerate(said):
        assert check(journal, 15 * at, probabilities=probabilities)
        assert not check(journal, 15 * at, probabilities=(0.9, 0.05, 0.05))
    waiting = journal.open_checks()
    assert [(one.top, one.confidence, one.probabilities) for one in waiting] == [
        (0, 0.5, said[0]),
        (1, 0.6, said[1]),
        (2, 0.5, said[2]),
        (2, 0.5, said[3]),
    ]
    for one, label in zip(waiting, (0, 2, 2, UNLABELLED), strict=True):
        assert journal.settle_check(one.id, label, now=5)
        assert not journal.settle_check(one.id, 1, now=6)
    assert journal.open_checks() == ()
    found = journal.predictions(MODEL, "BTC-USD")
    assert found.hit.tolist() == [True, False, True]
    assert found.confidence.tolist() == [0.5, 0.6, 0.5]
    with pytest.raises(JournalError, match="a check must be of every 15-th minute, found 2023-11-14T22:16Z"):
        check(journal, 1)


def test_checks_never_overlap(journal: Journal) -> None:
    for at in range(0, 600, 15):
        check(journal, at)
    for one in journal.open_checks():
        journal.settle_check(one.id, 2, now=5)
    found = journal.predictions(MODEL, "BTC-USD")
    assert len(found.candle) == 40
    assert thin(found).tolist() == list(range(40))
    np.testing.assert_array_equal(found.known, found.candle + 16 * MINUTE)


def test_a_sample_ends_where_one_is_still_open(journal: Journal) -> None:
    """Trades that are over sooner are other trades: counting them first would be choosing."""
    for at in range(5):
        keep(journal, signal(at), at)
    rows = journal.open_signals()
    for place in (0, 1, 3, 4):
        journal.settle_signal(rows[place].id, dataclasses.replace(WON, hit=place % 2 == 0), now=9)
    assert journal.predictions(MODEL, "BTC-USD", of="signals").hit.tolist() == [True, False]
    journal.settle_signal(rows[2].id, NOTHING, now=9)
    found = journal.predictions(MODEL, "BTC-USD", of="signals")
    assert found.hit.tolist() == [True, False, False, True]  # a label that nobody will ever know does not count
    assert found.candle.tolist() == [START + at * MINUTE for at in (0, 1, 3, 4)]
    assert journal.predictions(MODEL, "BTC-USD", of="signals", since=START + 3 * MINUTE).hit.tolist() == [False, True]
    nobody = journal.predictions(MODEL, "ETH-USD")
    assert [len(column) for column in (nobody.candle, nobody.known, nobody.confidence, nobody.hit)] == [0, 0, 0, 0]


def test_the_newest_come_first(journal: Journal) -> None:
    for at in (5, 1, 3, 2, 4):
        keep(journal, signal(at), at)
        keep(journal, signal(at, symbol="ETH-USD"), at)

    def minutes(*words: str | None, **more: int) -> list[int]:
        return [(one.candle - START) // MINUTE for one in journal.signals(*words, **more)]

    assert minutes() == [5, 5, 4, 4, 3, 3, 2, 2, 1, 1]
    assert minutes("BTC-USD") == minutes("BTC-USD", MODEL) == [5, 4, 3, 2, 1]
    assert minutes(None, "c" * 64) == []
    assert minutes("ETH-USD", since=START + 3 * MINUTE) == [5, 4, 3]
    assert minutes(limit=3) == [5, 5, 4]


@given(st.data())
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_page_by_page_everything_comes_once_in_its_order(journal: Journal, data: st.DataObject) -> None:
    market = f"P{next(NUMBERS)}-USD"  # one database for all examples
    models = [letter * 64 for letter in "abc"]
    said = data.draw(st.lists(st.tuples(st.sampled_from(models), st.integers(0, 6)), unique=True, max_size=15))
    for model, at in said:
        keep(journal, signal(at, symbol=market, model=model, stage=data.draw(st.sampled_from(["live", "shadow"]))), at)
    for one in journal.open_signals(market):
        if data.draw(st.booleans()):
            journal.settle_signal(one.id, data.draw(st.sampled_from([WON, NOTHING])), now=9)
    everything = sorted(journal.signals(market), key=lambda one: (-one.candle, -one.id))
    assert len(everything) == len(said)
    for wanted, fits in (
        ({}, lambda _: True),
        ({"stage": "shadow"}, lambda one: one.stage == "shadow"),
        ({"outcome": "open"}, lambda one: one.outcome is None),
        ({"outcome": "take profit"}, lambda one: one.outcome is not None and one.outcome.outcome == "take profit"),
    ):
        size, before, found = data.draw(st.integers(1, 4)), None, []
        while rows := journal.signals(market, before=before, limit=size, **wanted):
            found += rows
            before = (rows[-1].candle, rows[-1].id)
        assert found == [one for one in everything if fits(one)]
    assert all(journal.signal(one.id) == one for one in everything)
    assert journal.signal(10**9) is None


@given(st.data())
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_confidence_is_counted_like_what_is_thinned_all_at_once_or_bit_by_bit(journal: Journal, data: st.DataObject) -> None:
    market, seen = f"T{next(NUMBERS)}-USD", None
    minutes = sorted(data.draw(st.sets(st.integers(0, 90), min_size=1, max_size=40)))
    for at in minutes:
        keep(journal, signal(at, symbol=market, confidence=data.draw(st.sampled_from([0.5, 0.549, 0.55, 0.7, 1.0]))), at)
    for one in journal.open_signals(market):
        if data.draw(st.integers(0, 9)):
            became = data.draw(st.sampled_from([WON, dataclasses.replace(WON, hit=False), NOTHING]))
            journal.settle_signal(one.id, became, now=9)
        if data.draw(st.booleans()):
            seen = journal.tally.bins(MODEL, market, of="signals", before=seen)
    seen = journal.tally.bins(MODEL, market, of="signals", before=seen)
    known = journal.predictions(MODEL, market, of="signals")
    kept = thin(known)
    for found in (seen, journal.tally.bins(MODEL, market, of="signals")):
        assert (found.given, found.last) == (len(known.candle), known.candle[kept[-1]] if len(kept) else None)
        assert sum(one.n for one in found.counted) == len(kept)
        for one in found.counted:
            inside = (known.confidence[kept] >= one.low) & ((known.confidence[kept] < one.high) | (one.high == 1))
            assert (one.n, one.true) == (inside.sum(), known.hit[kept][inside].sum())
            assert one.said == pytest.approx(known.confidence[kept][inside].mean())


def test_a_model_is_heard_by_what_it_said_of_directions(journal: Journal) -> None:
    assert journal.tally.heard(MODEL, "BTC-USD").highest is None
    for at, shares in ((0, (0.1, 0.8, 0.1)), (15, (0.55, 0.2, 0.25)), (30, (0.2, 0.3, 0.5))):
        check(journal, at, probabilities=shares)
    found = journal.tally.heard(MODEL, "BTC-USD")
    assert (found.checks, found.highest) == (3, 0.55)


def test_every_head_is_found(journal: Journal) -> None:
    assert journal.heads() == frozenset()
    heads = [f"{number:064x}" for number in (7, 7, 200, 3, 3, 15)]
    for at, head in enumerate(["", *heads]):
        keep(journal, signal(at, head=head), at)
    assert journal.heads() == set(heads)


def test_a_message_waits_until_it_is_sent_or_of_no_use(journal: Journal) -> None:
    box = journal.outbox
    assert box.put("late", "t", "b", now=20, until=1_000)
    assert box.put("early", "title ✓", "line\nline", now=10, until=50)
    assert not box.put("early", "other", "other", now=11, until=2_000)
    assert [one.key for one in box.pending(30)] == ["early", "late"]
    assert box.pending(30)[0] == Message(
        key="early", title="title ✓", body="line\nline", until=50, tries=0, created=10, tried=None
    )
    box.failed("early", "503", 31)
    box.failed("early", "cut", 32)
    assert [(one.tries, one.tried) for one in box.pending(33)] == [(2, 32), (0, None)]
    assert [one.key for one in box.pending(50)] == ["late"]
    box.sent("late", 60)
    box.failed("late", "an answer that came after all", 61)
    assert box.pending(49) == box.pending(30)[:1]
    box.sent("late", 62)
    with journal.store.reading() as connection:
        assert tuple(connection.execute(select(outbox.c.sent, outbox.c.tries).where(outbox.c.key == "late")).one()) == (60, 0)
    assert not box.put("late", "t", "b", now=70, until=1_000)  # sent is sent


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_paper_earns_what_a_plain_sum_says(journal: Journal, data: st.DataObject) -> None:
    symbol = f"MARKET-{next(NUMBERS)}"  # the examples share a journal
    price, size, fee = st.integers(1, 10**6), st.integers(1, 50), st.integers(0, 9)
    earned, fees, trades, waiting, won = 0, 0, 0, 0, 0
    for at in range(data.draw(st.integers(0, 5))):
        side, ends = data.draw(st.sampled_from(["LONG", "SHORT"])), data.draw(st.sampled_from([0, 1, 2]))
        keep(journal, signal(at, side=side, symbol=symbol), at)
        number, amount = journal.signals(symbol)[0].id, data.draw(size)
        steps = [(kind, data.draw(price), data.draw(fee)) for kind in ("entry", "exit")[:ends]]
        for kind, paid, costs in steps:
            fill = Fill(signal=number, kind=kind, time=at, price=paid, size=amount, fee=costs)
            assert journal.paper.fill(fill)
            assert not journal.paper.fill(dataclasses.replace(fill, price=1.0))
        assert [(one.kind, one.price, one.fee) for one in journal.paper.fills(number)] == steps
        waiting += ends == 1
        if ends == 2:
            (_, paid, first), (_, got, last) = steps
            one = (1 if side == "LONG" else -1) * (got - paid) * amount - first - last
            earned, fees, trades, won = earned + one, fees + first + last, trades + 1, won + (one > 0)
    found = journal.paper.summary(symbol)
    assert (found.trades, found.open, found.won, found.earned, found.fees) == (trades, waiting, won, earned, fees)


def test_a_fill_belongs_to_a_signal(journal: Journal) -> None:
    with pytest.raises(JournalError, match=r"(?i)foreign key"):
        journal.paper.fill(Fill(signal=5, kind="entry", time=0, price=1.0, size=1.0, fee=0.0))


def test_events_are_kept_newest_first(journal: Journal) -> None:
    said = [Event(time=at, kind="gap", text=f"{at} minutes") for at in (3, 1, 2)]
    said.append(Event(time=2, kind="demoted", text="said too much", symbol="BTC-USD", model_sha256=MODEL))
    for one in said:
        journal.events.add(one)
    assert list(journal.events.newest()) == [said[0], said[3], said[2], said[1]]
    assert list(journal.events.newest(1)) == said[:1]


def test_a_batch_is_kept_whole_or_not_at_all(journal: Journal, address: str) -> None:
    other = open_journal(address)
    with journal.batch():
        assert keep(journal, signal(), 0)
        assert not keep(journal, signal(), 0)
        journal.outbox.put("k", "t", "b", now=1, until=9)
        assert len(journal.signals()) == 1  # it sees what it wrote
        assert (other.signals(), other.outbox.pending(2)) == ((), ())  # others do not, and do not wait
    assert (len(other.signals()), len(other.outbox.pending(2))) == (1, 1)

    def fails() -> None:
        with journal.batch():
            keep(journal, signal(1), 1)
            _ = 1 / 0

    def goes_on_after_an_error() -> None:
        with journal.batch():
            keep(journal, signal(1), 1)
            with pytest.raises(JournalError):
                journal.paper.fill(Fill(signal=999, kind="entry", time=0, price=1.0, size=1.0, fee=0.0))

    with pytest.raises(ZeroDivisionError):
        fails()
    with pytest.raises(JournalError, match="nothing of it was kept"):
        goes_on_after_an_error()
    assert len(other.signals()) == 1
    assert keep(journal, signal(1), 1)  # and it goes on
    other.close()


def test_another_thread_waits_for_the_batch_and_is_no_part_of_it(journal: Journal) -> None:
    begun = threading.Event()

    def notify() -> None:
        begun.set()
        journal.outbox.put("from the other thread", "t", "b", now=1, until=9)

    thread = threading.Thread(target=notify)
    with journal.batch():
        keep(journal, signal(), 0)
        thread.start()
        begun.wait()
        thread.join(0.2)
        assert thread.is_alive()
    thread.join()
    assert len(journal.signals()) == 1
    assert [one.key for one in journal.outbox.pending(2)] == ["from the other thread"]


def test_threads_share_a_journal(journal: Journal) -> None:
    new: list[bool] = []

    def work(number: int) -> None:
        for at in range(20):
            new.append(keep(journal, signal(at), at))
            journal.outbox.put(f"{number} {at}", "t", "b", now=at, until=99)
            journal.signals()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert (len(new), sum(new)) == (120, 20)
    assert len(journal.signals()) == 20
    assert len(journal.outbox.pending(50)) == 120
