"""An interpreter that has imported what is heavy, and is forked for every call of the command line: see `shell.py`."""

import atexit
import gc
import importlib
import json
import os
import signal
import sys
from typing import Any, TextIO

HEAVY = (
    "ccxt",
    "crpbot.factory",
    "crpbot.making.model",
    "crpbot.signals.backtest",
    "onnx",
    "polars",
    "sklearn.preprocessing",
    "torch",
)
LIMIT = 300
"""Seconds that a call may take."""


def serve(asked: TextIO) -> None:
    """Answer each line with the exit code of the call that it asks for."""
    for line in asked:
        child = os.fork()
        if child == 0:
            call(json.loads(line))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def call(asked: dict[str, Any]) -> None:
    """Be `crpbot WORDS`, with this environment, in this folder, and end."""
    signal.alarm(LIMIT)
    for number, place in enumerate((os.devnull, *asked["streams"])):
        opened = os.open(place, os.O_WRONLY if number else os.O_RDONLY)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    sys.argv = ["crpbot", *asked["words"]]
    code = 0
    try:
        importlib.import_module("crpbot.cli").main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # an end in order would touch, and so copy, all that was imported


def main() -> None:
    """Import what is heavy, then serve."""
    for name in HEAVY:
        importlib.import_module(name)
    gc.freeze()
    serve(sys.stdin)


if __name__ == "__main__":
    main()
