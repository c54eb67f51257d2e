"""The leaderboard for people: one table a symbol, and what it says in plain words."""

import math
from collections.abc import Iterator, Mapping, Sequence

from crpbot.making.race.board import ONE_FEATURE, PRIOR, Block, Leaderboard
from crpbot.making.race.contenders import Answer
from crpbot.making.race.score import Pair, Score
from crpbot.quality.audit.worth import BETTER, CHANCE, deflated, luck_words
from crpbot.quality.metrics import Mean, percent

HEADINGS = ("contender", "chosen by", "skill", "right", "vs commonest", "ECE", "vs one", "fit")
EXPLAINED = (
    "Skill is directional log loss of the prior less that of the contender, in thousandths of a nat per row that was not "
    "NEUTRAL (± one block standard error): of the choice folds under “chosen by”, of the test block under “skill”. “vs "
    "commonest” is accuracy less that of the commonest class in hindsight, in points; “vs one” is the better of skill and "
    "accuracy against the best one-feature rule, in paired block standard errors."
)
_RULES = ("majority", PRIOR)
"""Contenders that look at no candle: nobody asks whether they beat the prior."""


def ranked(block: Block) -> list[str]:
    """Return the contenders by skill, best first; then those without probabilities, then those that failed."""

    def key(name: str) -> tuple[bool, float]:
        score = block.scores.get(name)
        return score is None, math.inf if score is None or score.skill is None else -score.skill.value

    return sorted(block.answers, key=key)


