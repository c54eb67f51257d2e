"""The story, top to bottom: what happens to candles until a model may speak. What needs torch is imported where it is used."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from crpbot.dataset.features.sets import feature_set
from crpbot.disk import write_whole
from crpbot.errors import CheckpointError, DatasetError
from crpbot.market.candles import Candles
from crpbot.market.source import Source, SourceKind, open_source
from crpbot.model.export import export_onnx
from crpbot.model.folder import checkpoint_name
from crpbot.model.loading import ONNX_SUFFIX, ModelFile, checkpoint_in, checkpoint_of, open_model, subject_in
from crpbot.model.recipe import Recipe, load_recipe
from crpbot.model.subject import Output, function_subject
from crpbot.quality.diagnosis import diagnose_subject
from crpbot.quality.gates import GateTable
from crpbot.quality.metrics import Floats
from crpbot.quality.repair import Repaired, repair_checkpoint
from crpbot.quality.report.data import Judgement, weigh
from crpbot.quality.report.html import report_page
from crpbot.registry.registry import Decision, Registry
from crpbot.signals.backtest import Backtest, backtest
from crpbot.signals.signal import Signal, newest_signal

if TYPE_CHECKING:
    from crpbot.making.jobs import Done, Job, Report
    from crpbot.model.training import Epoch
    from crpbot.quality.audit.audit import Audit
    from crpbot.quality.audit.pipeline import Pipeline


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the main job made of one symbol.

    Attributes:
        symbol: of the market.
        judgement: of the new model.
        decision: of the registry.
        backtest: what following it would have earned on the rows that it has not seen; None when the model may not speak.
        signal: of the newest candle, likewise.

    """

    symbol: str
    judgement: Judgement
    decision: Decision
    backtest: Backtest | None
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
    watch: "Report" = lambda _, __: None,
    done: "Done" = lambda _, __: None,
    workers: int = 1,
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
        watch: is told of each epoch of each job.
        done: is told of each model.
        workers: symbols trained side by side; with more than 1, a script needs `if __name__ == "__main__":`. 0 takes as many as
            this machine has processors and memory for.

    """
    from crpbot.making.jobs import fitting_workers, grid, run_here
    from crpbot.making.model import check_enough

    registry = Registry(out / "registry")
    markets = {symbol: source.read(symbol) for symbol in symbols}
    for symbol, candles in markets.items():
        check_enough(symbol, candles, recipe)  # before hours are spent on another symbol
    jobs = grid(symbols, recipe, source=source.kind, gates=gates, out=out, seed=seed)
    outcomes: dict[str, Outcome] = {}

    def ended(job: "Job", judgement: Judgement) -> None:
        """Go on with a model as soon as it is there: another one may yet fail."""
        outcomes[job.symbol] = _let_speak(registry, job, judgement, markets[job.symbol], now)
        done(job, judgement)

    run_here(jobs, markets, workers=workers or fitting_workers(jobs, markets), watch=watch, done=ended)
    in_order = tuple(outcomes[symbol] for symbol in symbols)
    write_whole(out / "report.html", report_page([outcome.judgement for outcome in in_order]))
    return in_order


def _let_speak(registry: Registry, job: "Job", judgement: Judgement, candles: Candles, now: Callable[[], int]) -> Outcome:
    """Ask the registry about a new model; follow it and take its newest signal where it may speak."""
    file = job.folder / checkpoint_name(job.symbol, job.recipe.name)
    decision = registry.record(judgement, file, now=now())
    earned = signal = None
    if decision.stage is not None and judgement.diagnosis.checkpoint is not None:
        earned = backtest([judgement.diagnosis.subject], candles, names=[str(file)], symbol=job.symbol, source=job.source)
        signal = newest_signal(
            judgement.diagnosis.checkpoint,
            candles,
            stage=decision.stage,
            now=now(),
            model_sha256=judgement.diagnosis.model.sha256,
            ledger_head=registry.head(),
        )
    return Outcome(job.symbol, judgement, decision, earned, signal)


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
    history: "tuple[Epoch, ...]" = (),
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
    from crpbot.model.pt_file import save_checkpoint

    opened, out = model if isinstance(model, ModelFile) else open_model(Path(model)), Path(out)
    if out.suffix != ".pt" or out.resolve() == opened.path.resolve():
        raise CheckpointError(f"a repaired checkpoint must be another .pt file, found {out}; name one")
    if opened.deployed is not None:
        raise CheckpointError(
            f"a repair must start from a .pt file, found the deployed form {opened.path}; repair what it was made from"
        )
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


def export(
    model: Path | str | ModelFile,
    *,
    out: Path | str,
    form: str,
    scaler: Path | str | None = None,
    features: tuple[str, ...] | None = None,
) -> tuple[Path, ...]:
    """Write a checkpoint in another form, after proof that it says the same.

    Args:
        model: a checkpoint file, ours or foreign, or its model folder.
        out: the new file.
        form: `onnx`, the deployed form; or `seed`, the founding `.pt` file with its scaler beside it.
        scaler: file with the scaler of a checkpoint that lacks one.
        features: names of the inputs of a foreign file that does not say.

    Returns:
        What was written.

    Raises:
        CrpbotError: the file cannot be used, or cannot be written in that form.

    """
    opened, out = model if isinstance(model, ModelFile) else open_model(Path(model)), Path(out)
    suffixes = {"onnx": ONNX_SUFFIX, "seed": ".pt"}
    if form not in suffixes:
        raise CheckpointError(f"a form must be one of {', '.join(suffixes)}, found {form!r}; choose one")
    if out.suffix != suffixes[form] or out.resolve() == opened.path.resolve():
        raise CheckpointError(
            f"the form {form} must be written to another file that ends in {suffixes[form]}, found {out}; name one"
        )
    checkpoint = checkpoint_in(opened, scaler=None if scaler is None else Path(scaler), features=features)
    if form == "seed":
        from crpbot.model.seed import export_seed

        return export_seed(checkpoint, out)
    if opened.deployed is not None:
        raise CheckpointError(f"a deployed form must be made from a .pt file, found {opened.path}, which is one already; copy it")
    export_onnx(checkpoint, out, checkpoint_sha256=opened.sha256)
    return (out,)


def audit(
    model: "Path | str | ModelFile | Pipeline",
    candles: Candles | Path | str | None = None,
    *,
    source: SourceKind | None = None,
    claim: float | None = None,
    trials: int | Callable[[Recipe | None], int] = 1,
    counted_by: str = "whoever asked",
    rows: Path | str | None = None,
    refit: bool = True,
    retrain: bool = False,
    symbol: str | None = None,
    label_recipe: Recipe | None = None,
    scaler: Path | str | None = None,
    features: tuple[str, ...] | None = None,
    seed: int = 0,
    told: Callable[[str], None] = lambda _: None,
) -> "Audit":
    """Ask whether a result was earned: leaks on the way from candles to probabilities, luck, and made-up markets.

    Args:
        model: a checkpoint file, ours or foreign, or its model folder; or a pipeline of one's own.
        candles: that it was made from and judged on, or where they are; not for a pipeline, which brings its own.
        source: kind of the candles; `file` by default.
        claim: the accuracy that somebody claims, above 0 and at most 1.
        trials: how many models were tried before this one was chosen, itself included, or what counts them when it is told the
            model's recipe; a recipe that knows of more counts.
        counted_by: who knows of them.
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
    from crpbot.quality.audit.audit import audit_pipeline
    from crpbot.quality.audit.pipeline import Pipeline
    from crpbot.quality.audit.rows_file import read_rows
    from crpbot.quality.audit.subject import pipeline_of

    if claim is not None and not 0 < claim <= 1:
        raise DatasetError(f"a claim must be an accuracy above 0 and at most 1, found {claim:g}; 70 % is 0.70")
    if isinstance(trials, int) and trials < 1:
        raise DatasetError(f"trials must be at least 1, the model itself, found {trials}; correct it")
    if isinstance(model, Pipeline):
        tries = trials if isinstance(trials, int) else trials(None)
        return audit_pipeline(model, claim=claim, trials=tries, counted_by=counted_by, refit=refit, retrain=retrain, told=told)
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
    own = None if subject.checkpoint is None else subject.checkpoint.recipe
    tries = trials if isinstance(trials, int) else trials(own)
    if own is not None and own.trials > tries:
        tries, counted_by = own.trials, "its recipe"
    return audit_pipeline(pipeline, claim=claim, trials=tries, counted_by=counted_by, refit=refit, retrain=retrain, told=told)


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
