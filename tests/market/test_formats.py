import contextlib
import gzip
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import START, candles, walk

from crpbot.errors import CandleError
from crpbot.market import formats
from crpbot.market.candles import MINUTE, Candles
from crpbot.market.files import COLUMNS, read_candles
from crpbot.market.formats import read_foreign, write_foreign
from crpbot.market.resample import resample

pytestmark = pytest.mark.slow  # hundreds of files
NAMES = ["BTC_USDT-1m.csv", "BTC_USDT-1m.parquet", "BTC_USDT-1m.feather", "BTC_USDT-1m.json.gz"]
MARKET = walk(8)
UNITS = {"s": 10**-3, "ms": 1, "us": 10**3, "ns": 10**6}
same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def numbers(market: Candles = MARKET) -> list[list[float]]:
    """Return the rows of a market: open, high, low, close, volume."""
    return np.stack([getattr(market, name) for name in COLUMNS[1:]], axis=1).tolist()


def table(
    header: str, row: Callable[[int, list[float]], Sequence[object]], *, market: Candles = MARKET, separator: str = ","
) -> list[str]:
    """Return the lines of a text; `row` makes each out of its time and its numbers."""
    rows = [row(time, values) for time, values in zip(market.time.tolist(), numbers(market), strict=True)]
    return [header] * bool(header) + [separator.join(map(str, each)) for each in rows]


def simple(market: Candles = MARKET) -> list[str]:
    return table("time,open,high,low,close,volume", lambda time, values: [time, *values], market=market)


def kline(time: int, values: list[float], *, unit: int = 1) -> list[object]:
    return [time * unit, *values, (time + MINUTE) * unit - 1, "16489.61790060", 31, "0.52320000", "15942.95040000", 0]


def download(time: int, values: list[float], *, unix: object = None) -> list[object]:
    date = str(np.datetime64(time, "ms").astype("datetime64[s]")).replace("T", " ")
    return [time if unix is None else unix, date, "BTCUSDT", *values, "4321.5", 77]


