"""Plain values, as recipes, races and studies are written: what they are known by, and where two of them differ."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_ABSENT = object()


def digest(plain: Mapping[str, Any]) -> str:
    """Return the SHA-256 of plain values, whatever the order of their names."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def flat(plain: Any, at: str = "") -> dict[str, Any]:  # noqa: ANN401
    """Return every value by its whole name.

    >>> flat({"loss": {"gamma": 2.0}, "trials": 1})
    {'loss.gamma': 2.0, 'trials': 1}
    """
    if not isinstance(plain, Mapping):
        return {at: plain}
    return {key: one for name, value in plain.items() for key, one in flat(value, f"{at}.{name}" if at else name).items()}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return what differs, by its whole name: what it was and what it is, None where it is not there.

    A name that is not there differs from one that holds None.

    >>> differences({"seed": 0, "loss": {"gamma": 2.0}}, {"seed": 1, "loss": {"gamma": 2.0}})
    [('seed', 0, 1)]
    >>> differences({"seed": 0}, {"seed": 0, "trials": None})
    [('trials', None, None)]
    """
    was, is_ = flat(before), flat(now)
    names = [*was, *(name for name in is_ if name not in was)]
    return [(name, was.get(name), is_.get(name)) for name in names if was.get(name, _ABSENT) != is_.get(name, _ABSENT)]
