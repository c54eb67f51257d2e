"""What TensorBoard and MLflow are told is what was measured. Both are extras: `make bench` installs them and runs these."""

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from models import quick
from shell import crpbot

from crpbot.errors import CrpbotError
from crpbot.making.jobs import grid, run_here
from crpbot.making.tracking import both, tracking
from crpbot.market.synthetic import make_market

if TYPE_CHECKING:
    from crpbot.model.training import Epoch

MARKETS = {"BTC-USD": make_market("level-noise", "BTC-USD", rows=6_000)}
JOBS = {"recipe": quick(epochs=2), "source": "synthetic", "gates": "market", "seed": 0}

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def test_tensorboard_gets_every_epoch_and_the_result(tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="needs the extra `track`")
    jobs = grid(("BTC-USD",), out=tmp_path, seeds=2, **JOBS)
    seen: dict[str, list[Epoch]] = {}
    with tracking("tensorboard", tmp_path / "tracking") as (epoch_told, model_told):
        note = both(lambda job, epoch: seen.setdefault(job.name, []).append(epoch), epoch_told)
        run_here(jobs, MARKETS, workers=1, watch=note, done=model_told)
    for job in jobs:
        events = reader.EventAccumulator(str(tmp_path / "tracking" / job.name)).Reload()
        told = [event.value for event in events.Scalars("calibration_log_loss")]
        assert told == pytest.approx([epoch.calibration_log_loss for epoch in seen[job.name]])
        assert [event.step for event in events.Scalars("training_loss")] == [1, 2]
        assert 0 < events.Scalars("test/accuracy")[0].value < 1


def test_mlflow_gets_every_epoch_and_the_result_in_a_file_or_at_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs the extra `track`")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    jobs = grid(("BTC-USD",), out=tmp_path, **JOBS)
    with tracking("mlflow", tmp_path / "tracking") as (epoch_told, model_told):
        run_here(jobs, MARKETS, workers=1, watch=epoch_told, done=model_told)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'tracking' / 'mlflow.db'}")
    (experiment,) = [one for one in client.search_experiments() if one.name == "crpbot"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["training.batch_size"] == "256"
    assert run.data.params["symbol"] == "BTC-USD"
    assert [one.step for one in client.get_metric_history(run.info.run_id, "calibration_log_loss")] == [1, 2]
    assert run.data.tags["verdict"] == "refused"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(CrpbotError, match="MLflow must answer") as found, tracking("mlflow", tmp_path / "away"):
        pass
    assert "secret" not in str(found.value)


def test_without_the_extra_the_command_says_what_to_install(tmp_path: Path) -> None:
    code = "import sys; sys.modules['mlflow'] = None; sys.argv = ['crpbot', *sys.argv[1:]]; from crpbot.cli import main; main()"
    arguments = [
        "train",
        "--symbol",
        "BTC-USD",
        "--candles",
        "synthetic:level-noise:6000",
        "--track",
        "mlflow",
        "--out",
        str(tmp_path),
    ]
    found = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr.count("\n")) == (2, 1)
    assert "pip install 'crpbot[track]'" in found.stderr
    wrong = crpbot(*arguments[:-4], "--track", "wandb", "--out", tmp_path)
    assert wrong.returncode == 2
    assert "--track must be one of tensorboard, mlflow" in wrong.stderr
