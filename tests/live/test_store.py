"""The journal's database: several processes, kills, versions, other people's files, and secrets."""

import itertools
import logging
import shutil
import signal as signals_of_the_system
import sqlite3
import textwrap
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from journals import check, keep, signal, start, together
from postgres import Server
from sqlalchemy import Connection, event, inspect, text

from crpbot.errors import JournalError
from crpbot.live import migrate
from crpbot.live.address import read_address
from crpbot.live.journal import open_journal
from crpbot.live.patience import Patience
from crpbot.live.store import Store
from crpbot.live.tables import VERSION_TABLE, metadata

pytestmark = pytest.mark.slow  # databases, and processes that are killed


@pytest.mark.slow
def test_two_processes_write_the_same_500_and_none_is_doubled_or_lost(address: str) -> None:
    said = [tuple(map(int, words.split())) for words in together(address, ["forwards", "backwards"])]
    journal = open_journal(address)
    found = journal.signals(limit=1_000)
    assert len({one.candle for one in found}) == len(found) == 500
    assert len(journal.open_checks()) == 500
    assert [sum(new) for new in zip(*said, strict=True)] == [500, 500]
    assert min(said)[0] > 0  # they did race
    journal.close()


@pytest.mark.slow
def test_processes_that_open_a_new_journal_at_once_all_succeed(address: str) -> None:
    together(address, ["open"] * 4)
    journal = open_journal(address)
    assert len(journal.signals()) == 1
    journal.close()


@pytest.mark.slow
def test_a_killed_writer_leaves_a_whole_journal(address: str) -> None:
    for wait in (0.05, 0.11, 0.23):
        process = start(address, "write")
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
        process.stdin.write("go\n")
        process.stdin.flush()
        process.stdout.readline()
        time.sleep(wait)
        process.send_signal(signals_of_the_system.SIGKILL)
        said = [int(line) for line in process.communicate()[0].split()]
        journal = open_journal(address)
        numbers = {one.candle for one in journal.signals(limit=10**6)}
        assert len(numbers) == len(journal.outbox.pending(0)) >= len(said)  # each with its message
        assert not keep(journal, signal(0), 0)
        last = len(numbers)
        assert keep(journal, signal(last), last)  # and it goes on
        journal.outbox.put(f"signal {last}", "t", "b", now=1, until=10**15)
        journal.close()
        if read_address(address).file:
            with sqlite3.connect(address) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            connection.close()


def test_sqlite_writes_ahead_and_keeps_its_word(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "deep" / "er" / "journal.db")
    with journal.store.writing() as connection:
        found = [connection.execute(text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "synchronous", "foreign_keys")]
        assert (found, connection.execute(text("PRAGMA busy_timeout")).scalar()) == (["wal", 2, 1], 30_000)
    journal.close()
    assert sorted(path.name for path in (tmp_path / "deep" / "er").iterdir()) == ["journal.db"]
    again = open_journal(f"sqlite:///{tmp_path}/deep/er/journal.db")
    assert again.signals() == ()
    again.close()


def test_tables_and_migrations_agree(address: str) -> None:
    journal = open_journal(address)
    with journal.store.reading() as connection:
        dialect = connection.dialect.name
        assert migrate.differences(connection) == []
        found = inspect(connection)
        assert set(found.get_table_names()) == {*metadata.tables, VERSION_TABLE}
        for name, table in metadata.tables.items():  # what the comparison leaves out: which indexes are of some rows only
            wanted = {index.name: index.dialect_options[dialect]["where"] is not None for index in table.indexes}
            indexes = {one["name"]: one.get("dialect_options", {}) for one in found.get_indexes(name)}
            assert wanted == {key: f"{dialect}_where" in indexes[key] for key in wanted}
    journal.close()


def at_step(address: str, scripts: Path, to: str) -> Store:
    store = Store(read_address(address))
    with store.writing() as connection:
        migrate.migrate(connection, scripts=scripts, to=to)
    return store


