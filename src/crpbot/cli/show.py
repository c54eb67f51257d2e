"""What a terminal shows: progress while training, and the table at the end."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from crpbot.errors import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from crpbot.making.jobs import Done, Job, Report
    from crpbot.making.race.board import Leaderboard
    from crpbot.market.exchange import Progress as Progressed
    from crpbot.model.training import Epoch
    from crpbot.quality.audit.audit import Audit
    from crpbot.quality.repair import Repaired
    from crpbot.quality.report.data import Judgement

MOST_CAUSES = 3
"""Causes that are explained; the others are named."""
FEWEST_COLUMNS = 110
"""Width of the table where the output is no terminal."""


def console() -> Console:
    """Return the place to print to: as wide as the terminal, or wide enough for a file."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else FEWEST_COLUMNS)


def training_progress() -> "AbstractContextManager[tuple[Report, Done]]":
    """Give two functions that show epochs and finished models on standard error; see `progress_of`."""
    return progress_of(_ended)


@contextmanager
def progress_of(
    ended_words: "Callable[[Any], str]",
) -> "Iterator[tuple[Callable[[Any, Epoch], None], Callable[[Any, Any], None]]]":
    """Give two functions that show epochs and what is done on standard error: bars in a terminal, else a line each.

    A bar tells of the epochs of a model that is being trained, and goes when it is done; what is done stays as a line above.
    Whatever is being done has a name; `ended_words` says how it ended.
    """
    errors = Console(stderr=True, highlight=False)
    if not errors.is_terminal:

        def write(job: Any, epoch: "Epoch") -> None:  # noqa: ANN401
            sys.stderr.write(f"{job.name}  {_words(epoch)}\n")

        def ended(job: Any, result: Any) -> None:  # noqa: ANN401
            sys.stderr.write(f"{job.name}  {ended_words(result)}\n")

        yield write, ended
        return
    with Progress(*_columns(), console=errors) as progress:
        tasks: dict[str, TaskID] = {}

        def watch(job: Any, epoch: "Epoch") -> None:  # noqa: ANN401
            if job.name not in tasks:
                tasks[job.name] = progress.add_task(job.name, total=epoch.of, words="")
            progress.update(tasks[job.name], completed=epoch.epoch, words=_words(epoch))

        def done(job: Any, result: Any) -> None:  # noqa: ANN401
            if job.name in tasks:
                progress.remove_task(tasks.pop(job.name))
            progress.console.print(Text(f"{job.name}  {ended_words(result)}"))

        yield watch, done


def _ended(judgement: "Judgement") -> str:
    verdict, epochs = judgement.verdict, len(judgement.history)
    said = "passes" if verdict.passed else f"is refused by {', '.join(result.name for result in verdict.failed)}"
    return f"done after {epochs} epochs; {said}"


def print_table(judgements: "Sequence[Judgement]", extra: Sequence[tuple[str, Sequence[str]]] = ()) -> None:
    """Print one row a measure, one column a model, the founding targets beside them; `extra` rows come last."""
    from crpbot.quality.report.text import table_rows

    table = Table(show_header=True, header_style="bold", pad_edge=False)
    table.add_column("")
    for judgement in judgements:
        table.add_column(Text(judgement.name), overflow="fold")
    table.add_column("founding target", style="dim")
    for row in table_rows(judgements):
        table.add_row(row.name, *row.cells, row.target)
    for name, cells in extra:
        table.add_section()
        table.add_row(name, *cells, "")
    console().print(table)


def print_rows(headline: str, rows: Sequence[tuple[str, str]]) -> None:
    """Print one sentence and a table of names and cells."""
    table = Table(show_header=False, pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("", overflow="fold")
    for name, cell in rows:
        table.add_row(name, Text(cell))
    console().print(Text(printable(headline)))
    console().print(table)


def print_runs(jobs: "Sequence[Job]", judgements: "Sequence[Judgement]") -> None:
    """Print one row a model, then what seeds and folds of a symbol say together."""
    from crpbot.quality.report.runs import HEADINGS, run_row, runs_words

    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for heading in HEADINGS:
        table.add_column(heading, no_wrap=heading != HEADINGS[-1])
    for job, judgement in zip(jobs, judgements, strict=True):
        table.add_row(*(Text(cell) for cell in run_row(job.name, judgement)))
    console().print(table)
    for symbol in dict.fromkeys(job.symbol for job in jobs):
        of_symbol = [judgement for job, judgement in zip(jobs, judgements, strict=True) if job.symbol == symbol]
        _say((f"{symbol} ", "bold"), runs_words(of_symbol))


def print_founding_table(judgements: "Sequence[Judgement]") -> None:
    """Print the table of the founding document, one column a model."""
    from crpbot.quality.report.text import founding_rows

    table = Table(show_header=True, header_style="bold", pad_edge=False)
    table.add_column("the founding document's table")
    for judgement in judgements:
        table.add_column(Text(judgement.name), overflow="fold")
    for row in founding_rows(judgements):
        table.add_row(row.name, *row.cells)
    console().print(table)


def print_repair(repaired: "Repaired", out: Path, options: str) -> None:
    """Print what was repaired with its proof, what is left, and how to go on with the same `options`."""
    for repair in repaired.done:
        _say(
            ("repaired ", "bold"),
            f"{repair.cause}: {repair.remedy}; log loss {repair.log_loss_before:,.4g} → {repair.log_loss_after:,.4g} "
            f"on {repair.rows:,} rows that it was not fitted on",
        )
    for cause in repaired.left:
        _say("left ", (cause.code, "bold"), f" ({cause.severity}): {cause.message}")
    if repaired.done:
        _say(f"written: {out}, repaired and unproven: the gates decide about it like any other (crpbot diagnose {out}{options})")
    else:
        _say("Nothing was written: no remedy leaves a network that is sound on rows that it was not fitted on.")


@contextmanager
def download_progress() -> "Iterator[Callable[[Progressed], None]]":
    """Show minutes, speed and time left of each symbol, on standard error: a bar in a terminal, else a line for each tenth."""
    errors = Console(stderr=True, highlight=False)
    if not errors.is_terminal:
        tenths: dict[str, int] = {}

        def write(progress: "Progressed") -> None:
            tenth = 10 * progress.rows // max(progress.of_rows, 1)
            if tenths.get(progress.symbol) != tenth:
                tenths[progress.symbol] = tenth
                sys.stderr.write(f"{progress.symbol}  {_minutes(progress)}\n")

        yield write
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[words]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors) as bars:
        tasks: dict[str, TaskID] = {}

        def watch(progress: "Progressed") -> None:
            if progress.symbol not in tasks:
                tasks[progress.symbol] = bars.add_task(progress.symbol, total=progress.of_rows, words="")
            bars.update(tasks[progress.symbol], completed=progress.rows, words=_minutes(progress))

        yield watch


