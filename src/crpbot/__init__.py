"""A factory for crypto direction models that refuses to ship a broken one.

The public API. Names are loaded when they are first used, so `import crpbot` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str

    from crpbot.dataset.features.compute import compute_features
    from crpbot.dataset.features.live import LiveFeatures
    from crpbot.dataset.features.sets import feature_set
    from crpbot.errors import CrpbotError
    from crpbot.factory import audit, diagnose, repair, run
    from crpbot.making.model import train_model
    from crpbot.making.race.leaderboard import leaderboard
    from crpbot.making.tune import tune
    from crpbot.market.candles import Candles
    from crpbot.market.files import read_candles
    from crpbot.market.source import open_source
    from crpbot.model.checkpoint import Checkpoint
    from crpbot.model.loading import load_checkpoint
    from crpbot.model.network import V7EnhancedFNN
    from crpbot.model.recipe import Recipe, load_recipe
    from crpbot.quality.audit.pipeline import Blocks, Pipeline
    from crpbot.registry.registry import Registry
    from crpbot.signals.backtest import backtest
    from crpbot.signals.signal import Signal, newest_signal

_HOMES = {
    "Blocks": "crpbot.quality.audit.pipeline",
    "Candles": "crpbot.market.candles",
    "Checkpoint": "crpbot.model.checkpoint",
    "CrpbotError": "crpbot.errors",
    "LiveFeatures": "crpbot.dataset.features.live",
    "Pipeline": "crpbot.quality.audit.pipeline",
    "Recipe": "crpbot.model.recipe",
    "Registry": "crpbot.registry.registry",
    "Signal": "crpbot.signals.signal",
    "V7EnhancedFNN": "crpbot.model.network",
    "audit": "crpbot.factory",
    "backtest": "crpbot.signals.backtest",
    "compute_features": "crpbot.dataset.features.compute",
    "diagnose": "crpbot.factory",
    "feature_set": "crpbot.dataset.features.sets",
    "leaderboard": "crpbot.making.race.leaderboard",
    "load_checkpoint": "crpbot.model.loading",
    "load_recipe": "crpbot.model.recipe",
    "newest_signal": "crpbot.signals.signal",
    "open_source": "crpbot.market.source",
    "read_candles": "crpbot.market.files",
    "repair": "crpbot.factory",
    "run": "crpbot.factory",
    "train_model": "crpbot.making.model",
    "tune": "crpbot.making.tune",
}

__all__ = [
    "Blocks",
    "Candles",
    "Checkpoint",
    "CrpbotError",
    "LiveFeatures",
    "Pipeline",
    "Recipe",
    "Registry",
    "Signal",
    "V7EnhancedFNN",
    "audit",
    "backtest",
    "compute_features",
    "diagnose",
    "feature_set",
    "leaderboard",
    "load_checkpoint",
    "load_recipe",
    "newest_signal",
    "open_source",
    "read_candles",
    "repair",
    "run",
    "train_model",
    "tune",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        return import_module("crpbot.version").code_version()
    if name not in _HOMES:
        raise AttributeError(f"module 'crpbot' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
