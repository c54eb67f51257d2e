"""A race from beginning to end: the choice folds, the choice, and only then the test block; a kill on the way changes nothing."""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from crpbot.disk import locked, write_whole
from crpbot.errors import CrpbotError
from crpbot.making.pool import fitting, memory_of, run_tasks
from crpbot.making.race.answers import pack, read
from crpbot.making.race.contenders import Answer, Contender, compete, effort
from crpbot.making.race.protocol import VERSION, Ground, Truth, check_folds, cut_ground
from crpbot.making.race.score import Judge
from crpbot.market.candles import Candles, utc
from crpbot.model.plain import differences, digest
from crpbot.model.recipe import Recipe
from crpbot.model.training import Epoch
from crpbot.quality.report.data import finite
from crpbot.version import release

RACE, CHOICE = "race.json", "choice.json"
_LOCK = ".lock"
RULE = (
    "the recipe with the highest skill over the rows of all symbols and choice folds that were not NEUTRAL, rows counting alike"
)


@dataclass(frozen=True, eq=False)
class Leg:
    """One fold of one symbol: what contenders are handed, and what the judge knows."""

    ground: Ground
    candles: Candles
    truth: Truth


@dataclass(frozen=True, eq=False)
class Task:
    """One contender on one leg; its answer is one file.

    Attributes:
        name: what progress calls it.
        key: digest of all that decides the answer.
        contender: that answers.
        ground: of the leg.
        seed: of whatever is drawn.
        file: for the answer.
        state: folder for the state of a training that is not finished.

    """

    name: str
    key: str
    contender: Contender
    ground: Ground
    seed: int
    file: Path
    state: Path


