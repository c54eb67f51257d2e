"""A judged model as data: `diagnosis.json`, and the predictions as a table."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crpbot.dataset.labels import CLASSES
from crpbot.disk import whole_file
from crpbot.market.candles import utc
from crpbot.market.files import write_parquet
from crpbot.quality.causes.cause import Cause
from crpbot.quality.causes.find import find_causes
from crpbot.quality.diagnosis import Diagnosis
from crpbot.quality.experiment import experiment_of
from crpbot.quality.gates import GateTable, Verdict, judge
from crpbot.quality.report.curves import Curves, curves_of
from crpbot.quality.report.text import facts, founding_rows, headline, plain_words, selective_words, table_rows
from crpbot.quality.rows import Judged

if TYPE_CHECKING:
    from crpbot.model.training import Epoch

FORMAT = "crpbot.diagnosis/1"


@dataclass(frozen=True, eq=False)
class Judgement:
    """A diagnosis, its causes and what the gates say: everything a report tells.

    Attributes:
        diagnosis: numbers.
        causes: in the order of what explains most.
        verdict: of the chosen table of gates.
        targets: of the founding table, for comparison.
        curves: what the pictures are drawn from.
        history: of the training, where it is known.

    """

    diagnosis: Diagnosis
    causes: tuple[Cause, ...]
    verdict: Verdict
    targets: Verdict
    curves: Curves
    history: tuple["Epoch", ...] = ()

    @property
    def name(self) -> str:
        """The model in two words, for headings."""
        model = self.diagnosis.model
        return " ".join(part for part in (model.symbol, model.recipe) if part) or Path(model.path).name

    def settled(self) -> "Judgement":
        """Return all that reports and tables need, and nothing else: it is small, and can go to another process.

        Left out are the features of the rows, the rows that the model learned from, and the remedies themselves.
        """
        judged = replace(self.diagnosis.judged, x=self.diagnosis.judged.x[:, :0].copy())
        diagnosis = replace(self.diagnosis, judged=judged, learned=None)
        return replace(self, diagnosis=diagnosis, causes=tuple(replace(cause, trial=None) for cause in self.causes))

    def to_dict(self) -> dict[str, Any]:
        """Return `diagnosis.json` as plain types; a number that could not be measured is None."""
        d, m = self.diagnosis, self.diagnosis.metrics
        origin = d.origin
        plain = {
            "format": FORMAT,
            "model": asdict(d.model),
            "data": {
                "source": d.data.source,
                "rows": d.data.rows,
                "from": utc(d.data.first),
                "to": utc(d.data.last),
                "sha256": d.data.sha256,
                "out_of_sample": d.data.out_of_sample,
            },
            "repairs": [asdict(repair) for repair in d.checkpoint.repairs] if d.checkpoint else [],
            "dropped": None if origin is None else dict(origin.dropped),
            "label": asdict(d.label),
            "gate_table": self.verdict.table,
            "metrics": self._numbers(),
            "regimes": [asdict(regime) for regime in m.regimes],
            "selective": None if d.selective is None else asdict(d.selective),
            "causes": [cause.to_dict() for cause in self.causes],
            "gates": [asdict(result) for result in self.verdict.results],
            "targets": [asdict(result) for result in self.targets.results],
            "passed": self.verdict.passed,
            "words": self._words(),
            "curves": self.curves.to_dict(self.history),
        }
        return finite(plain)  # type: ignore[no-any-return]

    def _numbers(self) -> dict[str, Any]:
        """Return what was measured, by name."""
        m, rule = self.diagnosis.metrics, self.diagnosis.rule
        return {
            "rows": m.rows,
            "effective_rows": m.effective_rows,
            "logit_min": m.logit_min,
            "logit_max": m.logit_max,
            "logit_abs_max": m.logit_abs_max,
            "logit_mean": _by_class(m.logit_mean),
            "confidence_over_99": m.confidence_over_99,
            "confidence_50_90": m.confidence_50_90,
            "confidence_over_60": m.confidence_over_60,
            "mean_confidence": m.mean_confidence,
            "predicted_share": _by_class(m.predicted_share),
            "actual_share": _by_class(m.actual_share),
            "mean_probability": _by_class(m.mean_probability),
            "class_bias": m.class_bias,
            "ece": m.ece,
            "ece_ci": _interval(m.ece_interval),
            "ece_by_chance": m.ece_by_chance,
            "ece_excess": m.ece_excess,
            "log_loss": m.log_loss,
            "prior_log_loss": m.prior_log_loss,
            "directional_log_loss": m.directional_log_loss,
            "prior_directional_log_loss": m.prior_directional_log_loss,
            "over_direction": None if m.over_direction is None else asdict(m.over_direction),
            "brier": m.brier,
            "errors": None if m.errors is None else dict(m.errors),
            "accuracy": m.accuracy,
            "accuracy_ci": _interval(m.accuracy_interval),
            "majority_accuracy": m.majority_accuracy,
            "over_majority": None if m.over_majority is None else asdict(m.over_majority),
            "one_feature_accuracy": m.rule_accuracy,
            "over_one_feature": None if m.over_rule is None else asdict(m.over_rule),
            "one_feature_rule": None if rule is None else str(rule),
            "normalizer_ratio": m.normalizer_ratio,
            "disagreement_mean": m.disagreement_mean,
        }

    def _words(self) -> dict[str, Any]:
        """Return the sentences and the rows of the tables, so that whoever draws a report later says the same."""
        return {
            "name": self.name,
            "headline": headline(self),
            "plain": plain_words(self),
            "facts": facts(self.diagnosis),
            "selective": selective_words(self.diagnosis),
            "table": [{"name": row.name, "cell": row.cells[0], "target": row.target} for row in table_rows([self])],
            "founding": [{"name": row.name, "cell": row.cells[0], "target": row.target} for row in founding_rows([self])],
        }

    def to_json(self) -> str:
        """Return `diagnosis.json`."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n"


def weigh(diagnosis: Diagnosis, gates: GateTable, history: "Sequence[Epoch]" = ()) -> Judgement:
    """Find the causes, ask the gates, and keep what is drawn of it."""
    metrics, experiment = diagnosis.metrics, experiment_of(diagnosis)
    return Judgement(
        diagnosis,
        find_causes(diagnosis, experiment),
        judge(metrics, gates),
        judge(metrics, "seed"),
        curves_of(diagnosis, experiment),
        tuple(history),
    )


def write_predictions(judged: Judged, path: Path) -> None:
    """Write Parquet with `time, label, logit_0..2, probability_0..2`, so that anybody can recompute the metrics."""
    import polars as pl  # noqa: PLC0415  live runs without it

    frame = pl.DataFrame(
        {
            "time": judged.time,
            "label": judged.y,
            **{f"logit_{i}": judged.prediction.logits[:, i] for i in range(len(CLASSES))},
            **{f"probability_{i}": judged.prediction.probabilities[:, i] for i in range(len(CLASSES))},
        }
    ).with_columns(pl.col("time").cast(pl.Datetime("ms", "UTC")))
    with whole_file(path) as partial:
        write_parquet(frame, partial)


def finite(value: Any) -> Any:  # noqa: ANN401
    """Return `value` as plain JSON types, with None for every number that is not finite: JSON has no other word."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def _interval(bounds: tuple[float, float] | None) -> list[float] | None:
    return None if bounds is None or not all(math.isfinite(bound) for bound in bounds) else list(bounds)


def _by_class(values: Sequence[float] | None) -> dict[str, float] | None:
    return None if values is None else dict(zip(CLASSES, values, strict=True))
