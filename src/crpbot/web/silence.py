"""Why nothing was said, and what to do: silence is what an honest model does most of the time."""

from shlex import quote

from crpbot.errors import CrpbotError
from crpbot.live.health import TOO_OLD
from crpbot.quality.metrics import percent
from crpbot.web.house import House


def silence(house: House, symbol: str) -> tuple[str, ...]:
    """Return why nothing was said of a market, in sentences.

    Args:
        house: that is looked at.
        symbol: of the market; "" where there is none.

    """
    reasons = (_may_speak(house, symbol), _listens(house), _heard(house, symbol))
    return ("Nothing was said yet.", *filter(None, reasons))


def _may_speak(house: House, symbol: str) -> str:
    try:
        own = [entry for entry in house.entries() if not symbol or entry.symbol == symbol]
    except CrpbotError:
        return "Nobody may speak: the ledger cannot be believed."
    if any(entry.stage in {"live", "shadow"} for entry in own):
        return ""
    of = f" of {symbol}" if symbol else ""
    if not own:
        return f"There is no model{of}. Make and judge one: crpbot run."
    return f"No model{of} may speak; the newest is a {own[0].stage}: {own[0].reason}."


def _listens(house: House) -> str:
    runtime = house.runtime()
    if runtime is None:
        home = quote(str(house.setting.home))
        return f"Nobody listens to the market. Start it, as a service (docs/live.md): crpbot live --home {home}"
    if runtime.age > TOO_OLD:
        return f"Nobody listens to the market: crpbot live was last heard of {runtime.age / 60:,.0f} min ago. Start it again."
    return ""


def _heard(house: House, symbol: str) -> str:
    """Return how near a signal was: honest confidence in a direction is seldom as high as it has to be."""
    journal = house.journal()
    if journal is None:
        return ""
    try:
        own = [entry for entry in house.entries() if entry.symbol == symbol and entry.stage in {"live", "shadow"}]
    except CrpbotError:
        return ""
    if not own:
        return ""
    name = ("surest", own[0].sha256)
    found = house.kept.get(name, house.journal_version(), lambda: journal.tally.heard(own[0].sha256, symbol))
    if found.highest is None:
        return "Its model has not been heard on a whole horizon yet. Wait for a quarter of an hour."
    return (
        f"Its model was heard {found.checks:,} times and was never surer of a direction than {percent(found.highest)}; a signal "
        f"needs {house.setting.threshold:.0%}. What a lower one would have earned is what crpbot backtest --threshold tells."
    )
