"""The page of candles: it says what `crpbot candles check` says, and what the models that speak would say of the newest one."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from live.worlds import promoted, without
from models import market
from web.houses import ask

from crpbot.live.trail import Trail
from crpbot.market.candles import MINUTE, Candles
from crpbot.market.check import check_file
from crpbot.market.files import frame_of, write_candles
from crpbot.market.synthetic import make_market
from crpbot.registry.registry import Registry
from crpbot.signals.signal import _newest, newest_signal
from crpbot.web.data import Data, Hole, span_picture
from crpbot.web.house import House
from crpbot.web.render import drift_bar
from crpbot.web.setting import Setting

pytestmark = pytest.mark.slow
NOW = int(market().time[-1]) + 3 * MINUTE


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    promoted(folder, folder / "made")
    (folder / "candles").mkdir()
    write_candles(market(), folder / "candles" / "BTC-USD.parquet")
    return folder


def holed() -> Candles:
    """A market with a gap of 300, one of 20 and one of 1 minute."""
    whole = make_market("random-walk", "ETH-USD", rows=3_000)
    start = int(whole.time[0])
    gone = {start + MINUTE * i for i in (*range(500, 800), *range(1_000, 1_020), 2_000)}
    return without(whole, gone)


def test_the_drift_is_that_which_a_signal_goes_by_also_across_a_gap(home: Path, tmp_path: Path) -> None:
    last = int(market().time[-1])
    candles = without(market(), {last - MINUTE * i for i in range(600, 630)})
    write_candles(candles, tmp_path / "BTC-USD.parquet")
    house = House(Setting(home=home, now=lambda: NOW, candles=str(tmp_path)))
    (entry,) = house.entries()
    heard = _newest(house.speaker(entry), candles)
    assert not isinstance(heard, str)
    name, away = house.drifts(entry)[0]
    assert (name, away) == (heard.drift[0], pytest.approx(heard.drift[1], rel=1e-6))


def test_gaps_are_those_that_the_check_finds_the_largest_first(tmp_path: Path) -> None:
    candles = holed()
    write_candles(candles, tmp_path / "ETH-USD.parquet")
    checked = check_file(tmp_path / "ETH-USD.parquet", "ETH-USD")
    with ask(tmp_path, candles=str(tmp_path), now=int(candles.time[-1]) + 11 * MINUTE) as browser:
        (found,) = browser.get("/api/data").json()
        page = browser.get("/data").text
        assert browser.get("/api/data/ETH-USD").json() == found
    assert (found["rows"], found["first"], found["last"]) == (checked.rows, checked.first, checked.last)
    assert [hole["missing"] for hole in found["holes"]] == [300, 20, 1]
    assert {(hole["last_before"], hole["first_after"]) for hole in found["holes"]} == {
        (one.first, one.last) for one in checked.findings if one.kind == "gaps"
    }
    assert (found["gaps"], found["missing"], found["segments"]) == (3, 321, len(list(candles.segments())))
    assert found["age"] == 600
    assert page.count('class="hole"') == 3


def test_gaps_between_the_disk_and_the_runtime_and_in_what_that_heard_are_gaps(tmp_path: Path) -> None:
    candles = holed()
    write_candles(candles[:1_500], tmp_path / "ETH-USD.parquet")
    trail = Trail(tmp_path / "live" / "candles")
    trail.take("ETH-USD", candles[1_480:], 1 << 60)  # the last twenty of the disk too, then a gap of 1
    with ask(tmp_path, candles=str(tmp_path), now=int(candles.time[-1]) + MINUTE) as browser:
        eth = browser.get("/api/data/ETH-USD").json()
        assert len(list(browser.app.state.house.candles("ETH-USD", count=9_999).segments())) == eth["segments"] == 4
    assert (eth["rows"], eth["heard"]) == (1_500, len(candles) - 1_500)
    assert [hole["missing"] for hole in eth["holes"]] == [300, 20, 1]
    write_candles(candles[:400], tmp_path / "ETH-USD.parquet")
    with ask(tmp_path, candles=str(tmp_path), now=int(candles.time[-1]) + MINUTE) as browser:
        eth = browser.get("/api/data/ETH-USD").json()
        page = browser.get("/data").text
    between = int(candles.time[1_480] - candles.time[399]) // MINUTE - 1
    assert (eth["gaps"], eth["missing"], eth["segments"]) == (2, between + 1, 3)
    assert [hole["missing"] for hole in eth["holes"]] == [between, 1]
    assert "complete" not in page
    assert page.count('class="hole"') == 2


def test_candles_that_cannot_be_read_are_looked_at_row_by_row(tmp_path: Path) -> None:
    frame = frame_of(make_market("random-walk", "ETH-USD", rows=300))
    doubled = frame[[*range(100), 99, *range(100, 300)]]
    doubled.write_parquet(tmp_path / "ETH-USD.parquet")
    (tmp_path / "SOL-USD.parquet").write_bytes(b"<script>alert(1)</script>")
    with ask(tmp_path, candles=str(tmp_path)) as browser:
        eth, sol = browser.get("/api/data").json()
        page = browser.get("/data")
    assert "must increase" in eth["trouble"]
    assert [(one["kind"], one["count"]) for one in eth["wrong"]] == [("duplicates", 1)]
    assert eth["segments"] is None
    assert "readable as parquet" in sol["trouble"]
    assert page.status_code == 200
    assert "<script>alert" not in page.text


def test_drift_is_that_of_every_input_and_the_signal_is_that_of_the_newest_candle(home: Path) -> None:
    with ask(home, candles=str(home / "candles"), now=NOW) as browser:
        (seen,) = browser.get("/api/data").json()
        overview = browser.get("/api/overview").json()["markets"][0]
        page = browser.get("/data").text
    (heard,) = seen["models"]
    away = [abs(one["deviations"]) for one in heard["features"]]
    registry = Registry(home / "registry")
    (entry,) = registry.entries()
    said = newest_signal(registry.speaker(entry), market(), stage="live", now=NOW, expires=entry.expires)
    assert len(away) == 72
    assert away == sorted(away, reverse=True)
    assert [heard["features"][0]["name"], heard["features"][0]["deviations"]] == overview["drift"]
    assert heard["limit"] == overview["drift_limit"]
    assert (heard["status"], heard["reason"], heard["side"]) == (said.status, said.reason, said.side)
    assert heard["confidence"] == pytest.approx(said.confidence, abs=1e-9)
    assert page.count('<svg class="driftbar"') == 10


@pytest.mark.parametrize(("row", "holes"), [(400, []), (700, [300]), (720, [300, 20]), (2_600, [300, 20, 1])])
def test_what_a_recording_has_not_reached_yet_is_not_known(tmp_path: Path, row: int, holes: list[int]) -> None:
    candles = holed()
    write_candles(candles, tmp_path / "ETH-USD.parquet")
    cut = int(candles.time[row])
    with ask(tmp_path, candles=str(tmp_path), now=cut, until=lambda: cut) as browser:
        (seen,) = browser.get("/api/data").json()
    assert seen["rows"] == row
    assert seen["last"] == seen["newest"] == int(candles.time[row - 1])
    assert [hole["missing"] for hole in seen["holes"]] == holes


@pytest.mark.parametrize(("symbol", "status"), [("XX-YY", 404), ("btc-usd", 422), ("%3Cscript%3E", 422), ("A" * 60, 422)])
def test_a_market_that_is_none_is_refused(home: Path, symbol: str, status: int) -> None:
    with ask(home, candles=str(home / "candles"), now=NOW) as browser:
        assert browser.get(f"/api/data/{symbol}").status_code == status


def test_a_ledger_that_was_altered_leaves_the_candles_to_see(home: Path, tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "ledger.lock").touch()
    text = (home / "registry" / "ledger.jsonl").read_text()
    (tmp_path / "registry" / "ledger.jsonl").write_text(text.replace('"stage": "live"', '"stage": "shadow"'))
    with ask(tmp_path, candles=str(home / "candles"), now=NOW) as browser:
        (seen,) = browser.get("/api/data").json()
    assert seen["rows"] == len(market())
    assert seen["models"] == []


@given(st.integers(1, 10**12), st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=20))
@example(1_000, [(0.9999, 1.0), (0.0, 0.0)])
def test_every_gap_is_drawn_inside_the_span(minutes: int, places: list[tuple[float, float]]) -> None:
    last = minutes * MINUTE
    holes = tuple(Hole(last_before=int(min(pair) * last), first_after=int(max(pair) * last), missing=1) for pair in places)
    seen = Data(symbol="A-B", source="x", kind="file", first=0, last=last)
    text = str(span_picture(seen, holes))
    assert text.count('class="hole"') == len(holes)
    for part in text.split('class="hole"')[1:]:
        x, wide = (float(part.split(f'{name}="')[1].split('"')[0]) for name in ("x", "width"))
        assert x >= 0
        assert x + wide <= 600.11


@given(
    st.floats(allow_nan=False, allow_infinity=False, min_value=-1e12, max_value=1e12),
    st.none() | st.floats(0.1, 100),
    st.floats(0, 1e6),
)
def test_a_bar_of_drift_stays_in_its_picture_and_points_its_way(away: float, limit: float | None, most: float) -> None:
    part = str(drift_bar(away, limit, most)).split("<rect ")[1].split("/>")[0]
    x, wide = (float(part.split(f'{name}="')[1].split('"')[0]) for name in ("x", "width"))
    assert x >= -0.1
    assert x + wide <= 240.1
    assert (x < 120) == (away < 0)
    assert ("beyond" in part) == (limit is not None and abs(away) > limit)


def test_no_price_is_lost_between_the_disk_and_the_page(home: Path) -> None:
    with ask(home, candles=str(home / "candles"), now=NOW) as browser:
        (seen,) = browser.get("/api/data").json()
    assert seen["newest"] == int(market().time[-1])
    assert np.isclose(seen["age"], 120)
