"""What a Parquet file says of its pages is proven before Polars believes it."""

import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from crpbot.errors import CandleError
from crpbot.market.parquet_pages import check_pages, check_pages_in

ROWS = 6_000
FRAME = pl.DataFrame(
    {
        "time": np.arange(ROWS),
        "close": np.random.default_rng(0).random(ROWS),
        "word": ["a", "b", None] * (ROWS // 3),
        "list": [[1, 2], []] * (ROWS // 2),
        "yes": [True, None] * (ROWS // 2),
    }
)


def written(frame: pl.DataFrame = FRAME, **how: object) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer, **how)
    return buffer.getvalue()


@pytest.mark.parametrize("compression", ["zstd", "snappy", "gzip", "lz4", "uncompressed"])
@pytest.mark.parametrize("how", [{}, {"row_group_size": 1_000, "data_page_size": 512}, {"statistics": "full"}])
def test_what_is_written_well_is_let_through(compression: str, how: dict) -> None:
    check_pages(written(compression=compression, **how), "x")


def test_a_table_without_rows_or_without_columns_is_let_through() -> None:
    check_pages(written(FRAME[:0]), "x")
    check_pages(written(pl.DataFrame()), "x")


def test_a_page_with_fewer_than_no_values_is_refused(tmp_path: Path) -> None:
    """Its count is the first number of the header of its data: ten values are the byte 20, and minus ten the byte 19."""
    content = bytearray(written(FRAME[:10].select("time"), compression="uncompressed", statistics=False))
    at = content.index(bytes([0x2C, 0x15, 20]))
    content[at + 2] = 19
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(CandleError, match=r"x\.parquet must be readable as parquet: a page says that it has -10 values; check"):
        check_pages_in(tmp_path / "x.parquet")
    content[at + 2] = 22
    with pytest.raises(CandleError, match="pages say that they have 11 values, their column says 10"):
        check_pages(bytes(content), "x")


@pytest.mark.parametrize("length", [2**31 - 1, 2**32 - 1, 10_000_000])
def test_a_footer_longer_than_the_file_is_refused(length: int) -> None:
    content = written()
    with pytest.raises(CandleError, match="its footer is longer than the file"):
        check_pages(content[:-8] + length.to_bytes(4, "little") + content[-4:], "x")


def test_lists_in_lists_of_a_footer_end() -> None:
    footer = b"\x19" + b"\x19" * 5_000
    with pytest.raises(CandleError, match="more is said of its columns than there can be"):
        check_pages(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1", "x")


def test_what_is_no_parquet_is_left_to_its_reader(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    check_pages_in(tmp_path / "empty")
    check_pages(b"nonsense", "x")
