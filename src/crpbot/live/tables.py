"""The tables of the journal, as they are now; `migrations/` holds how they came to be.

Times are milliseconds of UTC. What is unknown, or does not exist, is NULL.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)

VERSION_TABLE = "journal_version"
"""Holds the name of the last migration. Not Alembic's own name for it: another program may keep its tables beside these."""

KEY = BigInteger().with_variant(Integer, "sqlite")  # only an INTEGER key counts by itself there

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s",
        "uq": "%(table_name)s_%(column_0_N_name)s_once",
        "fk": "%(table_name)s_%(column_0_N_name)s_of",
        "pk": "%(table_name)s_key",
    }
)


def _said() -> list[Column[int] | Column[str] | Column[float]]:
    """Return the columns of what was said of a candle."""
    return [
        Column("id", KEY, primary_key=True),
        Column("model_sha256", Text, nullable=False),
        Column("symbol", Text, nullable=False),
        Column("candle", BigInteger, nullable=False),
        Column("horizon", Integer, nullable=False),
        Column("confidence", Double, nullable=False),
        Column("p_down", Double, nullable=False),
        Column("p_neutral", Double, nullable=False),
        Column("p_up", Double, nullable=False),
        Column("recorded", BigInteger, nullable=False),
    ]


def _came_true() -> list[Column[int] | Column[bool]]:
    """Return the columns of what became of it."""
    return [
        Column("label", SmallInteger),
        Column("hit", Boolean),
        Column("settled", BigInteger),
    ]


signals = Table(
    "signals",
    metadata,
    *_said(),
    Column("stage", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("side", Text, nullable=False),
    Column("ledger_head", Text, nullable=False),
    Column("override", Text, nullable=False),
    Column("json", Text, nullable=False),
    *_came_true(),
    Column("outcome", Text),
    Column("entry_time", BigInteger),
    Column("entry", Double),
    Column("exit_time", BigInteger),
    Column("exit", Double),
    Column("gross_bp", Double),
    Column("net_bp", Double),
    UniqueConstraint("model_sha256", "symbol", "candle"),
    Index(None, "candle"),
    Index(None, "symbol", "candle"),
    Index(None, "model_sha256", "candle"),
    Index(None, "ledger_head"),
)
Index("signals_open", signals.c.candle, sqlite_where=signals.c.settled.is_(None), postgresql_where=signals.c.settled.is_(None))

checks = Table(
    "checks",
    metadata,
    *_said(),
    Column("top", SmallInteger, nullable=False),
    *_came_true(),
    UniqueConstraint("model_sha256", "symbol", "candle"),
)
Index("checks_open", checks.c.candle, sqlite_where=checks.c.settled.is_(None), postgresql_where=checks.c.settled.is_(None))

fills = Table(
    "fills",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("signal", KEY, ForeignKey("signals.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("price", Double, nullable=False),
    Column("size", Double, nullable=False),
    Column("fee", Double, nullable=False),
    UniqueConstraint("signal", "kind"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("key", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("sent", BigInteger),
    Column("tries", Integer, nullable=False),
    Column("tried", BigInteger),
    Column("error", Text),
    UniqueConstraint("key"),
)
Index("outbox_waiting", outbox.c.until, sqlite_where=outbox.c.sent.is_(None), postgresql_where=outbox.c.sent.is_(None))

events = Table(
    "events",
    metadata,
    Column("id", KEY, primary_key=True),
    Column("time", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("symbol", Text),
    Column("model_sha256", Text),
    Column("text", Text, nullable=False),
    Index(None, "time"),
)
