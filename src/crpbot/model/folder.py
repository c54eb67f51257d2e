"""A model folder: the deliverables of one symbol, each whole or not there."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".partial"
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
    """Give a place to work in; its files take their places in `folder` when the block ends, and vanish when it fails."""
    partial = folder / PARTIAL
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        for file in sorted(partial.iterdir()):
            file.replace(folder / file.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        for place in new:
            if not any(place.iterdir()):
                place.rmdir()