def put(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def zipped(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


def assert_read(path: Path, *, symbol: str = "BTC-USD", market: Candles = MARKET) -> None:
    found, read = read_foreign(path)
    assert found == symbol
    assert read.sha256 == market.sha256


def refusal(path: Path, **options: object) -> str:
    """Return what is said of a file, without the name of the file, which has to come first."""
    with pytest.raises(CandleError) as caught:
        read_foreign(path, **options)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value).removeprefix(f"{path}: ")


@st.composite
def strange(draw: st.DrawFn) -> Candles:
    """Draw valid candles of any size and any time between 1900 and 2100, with any gaps."""
    first = draw(st.integers(-36_816_480, 68_374_000))
    steps = draw(st.lists(st.integers(1, 10**3), min_size=0, max_size=20))
    minutes = np.cumsum([first, 1, *steps])
    prices = st.lists(st.floats(5e-324, 1e308, exclude_max=True), min_size=4, max_size=4).map(sorted)
    low, body_low, body_high, high = np.array([draw(prices) for _ in minutes]).T
    volume = draw(st.lists(st.floats(0, 1e308), min_size=len(minutes), max_size=len(minutes)))
    first_, last = (body_low, body_high) if draw(st.booleans()) else (body_high, body_low)
    return Candles(minutes * MINUTE, first_, high, low, last, np.array(volume))


# ---- what holds of any candles


@pytest.mark.parametrize("name", NAMES)
@given(market=st.one_of(candles(), strange()))
@same_folder
def test_what_was_exported_reads_back_bit_by_bit(tmp_path: Path, name: str, market: Candles) -> None:
    write_foreign(market, tmp_path / name, symbol="BTC-USD")
    assert_read(tmp_path / name, market=market)


@pytest.mark.parametrize("name", NAMES)
@given(market=candles(min_rows=20, max_rows=40), data=st.data())
@same_folder
def test_a_stand_in_stays_one_or_is_not_exported(tmp_path: Path, name: str, market: Candles, data: st.DataObject) -> None:
    filled = data.draw(st.lists(st.booleans(), min_size=len(market), max_size=len(market)))
    marked = Candles(*(getattr(market, column) for column in COLUMNS), filled=np.array([True, *filled[1:]]))
    if name in NAMES[:2]:
        write_foreign(marked, tmp_path / name, symbol="BTC-USD")
        assert_read(tmp_path / name, market=marked)
    else:
        with pytest.raises(CandleError, match=f"must have no stand-ins, found {sum(filled[1:]) + 1}; export to .csv"):
            write_foreign(marked, tmp_path / name, symbol="BTC-USD")


@pytest.mark.parametrize("unit", UNITS)
@given(market=candles(min_rows=20, max_rows=40), order=st.randoms(use_true_random=False), float_time=st.booleans())
@same_folder
def test_any_order_any_repetition_and_any_unit_give_the_same_candles(
    tmp_path: Path, unit: str, market: Candles, order: object, *, float_time: bool
) -> None:
    dot = ".0" if float_time else ""
    lines = table("unix,o,h,l,c,v", lambda time, values: [f"{int(time * UNITS[unit])}{dot}", *values], market=market)
    rows = lines[1:] + order.choices(lines[1:], k=5)
    order.shuffle(rows)
    assert_read(put(tmp_path / "btcusd.csv", [lines[0], *rows]), market=market)


@given(market=candles(min_rows=20, max_rows=40), data=st.data())
@same_folder
def test_a_row_that_contradicts_its_minute_is_always_found(tmp_path: Path, market: Candles, data: st.DataObject) -> None:
    lines, row = simple(market), data.draw(st.integers(0, len(market) - 1))
    other = f"{market.time[row]},9999,9999,9999,9999,1"
    place = data.draw(st.integers(row + 1, len(market)))
    path = put(tmp_path / "BTC-USD.csv", [*lines[: place + 1], other, *lines[place + 1 :]])
    minute = np.datetime64(int(market.time[row]), "ms").astype("datetime64[m]")
    assert refusal(path).startswith(f"row {place} (line {place + 2}): a minute must have one candle, found two for {minute}Z: ")


@given(market=candles(min_rows=20, max_rows=40), newest_first=st.booleans(), data=st.data())
@same_folder
def test_an_impossible_bar_is_named_by_its_row_in_the_file(
    tmp_path: Path, market: Candles, *, newest_first: bool, data: st.DataObject
) -> None:
    row = data.draw(st.integers(0, len(market) - 1))
    lines = simple(market)
    rows = lines[:0:-1] if newest_first else lines[1:]
    time, first, high, low, last, volume = rows[row].split(",")
    wrong, rule = data.draw(
        st.sampled_from(
            [
                ((time, first, "0.001", low, last, volume), "high must not be below open or close"),
                ((time, first, high, "1e9", last, volume), "low must not be above open or close"),
                ((time, first, high, "-" + low, last, volume), "prices must be positive"),
                ((time, first, "inf", low, last, volume), "prices must be finite"),
                ((time, first, high, low, "NaN", volume), "prices must be finite"),
                ((time, first, high, low, last, "-1"), "volume must be finite and not negative"),
                ((str(int(time) + 1), first, high, low, last, volume), "time must be on the whole minute"),
                ((time, first, high, low, "", volume), "close must have a value"),
                ((time, first, high, low, "n/a", volume), "close must be a number, found 'n/a'"),
                (("", first, high, low, last, volume), "time must have a value"),
                ((time, first), "high must have a value"),
            ]
        )
    )
    path = put(tmp_path / "BTC-USD.csv", [lines[0], *rows[:row], ",".join(wrong), *rows[row + 1 :]])
    assert refusal(path).startswith(f"row {row} (line {row + 2}): {rule}")


# ---- tables under any usual names


@pytest.mark.parametrize(
    "header",
    [
        "time,open,high,low,close,volume",
        "Open time,Open,High,Low,Close,Volume",
        "openTime,OPEN,HIGH,LOW,CLOSE,VOL",
        "Timestamp,Open,High,Low,Close,Volume_(BTC)",
        "Date,open_price,high_price,low_price,close_price,Volume BTC",
        "t,o,h,l,c,v",
        ",Open,High,Low,Close,Volume",
        "time,open,high,low,close,volumefrom",
        '"datetime","open","high","low","close","base volume"',
    ],
)
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_columns_go_by_their_usual_names(tmp_path: Path, header: str, separator: str) -> None:
    lines = table(header.replace(",", separator), lambda time, values: [time, *values], separator=separator)
    assert_read(put(tmp_path / "BTCUSD_1m.csv", lines))


def test_columns_may_stand_in_any_order_beside_others(tmp_path: Path) -> None:
    lines = table(
        "Volume USDT,Close,Low,trades,Open,High,Volume,Close time,Date",
        lambda time, v: ["123", v[3], v[2], 5, v[0], v[1], v[4], time + MINUTE - 1, np.datetime64(time, "ms")],
    )
    assert_read(put(tmp_path / "BTCUSD.csv", lines))


@pytest.mark.parametrize(
    "form", ["{0}", "{0}Z", "{0}+00:00", "{0}.000000", "{0}.000Z", "{1}", "{1}+00:00", "{1}.000", '"{1}"', "  {0}"]
)
def test_every_usual_notation_of_time_is_read(tmp_path: Path, form: str) -> None:
    def row(time: int, values: list[float]) -> list[object]:
        text = str(np.datetime64(time, "ms").astype("datetime64[s]"))
        return [form.format(text, text.replace("T", " ")), *values]

    assert_read(put(tmp_path / "BTC-USD.csv", table("timestamp,open,high,low,close,volume", row)))


def test_times_with_an_offset_are_put_to_utc(tmp_path: Path) -> None:
    path = put(tmp_path / "BTC-USD.csv", ["date,open,high,low,close,volume", "2023-11-14T23:14:00+01:00,1,2,0.5,1.5,3"])
    assert read_foreign(path)[1].time.tolist() == [START]


@pytest.mark.parametrize("suffix", [".parquet", ".feather"])
@pytest.mark.parametrize("form", ["ms", "us", "ns", "naive", "berlin", "int-s", "int-ms", "int-ns", "float-s", "text"])
def test_typed_times_and_numbers_of_any_width_are_read(tmp_path: Path, suffix: str, form: str) -> None:
    time = pl.Series("Date", MARKET.time)
    stamp = time.cast(pl.Datetime("ms"))
    forms = {
        "naive": lambda: stamp.cast(pl.Datetime("ns")),
        "berlin": lambda: stamp.dt.replace_time_zone("UTC").dt.convert_time_zone("Europe/Berlin"),
        "int-s": lambda: time // 1000,
        "int-ms": lambda: time,
        "int-ns": lambda: time * 1_000_000,
        "float-s": lambda: (time / 1000).cast(pl.Float64),
        "text": lambda: stamp.dt.to_string("%Y-%m-%d %H:%M:%S"),
    }
    made = forms.get(form, lambda: stamp.cast(pl.Datetime(form)).dt.replace_time_zone("UTC"))()
    columns = [pl.Series(name.title(), getattr(MARKET, name)) for name in COLUMNS[1:]]
    frame = pl.DataFrame([*columns, made.alias("Date")]).reverse()
    path = tmp_path / f"BTC-USD{suffix}"
    frame.write_parquet(path) if suffix == ".parquet" else frame.write_ipc(path)
    assert_read(path)


def test_whole_numbers_and_texts_are_prices_too(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"time": MARKET.time, "open": [2] * 8, "high": ["3.5"] * 8, "low": [1] * 8, "close": [2.5] * 8, "vol": [0] * 8}
    )
    frame.write_parquet(tmp_path / "BTC-USD.parquet")
    assert numbers(read_foreign(tmp_path / "BTC-USD.parquet")[1])[0] == [2, 3.5, 1, 2.5, 0]


