import dataclasses
import io
import json
import math
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from models import market, model

from crpbot.errors import DatasetError
from crpbot.factory import diagnose
from crpbot.market.candles import Candles
from crpbot.market.synthetic import make_market
from crpbot.model.checkpoint import Checkpoint
from crpbot.model.pt_file import to_bytes
from crpbot.model.subject import subject_of
from crpbot.quality.diagnosis import diagnose_subject
from crpbot.quality.report.data import Judgement, weigh, write_predictions
from crpbot.quality.report.html import report_page


def judged(checkpoint: Checkpoint, candles: Candles | None = None) -> Judgement:
    diagnosis = diagnose_subject(
        subject_of(checkpoint), candles or market(), path="m.pt", sha256="0", source="synthetic", label_recipe=model().recipe
    )
    return weigh(diagnosis, "market")


def damaged(**changes: object) -> Checkpoint:
    """Return a copy of the sound model whose state was changed by name."""
    payload = torch.load(io.BytesIO(to_bytes(model())), weights_only=True)
    copy = dataclasses.replace(model(), network=type(model().network)())
    copy.network.load_state_dict(payload["model_state_dict"])
    for name, change in changes.items():
        change(copy.network.get_parameter(name.replace("__", ".")).data)
    copy.network.eval()
    return copy


def test_a_sound_model_has_no_cause() -> None:
    result = judged(model())
    assert [(cause.code, cause.severity) for cause in result.causes] == [("too-few-rows", "warning")]
    assert result.diagnosis.metrics.accuracy == pytest.approx(0.70, abs=0.03)
    assert {gate.name for gate in result.verdict.failed} >= {"enough-rows", "too-good"}


def test_ours_is_judged_only_on_rows_that_it_has_not_seen() -> None:
    origin = model().origin
    rows = judged(model()).diagnosis.judged.time
    assert rows.min() == origin.unseen_from > origin.fitted_until
    with pytest.raises(DatasetError, match="rows that the model has not seen"):
        judged(model(), market()[:9_000])


def test_a_lost_scaler_is_named_first_and_proven() -> None:
    result = judged(model("v7-lost-scaler"))
    first = result.causes[0]
    assert first.code == "lost-normalizer"
    assert first.what_if.metric == "logit_abs_max"
    assert first.what_if.before > 20 > first.what_if.after
    assert first.evidence["raw_log_loss"] > 2 * first.evidence["prior_log_loss"]
    assert not result.verdict.passed


def test_a_network_trained_raw_misses_its_normalizer() -> None:
    assert judged(model("v6", epochs=8)).causes[0].code == "missing-normalizer"


def test_faults_are_named() -> None:
    loud = judged(damaged(temperature=lambda t: t.mul_(0.1)))
    named = [cause.code for cause in loud.causes]
    assert named[:4] == ["extreme-logits", "cosmetic-temperature", "overconfident", "miscalibrated"]
    assert all(cause.what_if.after < 0.4 * cause.what_if.before for cause in loud.causes[:4])
    stuck = judged(damaged(fc4__bias=lambda b: b.copy_(torch.tensor([9.0, 0.0, 0.0]))))
    assert {"class-collapse", "miscalibrated", "no-skill"} <= {cause.code for cause in stuck.causes}
    dead = judged(damaged(fc4__weight=lambda w: w.zero_()))
    assert "no-skill" in [cause.code for cause in dead.causes]


def test_weights_that_are_not_finite_fail_and_are_null() -> None:
    result = judged(damaged(fc2__weight=lambda w: w[0].fill_(math.nan)))
    plain = json.loads(result.to_json())
    assert plain["metrics"]["accuracy"] is None
    assert plain["metrics"]["ece"] is None
    assert plain["passed"] is False
    assert "finite-weights" in [gate.name for gate in result.verdict.failed]
    assert "not finite" in report_page([result])


def test_a_scaler_of_made_up_noise_does_not_fit() -> None:
    network = damaged().network
    network.normalizer.scale[model().features.index("returns")] *= 300
    result = judged(dataclasses.replace(model(), network=network.eval()))
    assert "normalizer-fits" in [gate.name for gate in result.verdict.failed]


