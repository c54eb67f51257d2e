"""Which candles a command means for a model."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crpbot.model.loading import ModelFile
    from crpbot.quality.gates import GateTable
    from crpbot.quality.report.data import Judgement


def judge_model(
    model: "ModelFile",
    candles: str | None,
    *,
    symbol: str | None = None,
    seed: int = 0,
    gates: "GateTable" = "market",
    label: str = "v7",
    scaler: Path | None = None,
    features: tuple[str, ...] = (),
) -> "Judgement":
    """Return the judgement of a model on the candles of `symbol`, its own symbol, or the one in its name."""
    from crpbot import factory
    from crpbot.model.recipe import load_recipe

    recipe = load_recipe(label)
    rows, kind = factory.read_market(candles, symbol or model.market, seed=seed)
    return factory.diagnose(model, rows, source=kind, gates=gates, label_recipe=recipe, scaler=scaler, features=features or None)
