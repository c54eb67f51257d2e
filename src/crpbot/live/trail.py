"""The trail: the newest candles of each market, for whoever looks on from another process.

One file a market. What is taken is appended in one write, so whoever reads meanwhile sees whole lines and at most a half last
one, which is left out. It is for the eye: nothing is decided by it, nothing waits for the disk, and a full one stops nobody.
"""

import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from crpbot.disk import read_regular, write_whole
from crpbot.errors import CandleError
from crpbot.live.desk import Row, rows_of
from crpbot.market.candles import Candles
from crpbot.market.files import check_symbol

KEPT = 3_000
"""Candles of a market that are there at least, once there were so many."""
_MOST_BYTES = 16 * 2**20
"""Of a file; with twice as many candles as are kept it has a twentieth of that."""
_LAST = 64
"""Lines from the end among which a whole one is looked for."""


class Trail:
    """Writes the candles that a loop takes.

    Args:
        folder: for the files; nobody else writes there.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ends: dict[str, tuple[int, int]] = {}  # lines of each file, and open time of its last candle

    def take(self, symbol: str, candles: Candles, until: int) -> None:
        """Append the candles that opened before `until`, in milliseconds of UTC, and are newer than the last one there.

        A disk that does not do it leaves a hole, which the next candles follow.
        """
        try:
            lines, newest = self._ends.get(symbol) or self._find_end(symbol)
            new = [row for row in rows_of(candles) if newest < row[0] < until]
            if not new:
                return
            self._append(symbol, "".join(map(_line, new)).encode())
            self._ends[symbol] = self._cut(symbol, lines + len(new)), new[-1][0]
        except OSError:  # the next time begins with a look at what is there
            self._ends.pop(symbol, None)

    def _append(self, symbol: str, lines: bytes) -> None:
        with trail_file(self._folder, symbol).open("ab", buffering=0) as file:
            if file.write(lines) != len(lines):
                raise OSError("half of it was written")

    def _cut(self, symbol: str, lines: int) -> int:
        """Leave the newest of a file that has grown to about double, not of all markets in the same minute; return its lines."""
        if lines < 2 * KEPT - zlib.crc32(symbol.encode()) % (KEPT // 2):
            return lines
        path = trail_file(self._folder, symbol)
        write_whole(path, b"".join(path.read_bytes().splitlines(keepends=True)[-KEPT:]), lasting=False)
        return KEPT

    def _find_end(self, symbol: str) -> tuple[int, int]:
        """Return where the file of an earlier run ends; half a line, of one that was killed, goes."""
        path = trail_file(self._folder, symbol)
        self._folder.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            os.truncate(path, len(whole))
        lines = whole.splitlines()
        return len(lines), max((row[0] for row in map(_row, lines[-_LAST:]) if row), default=-1)


def read_trail(folder: Path, symbol: str, *, newest: int = KEPT) -> Candles:
    """Return the newest candles of a market, at most so many; none where there is no trail.

    What is no candle, or not newer than the one before, is left out: it is half written, damaged, or was taken twice.

    Args:
        folder: of the trail.
        symbol: of the market.
        newest: how many.

    Raises:
        CandleError: the symbol is none.

    """
    try:
        content = read_regular(trail_file(folder, check_symbol(symbol)), most=_MOST_BYTES)
    except OSError:
        content = b""
    lines = content[: content.rfind(b"\n") + 1].splitlines()
    rows = _increasing(lines[-newest:] if newest else [])
    try:
        return _candles(rows)
    except CandleError:
        return _candles([row for row in rows if _is_candle(row)])


def trail_version(folder: Path) -> Mapping[str, tuple[int, int]]:
    """Return size and time of the last change of each file by symbol: where they are the same, nothing was taken since."""
    try:
        with os.scandir(folder) as found:
            stats = {Path(one.name).stem: one.stat() for one in found if one.name.endswith(_SUFFIX) and one.name[0] != "."}
    except OSError:
        return {}
    return {symbol: (stat.st_size, stat.st_mtime_ns) for symbol, stat in stats.items()}


_SUFFIX = ".csv"


def trail_file(folder: Path, symbol: str) -> Path:
    """Return the file of a market."""
    return folder / f"{symbol}{_SUFFIX}"


def _line(row: Row) -> str:
    """Write a candle so that its numbers are read back to the last bit."""
    return ",".join(map(repr, row)) + "\n"


def _row(line: bytes) -> Row | None:
    """Read a line; one that is no candle at all is None."""
    try:
        time, first, high, low, last, volume = line.split(b",")
        row = int(time), float(first), float(high), float(low), float(last), float(volume)
    except ValueError:
        return None
    return row if 0 <= row[0] <= np.iinfo(np.int64).max else None


def _increasing(lines: Sequence[bytes]) -> list[Row]:
    """Return the rows of lines; one that is not newer than all before it was taken twice."""
    rows: list[Row] = []
    for line in lines:
        row = _row(line)
        if row is not None and (not rows or row[0] > rows[-1][0]):
            rows.append(row)
    return rows


def _candles(rows: Sequence[Row]) -> Candles:
    numbers = np.array([row[1:] for row in rows], np.float64).reshape(-1, 5)
    return Candles(np.array([row[0] for row in rows], np.int64), *numbers.T)


def _is_candle(row: Row) -> bool:
    try:
        _candles([row])
    except CandleError:
        return False
    return True
