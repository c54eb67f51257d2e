import dataclasses
import json
from pathlib import Path

import pytest
from live.worlds import batch_signals, promoted, promoted_of, without
from models import ensemble, market

from crpbot.errors import CandleError, ExchangeError, JournalError, RegistryError
from crpbot.live.clock import ReplayClock
from crpbot.live.desk import Style
from crpbot.live.feed import ReplayFeed
from crpbot.live.guard import Guard
from crpbot.live.health import Health
from crpbot.live.journal import Journal, open_journal
from crpbot.live.loop import PATIENCE, SETTLE, Loop, Setting
from crpbot.live.records import SignalRecord
from crpbot.live.roster import Roster
from crpbot.live.service import Order, Watch, replay
from crpbot.live.states import States
from crpbot.market.candles import MINUTE, Candles
from crpbot.model.subject import subject_of
from crpbot.registry.registry import Registry
from crpbot.signals.ensemble import spoken
from crpbot.signals.follow import Costs
from crpbot.signals.hear import Voice
from crpbot.signals.plan import ATR_PRESET

pytestmark = pytest.mark.slow  # models are trained, hours are played

THRESHOLD = 0.6
STYLE = Style(threshold=THRESHOLD, preset=ATR_PRESET, costs=Costs())
BEGIN = int(market().time[2_600])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def order(home: Path, **more: object) -> Order:
    return Order(home=home, symbols=("BTC-USD",), journal=None, style=STYLE, **more)


def said(journal: Path) -> list[SignalRecord]:
    opened = open_journal(journal)
    found = list(reversed(opened.signals(limit=100_000)))
    opened.close()
    return found


def assert_same(found: list[SignalRecord], wanted: dict[int, object]) -> None:
    assert [one.candle for one in found] == sorted(wanted)
    for one in found:
        there, here = one.said, json.loads(json.dumps(wanted[one.candle].to_dict()))
        for name in ("plan", "probabilities"):
            values, expected = there.pop(name), here.pop(name)
            assert {key: value for key, value in values.items() if isinstance(value, str)} == {
                key: value for key, value in expected.items() if isinstance(value, str)
            }
            for key, value in expected.items():
                assert isinstance(value, str) or values[key] == pytest.approx(value, rel=1e-6, abs=1e-7), key
        assert there.pop("confidence") == pytest.approx(here.pop("confidence"), abs=1e-6)
        assert there.pop("status") in {here.pop("status"), "expired"}
        assert there.pop("disagreement") == pytest.approx(here.pop("disagreement"), abs=1e-6)
        there.pop("reason"), here.pop("reason")
        assert there == here


def later(candles: Candles, by: int = 12_000) -> Candles:
    """Return the same candles, some minutes later: after the model was promoted."""
    return dataclasses.replace(candles, time=candles.time + by * MINUTE)


class World:
    """A loop whose every part is at hand."""

    def __init__(self, home: Path, candles: Candles, *, start: int, feed: object | None = None) -> None:
        self.registry, self.clock = Registry(home / "registry"), ReplayClock(start)
        self.journal: Journal = open_journal(home / "journal.db")
        self.told: list[tuple[str, str, str]] = []
        self.feed = feed or ReplayFeed({"BTC-USD": candles}, self.clock)
        roster = Roster(self.registry, self.journal, ("BTC-USD",), style=STYLE, find_rules=None)
        self.guard = Guard(self.registry, self.journal, self.tell, binding=True)
        self.loop = Loop(
            self.feed, self.clock, roster, self.journal, self.guard, States(home / "live"), self.tell, Setting(paper=True)
        )

    def tell(self, key: str, title: str, body: str, *, until: int) -> bool:  # noqa: ARG002
        new = key not in [one for one, _, _ in self.told]
        self.told += [(key, title, body)] * new
        return new

    def play(self, until: int) -> Health:
        """Run turns until the clock says so."""
        while self.clock.now() < until:
            behind = self.loop.turn()
            self.loop.health()
            if not behind:
                self.feed.wait(self.loop._wake())
        return self.loop.health()


