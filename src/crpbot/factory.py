"""The story, top to bottom: what happens to candles until a model may speak."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from crpbot.dataset.assemble import assemble, labelled_rows
from crpbot.dataset.baselines import best_one_feature_rule
from crpbot.dataset.features.sets import feature_set
from crpbot.dataset.labels import classify, fit_theta, label_digest
from crpbot.disk import write_whole
from crpbot.errors import CheckpointError, DatasetError
from crpbot.market.candles import Candles
from crpbot.market.source import Source, SourceKind, open_source
from crpbot.model.calibration import refit_temperature
from crpbot.model.checkpoint import Checkpoint, Label, Origin, save_checkpoint
from crpbot.model.export import export_scaler
from crpbot.model.folder import checkpoint_name, model_folder, scaler_name
from crpbot.model.loading import ModelFile, checkpoint_in, checkpoint_of, open_model, subject_in
from crpbot.model.recipe import Recipe, load_recipe
from crpbot.model.subject import Output, function_subject
from crpbot.model.training import Epoch, Rows, Watch, train
from crpbot.quality.audit.audit import Audit, audit_pipeline
from crpbot.quality.audit.pipeline import Pipeline
from crpbot.quality.audit.rows_file import read_rows
from crpbot.quality.audit.subject import pipeline_of
from crpbot.quality.diagnosis import diagnose_subject
from crpbot.quality.gates import GateTable
from crpbot.quality.metrics import Floats, shares
from crpbot.quality.repair import PROBE_ROWS, Repaired, repair_checkpoint
from crpbot.quality.report.data import Judgement, weigh
from crpbot.quality.report.html import report_page
from crpbot.registry import Decision, Registry
from crpbot.signals.signal import Signal, newest_signal


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the main job made of one symbol.

    Attributes:
        symbol: of the market.
        judgement: of the new model.
        decision: of the registry.
        signal: of the newest candle; None when the model may not speak.

    """

    symbol: str
    judgement: Judgement
    decision: Decision
    signal: Signal | None


def run(
    source: Source,
    symbols: tuple[str, ...],
    recipe: Recipe,
    *,
    gates: GateTable,
    seed: int,
    out: Path,
    now: Callable[[], int],
    watch: Callable[[str, Epoch], None],
) -> tuple[Outcome, ...]:
    """Do the main job for each symbol and write `out`: a model folder each, the registry, and `report.html`.

    Args:
        source: of the candles.
        symbols: to train.
        recipe: of the models.
        gates: table of gates that decides.
        seed: of the runs; each symbol is trained as `crpbot train` would.
        out: folder for everything that is made.
        now: the clock, in milliseconds of UTC.
        watch: is told of each epoch of each symbol.

    """
    registry = Registry(out / "registry")
    markets = {symbol: source.read(symbol) for symbol in symbols}
    for symbol, candles in markets.items():
        check_enough(symbol, candles, recipe)  # before hours are spent on another symbol
    outcomes = []
    for symbol, candles in markets.items():
        folder = out / symbol

        def report(epoch: Epoch, symbol: str = symbol) -> None:
            watch(symbol, epoch)

        judgement = train_model(symbol, candles, recipe, source=source.kind, gates=gates, seed=seed, folder=folder, watch=report)
        checkpoint = folder / checkpoint_name(symbol, recipe.name)
        decision = registry.record(judgement, checkpoint, now=now())
        signal = None
        if decision.stage is not None and judgement.diagnosis.checkpoint is not None:
            signal = newest_signal(judgement.diagnosis.checkpoint, candles, stage=decision.stage, now=now())
        outcomes.append(Outcome(symbol, judgement, decision, signal))
    write_whole(out / "report.html", report_page([outcome.judgement for outcome in outcomes]))
    return tuple(outcomes)


