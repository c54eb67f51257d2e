"""Pipelines of strangers: a logistic regression on seven features, sound or with one leak planted."""

from dataclasses import replace
from functools import cache

import numpy as np

from crpbot.dataset.features.compute import compute_features
from crpbot.dataset.features.sets import feature_set
from crpbot.dataset.labels import LabelRule, classify, fit_theta, label_moves
from crpbot.market.candles import Candles
from crpbot.market.synthetic import planted_edge
from crpbot.quality.audit.pipeline import Blocks, Pipeline

RULE = LabelRule(kind="horizon", horizon=15)
INPUTS = feature_set("founding-72").only(
    "high_low_ratio", "momentum_5", "price_to_ema_50", "returns", "rsi_14", "volatility_50", "volume_ratio"
)
NAMES = INPUTS.names


@cache
def edge(seed: int = 0, rows: int = 30_000, points: float = 8) -> Candles:
    """Return a market with an edge of eight points, shown by one feature: large, so that few rows are enough to see it."""
    return planted_edge(np.random.default_rng(seed), rows, 60_000.0, points=points, joint=False)


def features(candles: Candles) -> tuple[np.ndarray, np.ndarray]:
    found = compute_features(candles, INPUTS)
    return candles.time[found.rows], found.values


@cache
def rows_of(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return time, features, labels and when they are known of every labelled row."""
    candles = edge(seed)
    time, x = features(candles)
    moves, known = label_moves(candles, RULE)
    moves, known = moves[-len(time) :], known[-len(time) :]
    there = np.isfinite(moves)
    return time[there], x[there], classify(moves[there], fit_theta(moves[there], RULE, neutral_share=0.08)), known[there]


def fitted(x: np.ndarray, y: np.ndarray, scale_on: np.ndarray):
    """Return `predict` of a logistic regression on standardized features, and the scaler."""
    from sklearn.linear_model import LogisticRegression

    mean, scale = scale_on.mean(axis=0), np.where(scale_on.std(axis=0) > 0, scale_on.std(axis=0), 1.0)
    model = LogisticRegression(max_iter=500).fit((x - mean) / scale, y)
    return lambda rows: model.predict_proba((rows - mean) / scale), (mean, scale)


def split(time: np.ndarray, *, purge: int = 15, share: float = 0.7) -> Blocks:
    """Split by time, and drop the last rows of training whose labels reach over the boundary."""
    cut = int(len(time) * share)
    return Blocks(train=time[: cut - purge], test=time[cut:])


def sound(seeds: tuple[int, ...] = (0,)) -> Pipeline:
    """Return a pipeline without a leak; several seeds are several symbols with one network."""
    symbols = {f"S{seed}-USD": seed for seed in seeds}
    blocks = {symbol: split(rows_of(seed)[0]) for symbol, seed in symbols.items()}
    return trained(blocks, symbols)


def trained(blocks: dict[str, Blocks], symbols: dict[str, int], *, scale_on_all: bool = False) -> Pipeline:
    xs, ys = [], []
    for symbol, seed in symbols.items():
        time, x, y, _ = rows_of(seed)
        chosen = np.isin(time, blocks[symbol].train)
        xs.append(x[chosen])
        ys.append(y[chosen])
    every = [rows_of(seed)[1] for seed in symbols.values()]
    predict, scaler = fitted(np.concatenate(xs), np.concatenate(ys), np.concatenate(every if scale_on_all else xs))
    return Pipeline(
        candles={symbol: edge(seed) for symbol, seed in symbols.items()},
        features=features,
        names=NAMES,
        predict=predict,
        rule=RULE,
        blocks=blocks,
        scaler=scaler,
        fit=lambda training, _: fitted(training.x, training.y, training.x)[0],
    )


def label_in_a_feature() -> Pipeline:
    """`momentum_5` is taken from ten candles ahead: a centred window."""
    column = NAMES.index("momentum_5")

    def leaking(candles: Candles) -> tuple[np.ndarray, np.ndarray]:
        time, x = features(candles)
        ahead = np.concatenate([x[10:, column], np.repeat(x[-1:, column], 10)])
        return time, np.concatenate([x[:, :column], ahead[:, None], x[:, column + 1 :]], axis=1)

    time, _, y, _ = rows_of(0)
    blocks = split(time)
    x = leaking(edge(0))[1][: len(time)]
    train = np.isin(time, blocks.train)
    predict, scaler = fitted(x[train], y[train], x[train])
    return replace(sound(), features=leaking, predict=predict, scaler=scaler, blocks={"S0-USD": blocks})


def scaler_on_all_rows() -> Pipeline:
    return trained({"S0-USD": split(rows_of(0)[0])}, {"S0-USD": 0}, scale_on_all=True)


def random_split() -> Pipeline:
    time = np.random.default_rng(0).permutation(rows_of(0)[0])
    cut = int(len(time) * 0.7)
    return trained({"S0-USD": Blocks(train=np.sort(time[:cut]), test=np.sort(time[cut:]))}, {"S0-USD": 0})


def no_purge() -> Pipeline:
    return trained({"S0-USD": split(rows_of(0)[0], purge=0)}, {"S0-USD": 0})


def shared_timestamps() -> Pipeline:
    """Each symbol is split by time, purged, but at moments of its own."""
    blocks = {"S0-USD": split(rows_of(0)[0], share=0.6), "S1-USD": split(rows_of(1)[0], share=0.8)}
    return trained(blocks, {"S0-USD": 0, "S1-USD": 1})


PLANTED = {
    "label-in-feature": label_in_a_feature,
    "scaler-saw-test-rows": scaler_on_all_rows,
    "random-split": random_split,
    "no-purge": no_purge,
    "shared-timestamps": shared_timestamps,
}