def table_rows(board: Leaderboard, block: Block) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each contender with its row on the test block of a symbol, a cell for each of `HEADINGS`, best first."""
    for name in ranked(block):
        answer = block.answers[name]
        marked = f"{name} ←" if name == board.pick else name
        chosen = board.chosen_by.get(block.symbol, {}).get(name)
        if isinstance(answer, str):
            yield name, (marked, _skill(chosen), "failed", *[""] * 5)
            continue
        pair = block.pairs.get(ONE_FEATURE, {}).get(name)
        yield name, (marked, _skill(chosen), *_cells(block.scores[name], pair, answer))


def _cells(score: Score, pair: Pair | None, answer: Answer) -> tuple[str, ...]:
    over = score.over_majority
    return (
        "" if score.skill is None else f"{_skill(score.skill)} ± {_thousandths(score.skill.error)}",
        percent(score.accuracy.value),
        f"{100 * over.value:+.2f} ± {100 * over.error:.2f}".replace("-", "−"),
        "" if score.ece is None else percent(score.ece),
        "" if pair is None else f"{_best(pair)[1].errors:+.1f}".replace("-", "−"),
        _seconds(answer.seconds),
    )


def sentences(board: Leaderboard) -> Iterator[str]:
    """Yield what the leaderboard says, in plain words."""
    for block in board.tests:
        yield f"{block.symbol}: {beating(block, PRIOR, 'the prior')}"
        yield f"{block.symbol}: {beating(block, ONE_FEATURE, 'one feature')}"
        if block.best_skill is not None:
            yield f"{block.symbol}: {_of_the_best(block)}"
        for name, answer in block.answers.items():
            if trouble := f"failed: {answer}" if isinstance(answer, str) else answer.trouble:
                yield f"{block.symbol}: {name} {trouble}."
    if board.choice is None:
        yield "With one fold there is nothing to choose by, so nothing is picked."
    elif board.pick is None:
        yield "No recipe could be picked."
    else:
        yield _picked(board)


def beating(block: Block, other: str, called: str) -> str:
    """Say who is two paired block standard errors ahead of another, and whether chance explains it."""
    if other not in block.pairs:
        return f"{called} did not run, so nobody can be compared with it."
    pairs = {name: pair for name, pair in _against(block, other).items() if name not in _RULES and name != other}
    ahead = {name: pair for name, pair in pairs.items() if pair.ahead}
    if pairs and all(math.isnan(_best(pair)[1].errors) for pair in pairs.values()):
        return f"nobody can say who beats {called}: the rows are too few to know how well anything is known."
    nobody = f"nothing beats {called}"
    if not ahead:
        return f"{nobody}: no contender is {BETTER:g} standard errors ahead of it, in skill or in accuracy."
    tries = 2 * len(pairs)  # each may be ahead in skill or in accuracy
    name = max(ahead, key=lambda one: _best(ahead[one])[1].errors)
    what, mean = _best(ahead[name])
    words = f"{name} by {_amount(what, mean)}, {mean.errors:.1f} standard errors"
    if deflated(mean.errors, tries)[0] >= CHANCE:
        return f"{nobody} by more than chance: furthest ahead is {words}; {luck_words(mean, tries)}."
    others = [one for one in ahead if one != name]
    return f"{len(ahead)} of {len(pairs)} beat {called}, furthest {words}{'; also ' + ', '.join(others) if others else ''}."


def _against(block: Block, other: str) -> Mapping[str, Pair]:
    """Compare everybody with another; the prior's accuracy is that of the commonest class in hindsight here, as for the gates.

    Whoever beats a class that was the commonest in training only has not yet foretold anything.
    """
    if other != PRIOR:
        return block.pairs[other]
    return {name: Pair(skill=score.skill, accuracy=score.over_majority) for name, score in block.scores.items()}


def _best(pair: Pair) -> tuple[str, Mean]:
    """Return the measure in which a contender is further ahead, in standard errors."""
    both = [("accuracy", pair.accuracy), *([] if pair.skill is None else [("skill", pair.skill)])]
    return max(both, key=lambda one: one[1].errors if math.isfinite(one[1].errors) else -math.inf)


def _amount(what: str, mean: Mean) -> str:
    return f"{1000 * mean.value:.2f} thousandths of a nat" if what == "skill" else f"{100 * mean.value:.2f} points of accuracy"


def _of_the_best(block: Block) -> str:
    """Say what share of the skill that is there was found."""
    assert block.best_skill is not None
    best = f"the best possible skill is {1000 * block.best_skill:.2f} thousandths of a nat"
    found = {name: score.skill for name, score in block.scores.items() if score.skill is not None}
    name = max(found, key=lambda one: found[one].value, default=None)
    if block.best_skill <= 0:
        return f"{best}: there is nothing to find."
    if name is None or found[name].value <= 0:
        return f"{best}; nobody finds any of it."
    return f"{best}; {name} finds {100 * found[name].value / block.best_skill:.0f} % of it."


def _picked(board: Leaderboard) -> str:
    edge = board.edge
    if edge is None:
        return f"The choice folds picked {board.pick}, which gave no answer on the test block."
    words = (
        f"The choice folds picked {board.pick}. On the test block{'s' if len(board.tests) > 1 else ''} its skill is "
        f"{_skill(edge.skill)} ± {_thousandths(edge.skill.error)} thousandths of a nat"
    )
    if math.isnan(edge.skill.error):
        return f"{words}; the rows are too few to say how well anything is known."
    verdict = "that is enough" if edge.enough else "that is not enough: chance does as well"
    return f"{words}; {luck_words(edge.skill, edge.trials)}: {verdict}."


def markdown(board: Leaderboard) -> str:
    """Return `leaderboard.md`: one table a symbol, then the sentences."""
    parts = []
    for block in board.tests:
        head = f"**{block.symbol}**, {block.rows:,} rows of the test block\n"
        parts.append("\n".join([head, *_lines([HEADINGS, *(row for _, row in table_rows(board, block))])]))
    return "\n\n".join([*parts, EXPLAINED, "\n".join(f"- {one}" for one in sentences(board))]) + "\n"


def _lines(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    head, *body = ["| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows]
    yield from (head, "|" + " --- |" * len(rows[0]), *body)


def _skill(mean: Mean | None) -> str:
    return "" if mean is None else f"{1000 * mean.value:+.2f}".replace("-", "−")


def _thousandths(error: float) -> str:
    return f"{1000 * error:.2f}" if math.isfinite(error) else "unknown"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