Ended = tuple[float, str]
"""Seconds, and why it failed; empty where it did not."""
Watch = Callable[[Task, Epoch], None]
Done = Callable[[Task, Ended], None]
Answers = Mapping[tuple[str, int], Mapping[str, Answer | str]]
"""By symbol and fold, then by contender: its answer, or why there is none."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Race:
    """Everything that decides a race.

    Attributes:
        reference: recipe that asks the question.
        contenders: in the order in which they were named.
        markets: candles by symbol.
        folds: how many; all but the last are for choosing.
        seed: of whatever is drawn.

    Raises:
        RecipeError: the folds are too many, see `check_folds`.

    """

    reference: Recipe
    contenders: tuple[Contender, ...]
    markets: Mapping[str, Candles]
    folds: int
    seed: int

    def __post_init__(self) -> None:
        check_folds(self.reference, self.folds)

    @property
    def plain(self) -> dict[str, Any]:
        """What a race is known by: two with the same are one race."""
        recipe = self.reference.to_dict()
        return {
            "protocol": VERSION,
            "reference": {"label": recipe["label"], "split": recipe["split"], "features": self.reference.features.table.sha256},
            "folds": self.folds,
            "seed": self.seed,
            "candles": {symbol: candles.sha256 for symbol, candles in self.markets.items()},
            "contenders": {one.name: one.key for one in self.contenders},
        }

    def legs(self) -> dict[tuple[str, int], Leg]:
        """Cut every fold of every symbol."""
        recipes = [one.recipe for one in self.contenders]
        return {
            (symbol, fold): Leg(*cut_ground(symbol, candles, self.reference, recipes, fold=fold, folds=self.folds))
            for symbol, candles in self.markets.items()
            for fold in range(1, self.folds + 1)
        }


@dataclass(frozen=True, eq=False, kw_only=True)
class Ran:
    """A race that is over.

    Attributes:
        race: that was run.
        legs: by symbol and fold.
        answers: likewise.
        choice: what `choice.json` says; None with one fold.

    """

    race: Race
    legs: Mapping[tuple[str, int], Leg]
    answers: Answers
    choice: Mapping[str, Any] | None


def run_race(race: Race, out: Path, *, workers: int, now: Callable[[], int], watch: Watch, done: Done) -> Ran:
    """Run a race, or go on with one that was cut off, or read one that is over.

    Args:
        race: to run.
        out: folder of this race and no other.
        workers: contenders side by side; 0 takes as many as this machine has processors and memory for.
        now: the clock, in milliseconds of UTC, for the time of the choice.
        watch: is told of each epoch.
        done: is told of each answer.

    Raises:
        CrpbotError: the folder is of another race, or another run is at work there; or the candles are too few.

    """
    with _ours(out):
        _check_same_race(race, out)
        legs = race.legs()
        write_whole(out / RACE, _json({**race.plain, "versions": versions()}))
        choosing = [place for place in legs if place[1] < race.folds]
        testing = [place for place in legs if place[1] == race.folds]
        _check_order(race, out, testing)
        answers = dict(_answers(race, out, legs, choosing, workers=workers, watch=watch, done=done))
        choice = None
        if choosing:
            choice = _choose(race, out, [legs[place] for place in choosing], [answers[place] for place in choosing], now)
        answers |= _answers(race, out, legs, testing, workers=workers, watch=watch, done=done)
        shutil.rmtree(out / "states", ignore_errors=True)
    return Ran(race=race, legs=legs, answers=answers, choice=choice)


@contextmanager
def _ours(out: Path) -> Iterator[None]:
    out.mkdir(parents=True, exist_ok=True)
    with locked(out / _LOCK) as ours:
        if not ours:
            raise CrpbotError(f"one race at a time must run in {out}, found another; wait, or choose another --out")
        yield


def _check_same_race(race: Race, out: Path) -> None:
    """Raise where a folder is of another race, or of other versions, whose answers may be others; say what differs."""
    file = out / RACE
    if not file.is_file():
        return
    before, plain = _read(file), {**race.plain, "versions": versions()}
    other = differences(before, json.loads(json.dumps(plain)))
    differs = [f"{where} was {_short(was)}, is {_short(now)}" for where, was, now in other]
    if differs:
        more = f", and {len(differs) - 3} more" if len(differs) > 3 else ""
        raise CrpbotError(
            f"{out} must be of this race, found another there: {'; '.join(differs[:3])}{more}; choose another --out"
        )


def versions() -> dict[str, str | None]:
    """Return the versions of all that decides an answer; None of what is not installed."""

    def of(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    return {"crpbot": release(), **{name: of(name) for name in ("numpy", "scikit-learn", "torch")}}


def _short(value: Any) -> str:  # noqa: ANN401
    return "not there" if value is None else f"{value:.12}" if isinstance(value, str) else str(value)


def _check_order(race: Race, out: Path, testing: Iterable[tuple[str, int]]) -> None:
    """Raise where the test block was answered before a choice was written: nobody can know any more that it was left alone."""
    if race.folds == 1 or (out / CHOICE).is_file():
        return
    judged = [file for symbol, fold in testing for file in (out / "answers" / symbol / f"fold-{fold}").glob("*.npz")]
    if judged:
        raise CrpbotError(
            f"{out / CHOICE} must be written before the test block is answered, found {judged[0]} without it; "
            "begin anew with another --out"
        )


def _answers(
    race: Race,
    out: Path,
    legs: Mapping[tuple[str, int], Leg],
    places: Sequence[tuple[str, int]],
    *,
    workers: int,
    watch: Watch,
    done: Done,
) -> Answers:
    """Return what everybody answers on some legs; what is on disk is read, and not asked again."""
    tasks = {(place, one.name): _task(race, out, legs[place].ground, one) for place in places for one in race.contenders}
    found = {place: _read_answer(task) for place, task in tasks.items()}
    missing = [task for place, task in tasks.items() if found[place] is None]

    def given(task: Task) -> Candles:
        return legs[task.ground.symbol, task.ground.fold].candles

    missing.sort(key=lambda task: -effort(task.contender, len(given(task))))
    if missing:
        needed = max(memory_of(task.contender.recipe, len(given(task))) for task in missing)
        ended = run_tasks(
            _do,
            missing,
            given=given,
            workers=workers or fitting(len(missing), needed),
            watch=watch,
            done=done,
        )
        for result in ended.values():
            if isinstance(result, CrpbotError):
                raise result
    answers: dict[tuple[str, int], dict[str, Answer | str]] = {place: {} for place in places}
    for (place, name), task in tasks.items():
        answer = found[place, name]
        if answer is None:
            answer = _read_answer(task)
        if answer is None:
            raise CrpbotError(f"{task.file} must hold the answer that was just written, found none; check the disk")
        answers[place][name] = answer
    return answers


def _task(race: Race, out: Path, ground: Ground, contender: Contender) -> Task:
    inner = Path(ground.symbol, f"fold-{ground.fold}")
    return Task(
        name=f"{ground.name}/{contender.name}",
        key=digest({"protocol": VERSION, "ground": ground.key, "contender": contender.key, "seed": race.seed}),
        contender=contender,
        ground=ground,
        seed=race.seed,
        file=out / "answers" / inner / f"{contender.name}.npz",
        state=out / "states" / inner / contender.name,
    )


def _do(task: Task, candles: Candles, told: Callable[[Any], None]) -> Ended:
    """Let a contender answer, and write the answer; one that cannot is an answer too."""
    answer: Answer | str
    task.state.mkdir(parents=True, exist_ok=True)
    try:
        answer = compete(task.contender, task.ground, candles, seed=task.seed, told=told, state=task.state)
    except CrpbotError as error:
        answer = str(error)
    write_whole(task.file, pack(task.key, answer))
    shutil.rmtree(task.state, ignore_errors=True)
    return (0.0, answer) if isinstance(answer, str) else (answer.seconds, "")


def _read_answer(task: Task) -> Answer | str | None:
    """Return the answer of a task, or why there is none to give; None where it must be asked for."""
    return read(task.file, task.key, rows=len(task.ground.judged))


def _choose(
    race: Race, out: Path, legs: Sequence[Leg], answers: Sequence[Mapping[str, Answer | str]], now: Callable[[], int]
) -> Mapping[str, Any]:
    """Pick a recipe by the choice folds and write it down; a choice that is there already is kept."""
    judge = judge_of(legs)
    entries = []
    for one in race.contenders:
        skill = judge.skill_of([some[one.name] for some in answers])
        known = None if skill is None else {"value": skill.value, "error": skill.error}
        entries.append({"contender": one.name, "may_be_picked": one.baseline is None, "skill": known})
    able = [entry for entry in entries if entry["may_be_picked"] and entry["skill"] is not None]
    pick = max(able, key=lambda entry: entry["skill"]["value"])["contender"] if able else None  # type: ignore[index]
    choice = {"race": digest(race.plain), "time": utc(now()), "rule": RULE, "pick": pick, "contenders": entries}
    file = out / CHOICE
    if not file.is_file():
        write_whole(file, _json(choice))
        return choice
    kept = _read(file)
    for what in ("race", "pick"):
        if kept.get(what) != choice[what]:
            raise CrpbotError(
                f"{file} must say what the choice folds of this race say, found the {what} {kept.get(what)!r:.80}, not "
                f"{choice[what]!r}; choose another --out"
            )
    return kept


def judge_of(legs: Sequence[Leg]) -> Judge:
    """Return who judges the answers to some legs, all of them together."""
    return Judge([leg.truth for leg in legs], [leg.ground.shares for leg in legs])


def _read(file: Path) -> dict[str, Any]:
    try:
        plain = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise CrpbotError(f"{file} must be readable JSON: {error}; choose another --out") from None
    if not isinstance(plain, dict):
        raise CrpbotError(f"{file} must be of a race, found something else; choose another --out")
    return plain


def _json(plain: Mapping[str, Any]) -> str:
    return json.dumps(finite(plain), indent=1, ensure_ascii=False) + "\n"
