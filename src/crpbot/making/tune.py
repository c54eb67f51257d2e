"""Tuning: many recipes of a declared space on blocks before the test block, and the best of them with the number of its trials.

The calibration block of each fold stops the training early and scores it, and the best of many is kept: what a study finds is no
judgement. Only the test block judges, which no study has seen, and an audit counts the trials.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from crpbot.disk import locked, write_whole
from crpbot.errors import DatasetError, RecipeError, TrainingError
from crpbot.making.pool import deaf, live_and_die_with_parent, processes
from crpbot.making.space import Space, read_space, with_values
from crpbot.making.study import Study, open_study
from crpbot.making.trial import Curve, Look, Question, Trial, before_test, look_at, pose
from crpbot.market.candles import Candles
from crpbot.model.choices import MOST_TRIALS, EnsembleChoice
from crpbot.model.recipe import Recipe, name_after
from crpbot.model.training import Epoch
from crpbot.quality.audit.worth import CHANCE, deflated
from crpbot.quality.metrics import Mean
from crpbot.quality.report.data import finite

FORMAT = "crpbot.tune/1"
STUDY, BEST, TRIALS = "study.db", "best.toml", "trials.json"
FEWEST_TO_EXPLAIN = 10
"""Finished trials without which nobody can say which key matters."""
_RARE = 1e-4
_SUFFIX = "-tuned"

Watch = Callable[[int, int, Epoch], None]
Done = Callable[[Trial], None]


@dataclass(frozen=True, eq=False, kw_only=True)
class Tuned:
    """What a study found.

    Attributes:
        symbol: of the market.
        base: the recipe that everything began with.
        space: that was searched.
        folds: how many blocks each recipe was judged on.
        seed: of the study.
        candles_sha256: of the candles before the test block, the only ones that were read.
        trials: in order; the first is `base`.
        importance: how much of the differences each key explains; none where trials are too few.

    """

    symbol: str
    base: Recipe
    space: Space
    folds: int
    seed: int
    candles_sha256: str
    trials: tuple[Trial, ...]
    importance: Mapping[str, float]

    @cached_property
    def ranked(self) -> tuple[Trial, ...]:
        """The finished trials, the best first; of equals the earlier one, so nothing displaces the base for free."""
        return tuple(sorted((one for one in self.trials if one.look.state == "complete"), key=_value))

    @property
    def best(self) -> Trial | None:
        """The best trial; None where none was finished."""
        return self.ranked[0] if self.ranked else None

    @cached_property
    def gains(self) -> tuple[float, ...]:
        """How much lower the log loss of the best is than that of the base, in nats, fold by fold; none where one has none."""
        first = self.trials[0].look if self.trials else None
        if self.best is None or first is None or first.state != "complete":
            return ()
        return tuple(was - now for was, now in zip(first.folds, self.best.look.folds, strict=True))

    @property
    def gain(self) -> float:
        """The mean of `gains`; NaN where there are none."""
        return float(np.mean(self.gains)) if self.gains else float("nan")

    @property
    def spread(self) -> float:
        """The standard deviation of `gains`; NaN for fewer than two folds."""
        return float(np.std(self.gains, ddof=1)) if len(self.gains) > 1 else float("nan")

    @property
    def chance(self) -> float:
        """How often the best of so many recipes that are no better than the base gains so much, fold by fold.

        The mean gain is held against its standard error, of so few folds, by Student's distribution; every other recipe that was
        tried counts, also those that were given up. 1 where nothing can be measured.
        """
        if self.best is None or self.best.number == 0:
            return 1.0
        gain = Mean(self.gain, self.spread / math.sqrt(max(len(self.gains), 1)))
        return deflated(gain.errors, len(self.trials) - 1, freedom=max(len(self.gains) - 1, 0))[0]

    @property
    def better(self) -> bool:
        """Whether the best gains more than chance would in so many trials, or the base could not be trained at all."""
        first = self.trials[0].look.state if self.trials else "failed"
        return self.chance < CHANCE or (first == "failed" and self.best is not None)

    @property
    def recipe(self) -> Recipe | None:
        """The best recipe, which knows its trials; None where no trial was finished."""
        if self.best is None:
            return None
        found = with_values(self.base, self.best.values)
        return replace(
            found,
            name=name_after(self.base.name, _SUFFIX),
            description=(
                f"{self.base.name} tuned on {self.symbol}: trial {self.best.number} is the best of {len(self.trials)} "
                f"of {self.space.name}, by {self.folds} calibration blocks."
            ),
            trials=min(self.base.trials + len(self.trials) - 1, MOST_TRIALS),  # the base is the first of them
        )

    @property
    def words(self) -> str:
        """The result in plain words."""
        counts = [f"{n} {state}" for state in ("pruned", "failed") if (n := sum(one.look.state == state for one in self.trials))]
        looked = f"{len(self.trials)} trials" + (f" ({', '.join(counts)})" if counts else "")
        name, best = self.base.name, self.best
        members = self.base.ensemble.members
        one = f" An ensemble of {members} was tuned as one network." if members > 1 else ""
        if best is None:
            return f"None of {looked} was finished: lower the learning rates of the space.{one}"
        if not self.gains:
            return f"The best of {looked} is number {best.number}; {name} itself failed: {self.trials[0].look.why}.{one}"
        if best.number == 0:
            return f"Of {looked} none is better than {name} itself: keep it.{one}"
        told = f"The best of {looked}, number {best.number}, is {self.gain:.5f} nats better than {name} itself"
        if len(self.gains) < 2:
            return f"{told}; with one fold nobody knows whether by chance. Keep {name}, or take more --folds.{one}"
        told += f", and the difference varies by {self.spread:.5f} between folds"
        if self.better:
            rare = f"{100 * self.chance:.2g} %" if self.chance >= _RARE else "less than 0.01 %"
            return f"{told}: better than chance would be in {len(self.trials)} trials ({rare}).{one}"
        often = f"chance alone gets so far in {100 * self.chance:.0f} % of such studies"
        return f"{told}. That is not better than chance would be: {often}. Keep {name}, or take more --folds.{one}"

    def to_dict(self) -> dict[str, Any]:
        """Return the study as plain JSON types."""
        plain = {
            "format": FORMAT,
            "symbol": self.symbol,
            "recipe": self.base.to_dict(),
            "space": self.space.to_dict(),
            "folds": self.folds,
            "seed": self.seed,
            "candles_sha256": self.candles_sha256,
            "best": None if self.best is None else self.best.number,
            "better_than_recipe": self.better,
            "gain": self.gain,
            "gain_spread": self.spread,
            "chance": self.chance,
            "gains": list(self.gains),
            "importance": dict(self.importance),
            "trials": [_plain(one) for one in self.trials],
        }
        return finite(plain)  # type: ignore[no-any-return]

    def write(self, out: Path) -> None:
        """Write trials and best recipe into a folder, whole."""
        write_whole(out / TRIALS, json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n")
        if self.recipe is not None:
            write_whole(out / BEST, self.recipe.to_toml())


def _value(trial: Trial) -> float:
    value = trial.look.value
    assert value is not None
    return value


def _plain(trial: Trial) -> dict[str, Any]:
    look = trial.look
    own = {
        "state": look.state,
        "value": look.value,
        "folds": list(look.folds),
        "seconds": round(look.seconds, 3),
        "why": look.why,
    }
    return {"number": trial.number, **own, "values": dict(trial.values)}


def tune(
    symbol: str,
    candles: Candles,
    recipe: Recipe,
    *,
    out: Path | str,
    space: Space | str | None = None,
    trials: int = 40,
    folds: int = 5,
    seed: int = 0,
    workers: int = 1,
    watch: Watch = lambda _, __, ___: None,
    done: Done = lambda _: None,
) -> Tuned:
    """Look at so many recipes of a space, and write the best of them; the same call goes on where it was cut off.

    The candles from the test block of `recipe` on are not read: not for proposals, not for scores. With one worker the same
    arguments give the same trials, to the bit, also when they were cut off in between; with several, what is proposed depends on
    how many there are. An ensemble is tuned as one network, and is one again in the best recipe.

    Args:
        symbol: of the market.
        candles: of that symbol.
        recipe: to begin with; the first trial.
        out: folder for `study.db`, `trials.json` and `best.toml`, which are written after each trial.
        space: or the file of one; by default that of the package.
        trials: how many in all, with those of earlier calls.
        folds: blocks that each recipe is judged on.
        seed: of proposals and trainings.
        workers: processes side by side, each with a trial of its own; with more than 1, a script needs
            `if __name__ == "__main__":`.
        watch: is told of each epoch, with the number of the trial and of the fold; with one worker only.
        done: is told of each trial.

    Raises:
        RecipeError: `out` holds a study of something else, or another process is at work there; or the space is none.
        DatasetError: the candles are too few.
        TrainingError: the study cannot be written, or a worker was killed.

    """
    if trials < 1 or workers < 1:
        raise DatasetError(f"trials and workers must be at least 1, found {trials} and {workers}; correct it")
    chosen, out = space if isinstance(space, Space) else read_space(space, recipe), Path(out)
    known = before_test(symbol, candles, recipe)
    made_of = {
        "symbol": symbol,
        "candles": known.sha256,
        "recipe": recipe.to_dict(),
        "space": chosen.to_dict(),
        "folds": folds,
        "seed": seed,
    }
    work = _Work(symbol, known, replace(recipe, ensemble=EnsembleChoice()), folds, seed)
    tuned = Tuned(
        symbol=symbol,
        base=recipe,
        space=chosen,
        folds=folds,
        seed=seed,
        candles_sha256=known.sha256,
        trials=(),
        importance={},
    )
    base = chosen.values(recipe)
    question = work.question()  # too few candles are told before anything is written
    out.mkdir(parents=True, exist_ok=True)
    with locked(out / "study.lock") as ours:
        if not ours:
            raise RecipeError(
                f"one process tunes in a folder, found another at work in {out}; wait for it, or take another --out"
            )
        with open_study(out / STUDY, made_of, chosen, base, seed=seed) as study, _hands(work, question, workers) as look:
            looked = study.trials()
            while len(looked) < trials:
                looked = _round(study, looked, min(workers, trials - len(looked)), look, watch, done)
                replace(tuned, trials=looked).write(out)
            enough = sum(one.look.state == "complete" for one in looked) >= FEWEST_TO_EXPLAIN
            tuned = replace(tuned, trials=looked, importance=study.importance() if enough else {})
    tuned.write(out)
    return tuned


@dataclass(frozen=True, eq=False)
class _Work:
    """What a worker needs to look at recipes."""

    symbol: str
    known: Candles
    recipe: Recipe
    folds: int
    seed: int

    def question(self) -> Question:
        """Compute the rows that every trial shares."""
        return pose(self.symbol, self.known, self.recipe, folds=self.folds)


_Curves = Sequence[Sequence[Curve]]
_Hands = Callable[[Sequence[tuple[int, Mapping[str, Any]]], _Curves, Watch], Iterator[Look]]


def _round(study: Study, looked: tuple[Trial, ...], n: int, look: _Hands, watch: Watch, done: Done) -> tuple[Trial, ...]:
    """Look at the next `n` recipes, which are proposed before any of them is known; return all that were looked at."""
    proposals = [study.propose(len(looked) + i) for i in range(n)]
    earlier = [one.look.curves for one in looked if one.look.state == "complete"]
    found = look([(one.number, one.values) for one in proposals], earlier, watch)
    for proposal, result in zip(proposals, found, strict=True):
        trial = Trial(number=proposal.number, values=proposal.values, look=result)
        study.tell(proposal, trial)
        done(trial)
    return study.trials()


@contextmanager
def _hands(work: _Work, question: Question, workers: int) -> Iterator[_Hands]:
    """Give a function that looks at recipes, here or in so many processes, of which nothing is left when the block ends."""
    if workers == 1:

        def here(asked: Sequence[tuple[int, Mapping[str, Any]]], earlier: _Curves, watch: Watch) -> Iterator[Look]:
            for number, values in asked:
                yield look_at(
                    with_values(work.recipe, values),
                    question,
                    seed=work.seed,
                    earlier=earlier,
                    told=lambda fold, epoch, number=number: watch(number, fold, epoch),  # type: ignore[misc]
                )

        yield here
        return

    def away(asked: Sequence[tuple[int, Mapping[str, Any]]], earlier: _Curves, _: Watch) -> Iterator[Look]:
        try:
            with deaf():
                futures = [pool.submit(_look, values, earlier) for _, values in asked]
            for future in futures:
                yield future.result()
        except BrokenProcessPool:
            raise TrainingError(
                "a worker must live until its trial is done, found one killed, mostly for lack of memory; take fewer with "
                "--workers. The same command goes on with what was finished"
            ) from None

    with processes(workers, _begin, work) as pool:
        yield away


_held: tuple[_Work, Question] | None = None


def _begin(work: _Work) -> None:
    """Prepare a worker: it computes the rows once, since sending them would cost more."""
    global _held  # noqa: PLW0603  what a worker works on, given once
    live_and_die_with_parent()
    _held = work, work.question()


def _look(values: Mapping[str, Any], earlier: _Curves) -> Look:
    assert _held is not None
    work, question = _held
    return look_at(with_values(work.recipe, values), question, seed=work.seed, earlier=earlier)
