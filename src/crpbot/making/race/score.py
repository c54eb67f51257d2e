"""What answers are worth: skill and accuracy on the same rows, against each other, with errors from blocks of time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from crpbot.dataset.labels import NEUTRAL
from crpbot.making.race.contenders import Answer, log_shares
from crpbot.making.race.protocol import Truth
from crpbot.model.calibration import log_softmax
from crpbot.quality.bootstrap import Resamples, resample
from crpbot.quality.metrics import Floats, Mean, directional_row_loss, log_loss_of_logits, shares
from crpbot.quality.reliability import n_bins, reliability

_Number = TypeVar("_Number", np.int8, np.int64, np.float32, np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What one contender got on one block.

    Attributes:
        skill: directional log loss of the prior less that of the contender, in nats per row that was not NEUTRAL; positive is
            better, None without probabilities.
        log_loss: of all three classes, in nats; None likewise.
        accuracy: share of right rows.
        over_majority: accuracy less that of the commonest class in hindsight.
        ece, ece_excess: calibration error, and what of it is more than chance makes; None likewise.

    """

    skill: Mean | None
    log_loss: float | None
    accuracy: Mean
    over_majority: Mean
    ece: float | None
    ece_excess: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One contender less another, row by row.

    Attributes:
        skill: difference in nats per row that was not NEUTRAL; None where one of them has no probabilities.
        accuracy: difference of the shares of right rows.

    """

    skill: Mean | None
    accuracy: Mean


class Judge:
    """Judges answers to the same rows, of one block or of several together, with one set of draws, so that all is paired.

    Blocks are pooled by rows: each row that was not NEUTRAL counts the same, so a short block, whose mean is known worse, weighs
    less. Rows of all blocks are put in the order of time, since symbols move together: a block of time holds those of all.

    Args:
        truths: of each block.
        priors: shares of the classes among its training rows.

    """

    def __init__(self, truths: Sequence[Truth], priors: Sequence[tuple[float, ...]]) -> None:
        time = np.concatenate([truth.time for truth in truths])
        self._order = np.argsort(time, kind="stable")
        self._priors = priors
        self._lengths = [len(truth.y) for truth in truths]
        self.time, self.y = time[self._order], self._joined([truth.y for truth in truths])
        self.known = self._joined([truth.known for truth in truths])
        self.moved: NDArray[np.bool_] = self.y != NEUTRAL
        self.effective_rows = sum(truth.effective_rows for truth in truths)

    @cached_property
    def resamples(self) -> Resamples:
        """The draws."""
        return resample(self.time, known=self.known)

    @cached_property
    def majority(self) -> Floats:
        """Where the commonest class in hindsight is right."""
        return np.asarray(self.y == int(shares(self.y).argmax()), np.float64)

    @cached_property
    def _prior_losses(self) -> Floats:
        # through float32, as every answer: the prior itself then has a skill of exactly 0
        logs = [log_softmax(log_shares(prior)[None]).astype(np.float32) for prior in self._priors]
        rows = [np.repeat(one, n, axis=0) for one, n in zip(logs, self._lengths, strict=True)]
        return directional_row_loss(self._joined(rows).astype(np.float64), self.y)

    def gains(self, answers: Sequence[Answer]) -> Floats | None:
        """Return by how much each row is foretold better than by the prior, in nats, shape `(n,)`; 0 where it was NEUTRAL."""
        logs = self._logs(answers)
        return None if logs is None else np.where(self.moved, self._prior_losses - directional_row_loss(logs, self.y), 0.0)

    def right(self, answers: Sequence[Answer]) -> Floats:
        """Return 1 where an answer is right, else 0, shape `(n,)`."""
        return np.asarray(self._joined([answer.says for answer in answers]) == self.y, np.float64)

    def skill(self, gains: Floats | None) -> Mean | None:
        """Return the mean gain of the rows that were not NEUTRAL; None where there is none."""
        return None if gains is None or not self.moved.any() else self.resamples.mean(gains, rows=self.moved)

    def skill_of(self, answers: Sequence[Answer | str]) -> Mean | None:
        """Return the skill of one contender, with an answer for each block; None where it has none for one of them."""
        whole = [answer for answer in answers if isinstance(answer, Answer)]
        return self.skill(self.gains(whole)) if len(whole) == len(answers) else None

    def score(self, answers: Sequence[Answer]) -> Score:
        """Judge one contender, with an answer for each block."""
        right, logs = self.right(answers), self._logs(answers)
        curve = None
        if logs is not None:
            bins = n_bins(self.effective_rows)
            curve = reliability(np.exp(logs), self.y, self.resamples, time=self.time, known=self.known, bins=bins)
        return Score(
            skill=self.skill(self.gains(answers)),
            log_loss=None if logs is None else log_loss_of_logits(logs, self.y),
            accuracy=self.resamples.mean(right),
            over_majority=self.resamples.mean(right - self.majority),
            ece=None if curve is None else curve.ece,
            ece_excess=None if curve is None else curve.ece - curve.ece_by_chance,
        )

    def pair(self, one: Sequence[Answer], other: Sequence[Answer]) -> Pair:
        """Compare two contenders, each with an answer for each block."""
        ours, theirs = self.gains(one), self.gains(other)
        both = None if ours is None or theirs is None else ours - theirs
        return Pair(skill=self.skill(both), accuracy=self.resamples.mean(self.right(one) - self.right(other)))

    def pairs(self, answers: Mapping[str, Sequence[Answer]], against: str) -> Mapping[str, Pair]:
        """Compare everybody with one of them; nobody where that one gave no answer."""
        if against not in answers:
            return {}
        return {name: self.pair(one, answers[against]) for name, one in answers.items() if name != against}

    def _logs(self, answers: Sequence[Answer]) -> Floats | None:
        parts = [answer.log_probabilities for answer in answers if answer.log_probabilities is not None]
        return self._joined(parts).astype(np.float64) if len(parts) == len(answers) else None

    def _joined(self, parts: Sequence[NDArray[_Number]]) -> NDArray[_Number]:
        return np.concatenate(parts)[self._order]