@pytest.mark.parametrize("name", ["BTCUSD.csv.gz", "BTCUSD.zip", "BTCUSD.csv", "BTCUSD.parquet", "BTCUSD"])
def test_the_content_says_what_a_file_is_and_not_its_suffix(tmp_path: Path, name: str) -> None:
    text = "\r\n".join(simple())
    for content in (
        text.encode(),
        b"\xef\xbb\xbf" + text.encode(),
        gzip.compress(text.encode()),
        b"\n\n# made\n" + text.encode(),
    ):
        (tmp_path / name).write_bytes(content)
        assert_read(tmp_path / name)
    write_foreign(MARKET, tmp_path / "BTCUSD.feather", symbol="BTC-USD")
    assert_read((tmp_path / "BTCUSD.feather").replace(tmp_path / name))


# ---- the formats of others


@pytest.mark.parametrize("header", ["", ",".join(formats._KLINE), "Open time,Open,High,Low,Close,Volume,Close time,a,b,c,d,e"])
@pytest.mark.parametrize("unit", [1, 1000])
def test_binance_klines_are_read_with_and_without_a_header_in_both_units(tmp_path: Path, header: str, unit: int) -> None:
    lines = table(header, lambda time, values: kline(time, values, unit=unit))
    text = "\n".join(lines) + "\n"
    assert_read(put(tmp_path / "BTCUSDT-1m-2024-06.csv", lines))
    assert_read(zipped(tmp_path / "BTCUSDT-1m-2024-06.zip", {"BTCUSDT-1m-2024-06.csv": text}))


def test_klines_and_json_may_begin_with_a_mark_of_their_encoding(tmp_path: Path) -> None:
    klines = "\n".join(table("", kline))
    rows = json.dumps([[time, *values] for time, values in zip(MARKET.time.tolist(), numbers(), strict=True)])
    for text in (klines, rows):
        (tmp_path / "BTCUSDT").write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert_read(tmp_path / "BTCUSDT")


def test_a_real_kline_keeps_every_digit(tmp_path: Path) -> None:
    line = (
        "1688169600000,30471.99000000,30472.00000000,30471.99000000,30472.00000000,0.54114000,1688169659999,16489.6,31,0.5,1.2,0"
    )
    symbol, market = read_foreign(put(tmp_path / "ETHBTC-1m-2023-07-01.csv", [line]))
    assert symbol == "ETH-BTC"
    assert market.time.tolist() == [1_688_169_600_000]
    assert numbers(market) == [[30471.99, 30472.0, 30471.99, 30472.0, 0.54114]]


def test_binance_klines_from_the_api_are_json_with_texts(tmp_path: Path) -> None:
    rows = [
        [*kline(time, [str(value) for value in values])] for time, values in zip(MARKET.time.tolist(), numbers(), strict=True)
    ]
    (tmp_path / "BTCUSDT.json").write_text(json.dumps(rows, indent=2))
    assert_read(tmp_path / "BTCUSDT.json")