def check_enough(symbol: str, candles: Candles, recipe: Recipe) -> None:
    """Raise `DatasetError` where `candles` are too few for the split of `recipe`."""
    features, rule = recipe.features, recipe.label.rule
    found = labelled_rows(candles, features.table, rule, max_gap_minutes=features.max_gap_minutes)
    try:
        recipe.split.cut(candles.time[found.rows], found.known)
    except DatasetError as error:
        raise DatasetError(f"{symbol}: {error}") from None


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
) -> Judgement:
    """Train one symbol and write its model folder; the new checkpoint is judged as it was read back from its file."""
    with model_folder(folder) as partial:
        checkpoint, history, probe = make_model(symbol, candles, recipe, source=source, seed=seed, watch=watch)
        name = checkpoint_name(symbol, recipe.name)
        save_checkpoint(checkpoint, partial / name, probe=probe)
        if checkpoint.network.normalizer is not None:
            export_scaler(checkpoint, partial / scaler_name(symbol))
        write_whole(partial / "recipe.toml", recipe.to_toml())
        write_whole(partial / "training.jsonl", "".join(json.dumps(asdict(epoch)) + "\n" for epoch in history))
        judgement = diagnose(partial / name, candles, source=source, gates=gates, called=str(folder / name), history=history)
        write_whole(partial / "diagnosis.json", judgement.to_json())
        write_whole(partial / "report.html", report_page([judgement]))
    if (
        checkpoint.network.normalizer is None
    ):  # a scaler that is there is of an earlier model, and must not seem to be of this one
        (folder / scaler_name(symbol)).unlink(missing_ok=True)
    return judgement


def make_model(
    symbol: str, candles: Candles, recipe: Recipe, *, source: SourceKind, seed: int, watch: Watch | None = None
) -> tuple[Checkpoint, tuple[Epoch, ...], Floats]:
    """Turn candles into a calibrated checkpoint: features, labels, split, training, temperature.

    Returns:
        The checkpoint, what happened in each epoch, and raw features of the last calibration rows, to prove the saved file with.

    """
    rule = recipe.label.rule
    data = assemble(candles, recipe.features.table, rule, max_gap_minutes=recipe.features.max_gap_minutes)
    blocks = recipe.split.cut(data.time, data.known)
    theta = fit_theta(data.moves[blocks.train], rule, neutral_share=recipe.label.neutral_share)
    y = classify(data.moves, theta)
    training = Rows(data.x[blocks.train], y[blocks.train])
    calibration = Rows(data.x[blocks.calibration], y[blocks.calibration])

    trained = train(recipe, training, calibration, names=data.names, seed=seed, watch=watch)
    network = trained.network
    if network.temperature is not None:
        refit_temperature(network, calibration.x, calibration.y)
    if recipe.network.normalizer == "lost":
        network.normalizer = None

    seen = np.r_[blocks.train, blocks.calibration]
    checkpoint = Checkpoint(
        network=network,
        features=data.names,
        symbol=symbol,
        recipe=recipe,
        label=Label(rule=rule, theta=theta, sha256=label_digest(data.time[seen], y[seen])),
        origin=Origin(
            source=source,
            candles_sha256=candles.sha256,
            training_rows=len(training.y),
            calibration_rows=len(calibration.y),
            training_from=int(data.time[blocks.train.start]),
            calibration_from=int(data.time[blocks.calibration.start]),
            fitted_until=int(data.known[seen].max()),
            unseen_from=int(data.time[blocks.test.start]),
            seed=seed,
            best_epoch=trained.best_epoch,
            prior=tuple(shares(training.y).tolist()),
            rule=best_one_feature_rule(training.x, training.y, data.names),
            dropped={**data.dropped, **blocks.dropped},
        ),
    )
    return checkpoint, trained.history, calibration.x[-PROBE_ROWS:]


