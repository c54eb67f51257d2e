"""The audit: was a result earned? Checks first, then a verdict in plain words, with the number that decided it."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from crpbot.dataset.labels import CLASSES
from crpbot.quality.audit.check import LEAKS, Check
from crpbot.quality.audit.path import future_overwrite
from crpbot.quality.audit.pipeline import Pipeline
from crpbot.quality.audit.refit import ROWS, refit_checks, retrained_check
from crpbot.quality.audit.scale import scaler_check
from crpbot.quality.audit.split import duplicates_check, purge_check, rows_check, split_check, timestamps_check
from crpbot.quality.audit.worth import (
    claim_words,
    error_words,
    luck_check,
    noise_check,
    one_feature_check,
    over_majority,
    refuted,
    sample_check,
    shift_check,
)
from crpbot.quality.gates import TOO_GOOD
from crpbot.quality.metrics import Mean, percent, shares
from crpbot.quality.report.data import finite

FORMAT = "crpbot.audit/1"
PROOFS = ("future-overwrite", "test-block", "split-by-time", "purge", "timestamps-across-symbols", "duplicate-rows", "scaler")
"""Checks without which nothing is earned."""
Code = Literal["earned", "leak", "claim-refuted", "made-up-market", "unproven", "luck"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Audit:
    """What an audit found.

    Attributes:
        checks: in the order of the path of the data.
        leaks: keys of `LEAKS`, roots first.
        code: of the verdict; only `earned` is a yes.
        words: the verdict, with the number that decided it.
        accuracy: on the test rows, with its block standard error.
        over_majority: what it is above the commonest class in hindsight, likewise.
        majority_accuracy: of that class.
        rows: how many test rows.
        claim: what was claimed; None if nothing was.
        trials: how many models were tried.
        counted_by: who knows of them.

    """

    checks: tuple[Check, ...]
    leaks: tuple[str, ...]
    code: Code
    words: str
    accuracy: Mean
    over_majority: Mean
    majority_accuracy: float
    rows: int
    claim: float | None
    trials: int
    counted_by: str

    @property
    def earned(self) -> bool:
        """Whether the result was earned."""
        return self.code == "earned"

    def to_dict(self) -> dict[str, Any]:
        """Return the audit as plain types."""
        plain = {
            "format": FORMAT,
            "verdict": self.code,
            "earned": self.earned,
            "words": self.words,
            "accuracy": self.accuracy.value,
            "accuracy_ci": list(self.accuracy.interval),
            "majority_accuracy": self.majority_accuracy,
            "over_majority": asdict(self.over_majority),
            "rows": self.rows,
            "claim": self.claim,
            "trials": self.trials,
            "trials_counted_by": self.counted_by,
            "leaks": [{"code": code, "message": f"{LEAKS[code].meaning} {LEAKS[code].remedy}"} for code in self.leaks],
            "checks": [asdict(check) for check in self.checks],
        }
        return finite(plain)  # type: ignore[no-any-return]


def audit_pipeline(
    pipeline: Pipeline,
    *,
    claim: float | None = None,
    trials: int = 1,
    counted_by: str = "whoever asked",
    refit: bool = True,
    retrain: bool = False,
    told: Callable[[str], None] = lambda _: None,
) -> Audit:
    """Audit a pipeline.

    Args:
        pipeline: everything between candles and probabilities.
        claim: the accuracy that somebody claims; None asks only for what was measured.
        trials: how many models were tried before this one was chosen, itself included.
        counted_by: who knows of them.
        refit: whether to train the recipe again on some rows, three times, to see what leaks would fake.
        retrain: whether to train it again on all of its rows, as is done anyway where accuracy is above 60 % or the rows are few.
        told: is told what is being done.

    """
    told("overwriting the future")
    checks = [future_overwrite(pipeline)]
    told("looking at the blocks")
    looks = (rows_check, split_check, purge_check, timestamps_check, duplicates_check, scaler_check)
    checks += [check(pipeline) for check in looks]
    if refit:
        checks += refit_checks(pipeline, told)
    test, predicted = pipeline.test, pipeline.predicted
    accuracy, over, majority = over_majority(test, predicted)
    few = pipeline.train is not None and len(pipeline.train) <= ROWS
    if retrain or (refit and pipeline.fit is not None and (few or accuracy.value > TOO_GOOD)):
        checks.append(retrained_check(pipeline, told))
    checks += [
        shift_check(test, predicted),
        one_feature_check(pipeline, predicted),
        noise_check(pipeline),
        sample_check(test, accuracy),
        luck_check(over, trials, counted_by=counted_by),
    ]
    found = {check.leak for check in checks if check.leak is not None}
    leaks = tuple(code for code in LEAKS if code in found)
    commonest = CLASSES[int(shares(test.y).argmax())]
    measured = (
        f"It is right {percent(accuracy.value)} of the time on {len(test):,} test rows, {100 * over.value:+.1f} points over "
        f"always saying {commonest} ({error_words(over)})."
    )
    code, words = _verdict(pipeline, checks, leaks, accuracy, claim)
    return Audit(
        checks=tuple(checks),
        leaks=leaks,
        code=code,
        words=f"{words} {measured}",
        accuracy=accuracy,
        over_majority=over,
        majority_accuracy=majority,
        rows=len(test),
        claim=claim,
        trials=trials,
        counted_by=counted_by,
    )


def _verdict(
    pipeline: Pipeline, checks: list[Check], leaks: tuple[str, ...], accuracy: Mean, claim: float | None
) -> tuple[Code, str]:
    by_name = {check.name: check for check in checks}
    luck, noise = by_name["luck"], by_name["level-plus-noise"]
    unknown = [check for check in checks if check.status == "unknown" and check.name in PROOFS]
    code: Code = "earned"
    proof = f"{_sentence(luck.words)} {_sentence(by_name['one-feature-rule'].words)}"
    words = f"Earned: no leak was found. {proof}"
    if leaks:
        code, words = "leak", _leak_words(checks, leaks)
    elif claim is not None and refuted(claim, accuracy):
        code, words = "claim-refuted", f"Not earned: {claim_words(claim, accuracy)}. {_could_be(by_name)}"
    elif noise.status == "failed":
        code, words = "made-up-market", f"Not earned: these candles are no market. {_sentence(noise.words)}"
    elif unknown:
        names = ", ".join(check.name for check in unknown)
        code, words = "unproven", f"Unproven: {names} cannot be checked. {_sentence(unknown[0].words)}"
    elif luck.status != "passed":
        code, words = "luck", f"Not earned: chance does as well. {_sentence(luck.words)}"
    elif pipeline.source == "synthetic":
        words = f"Earned on a made-up market; no real one behaves like it. No leak was found. {proof}"
    return code, words


def _leak_words(checks: list[Check], leaks: tuple[str, ...]) -> str:
    first = next(check for check in checks if check.leak == leaks[0])
    also = f" Also: {', '.join(leaks[1:])}." if leaks[1:] else ""
    return f"Not earned: {leaks[0]}. {LEAKS[leaks[0]].meaning} {_sentence(first.words)}{also}"


def _could_be(by_name: dict[str, Check]) -> str:
    """Return what would give a high accuracy."""
    words = [by_name["level-plus-noise"].words]
    if "random-split-illusion" in by_name:
        words.append(by_name["random-split-illusion"].words)
    return " ".join(_sentence(one) for one in words)


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:] + "."
