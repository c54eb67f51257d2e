"""The leaderboard: what a race that is over adds up to, as numbers and as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from crpbot.dataset.labels import NEUTRAL
from crpbot.making.race.contenders import TOLD, Answer
from crpbot.making.race.protocol import VERSION
from crpbot.making.race.race import RULE, Race, Ran, judge_of, versions
from crpbot.making.race.score import Pair, Score
from crpbot.market.candles import utc
from crpbot.market.synthetic import HORIZON, MARKETS
from crpbot.model.choices import MOST_TRIALS
from crpbot.model.plain import digest
from crpbot.model.recipe import Recipe
from crpbot.quality.audit.worth import CHANCE, deflated
from crpbot.quality.metrics import Mean
from crpbot.quality.report.data import finite

FORMAT = "crpbot.leaderboard/1"
PRIOR, ONE_FEATURE = "prior", "one-feature"


@dataclass(frozen=True, eq=False, kw_only=True)
class Block:
    """One test block of a walk-forward, judged.

    Attributes:
        symbol, fold: of the block.
        test: whether it is the test block of the race, or one for choosing.
        rows, moves: that were judged, and how many of them were not NEUTRAL.
        first, last: open time of the first and the last row.
        theta: log return within which a move is NEUTRAL.
        best_skill: what nobody can beat on a known-answer market; None on any other.
        answers: by contender, or why there is none.
        scores: of those that answered.
        pairs: by whom they are compared with, then by contender.

    """

    symbol: str
    fold: int
    test: bool
    rows: int
    moves: int
    first: int
    last: int
    theta: float
    best_skill: float | None
    answers: Mapping[str, Answer | str]
    scores: Mapping[str, Score]
    pairs: Mapping[str, Mapping[str, Pair]]

    def share_of_best(self, name: str) -> Mean | None:
        """Return which share of the skill that is there a contender has; None where it has none, or nobody knows how much is."""
        skill = self.scores[name].skill
        best = self.best_skill or 0.0
        return None if skill is None or best <= 0 else Mean(skill.value / best, skill.error / best)

    def to_dict(self) -> dict[str, Any]:
        """Return the block as plain types."""
        return {
            "symbol": self.symbol,
            "fold": self.fold,
            "test": self.test,
            "rows": self.rows,
            "moves": self.moves,
            "from": utc(self.first),
            "to": utc(self.last),
            "theta": self.theta,
            "best_skill": self.best_skill,
            "contenders": {name: self._contender(name, answer) for name, answer in self.answers.items()},
            "pairs": {other: {name: asdict(pair) for name, pair in pairs.items()} for other, pairs in self.pairs.items()},
        }

    def _contender(self, name: str, answer: Answer | str) -> dict[str, Any]:
        if isinstance(answer, str):
            return {"failed": answer}
        score = self.scores[name]
        share = self.share_of_best(name)
        told = None if share is None else asdict(share)
        return {**asdict(score), "share_of_best_skill": told, **{one: getattr(answer, one) for one in TOLD}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """What the pick is worth on the test blocks of all symbols together, with its tries counted.

    Attributes:
        skill: in nats per row that was not NEUTRAL.
        over_majority: accuracy less that of the commonest class in hindsight.
        trials: how many tries there were, this one included.
        chance: that the best of so many without skill would have this skill.
        survives: how many tries the skill would survive.

    """

    skill: Mean
    over_majority: Mean
    trials: int
    chance: float
    survives: float

    @property
    def enough(self) -> bool:
        """Whether luck is ruled out."""
        return self.chance < CHANCE


@dataclass(frozen=True, eq=False, kw_only=True)
class Leaderboard:
    """What a race adds up to.

    Attributes:
        race: that was run.
        source: where its candles are from, as a person would type it.
        blocks: every test block, by symbol and fold.
        chosen_by: skill of each contender on the choice folds of each symbol, pooled by rows.
        choice: what `choice.json` says; None with one fold.
        edge: of the pick on the test blocks; None without one.
        tried: earlier tries that were told.
        trials: tries in all: the recipes that could have been picked, those before, and those that they bring along.

    """

    race: Race
    source: str
    blocks: tuple[Block, ...]
    chosen_by: Mapping[str, Mapping[str, Mean | None]]
    choice: Mapping[str, Any] | None
    edge: Edge | None
    tried: int
    trials: int

    @property
    def picked(self) -> Recipe | None:
        """The recipe that was picked, which knows of all tries; None without one."""
        found = [one.recipe for one in self.race.contenders if one.name == self.pick]
        return replace(found[0], trials=min(self.trials, MOST_TRIALS)) if found else None

    @property
    def pick(self) -> str | None:
        """The recipe that the choice folds have picked."""
        return None if self.choice is None else self.choice["pick"]

    @property
    def tests(self) -> tuple[Block, ...]:
        """The test block of each symbol."""
        return tuple(block for block in self.blocks if block.test)

    def to_dict(self) -> dict[str, Any]:
        """Return the leaderboard as plain types; a number that could not be measured is None."""
        race, recipe = self.race, self.race.reference.to_dict()
        plain = {
            "format": FORMAT,
            "race": digest(race.plain),
            "protocol": {
                "version": VERSION,
                "reference": race.reference.name,
                "label": recipe["label"],
                "split": recipe["split"],
                "folds": race.folds,
                "seed": race.seed,
                "pick": RULE,
            },
            "versions": versions(),
            "data": {
                "source": self.source,
                "symbols": {
                    symbol: {
                        "sha256": candles.sha256,
                        "rows": len(candles),
                        "from": utc(int(candles.time[0])),
                        "to": utc(int(candles.time[-1])),
                    }
                    for symbol, candles in race.markets.items()
                },
            },
            "contenders": [
                {
                    "name": one.name,
                    "kind": one.baseline or "network",
                    "why": one.why,
                    "sha256": one.key,
                    "features": one.recipe.features.set,
                    "recipe": None if one.baseline else one.recipe.to_dict(),
                }
                for one in race.contenders
            ],
            "choice": self.choice,
            "chosen_by": {
                symbol: {name: None if skill is None else asdict(skill) for name, skill in skills.items()}
                for symbol, skills in self.chosen_by.items()
            },
            "tried": self.tried,
            "trials": self.trials,
            "edge": None if self.edge is None else {**asdict(self.edge), "enough": self.edge.enough},
            "blocks": [block.to_dict() for block in self.blocks],
        }
        return finite(plain)  # type: ignore[no-any-return]

    def to_json(self) -> str:
        """Return `leaderboard.json`."""
        from crpbot.making.race.words import sentences  # noqa: PLC0415  words are made of this

        plain = {**self.to_dict(), "sentences": list(sentences(self))}
        return json.dumps(plain, indent=1, ensure_ascii=False) + "\n"


def add_up(ran: Ran, *, source: str, tried: int) -> Leaderboard:
    """Judge every answer of a race that is over.

    Args:
        ran: the race.
        source: of its candles, as a person would type it.
        tried: recipes that were tried on the same candles before, for counting.

    """
    race, trials = ran.race, _trials(ran.race, tried)
    blocks = tuple(_block(ran, place, source) for place in ran.legs)
    chosen_by = {
        symbol: _pooled(ran, [(symbol, fold) for fold in range(1, race.folds)])
        for symbol in (race.markets if race.folds > 1 else ())
    }
    return Leaderboard(
        race=race,
        source=source,
        blocks=blocks,
        chosen_by=chosen_by,
        choice=ran.choice,
        edge=None if ran.choice is None else _edge(ran, ran.choice["pick"], trials),
        tried=tried,
        trials=trials,
    )


def _block(ran: Ran, place: tuple[str, int], source: str) -> Block:
    leg, given = ran.legs[place], ran.answers[place]
    judge = judge_of([leg])
    answered = {name: [answer] for name, answer in given.items() if isinstance(answer, Answer)}
    against = dict.fromkeys((ran.race.reference.name, ONE_FEATURE, PRIOR))
    neutral = float((leg.truth.y == NEUTRAL).mean())
    return Block(
        symbol=place[0],
        fold=place[1],
        test=place[1] == ran.race.folds,
        rows=len(leg.truth.y),
        moves=int(judge.moved.sum()),
        first=int(leg.truth.time[0]),
        last=int(leg.truth.time[-1]),
        theta=leg.ground.theta,
        best_skill=_best_skill(ran.race, source, neutral),
        answers=given,
        scores={name: judge.score(answers) for name, answers in answered.items()},
        pairs={other: judge.pairs(answered, other) for other in against if other in answered},
    )


def _pooled(ran: Ran, places: Sequence[tuple[str, int]]) -> dict[str, Mean | None]:
    """Return the skill of each contender over several blocks; None where it failed in one of them."""
    judge = judge_of([ran.legs[place] for place in places])
    return {one.name: judge.skill_of([ran.answers[place][one.name] for place in places]) for one in ran.race.contenders}


def _trials(race: Race, tried: int) -> int:
    """Count the tries: the recipes that may be picked, those before, and those that led to any of them, each once."""
    able = [one for one in race.contenders if one.baseline is None]
    brought = sum(one.recipe.trials - 1 for one in able if not one.variant and one.recipe != race.reference)
    ours = race.reference.trials - 1 if any(one.variant or one.recipe == race.reference for one in able) else 0
    return len(able) + tried + brought + ours


def _edge(ran: Ran, pick: str | None, trials: int) -> Edge | None:
    """Say what the pick is worth after so many tries; None where it did not answer everywhere, or nothing moved."""
    places = [place for place in ran.legs if place[1] == ran.race.folds]
    answers = [answer for place in places if pick is not None and isinstance(answer := ran.answers[place][pick], Answer)]
    if not answers or len(answers) < len(places):
        return None
    judge = judge_of([ran.legs[place] for place in places])
    skill = judge.skill(judge.gains(answers))
    if skill is None:
        return None
    chance, survives = deflated(skill.errors, trials)
    over = judge.resamples.mean(judge.right(answers) - judge.majority)
    return Edge(skill=skill, over_majority=over, trials=trials, chance=chance, survives=survives)


def _best_skill(race: Race, source: str, neutral_share: float) -> float | None:
    """Return what nobody can beat, where the candles are a known-answer market and the label is one that it is known for."""
    kind, _, name = source.partition(":")
    rule = race.reference.label.rule
    if kind != "synthetic" or rule.kind != "horizon" or rule.horizon != HORIZON:
        return None
    market = MARKETS.get(name.partition(":")[0])
    return None if market is None else market.best_skill(neutral_share)