def test_the_diagnosis_has_the_contract_s_fields() -> None:
    plain = json.loads(judged(model()).to_json())
    assert plain["format"] == "crpbot.diagnosis/1"
    assert set(plain["model"]) == {
        "path", "sha256", "symbol", "recipe", "architecture", "n_features", "classes", "normalizer", "temperature"
    }  # fmt: skip
    assert plain["model"]["architecture"] == "72-256-128-64-3"
    assert set(plain["data"]) == {"source", "rows", "from", "to", "sha256", "out_of_sample"}
    wanted = {
        "logit_min", "logit_max", "logit_abs_max", "logit_mean", "confidence_over_99", "confidence_50_90", "predicted_share",
        "actual_share", "ece", "ece_ci", "log_loss", "directional_log_loss", "brier", "accuracy", "accuracy_ci",
        "majority_accuracy",
    }  # fmt: skip
    assert wanted <= set(plain["metrics"])
    assert set(plain["metrics"]["predicted_share"]) == {"DOWN", "NEUTRAL", "UP"}
    assert {"name", "required", "value", "limit", "target", "passed"} <= set(plain["gates"][3])
    assert plain["gates"][3]["limit"] == "<= 20"


def test_anybody_can_recompute_the_metrics_from_the_predictions(tmp_path: Path) -> None:
    result = judged(model())
    write_predictions(result.diagnosis.judged, tmp_path / "p.parquet")
    frame = pl.read_parquet(tmp_path / "p.parquet")
    assert frame.columns == ["time", "label", *(f"logit_{i}" for i in range(3)), *(f"probability_{i}" for i in range(3))]
    logits, p = (frame.select(f"{kind}_{i}" for i in range(3)).to_numpy() for kind in ("logit", "probability"))
    y, m = frame["label"].to_numpy(), result.diagnosis.metrics
    np.testing.assert_allclose(p, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), rtol=1e-9)
    assert m.accuracy == (p.argmax(axis=1) == y).mean()
    assert m.log_loss == pytest.approx(-np.log(p[np.arange(len(y)), y]).mean(), rel=1e-9)
    assert m.brier == pytest.approx(((p - np.eye(3)[y]) ** 2).sum(axis=1).mean(), rel=1e-9)
    assert (m.logit_min, m.logit_max) == (logits.min(), logits.max())
    assert m.confidence_over_99 == (p.max(axis=1) > 0.99).mean()
    rows = {
        "log_loss": -np.log(p[np.arange(len(y)), y]),
        "brier": ((p - np.eye(3)[y]) ** 2).sum(axis=1),
        "class_bias": max((p - np.eye(3)[y]).T, key=lambda away: abs(away.mean())),
        "confidence_over_60": (p[:, [0, 2]].max(axis=1) >= 0.6).astype(float),
        "confidence_over_99": (p.max(axis=1) > 0.99).astype(float),
    }
    draws = result.diagnosis.judged.resamples
    wanted = {name: draws.means(x).std(ddof=1) for name, x in rows.items()}
    assert m.errors == {name: pytest.approx(error, rel=1e-6, abs=1e-12) for name, error in wanted.items()}


def test_the_same_logits_serve_foreign_files_with_unknown_history(tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in model().network.state_dict().items() if not name.startswith("normalizer.")}
    normalizer = model().network.normalizer
    payload = {"model_state_dict": state, "scaler_mean": normalizer.mean, "scaler_scale": normalizer.scale}
    torch.save(payload, tmp_path / "lstm_BTC-USD_v7_enhanced.pt")
    result = diagnose(tmp_path / "lstm_BTC-USD_v7_enhanced.pt", market(), source="synthetic")
    assert result.diagnosis.data.out_of_sample == "unknown"
    assert result.diagnosis.data.rows == 12_000 - 199 - 15
    assert result.diagnosis.metrics.accuracy == pytest.approx(0.70, abs=0.02)


class Outside(HTMLParser):
    """Collects whatever a page would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        leads = any(name in {"src", "href"} and not (to or "").startswith("#") for name, to in attrs)
        if tag in {"script", "link", "img", "iframe", "object"} or leads:
            self.found.append(tag)


def test_the_report_stands_alone_and_escapes_what_comes_from_a_file() -> None:
    result = judged(model())
    evil = dataclasses.replace(result.diagnosis.model, path="<script>alert(1)</script>.pt", symbol=None, recipe=None)
    result = dataclasses.replace(result, diagnosis=dataclasses.replace(result.diagnosis, model=evil))
    page = report_page([result, judged(model("v7-lost-scaler"))])
    reader = Outside()
    reader.feed(page)
    assert reader.found == []
    assert "<script>" not in page
    assert page.count("<svg") >= 6
    assert len(page) < 1_000_000


def test_our_model_on_another_market_is_never_called_foreign() -> None:
    other = make_market("level-noise", "ETH-USD", rows=12_000)
    assert judged(model(), other).diagnosis.metrics.normalizer_ratio < 2