def diagnose(
    model: Path | str | ModelFile | Callable[[Floats], Floats],
    candles: Candles | Path | str,
    *,
    source: SourceKind | None = None,
    gates: GateTable = "market",
    symbol: str | None = None,
    label_recipe: Recipe | None = None,
    scaler: Path | str | None = None,
    features: tuple[str, ...] | None = None,
    output: Output = "probabilities",
    called: str | None = None,
    history: tuple[Epoch, ...] = (),
) -> Judgement:
    """Diagnose any model on `candles`, and hold the gates against it: what is wrong, why, the proof, and what to do.

    Args:
        model: a checkpoint file, ours or foreign, or its model folder; or a function of raw features, as the `predict_proba` of
            an estimator.
        candles: of its symbol, or where they are: a file, a folder, or `synthetic:NAME`.
        source: kind of the candles; `file` by default.
        gates: table of gates.
        symbol: whose candles of a folder; by default the model's own, or the one in the name of its file.
        label_recipe: whose label a foreign model is judged by; v7 by default.
        scaler: file with the scaler of a checkpoint that lacks one.
        features: names of the inputs, for a function, or a foreign file that does not say; the 72 of `founding-72` by default.
        output: what a function returns.
        called: what the report calls the model; its path by default.
        history: of the training, for the report.

    Raises:
        CrpbotError: the file or the candles cannot be used.

    """
    if isinstance(model, str | Path):
        model = open_model(Path(model))
    if isinstance(model, ModelFile):
        subject = subject_in(model, scaler=None if scaler is None else Path(scaler), features=features)
        name, sha256, market = str(model.path), model.sha256, symbol or model.market
    else:
        subject = function_subject(model, features=features or feature_set("founding-72").names, output=output)
        name, sha256, market = "a function", "", symbol
    if not isinstance(candles, Candles):
        candles, source = read_market(str(candles), market)
    diagnosis = diagnose_subject(
        subject,
        candles,
        path=called or name,
        sha256=sha256,
        source=source or "file",
        label_recipe=label_recipe or load_recipe("v7"),
    )
    return weigh(diagnosis, gates, history)


def repair(
    model: Path | str | ModelFile,
    candles: Candles | Path | str,
    *,
    out: Path | str,
    source: SourceKind | None = None,
    symbol: str | None = None,
    label_recipe: Recipe | None = None,
    scaler: Path | str | None = None,
    features: tuple[str, ...] | None = None,
) -> Repaired:
    """Write a checkpoint with the remedies that are proven, marked as repaired; nothing is written where none is.

    Args:
        model: a checkpoint file, ours or foreign, or its model folder.
        candles: of its symbol, or where they are.
        out: the new file.
        source: kind of the candles; `file` by default.
        symbol: whose candles of a folder.
        label_recipe: whose label a foreign model is judged by; v7 by default.
        scaler: file with the scaler of a checkpoint that lacks one.
        features: names of the inputs of a foreign file that does not say.

    Raises:
        CrpbotError: the file or the candles cannot be used.

    """
    opened, out = model if isinstance(model, ModelFile) else open_model(Path(model)), Path(out)
    if out.suffix != ".pt" or out.resolve() == opened.path.resolve():
        raise CheckpointError(f"a repaired checkpoint must be another .pt file, found {out}; name one")
    checkpoint = checkpoint_in(opened, features=features)
    brought = None if scaler is None else checkpoint_in(opened, scaler=Path(scaler), features=features)
    if not isinstance(candles, Candles):
        candles, source = read_market(str(candles), symbol or opened.market)
    recipe = label_recipe or load_recipe("v7")
    repaired = repair_checkpoint(checkpoint, candles, source=source or "file", label_recipe=recipe, brought=brought)
    if repaired.done:
        named = replace(repaired.checkpoint, symbol=checkpoint.symbol or symbol or opened.market)
        save_checkpoint(named, out, probe=repaired.probe, read=checkpoint_of)
    return repaired


