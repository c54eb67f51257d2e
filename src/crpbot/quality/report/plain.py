"""Reading a `diagnosis.json` that a file may have damaged: what is of another type than it should be is not there."""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

MOST_ITEMS, MOST_CHARACTERS = 1_000, 4_000
"""What is kept of one list and of one text: a report of ours never has more."""
LARGEST = 1e150
"""Numbers beyond this are not there: their differences and squares would overflow."""


def at(value: object, *keys: str) -> Any:  # noqa: ANN401
    """Return what stands at a path of keys; None where there is nothing."""
    for key in keys:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def table(value: object, *keys: str) -> Mapping[str, Any]:
    """Return the mapping at a path of keys; an empty one where there is none."""
    found = at(value, *keys)
    return {key: found[key] for key in found if isinstance(key, str)} if isinstance(found, Mapping) else {}


def items(value: object, *keys: str) -> list[Mapping[str, Any]]:
    """Return the mappings of the list at a path of keys."""
    found = at(value, *keys)
    return [item for item in found[:MOST_ITEMS] if isinstance(item, Mapping)] if isinstance(found, list | tuple) else []


def text(value: object, *keys: str) -> str:
    """Return the text at a path of keys, which any file can hold; "" where there is none."""
    found = at(value, *keys)
    if not isinstance(found, str):
        return ""
    return found[:MOST_CHARACTERS].encode("utf-8", "replace").decode("utf-8")


def real(value: object, *keys: str) -> float | None:
    """Return the number at a path of keys; None where there is none, or none that one could draw."""
    found = at(value, *keys)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return float(found) if -LARGEST < found < LARGEST else None


def share(value: object, *keys: str) -> float | None:
    """Return the number from 0 to 1 at a path of keys; None where there is none."""
    found = real(value, *keys)
    return found if found is not None and 0 <= found <= 1 else None


def reals(value: object, *keys: str) -> list[float]:
    """Return the numbers at a path of keys; none at all where one of them is none."""
    found = at(value, *keys)
    if not isinstance(found, list | tuple) or len(found) > MOST_ITEMS:
        return []
    numbers = [number for item in found if (number := real(item)) is not None]
    return numbers if len(numbers) == len(found) else []


def errors(value: object, *keys: str) -> list[float]:
    """Return the standard errors at a path of keys; NaN for each that is not known."""
    found = at(value, *keys)
    if not isinstance(found, list | tuple) or len(found) > MOST_ITEMS:
        return []
    return [math.nan if (number := real(item)) is None or number < 0 else number for item in found]


def histogram(value: object, *keys: str) -> tuple[list[float], dict[str, list[float]]] | None:
    """Return increasing edges, and by name the shares between them; None where they are not there or do not fit."""
    edges = reals(value, *keys, "edges")
    if len(edges) < 2 or any(right <= left for left, right in pairwise(edges)):
        return None
    shares = {name: reals(one) for name, one in table(value, *keys, "shares").items()}
    if not shares or any(len(one) != len(edges) - 1 for one in shares.values()):
        return None
    return edges, shares
