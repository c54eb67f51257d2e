"""Whoever shows pages does not wait for a journal that does not answer; the runtime does."""

import os
import signal
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import pytest
from postgres import Server
from silent import silent

from crpbot.errors import JournalError
from crpbot.live.address import read_address
from crpbot.live.journal import Journal, open_journal
from crpbot.live.patience import Patience
from crpbot.live.store import Store

pytestmark = pytest.mark.slow  # databases, and waiting for them
LITTLE = 0.4


def refused(asked: object) -> tuple[str, float]:
    """Return what was said no with, and after how many seconds."""
    started = monotonic()
    with pytest.raises(JournalError) as error:
        asked()
    return str(error.value), monotonic() - started


def test_the_runtime_waits_for_half_a_minute_as_ever() -> None:
    store = Store(read_address("postgresql://somebody@127.0.0.1:1/journal"))
    assert (store.patience.seconds, store.patience.rest) == (30, 0)
    assert store._engine.pool.timeout() == 30


def test_a_failure_that_took_long_is_told_at_once_until_one_has_asked_again() -> None:
    patience, turn = Patience(0.1, rest=0.3), threading.Event()
    calls: list[str] = []

    def fail() -> None:
        with patience.asking():
            calls.append("asked")
            sleep(0.1)
            raise JournalError("no answer")

    def succeed() -> None:
        with patience.asking():
            turn.wait(10)

    assert refused(fail)[0] == "no answer"
    assert refused(fail)[1] < 0.05
    assert calls == ["asked"]
    sleep(0.3)
    asks = threading.Thread(target=succeed)
    asks.start()
    sleep(0.05)
    assert refused(fail)[1] < 0.05  # one thread asks; who comes meanwhile is told what is known
    turn.set()
    asks.join()
    with patience.asking():
        calls.append("again")
    assert calls == ["asked", "again"]


def test_who_is_refused_at_once_may_ask_again_at_once() -> None:
    patience = Patience(1.0, rest=60.0)
    for words in ("a number is out of range", "no such place"):
        with pytest.raises(JournalError, match=words), patience.asking():
            raise JournalError(words)


def test_a_server_that_takes_the_connection_and_never_answers_is_not_waited_for() -> None:
    with silent() as address:
        patience = Patience(2.0, rest=60.0)  # the driver knows no less
        assert 1.5 < refused(lambda: open_journal(address, patience))[1] < 4
        assert refused(lambda: open_journal(address, patience))[1] < 0.1


@contextmanager
def hasty(address: str) -> Iterator[Journal]:
    open_journal(address).close()
    journal = open_journal(address, Patience(LITTLE * 2, rest=LITTLE))
    try:
        yield journal
    finally:
        journal.close()


def test_a_locked_table_is_waited_for_as_long_as_the_patience_lasts(postgresql: Server) -> None:
    name = postgresql.new()
    with hasty(postgresql.url(name)) as journal:
        with postgresql.connect(name) as other, other.transaction():
            other.execute("LOCK TABLE signals IN ACCESS EXCLUSIVE MODE")
            words, seconds = refused(journal.signals)
            assert "statement timeout" in words
            assert seconds < 3 * LITTLE
            assert refused(journal.signals)[1] < 0.05
        sleep(LITTLE)
        assert journal.signals() == ()


@contextmanager
def stopped(processes: list[int]) -> Iterator[None]:
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)


def test_a_server_that_falls_silent_is_not_waited_for_and_asked_again_later(postgresql: Server) -> None:
    name = postgresql.new()
    first = int((postgresql.folder / "data" / "postmaster.pid").read_text().split()[0])
    with hasty(postgresql.url(name)) as journal:
        with journal.store.reading() as connection:
            own = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        with stopped([own]):
            assert journal.signals() == ()  # by another connection
        with journal.store.reading() as connection:
            own = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        with stopped([own, first]):
            assert refused(journal.signals)[1] < 6  # the one that there is, and a new one, which gets two seconds at least
            assert refused(journal.signals)[1] < 0.05
        sleep(LITTLE)
        assert journal.signals() == ()


def test_a_locked_file_is_waited_for_as_long_as_the_patience_lasts(tmp_path: Path) -> None:
    file = tmp_path / "journal.db"
    with hasty(str(file)) as journal:
        locks = sqlite3.connect(file, isolation_level=None)
        locks.execute("PRAGMA locking_mode = EXCLUSIVE")
        journal.close()
        locks.execute("BEGIN EXCLUSIVE")
        words, seconds = refused(journal.signals)
        assert "locked" in words
        assert seconds < 4 * LITTLE
        assert refused(journal.signals)[1] < 0.05
        locks.close()
