"""What following a model would have earned: the very plans of signals, on rows it has not seen, told as it is."""

import dataclasses
import json
from functools import cache

import numpy as np
import pytest
from models import ensemble, market, model
from strategies import walk

from crpbot.dataset.labels import DOWN, UP
from crpbot.errors import DatasetError, PlanError
from crpbot.factory import diagnose
from crpbot.market.candles import MINUTE, Candles, utc
from crpbot.model.pt_file import save_checkpoint
from crpbot.model.subject import Subject, function_subject, subject_of
from crpbot.quality.rows import Block
from crpbot.signals.backtest import Backtest, backtest
from crpbot.signals.backtest_page import backtest_page
from crpbot.signals.backtest_report import sentence, table, to_dict, trades
from crpbot.signals.earnings import Sample, drawdown, throw_coins
from crpbot.signals.follow import Costs, Timing, follow
from crpbot.signals.plan import make_plans
from crpbot.signals.rules import MarketRules
from crpbot.signals.signal import newest_signal
from crpbot.signals.threshold import by_accuracy, by_value, read_choice

pytestmark = pytest.mark.slow  # trains a model

CENT = MarketRules(tick=0.01, lot=1e-4)


@cache
def followed(*, several: bool = False, threshold: float | str = 0.60) -> Backtest:
    return backtest(
        [subject_of(model())], market(), threshold=threshold, several=several, rules=CENT,
        names=["a <model>"], symbol="BTC-USD", source="synthetic",
    )  # fmt: skip


