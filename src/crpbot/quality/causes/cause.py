"""A cause that was found, and what its remedy would repair."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from crpbot.dataset.labels import CLASSES
from crpbot.quality.causes.table import CAUSES, Severity
from crpbot.quality.experiment import Experiment, Measures, Trial

METRIC_WORDS: Mapping[str, str] = {
    "logit_abs_max": "largest |logit|",
    "logit_min": "smallest logit",
    "logit_max": "largest logit",
    "confidence_over_99": "share over 99 %",
    "mean_confidence": "mean confidence",
    "predicted_share": "says",
    "class_bias": "class bias",
    "ece": "calibration error",
    "log_loss": "log loss",
    "accuracy": "accuracy",
}
"""What people call the fields of `Measures`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """What a remedy changes, on rows that it was not fitted on.

    Attributes:
        remedy: what was done, in words.
        metric: the number that tells most.
        before, after: that number.
        measured: every number before and after.

    """

    remedy: str
    metric: str
    before: float
    after: float
    measured: tuple[Measures, Measures]

    @property
    def repairs(self) -> bool:
        """Whether the number that tells most falls by a tenth or more."""
        return self.after < 0.9 * self.before

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain types."""
        before, after = (asdict(measures) for measures in self.measured)
        for one in (before, after):
            one["predicted_share"] = dict(zip(CLASSES, one["predicted_share"], strict=True))
        return {
            "metric": self.metric,
            "before": self.before,
            "after": self.after,
            "remedy": self.remedy,
            "measures": {name: {"before": before[name], "after": after[name]} for name in before},
        }

    def __str__(self) -> str:
        words = f"what if ({self.remedy}): {METRIC_WORDS[self.metric]} {self.before:,.4g} → {self.after:,.4g}"
        if self.metric != "log_loss":
            first, second = self.measured
            words += f", log loss {first.log_loss:,.4g} → {second.log_loss:,.4g}"
        return words + ("" if self.repairs or self.metric == "log_loss" else "; this does not repair it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """A named reason for what the numbers show.

    Attributes:
        code: its name; `table.CAUSES` explains it.
        severity: `critical` makes every signal worthless; `warning` does not alone.
        detail: what was found, in words.
        evidence: the numbers that show it.
        what_if: what its remedy repairs, where one was tried.
        trial: of that remedy.
        fatal: whether nothing else matters while this holds.

    """

    code: str
    severity: Severity
    detail: str
    evidence: Mapping[str, float]
    what_if: WhatIf | None = None
    trial: Trial | None = None
    fatal: bool = False

    @property
    def message(self) -> str:
        """What it is, what was found, and what to do, for people."""
        kind = CAUSES[self.code]
        return " ".join(part for part in (kind.meaning, self.detail, kind.remedy) if part)

    @property
    def repaired(self) -> float:
        """Nats of log loss that its remedy removes; 0 where that is not proven."""
        return self.trial.gain.value if self.trial is not None and self.trial.proven else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain types."""
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "evidence": dict(self.evidence),
            "what_if": None if self.what_if is None else self.what_if.to_dict(),
        }


def found(
    code: str,
    evidence: Mapping[str, float | None],
    *,
    detail: str = "",
    severity: Severity | None = None,
    fatal: bool = False,
    trial: Trial | None = None,
    experiment: Experiment | None = None,
    metric: str = "log_loss",
) -> Cause:
    """Return the cause `code`.

    Args:
        code: of the table.
        evidence: the numbers that show it.
        detail: what was found, in words.
        severity: where it is not the table's.
        fatal: whether nothing else matters while this holds.
        trial: of the remedy.
        experiment: that the trial belongs to.
        metric: of `Measures`, which the what-if names first.

    """
    what_if = None
    if trial is not None and experiment is not None:
        before, after = experiment.before, trial.measures
        what_if = WhatIf(
            remedy=trial.remedy,
            metric=metric,
            before=getattr(before, metric),
            after=getattr(after, metric),
            measured=(before, after),
        )
    return Cause(
        code=code,
        severity=severity or CAUSES[code].severity,
        detail=detail,
        evidence={name: math.nan if value is None else float(value) for name, value in evidence.items()},
        what_if=what_if,
        trial=trial,
        fatal=fatal,
    )
