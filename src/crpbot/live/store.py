"""The database of the journal: connections, transactions, and errors without secrets.

Writers queue, in SQLite by its own lock (`BEGIN IMMEDIATE`), in PostgreSQL by an advisory one: so nobody decides by what has
changed since, and two who write the same rows in another order do not block each other. Readers wait for nobody. Whoever waits
longer than its patience gives up.
"""

import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event, text
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from crpbot.errors import JournalError
from crpbot.live.address import Address
from crpbot.live.patience import Patience, limit

LOCK = 0x637270626F74  # "crpbot"
BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_WRITES = "crpbot_writes"


class Store:
    """A database that several threads and processes use at once.

    Args:
        address: of the database.
        patience: with it; that of the runtime by default.

    """

    def __init__(self, address: Address, patience: Patience | None = None) -> None:
        self.address = address
        self.patience = patience if patience is not None else Patience()
        self._engine = _sqlite(address, self.patience) if address.file else _postgresql(address, self.patience)
        self._mine = threading.local()

    def __repr__(self) -> str:
        return f"Store({self.address.shown})"

    @property
    def sqlite(self) -> bool:
        """Whether it is SQLite, and not PostgreSQL."""
        return self.address.file is not None

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give a connection to write with; everything or nothing is kept. Inside another `writing` of a thread it is that one's.

        Raises:
            JournalError: the database did not do it, or others kept it busy.

        """
        outer: Connection | None = getattr(self._mine, "connection", None)
        if outer is not None:
            with self._joined(outer) as connection:
                yield connection
            return
        with self._plainly(), self._engine.connect().execution_options(**{_WRITES: True}) as connection, connection.begin():
            if not self.sqlite:
                connection.execute(text(f"SET LOCAL lock_timeout = {self._milliseconds}"))
                connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
            self._mine.connection, self._mine.failed = connection, False
            try:
                yield connection
            finally:
                self._mine.connection = None
            if self._mine.failed:
                raise JournalError("a batch must end where one of its writes fails, found it going on; nothing of it was kept")

    @contextmanager
    def _joined(self, outer: Connection) -> Iterator[Connection]:
        try:
            with self._plainly():
                yield outer
        except BaseException:
            self._mine.failed = True
            raise

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection to read with. Inside `writing` of this thread it is that one's, which sees what was just written.

        Raises:
            JournalError: the database did not do it.

        """
        outer: Connection | None = getattr(self._mine, "connection", None)
        if outer is not None:
            with self._joined(outer) as connection:
                yield connection
            return
        with self._plainly(), self._engine.connect() as connection, connection.begin():
            if not self.sqlite and self.patience.rest:
                connection.execute(text(f"SET LOCAL statement_timeout = {self._milliseconds}"))
            yield connection

    @property
    def _milliseconds(self) -> int:
        return round(1_000 * self.patience.seconds)

    def add(self, table: Table, values: Mapping[str, Any], *, once: Sequence[str]) -> bool:
        """Add a row, and return whether it is new: nothing happens where there is one already that is the same in `once`.

        Raises:
            JournalError: the database did not do it.

        """
        row = (sqlite_insert if self.sqlite else postgresql_insert)(table).values(values)
        with self.writing() as connection:
            added = connection.execute(row.on_conflict_do_nothing(index_elements=once).returning(table.c.id))
            return added.first() is not None

    def keep_a_log(self) -> None:
        """Let SQLite write ahead: readers and the writer then do not wait for each other. The file remembers it."""
        if self.address.file is None:
            return
        until = time.monotonic() + self.patience.seconds
        while True:
            try:
                with closing(sqlite3.connect(self.address.file, timeout=self.patience.seconds)) as connection:
                    connection.execute("PRAGMA journal_mode = WAL").fetchone()
            except sqlite3.OperationalError as error:  # it does not always wait when another one is using the file
                if error.sqlite_errorcode & 0xFF not in BUSY or time.monotonic() > until:
                    raise self._error(str(error)) from None
                time.sleep(0.02)
            else:
                return

    def close(self) -> None:
        """Close every connection that nobody is using."""
        self._engine.dispose()

    @contextmanager
    def _plainly(self) -> Iterator[None]:
        """Turn errors of the database into one line, which quotes neither statements nor secrets."""
        with self.patience.asking():
            try:
                yield
            except DBAPIError as error:
                raise self._error(str(error.orig)) from None
            except SQLAlchemyError as error:
                raise self._error(f"{type(error).__name__}: {error}") from None

    def _error(self, found: str) -> JournalError:
        remedy = (
            "is the disk full, or the file another one's?" if self.sqlite else "does the server run, and may this user write?"
        )
        return JournalError(
            f"the journal {self.address.shown} must do what it is asked, found: {self.address.hide(found).strip()}; {remedy}"
        )


def _sqlite(address: Address, patience: Patience) -> Engine:
    engine = create_engine(
        address.url, connect_args={"timeout": patience.seconds}, hide_parameters=True, pool_timeout=patience.seconds
    )

    @event.listens_for(engine, "connect")
    def _(connection: sqlite3.Connection, _record: Any) -> None:  # noqa: ANN401
        connection.isolation_level = None  # Python would begin by itself, too late and for writes only
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")

    @event.listens_for(engine, "begin")
    def _(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgresql(address: Address, patience: Patience) -> Engine:
    asked = {} if "connect_timeout" in address.url.query and not patience.rest else {"connect_timeout": round(patience.seconds)}
    # A server that was started anew is asked again.
    engine = create_engine(
        address.url, connect_args=asked, hide_parameters=True, pool_pre_ping=True, pool_timeout=patience.seconds
    )
    if patience.rest:
        limit(engine, patience)
    return engine