def test_the_plans_are_the_very_ones_that_a_signal_shows() -> None:
    found, candles = followed(), market()
    made = np.flatnonzero(found.made)
    for i in made[:: max(1, len(made) // 6)]:
        row = int(found.trades.rows[i])
        closed = int(candles.time[row]) + MINUTE
        signal = newest_signal(model(), candles[: row + 1], stage="live", now=closed, rules=CENT)
        assert signal.status == "signal"
        assert signal.confidence == pytest.approx(found.confidence[i], abs=1e-6)
        for name in ("entry", "stop_loss", "take_profit", "size", "zone_low", "zone_high"):
            assert getattr(found.trades.plans, name)[i] == pytest.approx(getattr(signal.plan, name), rel=1e-12)


def test_only_rows_that_the_model_has_not_seen_are_followed() -> None:
    found, origin = followed(), model().origin
    assert found.first >= origin.unseen_from
    assert found.about.out_of_sample == "yes"
    seen = market()[: int(np.searchsorted(market().time, origin.unseen_from)) + 50]
    with pytest.raises(DatasetError) as refused:
        backtest([subject_of(model())], seen)
    assert str(refused.value).startswith("a backtest needs at least 100 rows that the model has not seen, from ")


def test_the_refusal_is_that_of_a_diagnosis(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("model") / "model.pt"
    save_checkpoint(model(), file, probe=np.ones((2, 72)))
    with pytest.raises(DatasetError) as theirs:
        diagnose(file, market()[:9_000])
    with pytest.raises(DatasetError) as ours:
        backtest([subject_of(model())], market()[:9_000])
    assert str(ours.value).split(" rows ")[1].split("; found")[0] == str(theirs.value).split(" rows ")[1].split("; found")[0]


def test_cutting_off_the_future_changes_no_trade_that_has_ended() -> None:
    whole, cut = followed(), len(market()) - 700
    part = backtest([subject_of(model())], market()[:cut], rules=CENT)
    ended = [one for one in trades(whole) if one["ended"] < utc(int(market().time[cut - 1]))]
    assert ended
    assert trades(part)[: len(ended)] == ended


@pytest.mark.parametrize("how", ["selective", "value"])
def test_a_threshold_is_chosen_without_a_look_at_the_rows_it_is_shown_on(how: str) -> None:
    """Another future, from the first unseen row on, leaves it where it is."""
    candles, start = market(), int(np.searchsorted(market().time, model().origin.unseen_from))
    other = walk(len(candles) - start, seed=5, level=float(candles.close[start - 1]))
    columns = (
        np.concatenate([getattr(candles, c)[:start], getattr(other, c)]) for c in ("open", "high", "low", "close", "volume")
    )
    changed = Candles(candles.time, *columns)
    found = backtest([subject_of(model())], changed, threshold=how, rules=CENT)
    assert found.threshold == followed(threshold=how).threshold


def test_a_threshold_cannot_be_chosen_where_the_model_was_not_calibrated() -> None:
    subject = subject_of(model())
    later = market()[1_000:]
    with pytest.raises(PlanError, match="only on the very rows that a model was calibrated on"):
        backtest([subject], later, threshold="selective")
    with pytest.raises(PlanError, match="only a model of ours has a calibration block"):
        backtest([guess(0.7)], market(), threshold="value")


def guess(up: float) -> Subject:
    """Return a model that always says the same."""
    return function_subject(lambda x: np.tile([0.9 - up, 0.1, up], (len(x), 1)), features=("returns",))


def test_nobody_knows_what_a_foreign_model_has_seen() -> None:
    found = backtest([guess(0.7)], market())
    assert found.about.out_of_sample == "unknown"
    assert "Nobody knows whether the model had seen" in sentence(found)
    assert set(found.trades.plans.sign.tolist()) == {1}


def test_several_models_are_followed_as_their_average() -> None:
    both = backtest([guess(0.8), guess(0.5)], market(), weights=[1, 2])
    assert both.confidence == pytest.approx(0.6)
    twice = backtest([subject_of(model())] * 2, market(), rules=CENT)
    assert twice.net == followed().net


@pytest.mark.parametrize("several", [False, True])
def test_the_books_balance(*, several: bool) -> None:
    """The account at the end is the start and what every trade earned; at every close it is that and what open ones are worth."""
    found, account = followed(several=several), 10_000.0
    costs, t, taken = found.terms.costs, found.trades, found.taken
    money = t.net_money(costs)[taken]
    assert found.equity[-1] == pytest.approx(account + money.sum())
    assert found.net.money == pytest.approx(money.sum())
    assert found.free_equity[-1] == pytest.approx(account + found.gross.money)
    paid, _ = t.paid_and_got(costs)
    for row in range(found.start, found.start + len(found.time), 97):
        worth = account
        for i in np.flatnonzero(taken):
            if t.exit_row[i] <= row:
                worth += t.net_money(costs)[i]
            elif t.entry_row[i] <= row:
                move = t.plans.sign[i] * (market().close[row] - paid[i])
                worth += t.plans.size[i] * (move - costs.fee_bp / 1e4 * paid[i])
        assert found.equity[row - found.start] == pytest.approx(worth)
    inside = np.zeros(len(found.time), bool)
    for i in np.flatnonzero(taken):
        inside[t.entry_row[i] - found.start : t.exit_row[i] - found.start + 1] = True
    assert found.exposure == pytest.approx(inside.mean())
    assert found.net.won == pytest.approx((money > 0).mean())
    assert found.net.profit_factor == pytest.approx(money[money > 0].sum() / -money[money < 0].sum())
    assert (found.most_open > 1) == several
    if not several:
        order = np.flatnonzero(taken)
        assert (t.rows[order[1:]] >= t.exit_row[order[:-1]]).all()


def priced(costs: Costs) -> Backtest:
    return backtest([subject_of(model())], market(), rules=CENT, costs=costs)


def test_costs_take_what_they_say() -> None:
    """Fees alone take twice the fee from every trade, but for the little that the price has moved."""
    free = followed()
    fees = backtest([subject_of(model())], market(), rules=CENT, costs=Costs(fee_bp=10, slippage_bp=0))
    taken = fees.gross.expectancy.value - fees.net.expectancy.value
    assert taken == pytest.approx(20, abs=0.1)
    assert fees.gross == free.gross
    assert free.net.expectancy.value < fees.net.expectancy.value
    nothing = backtest([subject_of(model())], market(), rules=CENT, costs=Costs(fee_bp=0, slippage_bp=0))
    assert nothing.net == nothing.gross


def test_level_noise_is_foreseen_and_says_what_it_is() -> None:
    found = followed()
    s = found.spoken
    assert 0.60 <= s.median <= 0.85
    assert 0.60 <= s.came_true.value <= 0.85
    assert found.gross.expectancy.interval[0] > 0
    assert found.coins.as_good < 0.02
    assert found.coins.gross < found.gross.expectancy.value
    assert "The market is made up" in sentence(found)
    assert sentence(found).startswith(f"The edge is {found.gross.expectancy.value:+.1f} bp a trade before costs (95 %: ")


def test_what_came_true_is_what_the_labels_say() -> None:
    found = followed(several=True)
    side = np.where(found.trades.plans.sign > 0, UP, DOWN)
    moves = np.log(market().close[15:] / market().close[:-15])
    right, n = 0, 0
    for row, one in zip(found.trades.rows, side, strict=True):
        if row < len(moves):
            n += 1
            right += one == (UP if moves[row] > model().label.theta else DOWN if moves[row] < -model().label.theta else -1)
    assert found.spoken.came_true.value == pytest.approx(right / n)
    assert sum(one.signals for one in found.spoken.bins) == n


def test_no_trade_is_an_answer_in_words() -> None:
    found = followed(threshold=0.999)
    assert (found.net, found.gross, found.coins) == (None, None, None)
    assert sentence(found).startswith("No trade: none of the 1,5")
    assert f"the highest is {100 * found.spoken.highest:.1f} %" in sentence(found)
    assert (found.equity == 10_000).all()
    assert to_dict(found)["list"] == []
    assert "No trade" in backtest_page(found)
    poor = backtest([guess(0.7)], market(), rules=MarketRules(min_notional=1e9))  # every plan is refused
    assert "were refused: the order would be worth less than 1,000,000,000.00" in sentence(poor)


def test_the_json_is_whole_and_the_page_escapes_names() -> None:
    found = followed()
    plain = json.loads(json.dumps(to_dict(found), allow_nan=False))
    assert plain["format"] == "crpbot.backtest/1"
    assert plain["trades"] == len(plain["list"]) == found.taken.sum()
    assert plain["net"]["expectancy"]["value"] == pytest.approx(np.mean([one["net_bp"] for one in plain["list"]]))
    assert plain["orders"]["stop loss"] == sum(one["by"] == "stop loss" for one in plain["list"])
    assert plain["terms"]["costs"] == {"fee_bp": 10.0, "slippage_bp": 1.0}
    page = backtest_page(found)
    assert "a &lt;model&gt;" in page
    assert "a <model>" not in page
    for title in ("Equity", "Reliability of the signals", "Throwers of coins"):
        assert f"<title>{title}</title>" in page
    assert [name for name, _ in table(found)][:3] == ["rows", "speaks from", "signals"]


def test_members_that_disagree_are_silenced_on_the_very_rows_where_a_signal_is() -> None:
    checkpoint, candles = ensemble(most=0.12), market(rows=5_000)
    every = backtest([subject_of(ensemble())], candles, rules=CENT, several=True)
    found = backtest([subject_of(checkpoint)], candles, rules=CENT, several=True)
    assert found.spoken.silenced > 10 < found.spoken.signals
    assert found.spoken.signals + found.spoken.silenced == every.spoken.signals
    assert every.spoken.silenced == 0
    kept = set(found.trades.rows.tolist())
    assert kept < set(every.trades.rows.tolist())
    for row in every.trades.rows[:: max(1, len(every.trades.rows) // 25)].tolist():
        now = int(candles.time[row]) + MINUTE
        signal = newest_signal(checkpoint, candles[: row + 1], stage="live", now=now, rules=CENT)
        assert (signal.disagreement <= 0.12) == (row in kept)
        assert ("its members disagree by" in signal.reason) == (row not in kept)
    assert dict(table(found))["silenced"] == f"{found.spoken.silenced:,} more, on which members disagree too much"
    assert "silenced" not in dict(table(followed()))
    assert (to_dict(found)["signals"]["silenced"], to_dict(followed())["signals"]["silenced"]) == (found.spoken.silenced, None)


def test_where_members_never_agree_there_is_no_trade_and_no_threshold() -> None:
    subjects, candles = [subject_of(ensemble(most=0.0))], market(rows=5_000)
    found = backtest(subjects, candles)
    assert sentence(found).startswith(f"No trade: members disagree too much on all {found.spoken.silenced:,} rows")
    for how in ("selective", "value"):
        assert backtest(subjects, candles, threshold=how).threshold.value is None


def test_an_account_that_is_used_up_says_when() -> None:
    found = backtest([guess(0.7)], market(), costs=Costs(fee_bp=1_000), several=True)
    assert found.net.drawdown == 1
    empty = found.start + int((found.equity <= 0).argmax())
    assert found.net.empty == empty
    assert f"all of it gone by {utc(int(market().time[empty]))}" in dict(table(found))["of 10,000 quote currency"]


def test_a_few_trades_have_no_interval() -> None:
    time = 1_700_000_040_000 + MINUTE * np.arange(50_000)
    sample = Sample.of(time, time + 16 * MINUTE)
    few = sample.mean(np.arange(9.0), np.arange(0, 45_000, 5_000))
    assert few.value == 4
    assert np.isnan(few.error)
    crowded = sample.mean(np.arange(500.0), np.arange(500))  # all in one morning
    assert np.isnan(crowded.error)
    spread = sample.mean(np.ones(500), np.arange(0, 50_000, 100))
    assert spread.error == pytest.approx(0, abs=1e-12)


def test_the_interval_of_independent_trades_is_the_textbook_one() -> None:
    rng = np.random.default_rng(1)
    time = 1_700_000_040_000 + MINUTE * np.arange(200_000)
    sample = Sample.of(time, time + 16 * MINUTE)
    place = np.sort(rng.choice(200_000, 4_000, replace=False))
    x = rng.normal(0, 10, 4_000)
    assert sample.mean(x, place).error == pytest.approx(10 / np.sqrt(4_000), rel=0.15)


@pytest.mark.parametrize("several", [False, True])
def test_coins_are_thrown_at_the_same_moments(*, several: bool) -> None:
    """Equal to a plain loop over throwers, and a model that is a coin is in the middle of them."""
    candles = walk(3_000, 2)
    rows = np.arange(20, 2_900, 7)
    close = candles.close[rows]
    long, short = (
        follow(candles, rows, make_plans(np.full(len(rows), sign, np.int8), center=close, atr=1e-3 * close, price=close), Timing(
            expiry=5, hold=12, from_entry=True
        ))
        for sign in (1, -1)
    )  # fmt: skip
    costs = Costs()
    found = throw_coins(long, short, costs, -20.0, several=several, throws=50, seed=4)
    coin = np.random.default_rng(4).integers(0, 2, (len(rows), 50), np.int8)
    wanted = []
    for thrower in range(50):
        earned, free = [], -1
        for i, row in enumerate(rows):
            if several or row >= free:
                one = (long, short)[coin[i, thrower]]
                free = one.free[i]
                earned += [one.net_bp(costs)[i]] if one.filled[i] else []
        wanted.append(np.mean(earned))
    assert found.expectancies == pytest.approx(wanted)
    assert found.as_good == np.mean(np.array(wanted) >= -20.0)
    assert found.gross - found.mean == pytest.approx(20.7, abs=0.3)


def test_drawdown_is_the_deepest_fall_from_a_height() -> None:
    rng = np.random.default_rng(0)
    equity = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, 500)))
    plain = max(1 - equity[j] / max(100.0, *equity[: j + 1]) for j in range(500))
    assert drawdown(equity, 100.0) == pytest.approx(plain)
    assert drawdown(np.array([90.0, 80.0, 85.0]), 100.0) == pytest.approx(0.2)  # the start is a height, too


def test_an_honest_model_speaks_from_where_it_is_right_and_a_loud_one_never() -> None:
    rng = np.random.default_rng(3)
    up = rng.uniform(0.4, 0.9, 60_000)
    p = np.stack([0.95 - up, np.full(60_000, 0.05), up], axis=1)
    y = (p.cumsum(axis=1) < rng.uniform(size=(60_000, 1))).sum(axis=1)
    time = 1_700_000_040_000 + MINUTE * np.arange(60_000)
    block = Block(np.empty((60_000, 0)), y, time, time + 16 * MINUTE)
    honest = by_accuracy(block, p, least=0.75)
    said = np.maximum(p[:, 0], p[:, 2])
    assert (np.argmax(p, axis=1) == y)[said >= honest.value].mean() >= 0.75
    below = said >= honest.value - 0.01
    assert (np.argmax(p, axis=1) == y)[below].mean() < 0.75
    loud = by_accuracy(block, np.where(p == p.max(axis=1, keepdims=True), 0.98, 0.01), least=0.75)
    assert loud.value is None
    assert "no confidence was found" in loud.words


def test_the_best_threshold_by_value_is_the_best_of_a_plain_search() -> None:
    candles = walk(6_000, 9)
    rows = np.arange(20, 5_900, 3)
    confidence = np.random.default_rng(0).uniform(0.34, 0.9, len(rows))
    sign = np.where(np.log(candles.close[rows + 10] / candles.close[rows]) * (confidence - 0.6) > 0, 1, -1).astype(np.int8)
    close = candles.close[rows]
    plans = make_plans(sign, center=close, atr=2e-3 * close, price=close)
    found = follow(candles, rows, plans, Timing(expiry=5, hold=10, from_entry=True))
    costs = Costs(fee_bp=1.0, slippage_bp=0.0)
    best = by_value(confidence, found, costs, several=True)
    bp = found.net_bp(costs)
    sums = {step / 100: np.nansum(bp[confidence >= step / 100]) for step in range(34, 100)}
    assert best.value == max(sums, key=lambda step: sums[step])
    assert best.value > 0.5
    dear = by_value(confidence, found, Costs(fee_bp=500.0), several=True)
    assert dear.value is None
    assert dear.words.startswith("no confidence earned anything after costs")


@pytest.mark.parametrize("text", ["0.2", "1", "often", "nan"])
def test_a_threshold_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(PlanError, match="a threshold must be"):
        read_choice(text)


def test_stand_ins_are_not_followed() -> None:
    candles = market()
    filled = np.zeros(len(candles), bool)
    filled[-500::50] = True
    found = backtest([subject_of(model())], dataclasses.replace(candles, filled=filled), several=True)
    stand_ins = np.flatnonzero(filled)
    assert not np.isin(found.trades.rows, stand_ins).any()
    t, taken = found.trades, found.taken
    for entry, end in zip(t.entry_row[taken], t.exit_row[taken], strict=True):
        assert not ((stand_ins >= entry) & (stand_ins <= end)).any()


@pytest.mark.parametrize("wrong", [{"fee_bp": -1.0}, {"slippage_bp": 5_000.0}, {"fee_bp": float("nan")}])
def test_impossible_costs_are_refused(wrong: dict) -> None:
    with pytest.raises(PlanError, match=next(iter(wrong))):
        Costs(**wrong)