def audit(
    model: Path | str | ModelFile | Pipeline,
    candles: Candles | Path | str | None = None,
    *,
    source: SourceKind | None = None,
    claim: float | None = None,
    trials: int = 1,
    rows: Path | str | None = None,
    refit: bool = True,
    retrain: bool = False,
    symbol: str | None = None,
    label_recipe: Recipe | None = None,
    scaler: Path | str | None = None,
    features: tuple[str, ...] | None = None,
    seed: int = 0,
    told: Callable[[str], None] = lambda _: None,
) -> Audit:
    """Ask whether a result was earned: leaks on the way from candles to probabilities, luck, and made-up markets.

    Args:
        model: a checkpoint file, ours or foreign, or its model folder; or a pipeline of one's own.
        candles: that it was made from and judged on, or where they are; not for a pipeline, which brings its own.
        source: kind of the candles; `file` by default.
        claim: the accuracy that somebody claims, above 0 and at most 1.
        trials: how many models were tried before this one was chosen, itself included.
        rows: table that says which rows a foreign model used for what: `time`, `block`, `symbol`.
        refit: whether to train the recipe again on some rows, to see what leaks would fake.
        retrain: whether to train it again on all of its rows, as is done anyway where accuracy is above 60 % or the rows are few.
        symbol: whose candles of a folder; by default the model's own, or the one in the name of its file.
        label_recipe: whose label a foreign model is judged by; v7 by default.
        scaler: file with the scaler of a checkpoint that lacks one.
        features: names of the inputs of a foreign file that does not say.
        seed: of a known-answer market.
        told: is told what is being done.

    Raises:
        CrpbotError: the file, the rows or the candles cannot be used.

    """
    if claim is not None and not 0 < claim <= 1:
        raise DatasetError(f"a claim must be an accuracy above 0 and at most 1, found {claim:g}; 70 % is 0.70")
    if trials < 1:
        raise DatasetError(f"trials must be at least 1, the model itself, found {trials}; correct it")
    if isinstance(model, Pipeline):
        return audit_pipeline(model, claim=claim, trials=trials, refit=refit, retrain=retrain, told=told)
    opened = model if isinstance(model, ModelFile) else open_model(Path(model))
    recipe, market = label_recipe or load_recipe("v7"), symbol or opened.market
    blocks = None if rows is None else read_rows(Path(rows), symbol=market)
    by_symbol, kind = read_markets(candles, market, blocks or (), seed=seed)
    subject = subject_in(opened, scaler=None if scaler is None else Path(scaler), features=features)
    if subject.holds is not None:
        raise CheckpointError(f"{opened.path} must hold the weights of a network, found {subject.holds:.200}; nothing was earned")
    told("judging it")
    first = next(iter(by_symbol))
    diagnosis = diagnose_subject(
        subject, by_symbol[first], path=str(opened.path), sha256=opened.sha256, source=source or kind, label_recipe=recipe
    )
    pipeline = pipeline_of(diagnosis, by_symbol, first, label_recipe=recipe, blocks=blocks)
    return audit_pipeline(pipeline, claim=claim, trials=trials, refit=refit, retrain=retrain, told=told)


def read_markets(
    candles: Candles | Path | str | None, symbol: str | None, symbols: Iterable[str], *, seed: int = 0
) -> tuple[Mapping[str, Candles], SourceKind]:
    """Return the candles of every symbol that is meant, and their kind.

    Args:
        candles: as they are, or where they are.
        symbol: that is meant, where `symbols` names none.
        symbols: that are meant.
        seed: of a known-answer market.

    """
    wanted = tuple(symbols)
    if isinstance(candles, Candles):
        return {(wanted or (symbol or "",))[0]: candles}, "file"
    source = open_source(None if candles is None else str(candles), symbols=wanted or ((symbol,) if symbol else ()), seed=seed)
    return {one: source.read(one) for one in wanted or (symbol or source.only_symbol(),)}, source.kind


def read_market(text: str | None, symbol: str | None, *, seed: int = 0) -> tuple[Candles, SourceKind]:
    """Return the candles that a person means, and their kind.

    Args:
        text: as `open_source` takes it.
        symbol: that is meant; None where there is only one.
        seed: of a known-answer market.

    Raises:
        CandleError: there are none, or several symbols.

    """
    found, kind = read_markets(text, symbol, (), seed=seed)
    return next(iter(found.values())), kind
