"""The leaderboard for people: one table a symbol, and what it says in plain words."""

import math
from collections.abc import Iterator, Mapping, Sequence

from crpbot.making.race.board import ONE_FEATURE, PRIOR, Block, Leaderboard
from crpbot.making.race.contenders import NO_LEARNERS, Answer
from crpbot.making.race.score import Pair, Score
from crpbot.quality.audit.worth import BETTER, CHANCE, deflated, luck_words
from crpbot.quality.metrics import Mean, percent

HEADINGS = ("contender", "chosen by", "skill", "vs commonest", "ECE", "vs one", "fit", "size")
EXPLAINED = (
    "Skill is directional log loss of the prior less that of the contender, in thousandths of a nat per row that was not "
    "NEUTRAL (± one block standard error): of the choice folds under “chosen by”, of the test block under “skill”. “vs "
    "commonest” is accuracy less that of the commonest class in hindsight, in points; “vs one” is the better of skill and "
    "accuracy against the best one-feature rule, in paired block standard errors."
)


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
        "" if score.skill is None else f"{_skill(score.skill)} ± {_times(1000, score.skill.error)}",
        f"{100 * over.value:+.2f} ± {_times(100, over.error)}".replace("-", "−"),
        "" if score.ece is None else percent(score.ece),
        "" if pair is None else _errors(_best(pair)[1]),
        _seconds(answer.seconds),
        _size(answer.size),
    )


def sentences(board: Leaderboard) -> Iterator[str]:
    """Yield what the leaderboard says, in plain words."""
    for block in board.tests:
        yield f"{block.symbol}: {beating(block, PRIOR, 'the prior', symbols=len(board.tests))}"
        yield f"{block.symbol}: {beating(block, ONE_FEATURE, 'one feature', symbols=len(board.tests))}"
        if block.best_skill is not None:
            yield f"{block.symbol}: {_of_the_best(board, block)}"
        for name, answer in block.answers.items():
            if trouble := f"failed: {answer}" if isinstance(answer, str) else answer.trouble:
                yield f"{block.symbol}: {name} {trouble}."
    if board.choice is None:
        yield "With one fold there is nothing to choose by, so nothing is picked."
    elif board.pick is None:
        yield "No recipe could be picked."
    else:
        yield _picked(board)


def beating(block: Block, other: str, called: str, *, symbols: int) -> str:
    """Say who is ahead of another by more than chance explains, among all that were held against that one on so many symbols.

    Whoever is ahead in accuracy and behind in skill by two paired block standard errors, or the other way round, beats nobody.
    """
    if other not in block.pairs:
        return f"{called} gave no answer, so nobody can be compared with it."
    pairs = {name: pair for name, pair in _against(block, other).items() if name not in NO_LEARNERS and name != other}
    if pairs and all(math.isnan(_best(pair)[1].errors) for pair in pairs.values()):
        return f"nobody can say who beats {called}: the rows are too few to know how well anything is known."
    tries = 2 * len(pairs) * symbols  # each may be ahead in skill or in accuracy
    best = {name: _best(pair) for name, pair in pairs.items() if not _torn(pair)}
    ahead = [name for name, (_, mean) in best.items() if deflated(mean.errors, tries)[0] < CHANCE]
    furthest = max(best, key=lambda one: _far(best[one][1]), default="")
    return f"{_beaten(best, ahead, furthest, f'of {len(pairs)} beat {called}', called, tries)}{_torn_words(pairs)}."


def _beaten(
    best: Mapping[str, tuple[str, Mean]], ahead: Sequence[str], furthest: str, of_all: str, called: str, tries: int
) -> str:
    nobody = f"nothing beats {called}"
    if not furthest or not best[furthest][1].errors >= BETTER:
        return f"{nobody}: no contender is {BETTER:g} standard errors ahead of it, in skill or in accuracy"
    what, mean = best[furthest]
    words = f"{furthest} by {_amount(what, mean)}, {mean.errors:.1f} standard errors"
    if not ahead:
        return f"{nobody} by more than chance: furthest ahead is {words}; {luck_words(mean, tries)}"
    others = [one for one in ahead if one != furthest]
    return f"{len(ahead)} {of_all}, furthest {words}{'; also ' + ', '.join(others) if others else ''}"


def _torn(pair: Pair) -> bool:
    """Whether a contender is ahead in one measure and behind in the other, each by two standard errors."""
    errors = (pair.accuracy.errors, 0.0 if pair.skill is None else pair.skill.errors)
    return max(errors) >= BETTER and min(errors) <= -BETTER


def _torn_words(pairs: Mapping[str, Pair]) -> str:
    torn = {name: _best(pair)[0] for name, pair in pairs.items() if _torn(pair)}
    behind = {"accuracy": "skill", "skill": "accuracy"}
    words = [f"{name} is ahead in {what}, but behind in {behind[what]}" for name, what in torn.items()]
    return f"; {', '.join(words)}" if words else ""


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
    return max(both, key=lambda one: _far(one[1]))


def _far(mean: Mean) -> float:
    return mean.errors if math.isfinite(mean.errors) else -math.inf


def _amount(what: str, mean: Mean) -> str:
    return f"{1000 * mean.value:.2f} thousandths of a nat" if what == "skill" else f"{100 * mean.value:.2f} points of accuracy"


def _of_the_best(board: Leaderboard, block: Block) -> str:
    """Say what share of the skill that is there the pick has found, or every recipe where none was picked."""
    assert block.best_skill is not None
    best = f"the best possible skill is {1000 * block.best_skill:.2f} thousandths of a nat"
    if block.best_skill <= 0:
        return f"{best}: there is nothing to find."
    recipes = [one.name for one in board.race.contenders if one.baseline is None and one.name in block.scores]
    found = {name: block.share_of_best(name) for name in recipes if board.pick in (None, name)}
    words = [f"{name} finds {_share(share)}" for name, share in found.items() if share is not None]
    return f"{best}{'; ' + ', '.join(words) if words else ''}."


def _share(share: Mean) -> str:
    if not math.isfinite(share.error):
        return "an unknown share of it"
    words = f"{100 * share.value:.0f} % ± {100 * share.error:.0f} % of it".replace("-", "−")
    return f"{words} (more than there is: luck helped)" if share.value > 1 else words


def _picked(board: Leaderboard) -> str:
    edge = board.edge
    blocks = f"test block{'s' if len(board.tests) > 1 else ''}"
    if edge is None:
        silent = [block.symbol for block in board.tests if not isinstance(block.answers[board.pick or ""], Answer)]
        why = (
            f"which gave no answer on the test block of {', '.join(silent)}"
            if silent
            else f"of which nothing can be said: no row of the {blocks} moved"
        )
        return f"The choice folds picked {board.pick}, {why}."
    words = (
        f"The choice folds picked {board.pick}. On the {blocks} its skill is "
        f"{_skill(edge.skill)} ± {_times(1000, edge.skill.error)} thousandths of a nat"
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


def _times(times: float, error: float) -> str:
    return f"{times * error:.2f}" if math.isfinite(error) else "unknown"


def _errors(mean: Mean) -> str:
    return "unknown" if math.isnan(mean.errors) else f"{mean.errors:+.1f}".replace("-", "−")


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _size(n_bytes: int) -> str:
    """Write the size of what would be served.

    >>> _size(12), _size(117_644), _size(2_300_000)
    ('12 B', '118 kB', '2.3 MB')
    """
    if n_bytes < 1_000:
        return f"{n_bytes} B"
    return f"{n_bytes / 1e3:.0f} kB" if n_bytes < 1_000_000 else f"{n_bytes / 1e6:.1f} MB"
