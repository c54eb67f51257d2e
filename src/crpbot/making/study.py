"""What has been tried so far: a study of Optuna in one SQLite file, that a killed run leaves whole and the next goes on with."""

import json
import logging
import sqlite3
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from crpbot.errors import RecipeError, TrainingError
from crpbot.making.space import Parameter, Space
from crpbot.making.trial import Look, Trial
from crpbot.model.plain import differences

_FAILURES = (SQLAlchemyError, sqlite3.Error, optuna.exceptions.OptunaError)
_DAMAGE = (ValueError, TypeError, LookupError, RuntimeError, AssertionError, AttributeError)
"""What Optuna raises where a file holds what it never wrote, or what a later Optuna did."""
_KEY = "crpbot"
_NAME = "tune"
_PATIENCE = 60
"""Seconds to wait for somebody who reads the file."""
_MOST_NAMED = 4
"""Differences that an error names."""
_STEP = 100_000
"""Epochs that a fold may have, for Optuna, which counts steps."""


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """A recipe that is to be looked at."""

    number: int
    values: Mapping[str, Any]
    asked: optuna.Trial


class Study:
    """What has been tried, and what to try next.

    Args:
        study: of Optuna.
        space: to propose from.
        base: values of the recipe that everything begins with.
        seed: of the proposals.
        folds: that each finished trial has; None where nobody knows.

    """

    def __init__(
        self, study: optuna.Study, space: Space, base: Mapping[str, Any], *, seed: int, folds: int | None = None
    ) -> None:
        self._study, self._space, self._base, self._seed, self._folds = study, space, base, seed, folds
        self._distributions = {one.key: _distribution(one) for one in space.parameters}

    def trials(self) -> tuple[Trial, ...]:
        """Return what was looked at, in order; a trial that was killed was not.

        Raises:
            ValueError: the file holds something else for one, which somebody else has written.

        """
        kept = [one for one in self._study.get_trials(deepcopy=False) if _KEY in one.user_attrs]
        return tuple(_trial(one, number, self._folds) for number, one in enumerate(kept))

    def settle(self) -> None:
        """End what an earlier run has begun.

        What was looked at counts as if that run had lived a moment longer. Of the rest nothing was learned: it is marked as
        failed, which the sampler passes over, and proposed again.
        """
        for one in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if _KEY in one.user_attrs:
                self._end(one, _look(one.user_attrs[_KEY]))
            else:
                self._study.tell(one.number, state=TrialState.FAIL)

    def propose(self, number: int) -> Proposal:
        """Propose a recipe: the first is the one that everything began with.

        A proposal depends on seed, number and the finished trials, not on how often the run was cut off: each has a sampler of
        its own. (TPE: Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NIPS 2011.)
        """
        if number == 0:
            return Proposal(0, self._base, self._first())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # what Optuna 5 does anyway is one in 4
            seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
            self._study.sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
        asked = self._study.ask(fixed_distributions=self._distributions)
        values = {one.key: _plain(one, asked.params[one.key]) for one in self._space.parameters}
        return Proposal(number, values, asked)

    def _first(self) -> optuna.Trial:
        """Ask for the first: its values may lie outside the space, and then no proposal can learn from it."""
        if not self._space.holds(self._base):
            return self._study.ask()
        if not self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            self._study.enqueue_trial({one.key: _known(one, self._base[one.key]) for one in self._space.parameters})
        return self._study.ask(fixed_distributions=self._distributions)

    def tell(self, proposal: Proposal, trial: Trial) -> None:
        """Keep what came of a proposal: from the moment on when its attribute is written it is known, and only to be ended."""
        asked, look = proposal.asked, trial.look
        if look.state == "pruned":
            asked.report(float(np.mean(look.folds)), (len(look.curves) - 1) * _STEP + len(look.curves[-1]))
        asked.set_user_attr(_KEY, asdict(trial))
        self._end(asked, look)

    def _end(self, asked: optuna.trial.BaseTrial, look: Look) -> None:
        if look.state == "complete" and asked.params.keys() == self._distributions.keys():
            self._study.tell(asked.number, look.value)
        elif look.state == "complete":
            self._study.tell(asked.number, state=TrialState.FAIL)
        else:  # a pruned trial without a number is the worst that the sampler knows
            self._study.tell(asked.number, state=TrialState.PRUNED)

    def importance(self) -> dict[str, float]:
        """Return how much of the differences between trials each key explains, the most first; none where that cannot be told.

        (fANOVA: Hutter et al., "An Efficient Approach for Assessing Hyperparameter Importance", ICML 2014.)
        """
        try:
            evaluator = optuna.importance.FanovaImportanceEvaluator(seed=self._seed)
            return dict(optuna.importance.get_param_importances(self._study, evaluator=evaluator))
        except (RuntimeError, ValueError):  # too few, or all alike
            return {}


