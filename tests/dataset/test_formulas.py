"""The language of formulas: what it means, what it infers, what it refuses."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import walk

from crpbot.dataset.features.compute import compute_features
from crpbot.dataset.features.formulas import compile_formulas
from crpbot.dataset.features.live import LiveFeatures
from crpbot.dataset.features.program import PRICE, PURE, VOLUME
from crpbot.dataset.features.sets import FeatureSet, extend, feature_set
from crpbot.errors import DatasetError, RecipeError

MARKET = walk(300, seed=4)


def one(text: str, **where: str) -> FeatureSet:
    return FeatureSet("test", "", {"x": text}, where)


def values(text: str, **where: str) -> np.ndarray:
    found = compute_features(MARKET, one(text, **where))
    return np.concatenate([np.full(len(MARKET) - len(found.rows), np.nan), found.values[:, 0]])


def windows(x: np.ndarray, n: int) -> np.ndarray:
    return np.lib.stride_tricks.sliding_window_view(x, n)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 13, 31, 64, 100])
def test_windows_mean_what_their_names_say(n: int) -> None:
    x, warm_up = MARKET.volume, n - 1
    for name, wanted in (("sum", np.sum), ("mean", np.mean), ("highest", np.max), ("lowest", np.min)):
        found = values(f"{name}(volume, {n})")
        assert np.isnan(found[:warm_up]).all()
        np.testing.assert_allclose(found[warm_up:], wanted(windows(x, n), axis=1), rtol=1e-13)
    if n > 1:
        np.testing.assert_allclose(values(f"std(volume, {n})")[warm_up:], windows(x, n).std(axis=1, ddof=1), rtol=1e-12)


@given(st.integers(1, 250))
def test_a_lag_is_the_value_so_many_candles_ago(n: int) -> None:
    np.testing.assert_array_equal(values(f"lag(close, {n})")[n:], MARKET.close[:-n])
    np.testing.assert_array_equal(values(f"lag(lag(close, {n}), 2)")[n + 2 :], MARKET.close[: -n - 2])


def test_the_exponential_mean_begins_with_the_first_value_that_there_is() -> None:
    y, wanted = MARKET.close[1] / MARKET.close[0], []
    for ratio in MARKET.close[1:] / MARKET.close[:-1]:
        y += 2 / 10 * (ratio - y)
        wanted.append(y)
    np.testing.assert_array_equal(values("ema(close / lag(close, 1), 9)")[1:], wanted)


def test_arithmetic_of_one_row() -> None:
    c, o, v = MARKET.close, MARKET.open, MARKET.volume
    np.testing.assert_array_equal(values("-(close - open) * 2 / open + 0.5"), -(c - o) * 2 / o + 0.5)
    np.testing.assert_array_equal(values("abs(close - open)"), np.abs(c - o))
    np.testing.assert_array_equal(values("max(close - open, 0, low - high)"), np.maximum(c - o, 0))
    np.testing.assert_array_equal(values("min(close, open, low)"), MARKET.low)
    np.testing.assert_array_equal(values("log(close / open)"), np.log(c / o))
    np.testing.assert_array_equal(values("sqrt(volume)"), np.sqrt(v))
    np.testing.assert_array_equal(values("ratio(close, volume - volume, 0)"), 0)
    np.testing.assert_array_equal(values("ratio(close, open - 0, 7 - 7)"), c / o)
    np.testing.assert_array_equal(values("a + 1 - 1", a="close / open"), c / o + 1 - 1)


def test_steps_are_shared_and_unused_ones_dropped() -> None:
    program = compile_formulas(
        {"a": "mean(close, 20)", "b": "close / mean(close, 20)"}, {"unused": "ema(close, 9)", "c": "mean(close, 20)"}
    )
    assert len([step for step in program.steps if step.op == "divide"]) == 2
    assert not [step for step in program.steps if step.op == "ema"]
    doubling = compile_formulas({"a": "sum(close, 1024)"}, {})
    assert len([step for step in doubling.steps if step.op == "add"]) == 10


@pytest.mark.parametrize(
    ("text", "unit", "words"),
    [
        ("close", PRICE, "quote currency"),
        ("volume", VOLUME, "base currency"),
        ("close * volume", PRICE.times(VOLUME), "quote currency · base currency"),
        ("close / open", PURE, "scale-free"),
        ("std(close, 9) * std(close, 9)", PRICE.times(PRICE), "quote currency^2"),
        ("sqrt(close * high)", PRICE, "quote currency"),
        ("max(close - open, 0)", PRICE, "quote currency"),
        ("ratio(close, volume, 0)", PRICE.times(VOLUME, -1), "quote currency · base currency^-1"),
    ],
)
def test_units_are_worked_out(text: str, unit: object, words: str) -> None:
    (found,) = one(text).units
    assert found == unit
    assert str(found) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("close +", "must be arithmetic like"),
        ("close ** 2", r"made of numbers, names, \+ - \* / .* found 'close \*\* 2'"),
        ("close if open else low", "made of numbers"),
        ("close.real", "made of numbers"),
        ("__import__('os')", "made of numbers"),
        ("(lambda: 1)()", "made of numbers"),
        ("[close][0]", "made of numbers"),
        ("mean(close)", "made of numbers"),
        ("mean(close, n=3)", "made of numbers"),
        ("True", "made of numbers"),
        ("'close'", "made of numbers"),
        ("1e999", "must be 0 or between 1e-12 and 1e\\+12"),
        ("9" * 400, "must be 0 or between"),
        ("close * 1e-300", "must be 0 or between"),
        ("close  # mine", "one line without comments"),
        ("close \x1b]0;title\x07", "one line without comments"),
        ("close +\nopen", "one line without comments"),
        ("1if close else 2", "must be arithmetic like|made of numbers"),
        ("lag(lag(close, 9000), 9000)", "at most 10,000 rows in all, found 18,000"),
        ("price / 2", "found 'price'; define it"),
        ("x / close", "must not be made of itself, found x -> x"),
        ("close / volume", "certainly above 0"),
        ("close / (close - open)", "certainly above 0"),
        ("close / (high - low)", "certainly above 0"),
        ("1 / 0", "certainly above 0"),
        ("close + volume", "one unit, found quote currency and base currency"),
        ("close + 1", "one unit, found quote currency and scale-free"),
        ("max(close, volume)", "one unit"),
        ("log(close)", "without unit and certainly above 0"),
        ("log(volume / close)", "without unit and certainly above 0"),
        ("sqrt(close - open)", "certainly not negative"),
        ("ratio(close, volume, 1)", "a number in the unit of the quotient"),
        ("ratio(close, open, close)", "a number in the unit of the quotient"),
        ("lag(close, -1)", "whole number from 0 to 10,000"),
        ("lag(close, 1.5)", "whole number from 0 to 10,000"),
        ("lag(close, volume)", "whole number from 0 to 10,000"),
        ("mean(close, 0)", "whole number from 1 to 10,000"),
        ("std(close, 1)", "whole number from 2 to 10,000"),
        ("mean(close, 10001)", "whole number from 1 to 10,000"),
        ("close + " * 100 + "close", "at most 500 characters"),
        ("(" * 240 + "close" + ")" * 240, "must be arithmetic|nest"),
    ],
)
def test_a_formula_that_is_none_is_refused_with_its_place(text: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words) as error:
        one(text)
    assert str(error.value).startswith("feature set test")


@pytest.mark.parametrize("name", ["close", "mean", "time", "Up", "a b", "", "1st", "x" * 65, "é"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match="a name must be small letters"):
        FeatureSet("test", "", {name: "close"}, {})


def test_circles_and_doubled_names_are_refused() -> None:
    with pytest.raises(RecipeError, match="found a -> b -> a; break the circle"):
        FeatureSet("test", "", {"a": "b + close", "b": "a - close"}, {})
    with pytest.raises(RecipeError, match="define each name once, found a both"):
        FeatureSet("test", "", {"a": "close"}, {"a": "open"})
    with pytest.raises(RecipeError, match="1 to 1,000 features and at most as many parts, found 0 and 0"):
        FeatureSet("test", "", {}, {})


@pytest.mark.slow
def test_hostile_tables_end_soon_and_clearly() -> None:
    """Definitions that double, or go deeper and deeper, cost steps and not time or memory."""
    doubled = {f"a{i}": f"a{i - 1} + a{i - 1}" if i else "close" for i in range(900)}
    assert len(FeatureSet("test", "", {"x": "a899"}, doubled).program.steps) == 900
    deep = {f"a{i}": f"a{i + 1} + close" for i in range(900)}
    with pytest.raises(RecipeError, match="must not nest its formulas so deeply"):
        FeatureSet("test", "", {"x": "a0"}, {**deep, "a900": "close"})
    shifted = {f"v{k}": f"lag(volume, {k})" for k in range(1, 701)}
    with pytest.raises(RecipeError, match="at most 100,000 steps"):
        FeatureSet("test", "", {f"a{k}": f"std(v{k}, 9001)" for k in range(1, 701)}, shifted)


@pytest.mark.parametrize(
    ("formulas", "found"),
    [
        ({f"a{k}": f"lag(a{k - 1}, 9999) * close / close" if k else "close" for k in range(9)}, "found 79,992, 79,992 and 0"),
        ({f"a{k}": f"lag(volume, {9_999 - k})" for k in range(150)}, "found 9,999, 1,488,675 and 0"),
        ({f"a{k}": f"ema(volume, {k + 2}) - ema(volume, {k + 2_000})" for k in range(600)}, "found 0, 0 and 1,200"),
    ],
    ids=["warm-up", "past", "means"],
)
def test_a_set_that_would_fill_the_memory_is_refused(formulas: dict[str, str], found: str) -> None:
    with pytest.raises(RecipeError, match=f"at most 50,000 rows of warm-up, .* {found}"):
        FeatureSet("test", "", formulas, {})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("close * 0 / close + max(2, 3, 1)", 3.0),
        ("close / close * sqrt(525600)", 525600**0.5),
        ("close / close * log(2)", float(np.log(2))),
        ("close / close * abs(-1)", 1.0),
        ("close / close * highest(1, 7)", 1.0),
        ("close / close * ratio(1, 0, 5)", 5.0),
        ("close / close * ema(2, 5) * lag(3, 9)", 6.0),
        ("max(0, 0, close / close)", 1.0),
        ("7", 7.0),
    ],
)
def test_what_numbers_make_is_a_number_in_batch_and_live(text: str, value: float) -> None:
    assert (compute_features(MARKET, one(text)).values == value).all()
    *_, last = LiveFeatures(one(text)).follow(MARKET)
    assert last.tolist() == [value]


@pytest.mark.parametrize(
    "divisor",
    ["close * close", "close * open", "max(open - low, close)", "min(open, low)", "high - low + close", "ema(close, 9) / open"],
)
def test_what_is_certainly_positive_may_divide(divisor: str) -> None:
    assert len(one(f"volume / ({divisor})")) == 1


@pytest.mark.parametrize(
    "text",
    ["close / lag(close, 100)", "ema(close / lag(close, 3), 5)", "std(volume, 2)", "lag(close / open, 7)", "ema(close, 1)"],
)
def test_small_programs_agree_live_and_in_batch(text: str) -> None:
    live = [row for row in LiveFeatures(one(text)).follow(MARKET) if row is not None]
    np.testing.assert_array_equal(live, compute_features(MARKET, one(text)).values)


@pytest.mark.parametrize("text", ["close / ((close * 1e-9) * 1e-9 * 1e-9)", "log(close / lag(close, 1) * b * b * b * b)"])
def test_what_overflows_is_refused_when_it_is_computed(text: str) -> None:
    """Signs are those of exact arithmetic; what becomes 0 or infinite all the same is caught."""
    tiny = type(MARKET)(
        MARKET.time, *(getattr(MARKET, name) * 1e-300 for name in ("open", "high", "low", "close")), MARKET.volume
    )
    table = one(text, b="close / lag(close, 2) * 1e-12 * 1e-12 * 1e-12 * 1e-12 * 1e-12 * 1e-12 * 1e-12")
    with pytest.raises(DatasetError, match="feature x of test must be finite, found"):
        compute_features(tiny, table)
    live, refused = LiveFeatures(table), 0
    for row in range(len(tiny)):
        try:
            live.push(tiny[row : row + 1])
        except DatasetError as error:
            assert "must be finite" in str(error)  # noqa: PT017  the candle is taken all the same
            refused += 1
    assert live.rows == len(tiny)
    assert refused == len(tiny) - table.warm_up


def test_formulas_may_use_each_other_in_any_order() -> None:
    either = FeatureSet("test", "", {"a": "b * 2", "b": "close / c"}, {"c": "mean(close, 9)"})
    other = FeatureSet("test", "", {"a": "close / mean(close, 9) * 2", "b": "close / mean(close, 9)"}, {})
    np.testing.assert_array_equal(compute_features(MARKET, either).values, compute_features(MARKET, other).values)


def test_a_set_extends_another() -> None:
    founding = feature_set("founding-72")
    own = extend(founding, name="own", description="", without=["sma_5"], formulas={"gap": "sma_5 / sma_50 - 1"})
    assert own.names == (*(name for name in founding.names if name != "sma_5"), "gap")
    a, b = compute_features(MARKET, own), compute_features(MARKET, founding)
    np.testing.assert_array_equal(a.values[:, 0], b.values[:, 0])
    columns = [founding.names.index(name) for name in ("sma_5", "sma_50")]
    np.testing.assert_array_equal(a.values[:, -1], b.values[:, columns[0]] / b.values[:, columns[1]] - 1)
    assert founding.only("rsi_14", "atr_14").names == ("atr_14", "rsi_14")
    assert founding.only("atr_14").warm_up == 14
    with pytest.raises(RecipeError, match="found 'moon'"):
        extend(founding, name="own", description="", without=["moon"])
    with pytest.raises(RecipeError, match="must not define 'sma_5' again"):
        extend(founding, name="own", description="", without=["sma_5"], formulas={"sma_5": "close"})


def test_the_digest_follows_what_is_computed() -> None:
    same = FeatureSet("other name", "", {"x": "(close)/lag( close,1 )"}, {})
    assert one("close / lag(close, 1)").sha256 == same.sha256
    assert one("close / lag(close, 2)").sha256 != same.sha256
    assert one("close / b", b="lag(close, 1)").sha256 != one("close / b", b="lag(close, 2)").sha256
    assert FeatureSet("test", "", {"y": "close / lag(close, 1)"}, {}).sha256 != same.sha256
    assert one("close / b", b="lag(close, 1)").program.sha256 == same.program.sha256


def test_an_unknown_set_lists_the_known_ones() -> None:
    with pytest.raises(RecipeError, match="founding-72, relative-72"):
        feature_set("moon-72")


def test_the_bands_do_not_mix_up_a_flat_window_with_a_narrow_one() -> None:
    """A window whose only difference is the last bit is not flat."""
    price = 100_000.0
    close = np.full(300, price)
    close[-1] = math.nextafter(price, math.inf)
    market = type(MARKET)(MARKET.time, close, close, close, close, MARKET.volume)
    names = feature_set("founding-72").names
    row = dict(zip(names, compute_features(market).values[-1], strict=True))
    assert row["price_channel_position_20"] == 1
    assert row["bb_position_20"] > 0.5
    assert row["rsi_14"] == 100