FUTURE = '''
    """A step of a later crpbot."""
    import sqlalchemy as sa
    from alembic import op

    revision, down_revision, branch_labels, depends_on = "later", "{head}", None, None

    def upgrade():
        op.add_column("signals", sa.Column("mood", sa.Text, nullable=False, server_default="fine"))
'''


@pytest.fixture
def future(tmp_path: Path) -> Path:
    """The migrations, and one more."""
    scripts = tmp_path / "migrations"
    shutil.copytree(migrate.SCRIPTS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    head = migrate.ScriptDirectory(str(migrate.SCRIPTS)).get_current_head()
    (scripts / "versions" / "future.py").write_text(textwrap.dedent(FUTURE).format(head=head))
    return scripts


def rows_of(connection: Connection) -> dict[str, list[tuple[object, ...]]]:
    """Read every row of every table, without the help of what is tested."""
    names = inspect(connection).get_table_names()
    return {
        name: sorted(map(tuple, connection.execute(text(f'SELECT * FROM "{name}"'))), key=repr)  # noqa: S608
        for name in names
        if name != VERSION_TABLE
    }


def fill(connection: Connection) -> None:
    """Put a row into every table of the first version, in SQL as it was then."""
    values = "'m', 's', 60000, 15, 0.7, 0.1, 0.2, 0.7, 1"
    signal = f"1, {values}, 'live', 'signal', 'LONG', 'h', '', '{{}}'"
    said = "model_sha256, symbol, candle, horizon, confidence, p_down, p_neutral, p_up, recorded"
    for statement in (
        f"INSERT INTO signals (id, {said}, stage, status, side, ledger_head, override, json) VALUES ({signal})",  # noqa: S608
        f"INSERT INTO checks ({said}, top) VALUES ({values}, 2)",  # noqa: S608
        "INSERT INTO fills (signal, kind, time, price, size, fee) VALUES (1, 'entry', 1, 2.5, 3.5, 0.1)",
        "INSERT INTO outbox (key, title, body, created, until, tries) VALUES ('k', 't', 'b', 1, 99, 0)",
        "INSERT INTO events (time, kind, text) VALUES (1, 'start', 'it began')",
    ):
        connection.execute(text(statement))


def test_rows_of_the_first_version_live_through_every_step_since(address: str) -> None:
    store = at_step(address, migrate.SCRIPTS, "1")
    with store.writing() as connection:
        fill(connection)
    store.close()
    journal = open_journal(address)
    assert [(one.symbol, one.side, one.confidence) for one in journal.signals()] == [("s", "LONG", 0.7)]
    assert [one.top for one in journal.open_checks()] == [2]
    assert [one.price for one in journal.paper.fills(1)] == [2.5]
    assert [one.key for one in journal.outbox.pending(5)] == ["k"]
    assert [one.text for one in journal.events.newest()] == ["it began"]
    with journal.store.reading() as connection:
        assert migrate.differences(connection) == []
    journal.close()


def test_a_step_is_made_on_a_journal_with_rows_and_an_earlier_crpbot_leaves_it_alone(address: str, future: Path) -> None:
    journal = open_journal(address)
    keep(journal, signal(), 0)
    check(journal, 0)
    with journal.store.reading() as connection:
        before = rows_of(connection)
        assert not migrate.is_current(connection, scripts=future)
    journal.close()
    store = at_step(address, future, "head")
    with store.reading() as connection:
        after = rows_of(connection)
        assert migrate.is_current(connection, scripts=future)
    assert {name: len(rows) for name, rows in after.items()} == {name: len(rows) for name, rows in before.items()}
    assert after["signals"][0] == (*before["signals"][0], "fine")
    with pytest.raises(JournalError, match="found version later and the newest known is 1, and left it alone; update"):
        open_journal(address)
    with store.reading() as connection:
        assert rows_of(connection) == after
    store.close()


def test_a_step_that_fails_leaves_what_was_there(address: str, future: Path) -> None:
    with (future / "versions" / "future.py").open("a") as step:
        step.write("    op.drop_table('nobody')\n")
    journal = open_journal(address)
    keep(journal, signal(), 0)
    with journal.store.reading() as connection:
        before = rows_of(connection)
    with pytest.raises(JournalError, match="nobody"), journal.store.writing() as connection:
        migrate.migrate(connection, scripts=future)
    with journal.store.reading() as connection:
        assert rows_of(connection) == before
        assert migrate.is_current(connection)
    journal.close()


def test_a_database_of_somebody_else_is_not_touched(address: str) -> None:
    store = Store(read_address(address))
    with store.writing() as connection:
        connection.execute(text("CREATE TABLE cats (name TEXT)"))
        connection.execute(text("CREATE TABLE alembic_version (version_num TEXT)"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('1')"))
        connection.execute(text("INSERT INTO cats VALUES ('Tom')"))
    store.close()
    file = read_address(address).file
    before = file.read_bytes() if file else b""
    with pytest.raises(JournalError, match=r"a database of its own, found one with other tables \(alembic_version, cats\)"):
        open_journal(address)
    assert (file.read_bytes() if file else b"") == before
    with store.reading() as connection:
        assert rows_of(connection) == {"alembic_version": [("1",)], "cats": [("Tom",)]}
    store.close()
    if file:
        assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize("content", [b"Not a database, but somebody's diary. " * 99, b"SQLite format 3\0" + b"\xff" * 5_000])
def test_a_file_that_is_no_database_is_not_touched(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "diary"
    file.write_bytes(content)
    with pytest.raises(JournalError, match=r"the journal .*diary must do what it is asked, found: .*(database|malformed)"):
        open_journal(file)
    assert file.read_bytes() == content


def test_a_place_that_cannot_be_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match=r"the folder of the journal .* must be there"):
        open_journal(tmp_path / "file" / "journal.db")
    with pytest.raises(JournalError, match="unable to open database file"):
        open_journal(tmp_path)
    for address in ("sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory", "sqlite://host/file", ""):
        with pytest.raises(JournalError, match="a journal must be a file"):
            open_journal(address)
    with pytest.raises(JournalError, match="must be in SQLite or PostgreSQL, found mysql"):
        open_journal("mysql://u:hunter2@h/d")


def test_the_newest_of_many_are_found_by_an_index(tmp_path: Path) -> None:
    """What is asked every minute never reads all signals, and sorts nothing."""
    journal = open_journal(tmp_path / "journal.db")
    asked: list[tuple[str, object]] = []
    event.listen(journal.store._engine, "before_cursor_execute", lambda _c, _u, words, values, *_: asked.append((words, values)))
    for symbol, model in itertools.product([None, "BTC-USD"], [None, "m"]):
        journal.signals(symbol, model)
        journal.signals(symbol, model, since=5)
        journal.signals(symbol, model, before=(5, 7), outcome="open")
        journal.reach(symbol, model, before=(5, 7), signals=9)
        journal.signals(symbol, model, before=(5, 7), stage="live", outcome="time")
        journal.open_signals(symbol, model)
        journal.open_checks(symbol, model)
    journal.heads()
    journal.outbox.pending(5)
    journal.predictions("m", "BTC-USD")
    journal.signal(3)
    journal.events.newest()
    questions = [(words, values) for words, values in asked if "SELECT" in words]
    assert len(questions) > 20
    with journal.store.reading() as connection:
        for words, values in questions:
            plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {words}", values)]
            reads = [step for step in plan if step.startswith(("SCAN", "SEARCH")) and "found" not in step]
            assert reads, plan
            assert all(" USING " in step and "AUTOMATIC" not in step for step in reads), (words, plan)
            if "outbox" not in words:
                assert not [step for step in plan if "TEMP B-TREE FOR ORDER BY" in step], (words, plan)
    journal.close()


SECRETS = ["hunter2", "p@ss:w/rd?#&", "a@geheim", "a@geheim/x?y", "ünïcode geheim"]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "address",
    [
        "postgresql://somebody:{}@127.0.0.1:1/journal",
        "postgresql://somebody:{}@127.0.0.1:port/journal",
        "postgresql://somebody:{}@127.0.0.1:1",
        "postgresql://127.0.0.1:1/journal?user=somebody&password={}",
        "postgresql://127.0.0.1:1/journal?sslpassword={}&sslmode=disable",
        "postgres://somebody:{}@",
        "oracle://somebody:{}@127.0.0.1:1/journal",
    ],
)
@pytest.mark.parametrize("coded", [True, False])
def test_a_password_is_never_shown(
    secret: str, address: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], *, coded: bool
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(JournalError) as refused:
        open_journal(address.format(quote(secret, safe="") if coded else secret))
    shown = [str(refused.value), repr(refused.value), caplog.text, *capfd.readouterr()]
    assert refused.value.__suppress_context__ or refused.value.__context__ is None  # nor where a traceback is printed
    for part in (secret, quote(secret), quote(secret, safe=""), "ss:w", "hunter", "geheim"):
        assert part not in " ".join(shown), shown


@pytest.mark.parametrize("secret", SECRETS)
def test_what_a_driver_quotes_is_hidden(secret: str) -> None:
    coded = quote(secret, safe="")
    address = read_address(f"postgresql://somebody:{coded}@host/journal?sslpassword={coded}2")
    for part in (secret, coded, quote(secret), f"{secret}2"):
        assert secret not in address.hide(f'found: "{part}", and again {part}')
        assert address.hide(f"found: {part}!") in {"found: ***!", "found: ***2!"}
    assert secret not in f"{address} {address!r} {address.shown}"
    assert address.shown == "postgresql://somebody@host/journal"


@pytest.mark.slow
def test_a_refused_password_and_an_open_journal_show_nothing(
    postgresql: Server, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    url = postgresql.url(postgresql.new())
    with pytest.raises(JournalError, match="password authentication failed for user") as refused:
        open_journal(url.replace("@127", "-wrong-hunter2@127"))
    journal = open_journal(url)
    with pytest.raises(JournalError, match=r"numeric|out of range") as broken:
        journal.outbox.put("k", "t", "the text of a message", now=2**70, until=2**70)
    assert "the text of a message" not in str(broken.value)
    shown = [str(refused.value), str(broken.value), repr(journal), str(journal.store), repr(journal.store.address), caplog.text]
    journal.close()
    for part in (postgresql.password, postgresql.password.replace("@", "%40"), "hunter2"):
        assert part not in " ".join([*shown, *capfd.readouterr()])
    assert f"postgresql://crpbot@127.0.0.1:{postgresql.port}/journal_" in repr(journal)


@pytest.mark.slow
def test_a_server_that_cut_the_line_is_asked_again(postgresql: Server) -> None:
    journal = open_journal(postgresql.url(name := postgresql.new()))
    assert keep(journal, signal(0), 0)
    with postgresql.connect() as other:
        other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
    assert keep(journal, signal(1), 1)

    def cut_in_the_middle() -> None:
        with journal.batch():
            keep(journal, signal(2), 2)
            with postgresql.connect() as other:
                other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            keep(journal, signal(3), 3)

    with pytest.raises(JournalError, match="does the server run"):
        cut_in_the_middle()
    assert len(journal.signals()) == 2
    assert keep(journal, signal(2), 2)
    journal.close()


def test_who_waits_too_long_for_the_other_writer_is_told_so(address: str) -> None:
    one, other = open_journal(address), open_journal(address, Patience(0.3))
    with one.batch():
        keep(one, signal(0), 0)
        with pytest.raises(JournalError, match=r"database is locked|lock timeout"):
            keep(other, signal(1), 1)
        assert other.signals() == ()  # who only reads does not wait
    assert keep(other, signal(1), 1)
    assert len(other.signals()) == 2
    one.close()
    other.close()


@pytest.mark.slow
def test_a_schema_of_its_own_may_be_beside_others(postgresql: Server) -> None:
    name = postgresql.new()
    with postgresql.connect(name) as connection:
        connection.execute("CREATE TABLE cats (name TEXT)")
        connection.execute("CREATE SCHEMA crpbot")
    journal = open_journal(postgresql.url(name) + "?options=-csearch_path%3Dcrpbot")
    assert keep(journal, signal(), 0)
    journal.close()
