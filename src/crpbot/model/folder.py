"""A model folder: the deliverables of one symbol, each whole or not there."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from crpbot.disk import locked, settle
from crpbot.errors import CheckpointError, CrpbotError

PARTIAL = ".partial"
CHECKPOINT = ".pt"
"""The suffix of a checkpoint."""
RECIPE_NAME = "recipe.toml"
ONNX_NAME = "model.onnx"
"""The deployed form."""
STATE = ".state"
"""The suffix of a state of training."""
LOCK = ".lock"
PROGRESS = "progress.jsonl"
"""How far a training is; it is no deliverable, and goes with the place to work in."""
_SYMBOL_IN_NAME = re.compile(r"(?<![A-Z0-9])[A-Z0-9]{1,20}-[A-Z0-9]{1,20}(?![A-Z0-9])")


def checkpoint_name(symbol: str, recipe: str) -> str:
    """Return the founding name of a checkpoint.

    >>> checkpoint_name("BTC-USD", "v7")
    'lstm_BTC-USD_v7_enhanced.pt'
    """
    return f"lstm_{symbol}_{recipe}_enhanced.pt"


def scaler_name(symbol: str) -> str:
    """Return the founding name of a scaler."""
    return f"scaler_{symbol}.pkl"


def symbol_in(file_name: str) -> str | None:
    """Return the symbol in the name of a model file.

    >>> symbol_in("lstm_BTC-USD_v6_enhanced.pt")
    'BTC-USD'
    """
    match = _SYMBOL_IN_NAME.search(file_name)
    return match[0] if match else None


@contextmanager
def model_folder(folder: Path) -> Iterator[Path]:
    """Give a place to work in; its files take their places in `folder` when the block ends.

    When the block fails they vanish. Only the state of a training that something cut off (Ctrl-C, a kill, a full disk) is left,
    so that the next one goes on from there. A scaler of an earlier model goes too, or it would seem to be of the new one.

    Raises:
        CheckpointError: another run is at work there.

    """
    partial = folder / PARTIAL
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    partial.mkdir(parents=True, exist_ok=True)
    try:
        with locked(partial / LOCK) as ours:
            if not ours:
                raise CheckpointError(f"one run at a time must work in {folder}, found another; wait, or choose another --out")
            _clear(partial, keep=STATE)
            try:
                yield partial
                _place(partial, folder)
            except CrpbotError:
                _clear(partial)
                raise
            except BaseException:
                _clear(partial, keep=STATE)
                raise
            else:
                _clear(partial)
            finally:
                (partial / LOCK).unlink(missing_ok=True)
    finally:
        for place in (partial, *new):
            with suppress(OSError):  # not empty: it is needed
                place.rmdir()


def _place(partial: Path, folder: Path) -> None:
    """Give files their places so that, wherever a process ends, none of an earlier model stands beside one of the new.

    What is known of the earlier model goes first, its checkpoint last. The new checkpoint comes first, and then the recipe, which
    says whose folder this is where a checkpoint of another recipe is kept in it.
    """
    files = [file for file in partial.iterdir() if file.suffix != STATE and file.name not in {LOCK, PROGRESS}]
    for old in (*(folder / file.name for file in files), *folder.glob(scaler_name("*"))):
        if old.suffix != CHECKPOINT:
            old.unlink(missing_ok=True)
    settle(folder)
    for file in sorted(files, key=lambda file: (file.suffix != CHECKPOINT, file.name != RECIPE_NAME, file.name)):
        file.replace(folder / file.name)
    settle(folder)


def _clear(folder: Path, *, keep: str | None = None) -> None:
    """Remove what is in `folder`, but for files with the suffix `keep`."""
    for place in folder.iterdir():
        if place.is_dir():
            shutil.rmtree(place)
        elif place.suffix != keep and place.name != LOCK:
            place.unlink()
