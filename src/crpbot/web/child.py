"""What an errand does in a process of its own: with limits, without secrets, and never longer than the dashboard lives.

    python -P -m crpbot.web.child

The first line of standard input says what to do, as JSON; the answer is `.answer.json` in the working folder. The process ends
when its standard input does: whoever started it is gone then, however that came.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from crpbot.disk import write_whole
from crpbot.errors import CrpbotError

ANSWER = ".answer.json"
"""Begins as no name of a dropped file does: what a stranger has sent must not pass for it."""
OUT_OF_MEMORY = ("memoryerror", "bad_alloc", "allocate memory", "memory allocation", "out of memory", "start new thread")
"""What those say who ask for more memory than they may have, in small letters."""

Request = Mapping[str, Any]
Answer = dict[str, Any]


def limit(*, memory: int, seconds: float, file: int) -> None:
    """Bound what this process may use; a system that knows a limit not leaves it out.

    Args:
        memory: bytes of its own. What is only mapped does not count: a torch for graphics cards maps several GiB of code.
        seconds: of the processor.
        file: bytes of any file that it writes.

    """
    try:
        import resource  # noqa: PLC0415  there is none on Windows
    except ImportError:
        return
    cpu = max(1, round(seconds))
    for kind, soft, hard in (
        ("DATA", memory, memory),
        ("CPU", cpu, cpu + 5),  # the first is told from other ends, the second cannot be caught
        ("FSIZE", file, file),
        ("CORE", 0, 0),
    ):
        with suppress(OSError, ValueError, AttributeError):  # not known here, or less is allowed already
            resource.setrlimit(getattr(resource, f"RLIMIT_{kind}"), (soft, hard))


def main() -> None:
    """Do what standard input says."""
    request: Request = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_input, daemon=True).start()
    limit(**request["limits"])
    try:
        answer = DO[request["do"]](request)
    except CrpbotError as error:
        answer = {"state": "refused", "words": str(error)}
    except ModuleNotFoundError as error:
        if error.name not in {"torch", "onnx"}:
            raise
        answer = {"state": "refused", "words": "this file needs the extra `train`, found no torch; pip install 'crpbot[train]'"}
    write_whole(Path(ANSWER), json.dumps(answer, allow_nan=False))


def _diagnose(request: Request) -> Answer:
    from crpbot.model.loading import open_model  # noqa: PLC0415  the file is read before anything heavy is imported

    opened = open_model(Path(request["model"]))
    from crpbot import factory  # noqa: PLC0415  likewise
    from crpbot.model.recipe import load_recipe  # noqa: PLC0415

    candles, kind = factory.read_market(request["candles"], request["symbol"] or opened.market)
    judgement = factory.diagnose(
        opened,
        _known(candles, request["until"]),
        source=kind,
        label_recipe=load_recipe(request["label"]),
        scaler=request["scaler"],
        features=tuple(request["features"]) or None,
    )
    return {"state": "done", "words": "", "passed": judgement.verdict.passed, "judgement": judgement.to_dict()}


def _promote(request: Request) -> Answer:
    from crpbot.model.loading import open_model  # noqa: PLC0415  as above

    opened = open_model(Path(request["model"]))
    if opened.sha256 != request["sha256"]:
        raise CrpbotError(f"what is promoted must be the file {request['sha256'][:12]}, found {opened.sha256[:12]}; ask again")
    from crpbot import factory, upkeep  # noqa: PLC0415  as above
    from crpbot.registry.registry import Registry  # noqa: PLC0415

    rows, kind = factory.read_market(request["candles"], opened.market)
    rows = _known(rows, request["until"])
    judgement = factory.diagnose(opened, rows, source=kind, called=opened.path.name)
    override = request["override"].strip()
    found = upkeep.promote(
        opened,
        judgement,
        request["candles"] if request["until"] is None else rows,
        Registry(Path(request["registry"])),
        now=request["now"],
        override=override,
        who=request["who"],
    )
    stage = found.decision.stage
    return {
        "state": "done" if stage == ("shadow" if override and stage != "live" else "live") else "refused",
        "words": found.decision.reason,
        "stage": stage,
        "passed": found.judgement.verdict.passed,
        "audit": None if found.audit is None else found.audit.to_dict(),
        "judgement": found.judgement.to_dict(),
    }


def _train(request: Request) -> Answer:
    from crpbot import factory  # noqa: PLC0415  as above
    from crpbot.making.model import train_model  # noqa: PLC0415
    from crpbot.model.recipe import load_recipe  # noqa: PLC0415

    if hasattr(os, "nice"):
        os.nice(request["nice"])
    rows, kind = factory.read_market(request["candles"], request["symbol"])
    recipe, folder = load_recipe(request["recipe"]), Path(request["folder"])
    rows = _known(rows, request["until"])
    rows = rows[int(rows.time.searchsorted(request["since"])) :]
    judgement = train_model(request["symbol"], rows, recipe, source=kind, seed=request["seed"], folder=folder)
    return {"state": "done", "words": "", "passed": judgement.verdict.passed}


DO: Mapping[str, Callable[[Request], Answer]] = {"diagnose": _diagnose, "promote": _promote, "train": _train}


def _known(candles: Any, until: int | None) -> Any:  # noqa: ANN401  Candles, which are read later
    """Return the candles that opened before `until`, in milliseconds of UTC."""
    return candles if until is None else candles[: int(candles.time.searchsorted(until))]


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    if hasattr(os, "killpg") and os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)  # another thread cannot end the main one


if __name__ == "__main__":
    main()
