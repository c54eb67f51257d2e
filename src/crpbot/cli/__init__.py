"""The command line: one file per command; a command reads its arguments, makes one call, prints, and exits."""

import codecs
import sys
import traceback
from io import TextIOWrapper
from typing import Any

import typer

from crpbot.cli import (
    audit,
    backtest,
    candles,
    cloud,
    diagnose,
    doctor,
    explain,
    export,
    features,
    journal,
    leaderboard,
    live,
    models,
    promote,
    repair,
    retrain,
    rollback,
    run,
    serve,
    signal,
    train,
    tune,
)
from crpbot.errors import CrpbotError

app = typer.Typer(
    name="crpbot",
    help="A factory for crypto direction models that refuses to ship a broken one.",
    add_completion=False,
    rich_markup_mode=None,  # plain help: drawing boxes would cost more time than everything else here
    pretty_exceptions_enable=False,
)

_EXTRAS = {
    "torch": "train",
    "onnx": "train",
    "optuna": "train",
    "sklearn": "train",
    **dict.fromkeys(("alembic", "apprise", "ccxt", "prometheus_client", "psycopg", "sqlalchemy"), "live"),
    **dict.fromkeys(("fastapi", "jinja2", "markupsafe", "multipart", "starlette", "uvicorn"), "web"),
    "boto3": "cloud",
    "botocore": "cloud",
    "ray": "ray",
    "mlflow": "track",
    "tensorboard": "track",
}
_ESCAPED = "crpbot.escaped"
"""What becomes of a sign that an encoding lacks, as some of Windows do the minus. A terminal shows ?; a file or a program gets it
as JSON writes it, so that nothing is lost and no command ends by it."""
_INTERRUPTED = 130
"""What typer makes of Ctrl-C."""
_UsageError: type[Any] = typer.BadParameter.__mro__[1]  # typer exports the heirs of its usage error, not the error itself


@app.callback(invoke_without_command=True)
def _top(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True),
) -> None:
    if version:
        from crpbot.version import code_version

        typer.echo(f"crpbot {code_version()}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


for command in (
    run, features, train, tune, diagnose, explain, audit, leaderboard, repair, promote, rollback, retrain, export, backtest,
    signal, live, journal, serve, doctor,
):  # fmt: skip
    app.command(command.__name__.rpartition(".")[2])(command.command)
for group in (candles, cloud, models):
    app.add_typer(group.app, name=group.__name__.rpartition(".")[2])


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2)), error.end


codecs.register_error(_ESCAPED, _escape)


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 the honest answer is no, 2 the input or the call is wrong, 3 a bug."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace" if stream.isatty() else _ESCAPED)
    try:
        code = app(standalone_mode=False)
    except _UsageError as error:
        hint = f"; see {error.ctx.command_path} --help" if error.ctx else ""
        sys.stderr.write(f"error: {' '.join(error.format_message().split()).rstrip('.')}{hint}\n")
        sys.exit(2)
    except CrpbotError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        sys.exit(2)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(error.name or "")
        if extra is None:
            traceback.print_exc()
            sys.exit(3)
        sys.stderr.write(f"error: this command needs the extra `{extra}`, found no {error.name}; pip install 'crpbot[{extra}]'\n")
        sys.exit(2)
    except OSError as error:
        sys.stderr.write(f"error: the file system must allow this, found {error}; check path, rights and space\n")
        sys.exit(2)
    except Exception:  # noqa: BLE001  whatever is left is a bug, and a bug keeps its traceback
        traceback.print_exc()
        sys.exit(3)
    if code == _INTERRUPTED:
        sys.stderr.write(
            "stopped: what was finished is on disk; the same command goes on from there, with unfinished training and downloads "
            "where they were, and an unfinished trial of tune from its beginning\n"
        )
    sys.exit(code if isinstance(code, int) else 0)