def test_a_replay_says_exactly_what_the_batch_path_says(tmp_path: Path, models: Path) -> None:
    registry = promoted(tmp_path, models)
    candles = market()[:3_400]
    heard, healths = [], []
    watch = Watch(signal=heard.append, health=healths.append)
    replay(order(tmp_path), {"BTC-USD": candles}, speed=0, start=BEGIN, watch=watch)
    wanted = batch_signals(registry, candles, threshold=THRESHOLD, since=BEGIN)
    found = said(tmp_path / "replay.db")
    assert len(found) > 100
    assert_same(found, wanted)
    assert [one.status for one in found] == ["signal"] * len(found)
    assert len(heard) == len(found)
    assert healths[-1].well
    assert all(one.outcome is not None for one in found if one.candle < candles.time[-60])


@pytest.mark.parametrize("speed", [0.0, 600.0, 36_000.0])
def test_a_replay_takes_its_last_candle_however_fast_it_is(tmp_path: Path, models: Path, speed: float) -> None:
    """Work takes time, in which the clock of a fast recording goes far: what has closed meanwhile is taken all the same."""
    promoted(tmp_path, models)
    candles, healths = market()[:2_605], []
    replay(order(tmp_path), {"BTC-USD": candles}, speed=speed, start=BEGIN, watch=Watch(health=healths.append))
    last = healths[-1]
    assert last.time == candles.time[-1] + MINUTE + SETTLE
    assert last.markets["BTC-USD"].candle == candles.time[-1]
    assert last.well, last


def test_a_replay_is_silent_where_the_members_of_an_ensemble_disagree(tmp_path: Path) -> None:
    candles = market(rows=5_000)
    registry = promoted_of(ensemble(most=0.12), candles, tmp_path)
    (entry,) = registry.entries()
    start = int(candles.time[-250])
    replay(order(tmp_path), {"BTC-USD": candles}, speed=0, start=start, watch=Watch())
    found = said(tmp_path / "replay.db")
    assert_same(found, batch_signals(registry, candles, threshold=THRESHOLD, since=start))
    speaker = registry.speaker(entry)
    voice = Voice(subjects=(subject_of(speaker),), weights=None, label_recipe=speaker.recipe)
    rows = voice.unseen(candles)
    heard = voice.hear(candles, rows[candles.time[rows] >= start])
    sign, _ = spoken(heard.probabilities, threshold=THRESHOLD)
    apart = {int(candles.time[row]) for row in heard.rows[(sign != 0) & ~heard.agreed]}
    together = {int(candles.time[row]) for row in heard.rows[(sign != 0) & heard.agreed]}
    assert apart
    assert found
    assert {one.candle for one in found} <= together
    assert all(one.said["disagreement"] <= 0.12 for one in found)


def test_a_recording_is_spoken_of_from_the_first_candle_on_that_batch_speaks_of(tmp_path: Path, models: Path) -> None:
    registry = promoted(tmp_path, models)
    candles = market()[:700]
    replay(order(tmp_path), {"BTC-USD": candles}, speed=0, watch=Watch())
    wanted = batch_signals(registry, candles, threshold=THRESHOLD, since=0)
    assert_same(said(tmp_path / "replay.db"), wanted)
    assert min(wanted) < candles.time[300]
    with pytest.raises(CandleError, match="must be longer than the 258 candles"):
        replay(order(tmp_path), {"BTC-USD": candles[:258]}, speed=0, watch=Watch())


