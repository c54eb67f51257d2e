"""The demo."""

from crpbot.market.candles import MINUTE

DAY = 24 * 60 * MINUTE
END = 1_780_272_000_000
"""When the bundled year is over: 2026-06-01T00:00Z, in milliseconds of UTC."""
CUT = END - 14 * DAY
"""The models of the demo know what came before, and nothing after."""
START = END - 7 * DAY
"""From here on the market is replayed while somebody looks; the week before is in the journal."""
HISTORY = 4_000
"""Candles before a replay that it begins with: the features of every recipe have seen enough then."""
THRESHOLD = 0.50
"""The demo speaks from here on, so that there is something to see; a real one needs 60 %."""
PLAYED = ("BTC-USD", "ETH-USD")
JOURNAL = "replay.db"
