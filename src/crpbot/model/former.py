"""Former versions of a checkpoint's header: which are read, and how each becomes the next. The rule is in docs/packaging.md."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from crpbot.errors import CheckpointError

OURS, NEWEST = "crpbot.checkpoint/", 2
FORMAT = f"{OURS}{NEWEST}"
Step = Callable[[Mapping[str, Any]], Mapping[str, Any]]

FORMER: Mapping[int, Step | str] = {
    1: "it does not say which formulas its inputs had, nor which labels its fit has seen, and nobody can add that",
}
"""By former version: a pure function that makes its header one of the next version, or why there can be none."""

_SAID = re.compile(OURS + r"([1-9][0-9]{0,5})")


def newest(
    header: Mapping[str, Any], where: str, *, to: int = NEWEST, former: Mapping[int, Step | str] = FORMER
) -> Mapping[str, Any]:
    """Return a header as version `to` has it; `where` names its file in errors.

    Raises:
        CheckpointError: it says no version, a later one, or one that nothing leads on from.

    """
    said = header.get("format")
    match = _SAID.fullmatch(said) if isinstance(said, str) else None
    wanted = f"{where} must have the format {OURS}{to}"
    if match is None:
        raise CheckpointError(f"{wanted}, found {said!r:.60}; it was altered: train it again")
    if int(match[1]) > to:
        raise CheckpointError(f"{wanted} or an earlier one, found {said}, which a later crpbot wrote; update crpbot")
    for version in range(int(match[1]), to):
        step = former[version]
        if isinstance(step, str):
            raise CheckpointError(f"{wanted}, found {said}: {step}; train it again, or use the crpbot that wrote it")
        header = {**step(header), "format": f"{OURS}{version + 1}"}
    return header