@pytest.mark.parametrize("name", ["BTC_USDT-1m.feather", "BTC_USDT_USDT-1m-futures.feather"])
def test_freqtrade_feather_is_read(tmp_path: Path, name: str) -> None:
    stamps = pl.Series("date", MARKET.time).cast(pl.Datetime("ms")).dt.replace_time_zone("UTC")
    frame = pl.DataFrame([stamps, *(pl.Series(column, getattr(MARKET, column)) for column in COLUMNS[1:])])
    frame.write_ipc(tmp_path / name, compression="lz4", compat_level=pl.CompatLevel.oldest())
    assert_read(tmp_path / name)


@pytest.mark.parametrize("indent", [None, 1])
def test_freqtrade_json_is_read(tmp_path: Path, indent: int | None) -> None:
    rows = [[time, *values] for time, values in zip(MARKET.time.tolist(), numbers(), strict=True)]
    (tmp_path / "BTC_USDT-1m.json.gz").write_bytes(gzip.compress(json.dumps(rows, indent=indent).encode()))
    assert_read(tmp_path / "BTC_USDT-1m.json.gz")


@pytest.mark.parametrize("unix", ["ms", "s", "s.0", "both"])
def test_cryptodatadownload_is_read_newest_first_below_its_address(tmp_path: Path, unix: str) -> None:
    def row(time: int, values: list[float]) -> list[object]:
        kind = unix if unix != "both" else "s" if time < MARKET.time[4] else "ms"
        return download(time, values, unix={"ms": time, "s": time // 1000, "s.0": time / 1000}[kind])

    header, *rows = table("Unix,Date,Symbol,Open,High,Low,Close,Volume BTC,Volume USDT,tradecount", row)
    lines = ["https://www.CryptoDataDownload.com", header, *reversed(rows)]
    assert_read(put(tmp_path / "Binance_BTCUSDT_minute.csv", lines))
    assert_read(put(tmp_path / "download.csv", lines))


def test_a_line_is_counted_from_the_top_of_the_file_a_row_from_the_first_candle(tmp_path: Path) -> None:
    header, *rows = table("unix,date,symbol,open,high,low,close,Volume BTC,Volume USDT,tradecount", download)
    rows.reverse()
    rows[2] = rows[2].replace(",BTCUSDT,", ",BTCUSDT,-")
    path = put(tmp_path / "Binance_BTCUSDT_minute.csv", ["https://www.CryptoDataDownload.com", header, *rows])
    assert refusal(path).startswith("row 2 (line 5): prices must be positive; found time=2023-11-14T22:19Z, open=-")


def test_the_volume_is_that_of_the_coin_and_never_of_the_money(tmp_path: Path) -> None:
    header = "unix,open,high,low,close,Volume ETH,Volume BTC"
    lines = table(header, lambda time, values: [time, *values, 0.001])
    assert_read(put(tmp_path / "ETHBTC.csv", lines), symbol="ETH-BTC")
    assert "missing volume, found unix, open" in refusal(put(tmp_path / "SOLUSD.csv", lines))
    quote = table("unix,open,high,low,close,quote volume", lambda time, values: [time, *values])
    assert "missing volume" in refusal(put(tmp_path / "BTCUSD.csv", quote))


# ---- whose candles they are


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("BTCUSDT-1m-2024-06.csv", "BTC-USD"),
        ("BTCUSDC.csv", "BTC-USD"),
        ("ETHBUSD.csv", "ETH-USD"),
        ("BNBUSD.csv", "BNB-USD"),
        ("BTC_USDT-1m.csv", "BTC-USD"),
        ("BTC-USD.csv", "BTC-USD"),
        ("btc-usd_1min.csv", "BTC-USD"),
        ("Binance_BTCUSDT_minute.csv", "BTC-USD"),
        ("Binance_BTCUSDT_2024_minute.csv", "BTC-USD"),
        ("coinbase BTC-USD 2024.csv", "BTC-USD"),
        ("ETH-BTC.csv", "ETH-BTC"),
        ("ETHBTC-1m-2024-06.csv", "ETH-BTC"),
        ("Kraken_WBTC_BTC.csv", "WBTC-BTC"),
        ("SOL_EUR.csv", "SOL-EUR"),
        ("BTC_FDUSD-1m.csv", "BTC-FDUSD"),
        ("BTCFDUSD-1m.csv", "BTC-FDUSD"),
        ("1000PEPEUSDT-1m.csv", "1000PEPE-USD"),
        ("1INCH_USDT.csv", "1INCH-USD"),
        ("USDCUSDT.csv", "USDC-USD"),
        ("BTC_USDT_USDT-1m-futures.csv", "BTC-USD"),
        ("BTCUSD_PERP-1m-2024-06.csv", "BTC-USD"),
    ],
)
def test_the_name_of_a_file_says_the_symbol(tmp_path: Path, name: str, symbol: str) -> None:
    assert_read(put(tmp_path / name, simple()), symbol=symbol)


