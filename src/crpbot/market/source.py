"""What a person may mean by "candles": files, the bundled sample, or a known-answer market."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from crpbot.errors import CandleError
from crpbot.market.candles import Candles
from crpbot.market.files import check_symbol, find_candles, read_candles
from crpbot.market.lake import Lake, is_lake
from crpbot.market.sample import SAMPLE, read_sample
from crpbot.market.synthetic import DEFAULT_ROWS, DEFAULT_SYMBOLS, MARKETS, make_market

SourceKind = Literal["file", "sample", "synthetic"]
_SYNTHETIC = re.compile(r"synthetic:([^:]*)(?::(\d+))?")


@dataclass(frozen=True)
class Source:
    """Candles by symbol, read when they are asked for.

    Attributes:
        kind: where the candles come from; only `synthetic` ones are made up.
        name: what a person typed, or would type.
        readers: how to get the candles of each symbol.

    """

    kind: SourceKind
    name: str
    readers: Mapping[str, Callable[[], Candles]]

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols that can be read."""
        return tuple(self.readers)

    def only_symbol(self) -> str:
        """Return the one symbol that can be read.

        Raises:
            CandleError: there are several.

        """
        if len(self.symbols) != 1:
            raise CandleError(
                f"one symbol must be meant, found {', '.join(self.symbols)} in {self.name}; say which with --symbol"
            )
        return self.symbols[0]

    def read(self, symbol: str) -> Candles:
        """Return the candles of `symbol`."""
        check_symbol(symbol)
        if symbol not in self.readers:
            other = ", or name candles of your own with --candles FILE" if self.kind == "sample" else ""
            raise CandleError(
                f"{self.name} must have candles of {symbol}; it has {', '.join(self.symbols)}; choose one of these{other}"
            )
        return self.readers[symbol]()


def open_source(text: str | None, *, symbols: Sequence[str] = (), seed: int = 0) -> Source:
    """Find out what `text` means: None is the bundled sample, `synthetic:NAME[:ROWS]` a known-answer market, else a path.

    A path is a file, a folder of files, or a lake.

    Args:
        text: what a person typed.
        symbols: that are wanted; a known-answer market makes any, and one alone names a file whose name does not.
        seed: of the known-answer market.

    Raises:
        CandleError: there is nothing of that kind.

    """
    for symbol in symbols:
        check_symbol(symbol)
    if text is None or text == "sample":
        return Source("sample", "the bundled sample", {name: partial(read_sample, name) for name in SAMPLE})
    if text.startswith("synthetic:"):
        return _synthetic(text, symbols or DEFAULT_SYMBOLS, seed)
    if is_lake(text):
        lake = Lake(text)
        return Source("file", text, {name: partial(lake.read, name) for name in lake.symbols})
    files = dict(find_candles(Path(text)))
    if "" in files:
        if len(symbols) != 1:
            raise CandleError(
                f"the candles in {text} must belong to a symbol, found none in its name; "
                "rename it to BTC-USD.csv, or say which with --symbol or --symbols"
            )
        files = {symbols[0]: files[""]}
    return Source("file", text, {name: partial(read_candles, file) for name, file in files.items()})


def _synthetic(text: str, symbols: Sequence[str], seed: int) -> Source:
    match = _SYNTHETIC.fullmatch(text)
    if match is None or match[1] not in MARKETS:
        raise CandleError(
            f"a known-answer market must be synthetic:NAME or synthetic:NAME:ROWS with NAME one of {', '.join(MARKETS)}; "
            f"found {text!r}"
        )
    name, rows = match[1], int(match[2] or DEFAULT_ROWS)
    return Source("synthetic", text, {one: partial(make_market, name, one, rows=rows, seed=seed) for one in symbols})
