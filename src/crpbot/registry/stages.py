"""The life of a model, as a table."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, get_args

from crpbot.errors import RegistryError

Stage = Literal["candidate", "shadow", "live", "retired"]
Move = Literal["refuse", "promote", "rehearse", "override", "demote", "rollback", "retire"]

STAGES: tuple[Stage, ...] = get_args(Stage)
"""In the order of a life. `candidate` was judged and may not speak; `shadow` speaks, for rehearsal only; `live` speaks; `retired`
does so no more. One model of a symbol is live and one in shadow, at most: what another one displaces is retired."""

MOVES: Mapping[Move, tuple[tuple[Stage | None, ...], Stage | None]] = MappingProxyType(
    {
        "refuse": ((None, "candidate", "shadow", "live", "retired"), None),
        "promote": ((None, "candidate", "shadow", "live", "retired"), "live"),
        "rehearse": ((None, "candidate", "shadow", "retired"), "shadow"),
        "override": ((None, "candidate", "shadow", "retired"), "shadow"),
        "demote": (("live",), "shadow"),
        "rollback": (("retired",), "live"),
        "retire": (("candidate", "shadow", "live"), "retired"),
    }
)
"""From which stages each move starts, None being a model that was never seen, and where it leads; None stays where it is.

`refuse`, `promote` and `rehearse` answer a judgement that was made just now; `override` is somebody's word against one.
`demote` is what broken promises lead to, `rollback` brings the last live model back, and `retire` is by hand."""


def check_stage(stage: str) -> None:
    """Raise `ValueError` for what is no stage: it comes from a file."""
    if stage not in STAGES:
        raise ValueError(f"a stage must be one of {', '.join(STAGES)}, found {stage!r:.20}")


def move(model: str, kind: Move, *, now: Stage | None) -> Stage:
    """Return the stage of `model` after a move; one that was never seen and is refused is a candidate.

    >>> move("BTC-USD", "promote", now="candidate")
    'live'

    Raises:
        RegistryError: that move does not start from this stage.

    """
    starts, end = MOVES[kind]
    if now not in starts:
        allowed = ", ".join(name for name, (froms, _) in MOVES.items() if now in froms) or "nothing"
        raise RegistryError(
            f"{model} is {now or 'unknown here'}, from which one can {allowed}; found {kind!r}; choose another move"
        )
    return end or now or "candidate"