@pytest.mark.parametrize(
    "name",
    ["candles.csv", "BTC.csv", "binance_btc_1m.csv", "1m_btc.csv", "WBTC.csv", "STETH.csv", "USDT.csv", "FDUSD.csv",
     "2024_USD.csv", "BTCUSDT_ETHUSDT.csv", "BTC_USD_ETH_USD.csv", "FOOBUSD.csv", "my_data.csv"],
)  # fmt: skip
def test_a_name_that_says_none_or_several_is_asked_about(tmp_path: Path, name: str) -> None:
    path = put(tmp_path / name, simple())
    assert refusal(path) == (
        "candles must belong to a symbol, found none in the name of the file or in it; say which with --symbol"
    )
    assert read_foreign(path, symbol="SOL-USD")[0] == "SOL-USD"


@pytest.mark.parametrize(
    ("given_symbol", "symbol"),
    [("ETH-USDT", "ETH-USD"), ("ethusdt", "ETH-USD"), ("ETH/BTC", "ETH-BTC"), ("DATA-XYZ", "DATA-XYZ")],
)
def test_a_symbol_that_is_given_goes_above_the_name(tmp_path: Path, given_symbol: str, symbol: str) -> None:
    found, market = read_foreign(put(tmp_path / "BTC-USD.csv", simple()), symbol=given_symbol)
    assert (found, market.sha256) == (symbol, MARKET.sha256)


@pytest.mark.parametrize("symbol", ["", "BTC", "../../etc", "BTC-USD/.."[:3]])
def test_a_symbol_that_is_none_is_refused(tmp_path: Path, symbol: str) -> None:
    path = put(tmp_path / "BTC-USD.csv", simple())
    assert refusal(path, symbol=symbol).startswith("a symbol must look like BTC-USD")
    with pytest.raises(CandleError, match="a symbol must look like BTC-USD"):
        write_foreign(MARKET, tmp_path / "out.csv", symbol=symbol)


@pytest.mark.parametrize(("written", "symbol"), [("BTCUSDT", "BTC-USD"), ("BTC/USDT", "BTC-USD"), ("ETH/BTC", "ETH-BTC")])
@pytest.mark.parametrize("header", ["symbol", "Pair", "TICKER"])
def test_a_column_says_the_symbol_where_the_name_does_not(tmp_path: Path, header: str, written: str, symbol: str) -> None:
    lines = table(f"time,{header},open,high,low,close,volume", lambda time, values: [time, written, *values])
    assert_read(put(tmp_path / "candles.csv", lines), symbol=symbol)


def test_candles_of_one_symbol_are_never_read_as_those_of_another(tmp_path: Path) -> None:
    lines = table("time,symbol,open,high,low,close,volume", lambda time, values: [time, "ETHUSDT", *values])
    path = put(tmp_path / "BTCUSDT.csv", lines)
    assert refusal(path).startswith("its candles must be of BTC-USD, and its rows say 'ETHUSDT'; ")
    assert refusal(path, symbol="SOL-USD").startswith("its candles must be of SOL-USD, and its rows say 'ETHUSDT'; ")
    assert read_foreign(path, symbol="ETH-USD")[0] == "ETH-USD"


def test_candles_of_several_symbols_are_not_mixed(tmp_path: Path) -> None:
    symbols = ["BTCUSDT"] * 5 + ["ETHUSDT"] * 3
    frame = pl.DataFrame({"symbol": symbols, **{name: getattr(MARKET, name) for name in COLUMNS}})
    frame.write_csv(tmp_path / "candles.csv")
    frame.with_columns(pl.col("symbol").cast(pl.Categorical)).write_parquet(tmp_path / "candles.parquet")
    for name, row in (("candles.csv", "row 5 (line 7)"), ("candles.parquet", "row 5")):
        assert refusal(tmp_path / name).startswith(f"{row}: symbol must be 'BTCUSDT' as in the first row, found 'ETHUSDT'; ")


# ---- what is refused


@pytest.mark.parametrize(
    ("time", "words"),
    [
        (
            "17",
            "row 3 (line 5): time must be seconds, milli-, micro- or nanoseconds since 1970, between 1973 and 2100, found '17'",
        ),
        ("5000000040000", "row 3 (line 5): time must be seconds, milli-"),  # 2128, or 1970 in microseconds
        ("99999999999999999999", "row 3 (line 5): time must be a whole number since 1970, found '99999999999999999999'"),
        ("1700000040.5", "row 3 (line 5): time must be a whole number"),
        ("1700000041", "row 3 (line 5): time must be on the whole minute, found '1700000041'"),
        ("1700000040000000001", "row 3 (line 5): time must be on the whole minute"),
        ("yesterday", "row 3 (line 5): time must be a whole number since 1970, found 'yesterday'"),
        ("time", "row 3 (line 5): time must be a whole number since 1970, found 'time'"),
        ("2023-11-14 22:14:00", "row 3 (line 5): time must be a whole number since 1970, found '2023-11-14 22:14:00'"),
    ],
)
def test_a_number_that_is_no_time_is_named(tmp_path: Path, time: str, words: str) -> None:
    lines = simple()
    lines[4] = f"{time},{lines[4].split(',', 1)[1]}"
    assert refusal(put(tmp_path / "BTC-USD.csv", lines)).startswith(words)


