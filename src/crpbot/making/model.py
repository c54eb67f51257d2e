"""One model: from the candles of a symbol to a calibrated checkpoint, and to a model folder that was judged."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from crpbot.dataset.assemble import assemble, labelled_rows
from crpbot.dataset.baselines import best_one_feature_rule
from crpbot.dataset.labels import classify, fit_theta, label_digest
from crpbot.dataset.splits import Split, walk_forward
from crpbot.disk import write_whole
from crpbot.errors import DatasetError
from crpbot.making.fit import fit
from crpbot.making.progress import leave_progress
from crpbot.market.candles import MINUTE, Candles
from crpbot.market.source import SourceKind
from crpbot.model.checkpoint import Checkpoint, Label, Origin
from crpbot.model.export import PROBE_ROWS, export_onnx, export_scaler
from crpbot.model.fitting import Fitted, folds_of
from crpbot.model.folder import ONNX_NAME, RECIPE_NAME, checkpoint_name, model_folder, scaler_name
from crpbot.model.loading import open_model, subject_in
from crpbot.model.pt_file import save_checkpoint
from crpbot.model.recipe import Recipe
from crpbot.model.training import Watch
from crpbot.quality.diagnosis import diagnose_subject
from crpbot.quality.gates import GateTable
from crpbot.quality.metrics import Floats, shares
from crpbot.quality.report.data import Judgement, weigh
from crpbot.quality.report.html import report_page


def train_model(
    symbol: str,
    candles: Candles,
    recipe: Recipe,
    *,
    source: SourceKind,
    gates: GateTable = "market",
    seed: int,
    folder: Path,
    watch: Watch | None = None,
    state: Path | None = None,
    split: Split | None = None,
    called: Path | None = None,
) -> Judgement:
    """Train one symbol and write its model folder; the new checkpoint is judged as it was read back from its file.

    Args:
        symbol: of the market.
        candles: of that symbol.
        recipe: of the model.
        source: kind of the candles.
        gates: table of gates to judge by.
        seed: of the training.
        folder: of the model.
        watch: is told of each epoch.
        state: folder for the state of a training that is not finished, from which the same call goes on, and which is gone in
            the end; by default one inside `folder`.
        split: of the rows; by default as the recipe cuts them.
        called: folder that the diagnosis names; `folder` by default.

    Raises:
        CrpbotError: the candles are too few, or the training cannot go on.

    """
    with model_folder(folder) as partial:
        told = leave_progress(partial, symbol, recipe, seed=seed, watch=watch)
        checkpoint, fitted, probe = make_model(
            symbol, candles, recipe, source=source, seed=seed, watch=told, state=state or partial, split=split
        )
        name = checkpoint_name(symbol, recipe.name)
        save_checkpoint(checkpoint, partial / name, probe=probe)
        opened = open_model(partial / name)
        diagnosis = diagnose_subject(
            subject_in(opened),
            candles,
            path=str((called or folder) / name),
            sha256=opened.sha256,
            source=source,
            label_recipe=recipe,
        )
        judgement = weigh(diagnosis, gates, fitted.history)
        write_beside(judgement, partial, probe=probe)
    for left in fitted.states:
        left.unlink(missing_ok=True)
    return judgement


def write_beside(judgement: Judgement, folder: Path, *, probe: Floats) -> None:
    """Write what stands beside a judged checkpoint of ours: its scaler, deployed form, recipe, history, diagnosis and report.

    Args:
        judgement: of the checkpoint, as it was read from its file.
        folder: for the files.
        probe: raw features to prove the deployed form with.

    """
    checkpoint = judgement.diagnosis.checkpoint
    assert checkpoint is not None
    assert checkpoint.recipe is not None
    if checkpoint.weights.normalizer is not None:
        export_scaler(checkpoint, folder / scaler_name(checkpoint.symbol or ""))
    export_onnx(checkpoint, folder / ONNX_NAME, checkpoint_sha256=judgement.diagnosis.model.sha256, probe=probe)
    write_whole(folder / RECIPE_NAME, checkpoint.recipe.to_toml())
    write_whole(folder / "training.jsonl", "".join(json.dumps(asdict(epoch)) + "\n" for epoch in judgement.history))
    write_whole(folder / "diagnosis.json", judgement.to_json())
    write_whole(folder / "report.html", report_page([judgement]))


def make_model(
    symbol: str,
    candles: Candles,
    recipe: Recipe,
    *,
    source: SourceKind,
    seed: int,
    watch: Watch | None = None,
    state: Path | None = None,
    split: Split | None = None,
) -> tuple[Checkpoint, Fitted, Floats]:
    """Turn candles into a calibrated checkpoint: features, labels, split, training, temperature; arguments as of `train_model`.

    Returns:
        The checkpoint, the training it comes from, and raw features of the last calibration rows, to prove the saved file with.

    """
    rule = recipe.label.rule
    data = assemble(candles, recipe.features.table, rule, max_gap_minutes=recipe.features.max_gap_minutes)
    blocks = split or recipe.split.cut(data.time, data.known)
    theta = fit_theta(data.moves[blocks.train], rule, neutral_share=recipe.label.neutral_share)
    y = classify(data.moves, theta)
    fitted = fit(recipe, data, y, blocks, seed=seed, watch=watch, state=state)

    seen = np.r_[blocks.train, blocks.calibration]
    checkpoint = Checkpoint(
        network=fitted.network,
        features=data.names,
        symbol=symbol,
        recipe=recipe,
        label=Label(rule=rule, theta=theta, sha256=label_digest(data.time[seen], y[seen])),
        origin=Origin(
            source=source,
            candles_sha256=candles.sha256,
            training_rows=blocks.train.stop - blocks.train.start,
            calibration_rows=blocks.calibration.stop - blocks.calibration.start,
            training_from=int(data.time[blocks.train.start]),
            calibration_from=int(data.time[blocks.calibration.start]),
            fitted_until=int(data.known[seen].max()),
            unseen_from=int(data.time[blocks.test.start]),
            seed=seed,
            best_epoch=fitted.best_epoch,
            prior=tuple(shares(y[blocks.train]).tolist()),
            rule=best_one_feature_rule(data.x[blocks.train], y[blocks.train], data.names),
            dropped={**data.dropped, **blocks.dropped},
        ),
    )
    return checkpoint, fitted, data.x[blocks.calibration][-PROBE_ROWS:]


def check_enough(symbol: str, candles: Candles, recipe: Recipe) -> None:
    """Raise `DatasetError` where `candles` are too few for the split of `recipe`, or for the folds of its ensemble."""
    features, rule = recipe.features, recipe.label.rule
    found = labelled_rows(candles, features.table, rule, max_gap_minutes=features.max_gap_minutes)
    time, known = candles.time[found.rows], found.known
    try:
        block = recipe.split.cut(time, known).train
        if recipe.ensemble.vary == "fold":
            folds_of(recipe, time[block], known[block])
    except DatasetError as error:
        raise DatasetError(f"{symbol}: {error}") from None


def cut_fold(symbol: str, candles: Candles, recipe: Recipe, *, fold: int, folds: int) -> tuple[Candles, Split]:
    """Return the candles that a fold of a walk-forward may know, and its split.

    The test blocks follow each other up to the newest row. Each is as long as that of the recipe, or shorter where the first
    fold would else train on fewer rows than it is tested on. The candles end where the last label of the fold's test block is
    known: nothing after it exists for that fold.

    Args:
        symbol: of the market, for errors.
        candles: of that symbol.
        recipe: whose features, label and shares are meant.
        fold: from 1, the oldest.
        folds: how many there are.

    Raises:
        DatasetError: the candles are too few.

    """
    features, shares_of = recipe.features, recipe.split
    found = labelled_rows(candles, features.table, recipe.label.rule, max_gap_minutes=features.max_gap_minutes)
    test = min(1 - shares_of.train - shares_of.calibration, (1 - shares_of.calibration) / (folds + 1))
    try:
        split = walk_forward(
            candles.time[found.rows],
            found.known,
            folds=folds,
            test=test,
            calibration=shares_of.calibration,
            embargo=shares_of.embargo,
        )[fold - 1]
    except DatasetError as error:
        raise DatasetError(f"{symbol}: {error}") from None
    # A label has the whole horizon before it, also where an exit is met sooner.
    ends = int(candles.time[found.rows[split.test.stop - 1]]) + (1 + recipe.label.horizon) * MINUTE
    ends = max(ends, int(found.known[: split.test.stop].max()))
    return candles[: int(np.searchsorted(candles.time, ends))], split
