"""The journal's tables are made, or brought up to date, by the steps in `migrations/versions`, in one transaction or not at all.

Alembic reads the steps and runs them; its command line and its `env.py` are not needed. The caller holds the lock of writers, so
of two processes that open a new database one makes the tables and the other finds them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.runtime.migration import MigrationStep
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from crpbot.errors import JournalError
from crpbot.live.tables import VERSION_TABLE, metadata

SCRIPTS = Path(__file__).parent / "migrations"


def is_current(connection: Connection, *, scripts: Path = SCRIPTS) -> bool:
    """Return whether the tables are there and up to date.

    Args:
        connection: to the database; nothing is written.
        scripts: folder with the steps.

    Raises:
        JournalError: the database has tables, but not ours; or ours, but of a later crpbot.

    """
    tables = inspect(connection).get_table_names()
    if VERSION_TABLE not in tables:
        if tables:
            some = ", ".join(sorted(tables)[:3])
            raise JournalError(
                f"a journal must have a database of its own, found one with other tables ({some}) and left it alone; name another"
            )
        return False
    known = ScriptDirectory(str(scripts))
    at = _context(connection).get_current_heads()
    later = set(at) - {one.revision for one in known.walk_revisions()}
    if later:
        raise JournalError(
            f"a journal must be of this crpbot or an earlier one, found version {', '.join(sorted(later))} and the newest known "
            f"is {known.get_current_head()}, and left it alone; update crpbot"
        )
    return set(at) == set(known.get_heads())


def migrate(connection: Connection, *, scripts: Path = SCRIPTS, to: str = "head") -> None:
    """Make the tables, or bring them up to date.

    Args:
        connection: to the database, in a transaction that holds the lock of writers.
        scripts: folder with the steps.
        to: the step to stop after.

    """
    known = ScriptDirectory(str(scripts))

    def steps(at: tuple[str, ...], _: MigrationContext) -> Sequence[MigrationStep]:
        missing = reversed(list(known.iterate_revisions(to, at or "base")))
        return [MigrationStep.upgrade_from_script(known.revision_map, one) for one in missing]

    context = _context(connection, fn=steps)
    with Operations.context(context):
        context.run_migrations()


def differences(connection: Connection) -> list[Any]:
    """Return in what the database differs from `tables.py`; nothing, after all steps."""
    from alembic.autogenerate import compare_metadata  # noqa: PLC0415  only whoever writes a step needs it

    return list(compare_metadata(_context(connection), metadata))


def _context(connection: Connection, **more: Any) -> MigrationContext:  # noqa: ANN401  options of Alembic
    return MigrationContext.configure(
        connection, opts={"version_table": VERSION_TABLE, "compare_server_default": True, "target_metadata": metadata, **more}
    )