@pytest.mark.parametrize(
    ("time", "words"),
    [
        (
            "11/14/2023 22:14",
            "row 1 (line 3): time must be a number since 1970 or begin like 2024-06-01, found '11/14/2023 22:14'",
        ),
        ("22:14:00", "row 1 (line 3): time must be a number since 1970 or begin like"),
        ("2023-13-14 22:14:00", "row 1 (line 3): time must be a UTC timestamp"),
        ("2023-11-14 22:14:01", "row 1 (line 3): time must be on the whole minute"),
        ("2023-11-14 22:14:00.0005", "row 1 (line 3): time must be on the whole minute"),
    ],
)
def test_a_text_that_is_no_time_is_named(tmp_path: Path, time: str, words: str) -> None:
    lines = ["time,open,high,low,close,volume", "2023-11-14 22:13:00,1,2,0.5,1.5,3", f"{time},1,2,0.5,1.5,3"]
    assert refusal(put(tmp_path / "BTC-USD.csv", lines)).startswith(words)


def test_a_month_is_never_guessed_to_be_a_day(tmp_path: Path) -> None:
    lines = ["date,open,high,low,close,volume", *(f"06/01/2024 00:0{n},1,2,0.5,1.5,3" for n in range(3))]
    assert "begin like 2024-06-01" in refusal(put(tmp_path / "BTC-USD.csv", lines))


HEADER = "time,open,high,low,close,volume"
FIRST, SECOND = "1700000040,1,2,0.5,1.5,3", "1700000100,1,2,0.5,1.5,3"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([""], "it must be a table with a header, found ''"),
        (["hello", "world"], "it must be a table with a header, found 'hello'"),
        ([HEADER], "candles must have at least one row, found none"),
        (
            ["time,open", "1,2"],
            f"candles of BTC need the columns {HEADER.replace(',', ', ')}; missing high, low, close, volume, found ",
        ),
        (["close_time,open,high,low,close,volume", FIRST], "candles of BTC need the columns time"),
        (["time,open,high,low,close,Close,volume"], "one column must be the close, found 2 of that name"),
        ([FIRST], "a table without a header must have the 12 columns of Binance klines, found 6"),
        ([HEADER, f"{FIRST},4"], "row 0 (line 2): the row must have 6 values, found '4'"),
        ([HEADER, FIRST, f"{SECOND},7,8,9"], "row 1 (line 3): the row must have 6 values, found '7'"),
        (
            [f"{HEADER},filled", f"{FIRST},false", f"{SECOND},perhaps"],
            "row 1 (line 3): filled must be true or false, found 'perhaps'",
        ),
        ([f"{HEADER},filled", f"{FIRST},True", f"{FIRST},False"], "row 1 (line 3): a minute must have one candle, found two"),
        ([HEADER, "1700000040,1"], "row 0 (line 2): high must have a value"),
        ([HEADER, FIRST, "", SECOND], "row 1 (line 3): time must have a value"),
        ([f"{HEADER},note", f'{FIRST},"', f"{SECOND},", f'{SECOND},"'], "every row must be one line, found 1 rows in 3 lines"),
    ],
)
def test_a_bad_table_is_refused_in_one_clear_sentence(tmp_path: Path, lines: list[str], words: str) -> None:
    assert refusal(put(tmp_path / "BTC-USD.csv", lines)).startswith(words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "JSON must be a list of candles [milliseconds, open, high, low, close, volume], found '[]'"),
        ('[{"time": 1}]', "JSON must be a list of candles"),
        ("[[1700000040000,1,2,0.5,1.5]]", "JSON must be a list of candles"),
        ("[[1700000040000,1,2,0.5,1.5,3],[1700000100000,1,2,0.5,null,3]]", "row 1: close must be a number, found 'null'"),
        ("[[1700000040000,1,2,0.5,1.5,3],[1700000100000,1,2,0.5,1.5]]", "row 1: volume must have a value"),
        ("[[1700000040000,1,2,0.5,1.5,3],[1700000100000,1,2,0.5,1.5,3,4]]", "row 1: the row must have 6 values"),
        ("[[1700000040000,1,2,0.5,1.5,3],[1700000100000,1,2,0.5,1.5,3]]]", "row 1: volume must be a number, found '3]'"),
        ("[[1700000040000,1,2,0.5,1.5,3],[1700000100000,1,0.5,2,1.5,3]]", "row 1: high must not be below open or close"),
        ("[[1700000040,1,2,0.5,1.5,3]]", "row 0: time must be on the whole minute; found time=1700000040 ms"),
        ("PAR1 and so on", "it must be readable as Parquet: "),
        ("ARROW1 and so on", "it must be readable as Feather: "),
        ("PK\x03\x04 and so on", "it must be a whole file, found a damaged or missing one: "),
    ],
)
def test_a_bad_file_is_refused_in_one_clear_sentence(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "BTC-USD.csv").write_text(text)
    assert refusal(tmp_path / "BTC-USD.csv").startswith(words)


