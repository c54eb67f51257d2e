"""How far a training is, left where another process finds it: one line an epoch, until the model folder is whole."""

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from crpbot.model.folder import PROGRESS
from crpbot.model.recipe import Recipe
from crpbot.model.training import Epoch, Watch

FORMAT = "crpbot.progress/1"


def leave_progress(folder: Path, symbol: str, recipe: Recipe, *, seed: int, watch: Watch | None = None) -> Watch:
    """Begin the file, and return what is to be told of each epoch.

    The first line says what is trained, every other one what an epoch did and how many `seconds` after the first it was done.
    Nothing depends on the file: a disk that does not take it stops no training.

    Args:
        folder: where the training works.
        symbol: of the market.
        recipe: of the model.
        seed: of the training.
        watch: is told of each epoch as well.

    """
    file, began = folder / PROGRESS, time.monotonic()
    about = {"symbol": symbol, "recipe": recipe.name, "seed": seed, "members": recipe.ensemble.members}
    _append(file, {"format": FORMAT, **about})

    def told(epoch: Epoch) -> None:
        _append(file, {"seconds": round(time.monotonic() - began, 3), **asdict(epoch)})
        if watch is not None:
            watch(epoch)

    return told


def _append(file: Path, line: Mapping[str, Any]) -> None:
    with suppress(OSError), file.open("a", encoding="utf-8") as out:
        out.write(json.dumps(line) + "\n")
