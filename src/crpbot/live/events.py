"""What happened to the runtime: starts, stops, promotions, gaps."""

from dataclasses import asdict, dataclass

from sqlalchemy import insert, select

from crpbot.live.records import Event
from crpbot.live.store import Store
from crpbot.live.tables import events


@dataclass(frozen=True, slots=True)
class Events:
    """Things that happened.

    Attributes:
        store: where they are kept.

    """

    store: Store

    def add(self, event: Event) -> None:
        """Write down what happened."""
        with self.store.writing() as connection:
            connection.execute(insert(events), asdict(event))

    def newest(self, limit: int = 100) -> tuple[Event, ...]:
        """Return the last of them, newest first."""
        columns = [events.c[name] for name in Event.__dataclass_fields__]
        with self.store.reading() as connection:
            rows = connection.execute(select(*columns).order_by(events.c.time.desc(), events.c.id.desc()).limit(limit))
            return tuple(Event(**row) for row in rows.mappings())
