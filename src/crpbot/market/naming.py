"""Which market the names of strangers mean: `BTCUSDT`, `btc_usd`, `Binance_BTCUSDT_2024_minute.csv`."""

import re
from collections.abc import Sequence
from itertools import pairwise

from crpbot.market.files import SYMBOL, check_symbol

_DOLLARS = frozenset({"USD", "USDT", "USDC", "BUSD"})
_CASH = ("FDUSD", "USDT", "USDC", "BUSD", "TUSD", "USD", "EUR", "GBP", "JPY", "BRL", "AUD", "CHF", "KRW")
_COINS = ("BTC", "ETH", "BNB")
_KNOWN = frozenset({*_COINS, "SOL", "XRP", "ADA", "DOGE", "LTC", "DOT", "BCH", "TRX", "LINK", "AVAX", "SHIB", "ARB", "BAT"})
"""Coins that settle whether BNBUSD is BNB in USD or BN in BUSD."""
_NO_COIN = re.compile(
    r"\d*|\d+(S|M|H|D|W|MO|MIN)|BINANCE(US)?|BITFINEX|BITMEX|BITSTAMP|BYBIT|COINBASE|CRYPTOCOM|DERIBIT|FTX|GATE(IO)?|GEMINI|HUOBI|KRAKEN"
    r"|KUCOIN|MEXC|OKE?X|POLONIEX|CANDLES|CRYPTO|DATA|EXPORT|FUTURES|HISTORY|KLINES|MINUTE|HOUR|DAY|OHLCV?|PERP|PRICES?|SPOT|SWAP"
)
"""Words in the names of files that would read as a coin before a quote."""


def market_of(symbol: str) -> str:
    """Return the market that somebody named, in dashed form.

    Raises:
        CandleError: it is none.

    """
    return _dashed(*symbol.split("-")) if SYMBOL.fullmatch(symbol) else check_symbol(market_in(symbol) or symbol)


def _dashed(base: str, quote: str) -> str:
    return f"{base}-{'USD' if quote in _DOLLARS else quote}"


def market_in(text: str) -> str | None:
    """Return the one symbol that a text says, dollars before coins, two words before one; None when there is none, or several."""
    words = [word for word in re.split(r"[^A-Z0-9]+", text.upper()) if not _NO_COIN.fullmatch(word)]
    for quotes, shortest in ((_CASH, 2), (_COINS, 3)):
        split = {_dashed(base, quote) for base, quote in pairwise(words) if quote in quotes and base != quote}
        several = split or set().union(*(_split(word, quotes, shortest) for word in words))
        if several:
            return several.pop() if len(several) == 1 else None
    return None


def _split(word: str, quotes: Sequence[str], shortest: int) -> set[str]:
    ends = [quote for quote in quotes if word.endswith(quote) and word not in (*_CASH, *_COINS)]
    fits = [(word.removesuffix(end), end) for end in ends if len(word) - len(end) >= shortest]
    return {_dashed(*fit) for fit in [fit for fit in fits if fit[0] in _KNOWN] or fits}