def _columns() -> "tuple[ProgressColumn, ...]":
    return TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[words]}"), TimeRemainingColumn()


def _minutes(progress: "Progressed") -> str:
    return f"{progress.rows:,} of {progress.of_rows:,} minutes, {progress.rows_per_second:,.0f} a second"


@contextmanager
def steps() -> "Iterator[Callable[[str], None]]":
    """Show what is being done, on standard error: one line that changes in a terminal, else nothing."""
    errors = Console(stderr=True, highlight=False)
    if not errors.is_terminal:
        yield lambda _: None
        return
    with errors.status("starting") as status:
        yield status.update


_MARKS = {
    "passed": ("passed ", "green"),
    "failed": ("FAILED ", "bold red"),
    "unknown": ("unknown", "yellow"),
    "told": ("       ", ""),
}


def print_audit(audit: "Audit") -> None:
    """Print every check, then the verdict."""
    for check in audit.checks:
        _say(_MARKS[check.status], " ", (check.name, "bold"), f": {check.words}")
    _say(
        ("EARNED " if audit.earned else "NOT EARNED ", "bold green" if audit.earned else "bold red"),
        f"({audit.code}) {audit.words}",
    )


def print_leaderboard(board: "Leaderboard") -> None:
    """Print one table a symbol, best first, then what it says in words."""
    from crpbot.making.race.words import EXPLAINED, HEADINGS, sentences, table_rows

    for block in board.tests:
        table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
        for heading in HEADINGS:
            table.add_column(heading, justify="left" if heading == HEADINGS[0] else "right", overflow="fold")
        for name, row in table_rows(board, block):
            table.add_row(*(Text(printable(cell)) for cell in row), style="bold" if name == board.pick else None)
        _say((f"{block.symbol}, {block.rows:,} rows of the test block", "bold"))
        console().print(table)
    _say((EXPLAINED, "dim"))
    for sentence in sentences(board):
        _say(sentence)


def print_reasons(judgement: "Judgement") -> None:
    """Print the verdict, what it means, every cause and every failed gate, in words and in the order of the report."""
    from crpbot.quality.report.text import plain_words, row_words, selective_words

    verdict = judgement.verdict
    n_gates = len(verdict.results)
    if verdict.passed:
        _say(("PASSED ", "bold green"), f"{judgement.name}: all {n_gates} {verdict.table} gates. {plain_words(judgement)}")
    else:
        _say(("REFUSED ", "bold red"), f"{judgement.name}: {len(verdict.failed)} of {n_gates} {verdict.table} gates failed")
        _say(f"  {plain_words(judgement)}")
    if words := row_words(judgement.diagnosis):
        _say(f"  {words}")
    if verdict.passed and (words := selective_words(judgement.diagnosis)):
        _say(f"  {words}")
    for cause in judgement.causes[:MOST_CAUSES]:
        _say("  cause ", (cause.code, "bold"), f" ({cause.severity}): {cause.message}")
        if cause.what_if is not None:
            _say(f"    {cause.what_if}")
    if others := judgement.causes[MOST_CAUSES:]:
        _say(f"  and {', '.join(f'{cause.code} ({cause.severity})' for cause in others)}: --html shows them all")
    if judgement.causes:
        _say(f"  each with an example: crpbot explain {judgement.causes[0].code}")
    for result in verdict.failed:
        _say("  ", (result.name, "red"), f": {result.words} (must be {result.limit})")


def _say(*parts: str | tuple[str, str]) -> None:
    """Print text, some of it with a style; nothing in it is taken for markup."""
    safe = [printable(part) if isinstance(part, str) else (printable(part[0]), part[1]) for part in parts]
    console().print(Text.assemble(*safe), soft_wrap=True)


def _words(epoch: "Epoch") -> str:
    star = " *" if epoch.best else ""
    if epoch.earlier:
        star += "  (done by an earlier run)"
    whose = f"member {epoch.member}  " if epoch.member else ""
    return (
        f"{whose}epoch {epoch.epoch}/{epoch.of}  {epoch.rows_per_second:,.0f} rows/s  loss {epoch.training_loss:.5f}  "
        f"calibration {epoch.calibration_log_loss:.5f}{star}"
    )
