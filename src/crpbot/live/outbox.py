"""Messages to people, kept until they are sent: the part of the journal that the notifier works off."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update

from crpbot.live.records import Message
from crpbot.live.store import Store
from crpbot.live.tables import outbox


@dataclass(frozen=True, slots=True)
class Outbox:
    """Messages that wait.

    Attributes:
        store: where they are kept.

    """

    store: Store

    def put(self, key: str, title: str, body: str, *, now: int, until: int) -> bool:
        """Put a message here, and return whether it is new: one with a key that was ever here before is not.

        Args:
            key: says whether two messages are the same.
            title: of the message.
            body: of the message.
            now: milliseconds of UTC.
            until: when it is of no use any more, likewise.

        """
        values = {"key": key, "title": title, "body": body, "created": now, "until": until, "tries": 0}
        return self.store.add(outbox, values, once=("key",))

    def pending(self, now: int) -> tuple[Message, ...]:
        """Return what is not sent and still of use, oldest first."""
        columns = [outbox.c[name] for name in Message.__dataclass_fields__]
        wanted = select(*columns).where(outbox.c.sent.is_(None), outbox.c.until > now).order_by(outbox.c.created, outbox.c.id)
        with self.store.reading() as connection:
            return tuple(Message(**row) for row in connection.execute(wanted).mappings())

    def sent(self, key: str, now: int) -> None:
        """Say that a message was sent."""
        self._change(key, {"sent": now})

    def failed(self, key: str, error: str, now: int) -> None:
        """Say that a message could not be sent, and why; the words are kept as they are, so leave secrets out."""
        self._change(key, {"tries": outbox.c.tries + 1, "tried": now, "error": error})

    def _change(self, key: str, values: dict[str, Any]) -> None:
        with self.store.writing() as connection:
            connection.execute(update(outbox).where(outbox.c.key == key, outbox.c.sent.is_(None)).values(values))
