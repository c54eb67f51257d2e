"""Keeping models fit: promotion on later candles, and retraining on a rolling window, through the same gates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crpbot import factory
from crpbot.errors import RegistryError
from crpbot.market.candles import MINUTE, Candles, utc
from crpbot.market.source import SourceKind
from crpbot.model.folder import checkpoint_name
from crpbot.model.loading import ModelFile, open_model
from crpbot.quality.gates import answered
from crpbot.registry.entries import Entry
from crpbot.registry.registry import DAY, Decision, Registry

if TYPE_CHECKING:
    from crpbot.making.jobs import Done, Report
    from crpbot.model.recipe import Recipe
    from crpbot.quality.audit.audit import Audit
    from crpbot.quality.report.data import Judgement

SOON = 7
"""Days before its end within which a model is expiring: time enough for a second try."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Promotion:
    """What came of the wish to promote a model.

    Attributes:
        judgement: made of it now.
        audit: that had to answer an alarm; None where none rang.
        decision: of the registry.

    """

    judgement: "Judgement"
    audit: "Audit | None"
    decision: Decision


def promote(
    opened: ModelFile,
    judgement: "Judgement",
    candles: Candles | Path | str | None,
    registry: Registry,
    *,
    now: int,
    override: str = "",
    who: str = "",
    told: Callable[[str], None] = lambda _: None,
) -> Promotion:
    """Ask the registry about a model that was judged just now; where nothing but the alarm rings, an audit answers it.

    Args:
        opened: the file.
        judgement: of it.
        candles: that it was judged on, or where they are.
        registry: that decides.
        now: milliseconds of UTC.
        override: why a refused one may rehearse all the same.
        who: asks; by default the user of this process.
        told: is told what an audit is doing.

    """
    audit = None
    if judgement.verdict.only_alarm:
        count = partial(registry.tries_with, opened.market, opened.sha256)
        audit = factory.audit(opened, candles, trials=count, counted_by="the ledger and its recipes", told=told)
        if audit.earned:
            judgement = replace(judgement, verdict=answered(judgement.verdict, audit.words))
    decision = registry.record(judgement, opened.path, now=now, override=override, who=who)
    return Promotion(judgement=judgement, audit=audit, decision=decision)


def due(registry: Registry, symbols: Sequence[str], *, now: int, within_days: int | None) -> tuple[Entry, ...]:
    """Return the live models that are to be retrained, and those that were live until they were demoted.

    Args:
        registry: of them.
        symbols: that are meant; none is all.
        now: milliseconds of UTC.
        within_days: only those that expire so soon, have, or were demoted; None is all.

    Raises:
        RegistryError: a symbol has no live model.

    """
    entries = registry.entries()
    live = {entry.symbol: entry for entry in entries if entry.demoted} | {
        entry.symbol: entry for entry in entries if entry.stage == "live"
    }
    if unknown := [symbol for symbol in symbols if symbol not in live]:
        raise RegistryError(f"what is retrained must be live, found no live model of {', '.join(unknown)}; promote one first")
    chosen = [live[symbol] for symbol in symbols or sorted(live)]
    return tuple(one for one in chosen if within_days is None or one.demoted or one.expired(now + within_days * DAY))


def retrain(
    entry: Entry,
    registry: Registry,
    candles: Candles,
    *,
    source: SourceKind,
    out: Path,
    now: int,
    recipe: "Recipe | None" = None,
    window_days: int | None = None,
    seed: int = 0,
    watch: "Report" = lambda _, __: None,
    done: "Done" = lambda _, __: None,
    told: Callable[[str], None] = lambda _: None,
) -> Promotion:
    """Train a model anew on the newest candles, and let it take the place of the live one if it passes the same gates.

    Args:
        entry: the live one; it stays live where the new one is refused.
        registry: of both.
        candles: of its market, that go beyond those it was proven on.
        source: kind of the candles.
        out: folder for the new model.
        now: milliseconds of UTC.
        recipe: of the new one; by default that of the live one.
        window_days: how many of the newest days to take; by default as many as there were between the first candle that the live
            one has learned from and the last that it was judged on.
        seed: of the training.
        watch: is told of each epoch.
        done: is told of the new model.
        told: is told what an audit is doing.

    Raises:
        CrpbotError: there are no later candles, or too few.

    """
    from crpbot.making.jobs import grid, run_here  # noqa: PLC0415  promotion of what is there needs no training

    served = registry.speaker(entry)
    assert served.recipe is not None
    assert served.origin is not None
    if int(candles.time[-1]) <= entry.proven_until:
        raise RegistryError(
            f"retraining must have later candles than the live model of {entry.symbol}, which was proven until "
            f"{utc(entry.proven_until)}; found them until {utc(int(candles.time[-1]))}: download more (crpbot candles download)"
        )
    last = int(candles.time[-1]) + MINUTE
    span = entry.proven_until + MINUTE - served.origin.training_from if window_days is None else window_days * DAY
    newest = candles[int(np.searchsorted(candles.time, last - span)) :]
    used = recipe or served.recipe
    jobs = grid((entry.symbol,), used, source=source, gates="market", out=out, seed=seed)
    (judgement,) = run_here(jobs, {entry.symbol: newest}, workers=1, watch=watch, done=done)
    opened = open_model(jobs[0].folder / checkpoint_name(entry.symbol, used.name))
    return promote(opened, judgement, newest, registry, now=now, told=told)
