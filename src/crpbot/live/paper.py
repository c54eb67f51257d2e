"""Paper trading: the fills that signals would have had, and what they earned."""

from dataclasses import asdict, dataclass

from sqlalchemy import and_, case, func, select

from crpbot.live.records import Fill, PaperSummary
from crpbot.live.store import Store
from crpbot.live.tables import fills, signals


@dataclass(frozen=True, slots=True)
class Paper:
    """Fills on paper.

    Attributes:
        store: where they are kept.

    """

    store: Store

    def fill(self, fill: Fill) -> bool:
        """Keep a fill, and return whether it is new: a signal has one entry and one exit.

        Raises:
            JournalError: there is no such signal.

        """
        return self.store.add(fills, asdict(fill), once=("signal", "kind"))

    def fills(self, signal: int) -> tuple[Fill, ...]:
        """Return the fills of a signal, entry first."""
        columns = [fills.c[name] for name in Fill.__dataclass_fields__]
        with self.store.reading() as connection:
            rows = connection.execute(select(*columns).where(fills.c.signal == signal).order_by(fills.c.kind)).mappings()
            return tuple(Fill(**row) for row in rows)

    def newest(self) -> int:
        """Return the number of the last fill, 0 before the first; while it is the same, `summary` is."""
        with self.store.reading() as connection:
            newest: int | None = connection.execute(select(func.max(fills.c.id))).scalar_one()
            return newest or 0

    def summary(self, symbol: str | None = None, model: str | None = None) -> PaperSummary:
        """Return what was earned: of a market, of a model, or of all."""
        entry, out = fills.alias("entry"), fills.alias("out")
        sign = case((signals.c.side == "LONG", 1.0), else_=-1.0)
        fees = entry.c.fee + out.c.fee
        earned = sign * (out.c.price - entry.c.price) * entry.c.size - fees
        wanted = (
            select(
                func.count(out.c.id).label("trades"),
                func.sum(case((out.c.id.is_(None), 1), else_=0)).label("open"),
                func.sum(case((earned > 0, 1), else_=0)).label("won"),
                func.sum(earned).label("earned"),
                func.sum(case((out.c.id.is_not(None), fees), else_=0.0)).label("fees"),
            )
            .select_from(signals.join(entry, and_(entry.c.signal == signals.c.id, entry.c.kind == "entry")))
            .outerjoin(out, and_(out.c.signal == signals.c.id, out.c.kind == "exit"))
        )
        for column, value in ((signals.c.symbol, symbol), (signals.c.model_sha256, model)):
            wanted = wanted if value is None else wanted.where(column == value)
        with self.store.reading() as connection:
            row = connection.execute(wanted).mappings().one()
            return PaperSummary(
                trades=row["trades"],
                open=row["open"] or 0,
                won=row["won"] or 0,
                earned=row["earned"] or 0.0,
                fees=row["fees"] or 0.0,
            )