def test_a_table_without_numbers_is_refused_by_its_types(tmp_path: Path) -> None:
    good = {name: getattr(MARKET, name) for name in COLUMNS}
    for column, values, words in (
        ("close", [True] * 8, "close must be numbers, found Boolean"),
        ("close", [1.0] * 7 + [None], "row 7: close must have a value"),
        ("time", [None, *MARKET.time[1:].tolist()], "row 0: time must have a value"),
        ("time", [True] * 8, "time must be a UTC timestamp or a whole number"),
        ("time", [float("nan")] * 8, "row 0: time must be a whole number since 1970"),
    ):
        pl.DataFrame({**good, column: pl.Series(values)}).write_parquet(tmp_path / "BTC-USD.parquet")
        assert refusal(tmp_path / "BTC-USD.parquet").startswith(words)


@pytest.mark.parametrize("minutes", [5, 60, 1440])
def test_longer_bars_are_not_taken_for_minutes(tmp_path: Path, minutes: int) -> None:
    bars = resample(walk(minutes * 8), minutes)
    path = tmp_path / "BTC-USD.csv"
    write_foreign(bars, path, symbol="BTC-USD")
    assert refusal(path).startswith(f"candles must be one every 1 min, found one every {minutes} min; ")
    assert read_foreign(path, minutes=minutes)[1].sha256 == bars.sha256
    write_foreign(walk(10), path, symbol="BTC-USD")
    assert refusal(path, minutes=minutes).startswith(f"candles must be one every {minutes} min, found one every 1 min; ")


