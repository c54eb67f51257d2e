"""Which symbol a command means when nobody said it."""

import re
from typing import TYPE_CHECKING

from crpbot.errors import CandleError

if TYPE_CHECKING:
    from crpbot.market.source import Source

_IN_NAME = re.compile(r"(?<![A-Z0-9])[A-Z0-9]{1,20}-[A-Z0-9]{1,20}(?![A-Z0-9])")


def only_symbol(source: "Source") -> str:
    """Return the one symbol of `source`."""
    if len(source.symbols) != 1:
        raise CandleError(
            f"one symbol must be meant, found {', '.join(source.symbols)} in {source.name}; say which with --symbol"
        )
    return source.symbols[0]


def symbol_in(file_name: str) -> str | None:
    """Return the symbol in the name of a model file.

    >>> symbol_in("lstm_BTC-USD_v6_enhanced.pt")
    'BTC-USD'
    """
    match = _IN_NAME.search(file_name)
    return match[0] if match else None