@contextmanager
def open_study(file: Path, made_of: Mapping[str, Any], space: Space, base: Mapping[str, Any], *, seed: int) -> Iterator[Study]:
    """Open the study of a file, or begin one; everything of it is closed in the end.

    Args:
        file: of SQLite.
        made_of: everything that decides what a trial gives, of plain JSON types.
        space: to propose from.
        base: values of the recipe that everything begins with.
        seed: of the proposals.

    Raises:
        RecipeError: the file holds a study of something else.
        TrainingError: the file cannot be read or written, or holds something else.

    """
    before, logger = optuna.logging.get_verbosity(), logging.getLogger("alembic")
    level = logger.level
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logger.setLevel(logging.ERROR)
    with ExitStack() as after:
        after.callback(optuna.logging.set_verbosity, before)
        after.callback(logger.setLevel, level)
        try:
            _check_file(file)
            storage = _storage(file)
            after.callback(storage.engine.dispose)
            after.callback(storage.remove_session)
            study = optuna.create_study(storage=storage, study_name=_NAME, load_if_exists=True, pruner=optuna.pruners.NopPruner())
            _check_same(study, made_of, file)
            found = Study(study, space, base, seed=seed, folds=made_of.get("folds"))
            found.trials()  # whatever is wrong with one is found before anything is written
            found.settle()
        except (*_FAILURES, *_DAMAGE) as error:
            raise _unusable(file, error) from None
        try:
            yield found
        except _FAILURES as error:
            raise _unusable(file, error) from None


def _unusable(file: Path, error: Exception) -> TrainingError:
    words = str(error).split("\n")[0] or "what cannot be read"
    return TrainingError(f"a study must be a file of Optuna that can be written, found {words:.200} at {file}; move it away")


def _check_file(file: Path) -> None:
    """Raise `ValueError` where a file of SQLite holds something else: Optuna would put its own tables into it."""
    if not file.exists():
        return
    with closing(sqlite3.connect(file, timeout=_PATIENCE)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if tables and "studies" not in tables:
        raise ValueError(f"tables of somebody else and no studies ({', '.join(sorted(tables)[:_MOST_NAMED])})")


def _storage(file: Path) -> optuna.storages.RDBStorage:
    """Open the file by its path: a URL would read signs of it as its own."""
    connect = {"creator": lambda: sqlite3.connect(file, timeout=_PATIENCE, check_same_thread=False)}
    return optuna.storages.RDBStorage("sqlite:///study.db", engine_kwargs=connect)


def _check_same(study: optuna.Study, made_of: Mapping[str, Any], file: Path) -> None:
    if study.direction != optuna.study.StudyDirection.MINIMIZE:
        raise ValueError(f"a study that looks for the worst ({study.direction.name})")
    found = study.user_attrs.get(_KEY)
    if found is None and not study.get_trials(deepcopy=False):
        study.set_user_attr(_KEY, dict(made_of))
        return
    other = sorted(differences(found or {}, json.loads(json.dumps(made_of))))
    if other:
        words = [f"{key} {_short(was)} (now {_short(now)})" for key, was, now in other[:_MOST_NAMED]]
        more = f" and {len(other) - _MOST_NAMED} more" if len(other) > _MOST_NAMED else ""
        raise RecipeError(
            f"a study goes on with what it began with, found another {', '.join(words)}{more} in {file}; take another --out, or "
            "repeat the command as it was"
        )


def _short(value: Any) -> str:  # noqa: ANN401
    return "none" if value is None else f"{value!s:.16}"


def _distribution(parameter: Parameter) -> BaseDistribution:
    """Return what Optuna calls it; choices are told by their JSON, since some are lists."""
    if parameter.choices:
        return CategoricalDistribution([json.dumps(one) for one in parameter.choices])
    if parameter.whole:
        step = 1 if parameter.step is None else int(parameter.step)
        return IntDistribution(int(parameter.low), int(parameter.high), log=parameter.log, step=step)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def _plain(parameter: Parameter, value: Any) -> Any:  # noqa: ANN401
    return json.loads(value) if parameter.choices else parameter.on_grid(value)


def _known(parameter: Parameter, value: Any) -> Any:  # noqa: ANN401
    """Return how Optuna names a value: of equal ones, as 1 and 1.0, the one among the choices."""
    return json.dumps(parameter.choices[parameter.choices.index(value)]) if parameter.choices else value


def _trial(kept: optuna.trial.FrozenTrial, number: int, folds: int | None) -> Trial:
    """Return what is kept of a trial; raise `ValueError` where that cannot be."""
    plain = kept.user_attrs[_KEY]
    try:
        trial = Trial(number=plain["number"], values=dict(plain["values"]), look=_look(plain))
        state, curves = trial.look.state, trial.look.curves
        whole = all(curves) and len(curves) == (folds or max(len(curves), 1))
        finite = bool(np.isfinite([float(one) for curve in curves for one in curve]).all())
        sound = {"complete": whole and finite, "pruned": finite, "failed": True}[state]
        if trial.number == number and sound and (kept.state != TrialState.COMPLETE or kept.value == trial.look.value):
            return trial
    except (TypeError, ValueError, LookupError, AttributeError):
        pass
    raise ValueError(f"a trial {number} that was altered")


def _look(plain: Mapping[str, Any]) -> Look:
    return Look(**{**plain["look"], "curves": tuple(tuple(curve) for curve in plain["look"]["curves"])})
