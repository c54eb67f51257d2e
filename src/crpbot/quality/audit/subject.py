"""A judged model as a pipeline: what a checkpoint of ours knows of its making, and what has to be brought for others."""

from collections.abc import Callable, Mapping

from crpbot.dataset.features.compute import compute_features
from crpbot.errors import DatasetError
from crpbot.market.candles import Candles
from crpbot.model.calibration import softmax
from crpbot.model.fitting import Dated, fit_network
from crpbot.model.recipe import Recipe
from crpbot.model.subject import Subject
from crpbot.quality.audit.pipeline import Blocks, Fit, Pipeline, Predict
from crpbot.quality.diagnosis import Diagnosis
from crpbot.quality.metrics import Floats, Ints


def pipeline_of(
    diagnosis: Diagnosis,
    candles: Mapping[str, Candles],
    symbol: str,
    *,
    label_recipe: Recipe,
    blocks: Mapping[str, Blocks] | None = None,
) -> Pipeline:
    """Return the pipeline behind a diagnosis.

    A checkpoint of ours knows its recipe and its blocks, and the digest of its labels proves them; without the candles that it
    was made from they are unknown. For others `blocks` says what was used for what; without them all rows count as test rows.

    Args:
        diagnosis: of the model on candles of `symbol`.
        candles: by symbol.
        symbol: of the diagnosis.
        label_recipe: whose label a foreign model is judged by.
        blocks: of a foreign model, by symbol.

    Raises:
        DatasetError: blocks are brought for a model that knows its own.

    """
    subject, learned, checkpoint = diagnosis.subject, diagnosis.learned, diagnosis.subject.checkpoint
    own = checkpoint.recipe if checkpoint else None
    if own is not None and blocks is not None:
        raise DatasetError("a checkpoint of crpbot knows its own rows, found others for it; leave out --rows")
    recipe = own or label_recipe
    if blocks is None:
        test = diagnosis.judged.time
        known = (
            Blocks(train=None, test=test)
            if learned is None
            else Blocks(train=learned.training.time, calibration=learned.calibration.time, test=test)
        )
    normalizer = None if subject.weights is None else subject.weights.normalizer
    return Pipeline(
        candles=candles,
        features=_features(subject, recipe.features.max_gap_minutes),
        names=subject.features,
        predict=lambda x: subject.predict(x).probabilities,
        rule=diagnosis.label.rule,
        blocks=blocks or {symbol: known},
        theta=None if own is None else diagnosis.label.theta,
        neutral_share=recipe.label.neutral_share,
        scaler=None if normalizer is None else (normalizer.mean, normalizer.scale),
        fit=None if own is None else fit_of(own, subject.features, seed=diagnosis.origin.seed if diagnosis.origin else 0),
        max_gap_minutes=recipe.features.max_gap_minutes,
        source=diagnosis.data.source,
    )


def fit_of(recipe: Recipe, names: tuple[str, ...], *, seed: int) -> Fit:
    """Return how a recipe is trained on given rows: as in a run, and calibrated."""

    def fit(training: Dated, calibration: Dated) -> Predict:
        network = fit_network(recipe, training, calibration, names=names, seed=seed).network
        return lambda x: softmax(network.serve(x))

    return fit


def _features(subject: Subject, max_gap_minutes: int) -> Callable[[Candles], tuple[Ints, Floats]]:
    table = subject.feature_set
    columns = [table.names.index(name) for name in subject.features]

    def features(candles: Candles) -> tuple[Ints, Floats]:
        found = compute_features(candles, table, max_gap_minutes=max_gap_minutes)
        in_order = columns == list(range(len(table.names)))
        return candles.time[found.rows], found.values if in_order else found.values[:, columns]

    return features