def test_a_hole_is_waited_for_and_then_it_is_a_gap_as_in_batch(tmp_path: Path, models: Path) -> None:
    registry = promoted(tmp_path, models)
    hole = {BEGIN + minute * MINUTE for minute in (100, 101, 140)}
    candles = without(market()[:3_100], hole)
    replay(order(tmp_path), {"BTC-USD": candles}, speed=0, start=BEGIN, watch=Watch())
    found = said(tmp_path / "replay.db")
    wanted = batch_signals(registry, candles, threshold=THRESHOLD, since=BEGIN)
    assert len(found) > 50
    assert_same(found, wanted)
    assert not [one for one in found if BEGIN + 100 * MINUTE <= one.candle < BEGIN + (140 + 200) * MINUTE]
    looked_over_it = [one for one in found if 85 <= (one.candle - BEGIN) // MINUTE < 100]
    assert looked_over_it
    assert {one.outcome.label for one in looked_over_it} == {None}


class Late(ReplayFeed):
    """A venue that publishes some candles late, by so many milliseconds after their close, and fails now and then."""

    def __init__(
        self, markets: dict[str, Candles], clock: ReplayClock, *, late: dict[int, int], down: set[int] = frozenset()
    ) -> None:
        super().__init__(markets, clock)
        self.late, self.down = late, down

    def fetch(self, spans):
        now = self._clock.now()
        if now // MINUTE in self.down:
            return {symbol: ExchangeError("the venue must answer, found 503; later") for symbol in spans}
        answers = super().fetch(spans)
        return {
            symbol: without(part, {time for time, late in self.late.items() if now < time + MINUTE + late})
            for symbol, part in answers.items()
        }


def test_a_late_candle_is_waited_for_and_nobody_speaks_before_it(tmp_path: Path, models: Path) -> None:
    registry = promoted(tmp_path, models)
    candles = market()[:2_800]
    world = World(tmp_path, candles, start=BEGIN)
    late = {BEGIN + minute * MINUTE: late for minute, late in {20: 30_000, 40: 80_000, 60: 55_000, 61: 70_000}.items()}
    down = {(BEGIN // MINUTE) + 90 + minute for minute in range(10)}
    world.feed = world.loop._feed = Late({"BTC-USD": candles}, world.clock, late=late, down=down)
    health = world.play(int(candles.time[-1]) + MINUTE + SETTLE + 1)
    found = list(reversed(world.journal.signals(limit=1_000)))
    assert_same(found, batch_signals(registry, candles, threshold=THRESHOLD, since=BEGIN))
    assert health.counts.gaps == 0
    assert health.counts.errors >= 10
    assert health.well
    at = {one.candle: one for one in found}
    for minute in (20, 40, 41):
        one = at.get(BEGIN + minute * MINUTE)
        if one is not None:
            assert one.recorded - one.candle - MINUTE >= {20: 30_000, 40: 80_000, 41: 20_000}[minute]
    during = [one for one in found if 89 <= (one.candle - BEGIN) // MINUTE < 97]
    assert {one.status for one in during} == {"expired"}  # found when it was too late to follow
    assert not [key for key, _, _ in world.told if any(str(one.candle) in key for one in during)]
    assert "stale" in " ".join(key for key, _, _ in world.told)


def test_a_candle_that_comes_after_its_minute_was_given_up_changes_nothing(tmp_path: Path, models: Path) -> None:
    promoted(tmp_path, models)
    candles = market()[:2_900]
    world = World(tmp_path, candles, start=BEGIN)
    lost = BEGIN + 20 * MINUTE
    world.feed = world.loop._feed = Late({"BTC-USD": candles}, world.clock, late={lost: PATIENCE + 5 * MINUTE})
    world.play(int(candles.time[-1]) + MINUTE + SETTLE + 1)
    assert world.loop.counts.gaps == 1
    found = world.journal.signals(limit=1_000)
    assert not [one for one in found if lost <= one.candle < lost + 200 * MINUTE]  # it warms up again


def test_a_restart_goes_on_and_says_nothing_twice(tmp_path: Path, models: Path) -> None:
    registry = promoted(tmp_path, models)
    candles = market()[:3_000]
    for stop in (2_650, 2_790, 3_000):
        start = BEGIN if stop == 2_650 else int(candles.time[stop - 100])  # it was away for 40 minutes
        world = World(tmp_path, candles, start=start)
        world.play(int(candles.time[stop - 1]) + MINUTE + SETTLE + 1)
        world.loop._save("BTC-USD")
        world.journal.close()
    found = said(tmp_path / "journal.db")
    assert_same(found, batch_signals(registry, candles, threshold=THRESHOLD, since=BEGIN))
    assert [one for one in found if one.status == "expired"]
    assert len({one.candle for one in found}) == len(found)


def test_a_state_that_is_damaged_or_too_old_is_not_used(tmp_path: Path, models: Path) -> None:
    promoted(tmp_path, models)
    file = tmp_path / "live" / "BTC-USD.json"
    world = World(tmp_path, market(), start=BEGIN)
    world.play(BEGIN + 5 * MINUTE)
    world.loop._save("BTC-USD")
    honest = file.read_text()
    for text in ("", "{", honest.replace("crpbot.live-market/1", "x"), honest.replace('"kept": [[', '"kept": [["x", ')):
        file.write_text(text)
        again = World(tmp_path, market(), start=BEGIN + 10 * MINUTE)
        again.loop.turn()
        assert again.loop._desks["BTC-USD"].next == BEGIN + 10 * MINUTE  # history, up to now
    file.write_text(honest)
    again = World(tmp_path, market(), start=BEGIN + 2_600 * MINUTE)
    again.loop.turn()
    assert again.loop._desks["BTC-USD"].next == BEGIN + 2_600 * MINUTE


# Who speaks


def test_a_promotion_and_a_rollback_are_taken_at_the_next_candle(tmp_path: Path, models: Path) -> None:
    registry = promoted(tmp_path, models)
    world = World(tmp_path, market(), start=BEGIN)
    world.play(BEGIN + 30 * MINUTE)
    promoted(tmp_path, models, epochs=3)
    world.play(BEGIN + 60 * MINUTE)
    registry.rollback("BTC-USD", now=0)
    world.play(BEGIN + 90 * MINUTE)
    found = list(reversed(world.journal.signals(limit=1_000)))
    by = [(one.model_sha256[:4], one.ledger_head[:4]) for one in found]
    old, new, back = list(dict.fromkeys(by))
    assert (old[0], new[0]) == (back[0], new[0])
    assert old[0] != new[0]
    assert len({head for _, head in (old, new, back)}) == 3
    served = [one.text for one in world.journal.events.newest(100) if one.kind == "serves"]
    assert len(served) == 3
    first = next(one for one in found if one.model_sha256[:4] == new[0])
    assert first.candle - (BEGIN + 30 * MINUTE) <= 10 * MINUTE  # no warm-up: the inputs are the same


def test_an_altered_ledger_silences_everybody_until_it_is_whole_again(tmp_path: Path, models: Path) -> None:
    registry = promoted(tmp_path, models)
    world = World(tmp_path, market(), start=BEGIN)
    world.play(BEGIN + 20 * MINUTE)
    honest = registry.path.read_text()
    registry.path.write_text(honest.replace('"who": "', '"who": "x'))
    health = world.play(BEGIN + 40 * MINUTE)
    assert not health.well
    assert "altered" in health.problems[0]
    assert "ill:registry" in world.told[-1][0]
    registry.path.write_text(honest + "\n"[:0])
    world.play(BEGIN + 60 * MINUTE)
    found = {(one.candle - BEGIN) // MINUTE: one.status for one in world.journal.signals(limit=1_000)}
    assert {status for minute, status in found.items() if 20 < minute < 38} == {"expired"}  # found afterwards, told to nobody
    assert {status for minute, status in found.items() if minute > 40} == {"signal"}
    assert world.loop.health().well


def test_a_rewritten_ledger_is_seen_by_what_was_said_under_the_old_one(tmp_path: Path, models: Path) -> None:
    registry = promoted(tmp_path, models)
    world = World(tmp_path, market(), start=BEGIN)
    world.play(BEGIN + 20 * MINUTE)
    (line,) = registry.lines()
    forged = dataclasses.replace(line, who="nobody").sealed()
    registry.path.unlink()
    registry._ledger.append(forged)
    assert registry.entries()  # the chain itself is whole
    world.play(BEGIN + 22 * MINUTE)
    assert "rewritten" in world.loop.health().problems[0]
    with pytest.raises(RegistryError, match="rewritten or cut"):
        replay(
            order(
                tmp_path,
            ),
            {"BTC-USD": market()},
            speed=0,
            watch=Watch(),
        ) if False else Roster(registry, world.journal, (), style=STYLE, find_rules=None).read()


def test_an_altered_model_is_silent_while_others_may_speak(tmp_path: Path, models: Path) -> None:
    registry = promoted(tmp_path, models)
    (entry,) = registry.entries()
    path = registry.deployed(entry)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b" ")
    world = World(tmp_path, market(), start=BEGIN)
    health = world.play(BEGIN + 3 * MINUTE)
    assert "must be what was kept" in health.markets["BTC-USD"].problem
    assert not world.journal.signals()


def test_confidence_that_does_not_come_true_sends_a_model_back_to_shadow_and_people_are_told(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crpbot.model.checkpoint import Checkpoint, Prediction

    honest = Checkpoint.predict

    def reversed_(self: Checkpoint, x: object) -> Prediction:
        found = honest(self, x)
        return Prediction(found.logits[:, ::-1], found.probabilities[:, ::-1])

    monkeypatch.setattr(Checkpoint, "predict", reversed_)
    registry = promoted(tmp_path, models)
    candles = later(market())
    world = World(tmp_path, candles, start=int(candles.time[2_600]))
    while registry.entries()[0].stage == "live" and world.clock.now() < int(candles.time[-1]):
        world.play(world.clock.now() + 60 * MINUTE)
    (entry,) = registry.entries()
    assert entry.stage == "shadow"
    assert "is not honest any more" in entry.reason
    assert registry.lines()[-1].who == "crpbot live"
    assert [body for key, _, body in world.told if key.startswith("distrust:")] == [entry.reason]
    world.play(world.clock.now() + 30 * MINUTE)
    assert world.journal.signals(limit=1)[0].stage == "shadow"
    before = len([key for key, _, _ in world.told if key.startswith("signal:")])
    world.play(world.clock.now() + 30 * MINUTE)
    assert len([key for key, _, _ in world.told if key.startswith("signal:")]) == before  # rehearsals are not told


def test_an_honest_model_is_left_alone(tmp_path: Path, models: Path) -> None:
    registry = promoted(tmp_path, models)
    candles = later(market())
    start = int(candles.time[2_600])
    world = World(tmp_path, candles, start=start)
    world.play(start + 1_200 * MINUTE)
    assert world.guard.evidence["BTC-USD", "live", "signals"] < 100
    assert registry.entries()[0].stage == "live"
    assert not [key for key, _, _ in world.told if not key.startswith(("signal:", "stale:", "expire"))]


def test_a_live_model_that_expires_is_silent_and_people_are_told_three_days_ahead(tmp_path: Path, models: Path) -> None:
    registry = promoted(tmp_path, models)
    (entry,) = registry.entries()
    start = entry.expires - 180 * MINUTE
    candles = later(market()[:3_000], (start - BEGIN) // MINUTE)
    world = World(tmp_path, candles, start=start)
    world.play(start + 70 * MINUTE)
    assert [key.split(":")[0] for key, _, _ in world.told if key.startswith("expire")] == ["expires"]
    world.play(int(candles.time[-1]) + MINUTE)
    assert max(one.candle for one in world.journal.signals(limit=10)) + MINUTE <= entry.expires
    assert [key.split(":")[0] for key, _, _ in world.told if key.startswith("expire")] == ["expires", "expired"]


# What is written down


def test_what_cannot_be_written_is_kept_and_written_later(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    registry = promoted(tmp_path, models)
    candles = market()[:2_800]
    world = World(tmp_path, candles, start=BEGIN)
    world.play(BEGIN + 30 * MINUTE)
    with monkeypatch.context() as away:

        def gone(*_: object) -> None:
            raise JournalError("the journal must be there, found the server gone; start it")

        away.setattr(type(world.journal.store), "writing", gone)
        health = world.play(BEGIN + 60 * MINUTE)
        assert not health.well
        assert health.counts.unwritten
    health = world.play(int(candles.time[-1]) + MINUTE + SETTLE + 1)
    assert health.well
    assert health.counts.unwritten == 0
    found = list(reversed(world.journal.signals(limit=1_000)))
    assert_same(found, batch_signals(registry, candles, threshold=THRESHOLD, since=BEGIN))


def test_paper_trades_are_those_of_a_backtest(tmp_path: Path, models: Path) -> None:
    from crpbot.signals.follow import follow, one_at_a_time, timing_of
    from crpbot.signals.plan import make_plans

    registry = promoted(tmp_path, models)
    candles = market()[:3_400]
    for stop in (3_000, 3_400):  # with a restart in between
        start = BEGIN if stop == 3_000 else int(candles.time[3_000])
        world = World(tmp_path, candles, start=start)
        world.play(int(candles.time[stop - 1]) + MINUTE + SETTLE + 1)
        world.loop._save("BTC-USD")
    import numpy as np

    found = list(reversed(world.journal.signals(limit=10_000)))
    rows = np.searchsorted(candles.time, [one.candle for one in found])
    plans = make_plans(
        np.array([1 if one.side == "LONG" else -1 for one in found], np.int8),
        center=candles.close[rows],
        atr=np.array([(abs(one.plan.entry - one.plan.stop_loss)) / 1.5 for one in found]),
        price=candles.close[rows],
    )
    (entry,) = registry.entries()
    timing = timing_of(ATR_PRESET, registry.speaker(entry).label.rule)
    followed = follow(candles, rows, plans, timing)
    chosen = one_at_a_time(rows, followed.free) & followed.filled
    last = int(candles.time[-1]) - 60 * MINUTE
    wanted = {
        found[place].candle: followed.net_money(Costs())[place] for place in np.flatnonzero(chosen) if found[place].candle < last
    }
    traded = {one.candle: world.journal.paper.fills(one.id) for one in found if one.candle < last}
    traded = {candle: fills for candle, fills in traded.items() if fills}
    assert sorted(traded) == sorted(wanted)
    sides = {one.candle: 1 if one.side == "LONG" else -1 for one in found}
    for candle, (entered, left) in traded.items():
        earned = sides[candle] * (left.price - entered.price) * entered.size - entered.fee - left.fee
        assert earned == pytest.approx(wanted[candle], rel=1e-6, abs=1e-6)
    assert len(wanted) > 15


# What went wrong once


def wait_for(world: World, minute: int) -> Health:
    return world.play(BEGIN + minute * MINUTE)


def test_an_end_in_the_middle_of_a_turn_saves_nothing_that_was_not_written(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = promoted(tmp_path, models)
    candles = market()[:2_700]
    world = World(tmp_path, candles, start=BEGIN)
    wait_for(world, 30)
    with monkeypatch.context() as interrupted:

        def ctrl_c(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        interrupted.setattr(type(world.loop._scribe), "write", ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            world.loop.run()
    again = World(tmp_path, candles, start=world.clock.now())
    again.play(int(candles.time[-1]) + MINUTE + SETTLE + 1)
    found = list(reversed(again.journal.signals(limit=1_000)))
    assert_same(found, batch_signals(registry, candles, threshold=THRESHOLD, since=BEGIN))


def test_an_outage_of_hours_loses_no_signal_and_no_outcome(tmp_path: Path, models: Path) -> None:
    registry = promoted(tmp_path, models)
    candles = market()[:3_400]
    world = World(tmp_path, candles, start=BEGIN)
    down = {(BEGIN // MINUTE) + 60 + minute for minute in range(600)}
    world.feed = world.loop._feed = Late({"BTC-USD": candles}, world.clock, late={}, down=down)
    world.play(int(candles.time[-1]) + MINUTE + SETTLE + 1)
    found = list(reversed(world.journal.signals(limit=1_000)))
    assert_same(found, batch_signals(registry, candles, threshold=THRESHOLD, since=BEGIN))
    settled = [one for one in found if one.candle < candles.time[-60]]
    assert settled
    assert {one.outcome is not None and one.outcome.label is not None for one in settled} == {True}
    late = {one.id for one in found if one.status == "expired"}
    assert late
    assert not [one for one in late if world.journal.paper.fills(one)]  # nobody could follow them


def test_another_model_does_not_take_the_candles_away_that_open_signals_look_at(tmp_path: Path, models: Path) -> None:
    registry = promoted(tmp_path, models)
    world = World(tmp_path, market(), start=BEGIN)
    wait_for(world, 40)
    registry.retire(registry.entries()[0], now=0, why="to see what becomes of what it said")
    wait_for(world, 200)
    assert world.loop.health().markets["BTC-USD"].problem == "no model of it is live or in shadow"
    found = world.journal.signals(limit=1_000)
    assert found
    assert all(one.outcome is not None and one.outcome.label is not None for one in found)
    assert max(one.candle for one in found) <= BEGIN + 40 * MINUTE


def test_a_second_replay_says_the_same_as_the_first(tmp_path: Path, models: Path) -> None:
    promoted(tmp_path, models)
    counts = []
    for _ in range(2):
        healths: list[Health] = []
        replay(order(tmp_path), {"BTC-USD": market()[:2_700]}, speed=0, start=BEGIN, watch=Watch(health=healths.append))
        counts.append(healths[-1].counts)
    assert counts[0] == counts[1]
    assert counts[0].signals > 20
    with pytest.raises(JournalError, match="a journal of its own"):
        replay(
            dataclasses.replace(order(tmp_path), journal=str(tmp_path / "journal.db")),
            {"BTC-USD": market()},
            speed=0,
            watch=Watch(),
        )


def test_inputs_of_a_new_model_wait_for_history_however_long_the_venue_is_away(tmp_path: Path, models: Path) -> None:
    registry = promoted(tmp_path, models)
    candles = market()[:3_100]
    world = World(tmp_path, candles, start=BEGIN)
    wait_for(world, 20)
    desk = world.loop._desks["BTC-USD"]
    desk._inputs.clear()  # as when another feature set is promoted
    down = {(BEGIN // MINUTE) + 20 + minute for minute in range(15)}
    world.feed = world.loop._feed = Late({"BTC-USD": candles}, world.clock, late={}, down=down)
    world.loop._roster.forget()
    assert "it waits for history" in wait_for(world, 30).markets["BTC-USD"].problem
    world.play(int(candles.time[-1]) + MINUTE + SETTLE + 1)
    wanted = batch_signals(registry, candles, threshold=THRESHOLD, since=BEGIN)
    found = {one.candle for one in world.journal.signals(limit=1_000)}
    assert {candle for candle in wanted if candle > BEGIN + 36 * MINUTE} <= found


def test_inputs_that_a_saved_state_does_not_know_are_given_history(tmp_path: Path, models: Path) -> None:
    """Another feature set was promoted while nobody ran."""
    registry = promoted(tmp_path, models)
    candles = market()[:2_800]
    world = World(tmp_path, candles, start=BEGIN)
    wait_for(world, 20)
    world.loop._save("BTC-USD")
    file = tmp_path / "live" / "BTC-USD.json"
    state = json.loads(file.read_text())
    state["desk"]["inputs"] = []
    file.write_text(json.dumps(state))
    again = World(tmp_path, candles, start=world.clock.now() + MINUTE)
    again.play(int(candles.time[-1]) + MINUTE + SETTLE + 1)
    found = list(reversed(again.journal.signals(limit=1_000)))
    assert_same(found, batch_signals(registry, candles, threshold=THRESHOLD, since=BEGIN))


class Skewed(ReplayFeed):
    """A venue that tells its time."""

    skew: float | None = None

    def fetch(self, spans):
        self.skew = (self.true - self._clock.now()) / 1_000 if self.true is not None else None
        limit = self.true // MINUTE * MINUTE if self.true is not None else None
        answers = super().fetch(spans)
        return {symbol: part if limit is None else part[: int(part.time.searchsorted(limit))] for symbol, part in answers.items()}

    true: int | None = None


def test_a_clock_that_jumps_ahead_and_is_set_right_loses_nothing(tmp_path: Path, models: Path) -> None:
    registry = promoted(tmp_path, models)
    candles = market()[:2_900]
    world = World(tmp_path, candles, start=BEGIN)
    world.feed = world.loop._feed = feed = Skewed({"BTC-USD": candles}, world.clock)
    wait_for(world, 30)
    right = world.clock.now()
    feed.true = right
    world.clock._start += 5 * 1440 * MINUTE
    for _ in range(4):
        world.loop.turn()
    assert "the venue's clock is" in " ".join(world.loop.health().problems)
    world.loop._save("BTC-USD")
    world.clock._start = right
    feed.true = None
    feed.skew = 0.0
    world.play(int(candles.time[-1]) + MINUTE + SETTLE + 1)
    found = list(reversed(world.journal.signals(limit=1_000)))
    assert [one.candle for one in found] == sorted(batch_signals(registry, candles, threshold=THRESHOLD, since=BEGIN))


def test_with_a_clock_that_is_behind_nothing_stale_is_told(tmp_path: Path, models: Path) -> None:
    promoted(tmp_path, models)
    world = World(tmp_path, market()[:2_700], start=BEGIN)
    world.feed = world.loop._feed = feed = Skewed({"BTC-USD": market()[:2_700]}, world.clock)
    feed.fetch = lambda spans: ReplayFeed.fetch(feed, spans)
    feed.skew = 1_200.0
    health = wait_for(world, 60)
    assert not health.well
    assert {one.status for one in world.journal.signals(limit=1_000)} == {"expired"}
    assert not [key for key, _, _ in world.told if key.startswith("signal:")]


def test_a_journal_that_does_not_answer_is_asked_once_a_turn(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted(tmp_path, models)
    world = World(tmp_path, market(), start=BEGIN)
    wait_for(world, 100)
    asked = []

    def gone(*_: object) -> None:
        asked.append(world.clock.now())
        raise JournalError("the journal must do what it is asked, found it locked")

    with monkeypatch.context() as away:
        away.setattr(type(world.journal.store), "writing", gone)
        health = wait_for(world, 160)
    assert "locked" in health.problems[0]
    assert len(set(asked)) == len(asked)


def test_what_is_not_well_is_not_called_well(tmp_path: Path, models: Path) -> None:
    registry = promoted(tmp_path, models)
    world = World(tmp_path, market(), start=BEGIN)
    assert wait_for(world, 5).well
    world.loop._roster.symbols = ("BTC-USD", "ETH-USD")
    assert world.loop.health().markets["ETH-USD"].problem == "no model of it is live or in shadow"
    registry.retire(registry.entries()[0], now=0, why="x")
    world.loop._roster.symbols = ("BTC-USD",)
    assert not wait_for(world, 10).well


def test_history_that_ends_before_the_start_is_not_spoken_of(tmp_path: Path, models: Path) -> None:
    registry = promoted(tmp_path, models)
    candles = market()[:2_750]
    world = World(tmp_path, candles, start=BEGIN)
    world.loop._setting = Setting(history=lambda _: market()[:2_000])  # it ends ten hours before
    world.play(int(candles.time[-1]) + MINUTE + SETTLE + 1)
    found = list(reversed(world.journal.signals(limit=10_000)))
    assert_same(found, batch_signals(registry, candles, threshold=THRESHOLD, since=BEGIN))


def test_one_runtime_at_a_time_works_in_a_home(tmp_path: Path) -> None:
    from crpbot.live.service import _alone

    with _alone(tmp_path / "live"), pytest.raises(RegistryError, match="one runtime at a time"), _alone(tmp_path / "live"):
        pass
    with _alone(tmp_path / "live"):
        pass


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # a library of Apprise's
def test_messages_that_nobody_takes_are_a_trouble_that_health_tells_without_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket
    import time

    from crpbot.live.clock import SystemClock
    from crpbot.live.service import _notifying

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # nobody listens there
        monkeypatch.setenv("CRPBOT_NOTIFY", f"json://anna:Hunter2Secret@127.0.0.1:{closed.getsockname()[1]}/")
        journal, clock = open_journal(tmp_path / "journal.db"), SystemClock()
        with _notifying(journal, clock) as (tell, trouble):
            assert trouble() == ""
            tell("key", "LONG BTC-USD", "at 60,000", until=clock.now() + 600_000)
            began = time.monotonic()
            while not trouble() and time.monotonic() - began < 30:
                time.sleep(0.05)
            assert trouble().startswith("1 messages wait to be delivered: json")
            assert "Hunter2Secret" not in trouble()
        journal.close()
