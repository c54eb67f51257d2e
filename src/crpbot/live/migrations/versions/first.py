"""The first tables: signals, checks, fills, outbox, events."""

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "signals",
        *_said("signals"),
        sa.Column("stage", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("side", sa.Text, nullable=False),
        sa.Column("ledger_head", sa.Text, nullable=False),
        sa.Column("override", sa.Text, nullable=False),
        sa.Column("json", sa.Text, nullable=False),
        *_came_true(),
        sa.Column("outcome", sa.Text),
        sa.Column("entry_time", sa.BigInteger),
        sa.Column("entry", sa.Double),
        sa.Column("exit_time", sa.BigInteger),
        sa.Column("exit", sa.Double),
        sa.Column("gross_bp", sa.Double),
        sa.Column("net_bp", sa.Double),
    )
    for columns in (["candle"], ["symbol", "candle"], ["model_sha256", "candle"], ["ledger_head"]):
        op.create_index(f"signals_{'_'.join(columns)}", "signals", columns)
    op.create_table("checks", *_said("checks"), sa.Column("top", sa.SmallInteger, nullable=False), *_came_true())
    for table in ("signals", "checks"):
        _index_where(f"{table}_open", table, "candle", "settled IS NULL")
    op.create_table(
        "fills",
        sa.Column("id", KEY),
        sa.Column("signal", KEY, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("price", sa.Double, nullable=False),
        sa.Column("size", sa.Double, nullable=False),
        sa.Column("fee", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="fills_key"),
        sa.ForeignKeyConstraint(["signal"], ["signals.id"], name="fills_signal_of"),
        sa.UniqueConstraint("signal", "kind", name="fills_signal_kind_once"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", KEY),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.Column("sent", sa.BigInteger),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("tried", sa.BigInteger),
        sa.Column("error", sa.Text),
        sa.PrimaryKeyConstraint("id", name="outbox_key"),
        sa.UniqueConstraint("key", name="outbox_key_once"),
    )
    _index_where("outbox_waiting", "outbox", "until", "sent IS NULL")
    op.create_table(
        "events",
        sa.Column("id", KEY),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("symbol", sa.Text),
        sa.Column("model_sha256", sa.Text),
        sa.Column("text", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="events_key"),
    )
    op.create_index("events_time", "events", ["time"])


def _said(table: str) -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("id", KEY),
        sa.Column("model_sha256", sa.Text, nullable=False),
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("candle", sa.BigInteger, nullable=False),
        sa.Column("horizon", sa.Integer, nullable=False),
        sa.Column("confidence", sa.Double, nullable=False),
        sa.Column("p_down", sa.Double, nullable=False),
        sa.Column("p_neutral", sa.Double, nullable=False),
        sa.Column("p_up", sa.Double, nullable=False),
        sa.Column("recorded", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name=f"{table}_key"),
        sa.UniqueConstraint("model_sha256", "symbol", "candle", name=f"{table}_model_sha256_symbol_candle_once"),
    ]


def _came_true() -> list[sa.schema.SchemaItem]:
    return [sa.Column("label", sa.SmallInteger), sa.Column("hit", sa.Boolean), sa.Column("settled", sa.BigInteger)]


def _index_where(name: str, table: str, column: str, where: str) -> None:
    op.create_index(name, table, [column], sqlite_where=sa.text(where), postgresql_where=sa.text(where))