def test_a_day_without_a_time_of_day_begins_at_midnight(tmp_path: Path) -> None:
    days = pl.Series("date", range(19_000, 19_008), dtype=pl.Int32).cast(pl.Date)
    frame = pl.DataFrame([days, *(pl.Series(name, getattr(MARKET, name)) for name in COLUMNS[1:])])
    frame.write_parquet(tmp_path / "BTC-USD.parquet")
    frame.write_csv(tmp_path / "BTC-USD.csv")
    for suffix in ("parquet", "csv"):
        assert refusal(tmp_path / f"BTC-USD.{suffix}").startswith("candles must be one every 1 min, found one every 1440 min; ")
        market = read_foreign(tmp_path / f"BTC-USD.{suffix}", minutes=1440)[1]
        assert (market.time // (1440 * MINUTE)).tolist() == list(range(19_000, 19_008))


def test_a_damaged_file_is_refused_wherever_it_breaks_off(tmp_path: Path) -> None:
    text = "\n".join(simple())
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.csv", text)
    for suffix in ("parquet", "feather", "json.gz"):
        write_foreign(MARKET, tmp_path / f"BTC-USD.{suffix}", symbol="BTC-USD")
    whole = [packed.getvalue(), *((tmp_path / f"BTC-USD.{suffix}").read_bytes() for suffix in ("parquet", "feather", "json.gz"))]
    for content in whole:
        for length in range(4, len(content) - 1, 37):
            (tmp_path / "BTC-USD").write_bytes(content[:length])
            refusal(tmp_path / "BTC-USD")


@given(data=st.data(), name=st.sampled_from(NAMES[1:]))
@same_folder
def test_a_byte_that_was_changed_gives_an_error_of_ours_or_valid_candles(tmp_path: Path, data: st.DataObject, name: str) -> None:
    write_foreign(MARKET, tmp_path / name, symbol="BTC-USD")
    content = bytearray((tmp_path / name).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    (tmp_path / name).write_bytes(content)
    with contextlib.suppress(CandleError):
        assert len(read_foreign(tmp_path / name)[1])


def test_files_that_unpack_to_too_much_are_refused_while_they_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n".join(simple())
    (tmp_path / "BTC-USD.gz").write_bytes(gzip.compress(text.encode()))
    zipped(tmp_path / "BTC-USD.zip", {"x.csv": text})
    (tmp_path / "BTC-USD.csv").write_text(text)
    monkeypatch.setattr(formats, "MOST_BYTES", len(text))
    for suffix in ("gz", "zip", "csv"):
        assert len(read_foreign(tmp_path / f"BTC-USD.{suffix}")[1]) == 8
    monkeypatch.setattr(formats, "MOST_BYTES", len(text) - 1)
    for suffix in ("gz", "zip", "csv"):
        assert refusal(tmp_path / f"BTC-USD.{suffix}").startswith(f"it must have at most {len(text) - 1:,} bytes when unpacked, ")


def test_a_bomb_is_stopped_at_the_first_chunk_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = gzip.compress(bytes(40 * 2**20))
    (tmp_path / "BTC-USD.gz").write_bytes(zeros)
    zipped(tmp_path / "BTC-USD.zip", {"x": "0" * 40 * 2**20})
    monkeypatch.setattr(formats, "MOST_BYTES", 2**20)
    asked: list[int] = []
    monkeypatch.setattr(formats.gzip.GzipFile, "read", _counted(formats.gzip.GzipFile.read, asked))
    monkeypatch.setattr(zipfile.ZipExtFile, "read", _counted(zipfile.ZipExtFile.read, asked))
    for suffix in ("gz", "zip"):
        asked.clear()
        assert "found more" in refusal(tmp_path / f"BTC-USD.{suffix}")
        assert sum(asked) <= 2 * 2**20


def _counted(read: Callable[..., bytes], asked: list[int]) -> Callable[..., bytes]:
    def counted(file: object, size: int) -> bytes:
        asked.append(size)
        return read(file, size)

    return counted


def test_a_table_of_too_many_rows_is_refused_before_it_is_read(tmp_path: Path) -> None:
    empty = pl.DataFrame({"x": pl.Series([None], dtype=pl.Int8).new_from_index(0, 50_000_000)})
    empty.write_parquet(tmp_path / "BTC-USD.parquet")
    assert (tmp_path / "BTC-USD.parquet").stat().st_size < 10**6
    assert refusal(tmp_path / "BTC-USD.parquet").startswith("it must have at most 44,739,242 rows, found 50,000,000; split it")


@pytest.mark.parametrize("names", [[], ["a.csv", "b.csv"]])
def test_a_zip_must_hold_one_file(tmp_path: Path, names: list[str]) -> None:
    path = zipped(tmp_path / "BTCUSDT.zip", dict.fromkeys(names, "\n".join(simple())))
    assert refusal(path).startswith(f"a zip must hold exactly one file, found {len(names)}; ")


def test_the_name_inside_a_zip_goes_nowhere(tmp_path: Path) -> None:
    assert_read(zipped(tmp_path / "BTCUSDT.zip", {"../../ETHUSDT.csv": "\n".join(simple())}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["BTCUSDT.zip"]


def test_a_file_that_is_missing_or_a_folder_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "BTCUSDT.csv")
    assert "Is a directory" in refusal(tmp_path)


# ---- exports


def test_an_export_has_the_form_that_others_expect(tmp_path: Path) -> None:
    for name in NAMES:
        write_foreign(MARKET, tmp_path / name, symbol="BTC-USD")
    first = numbers()[0]
    csv_lines = (tmp_path / NAMES[0]).read_text().splitlines()
    assert csv_lines[0] == "time,open,high,low,close,volume"
    assert csv_lines[1] == ",".join(["2023-11-14T22:14:00Z", *map(str, first)])
    feather = pl.read_ipc((tmp_path / NAMES[2]).read_bytes())
    assert feather.columns == ["date", "open", "high", "low", "close", "volume"]
    assert feather.schema["date"] == pl.Datetime("ms", "UTC")
    assert json.loads(gzip.decompress((tmp_path / NAMES[3]).read_bytes()))[0] == [START, *first]
    for name in NAMES[:2]:
        assert read_candles(tmp_path / name).sha256 == MARKET.sha256


@pytest.mark.parametrize("name", NAMES)
def test_the_same_candles_give_the_same_bytes(tmp_path: Path, name: str) -> None:
    write_foreign(MARKET, tmp_path / name, symbol="BTC-USD")
    before = (tmp_path / name).read_bytes()
    write_foreign(MARKET, tmp_path / name, symbol="BTC-USD")
    assert (tmp_path / name).read_bytes() == before
    assert not name.endswith(".gz") or before[4:8] == bytes(4)  # no clock in it


def test_an_export_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / NAMES[3]
    path.write_text("what was there")

    def fails(_: Candles, unfinished: Path) -> None:
        unfinished.write_text("half of")
        raise OSError("the disk is full")

    monkeypatch.setattr(formats, "_WRITERS", {".json.gz": fails})
    with pytest.raises(OSError, match="disk is full"):
        write_foreign(MARKET, path, symbol="BTC-USD")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [(path.name, "what was there")]


@pytest.mark.parametrize(
    ("name", "market", "words"),
    [
        ("BTC-USD.xlsx", MARKET, r"an export must end with \.csv, \.parquet, \.feather, \.json\.gz, found "),
        ("BTC-USD.json", MARKET, "an export must end with"),
        ("ETH_USDT-1m.feather", MARKET, "must be named after BTC-USD, and says ETH-USD"),
        ("BTC-USD.csv", MARKET[:0], "must get at least one candle, found none"),
    ],
)
def test_an_export_that_could_not_be_read_back_is_refused(tmp_path: Path, name: str, market: Candles, words: str) -> None:
    with pytest.raises(CandleError, match=words):
        write_foreign(market, tmp_path / name, symbol="BTC-USDT")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_real_candles_survive_every_format(tmp_path: Path, real_candles: Path, name: str) -> None:
    market = read_candles(real_candles / "SOL-USD.parquet")
    write_foreign(market, tmp_path / name.replace("BTC", "SOL"), symbol="SOL-USD")
    assert_read(tmp_path / name.replace("BTC", "SOL"), symbol="SOL-USD", market=market)
