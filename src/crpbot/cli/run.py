"""`crpbot run`: the main job."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crpbot.cli.options import CandlesOption, GatesOption, RecipeOption, SeedOption, WorkersOption, gate_table, names, now

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crpbot.factory import Outcome


def command(
    candles: CandlesOption = None,
    recipe: RecipeOption = "v7",
    symbols: Annotated[str | None, typer.Option(help="Comma-separated; default: every symbol there is.")] = None,
    gates: GatesOption = "market",
    seed: SeedOption = 0,
    workers: WorkersOption = 0,
    out: Annotated[Path, typer.Option(help="Folder for models, registry and report.")] = Path("runs/latest"),
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 when a model is refused.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Do the main job for each symbol.

    Candles → features → labels → train → diagnose → gate → promote → backtest → signal; ends with one table and a report.

    Example: crpbot run --candles synthetic:level-noise --gates seed --out runs/level-noise
    """
    table = gate_table(gates)
    from crpbot import factory
    from crpbot.cli.show import training_progress
    from crpbot.market.source import open_source
    from crpbot.model.recipe import load_recipe

    wanted = names(symbols)
    source = open_source(candles, symbols=wanted, seed=seed)
    chosen = load_recipe(recipe)
    with training_progress() as watch:
        outcomes = factory.run(
            source,
            wanted or source.symbols,
            chosen,
            gates=table,
            seed=seed,
            out=out,
            now=now,
            watch=watch,
            workers=workers,
        )
    if as_json:
        typer.echo(json.dumps([_plain(outcome) for outcome in outcomes], indent=1, ensure_ascii=False))
    else:
        _print(outcomes, out, source.kind)
    if strict and any(not outcome.judgement.verdict.passed for outcome in outcomes):
        raise typer.Exit(1)


def _plain(outcome: "Outcome") -> dict[str, object]:
    from crpbot.signals.backtest_report import to_dict

    earned = outcome.backtest
    return {
        "symbol": outcome.symbol,
        "passed": outcome.judgement.verdict.passed,
        "stage": outcome.decision.stage,
        "reason": outcome.decision.reason,
        "backtest": None if earned is None else {key: value for key, value in to_dict(earned).items() if key != "list"},
        "signal": None if outcome.signal is None else outcome.signal.to_dict(),
        "diagnosis": outcome.judgement.to_dict(),
    }


def _print(outcomes: "Sequence[Outcome]", out: Path, kind: str) -> None:
    from crpbot.cli.show import console, print_reasons, print_table
    from crpbot.signals.backtest_report import sentence

    judgements = [outcome.judgement for outcome in outcomes]
    print_to = console()
    for outcome in outcomes:
        print_reasons(outcome.judgement)
        if outcome.backtest is not None:
            print_to.print(f"  {sentence(outcome.backtest)}", markup=False, soft_wrap=True)
        if outcome.signal is not None:
            print_to.print(str(outcome.signal), markup=False, soft_wrap=True)
        print_to.print()
    failed = ["\n".join(result.name for result in judgement.verdict.failed) or "none" for judgement in judgements]
    print_table(
        judgements,
        [
            ("failed gates", failed),
            ("verdict", [_stage(outcome) for outcome in outcomes]),
            ("signal", [_signal(outcome) for outcome in outcomes]),
        ],
    )
    models = ", ".join(str(out / outcome.symbol) for outcome in outcomes)
    print_to.print(f"report: {out / 'report.html'}   models: {models}", soft_wrap=True, markup=False)
    if not any(judgement.verdict.passed for judgement in judgements):
        if kind != "synthetic":
            print_to.print("No model was sound enough to speak, and saying so is what crpbot is for.", soft_wrap=True)
        print_to.print(
            "To see one pass, on a made-up market that can be foreseen: "
            "crpbot run --candles synthetic:level-noise --gates seed --out runs/level-noise",
            soft_wrap=True,
        )


def _stage(outcome: "Outcome") -> str:
    if outcome.decision.stage is None:
        return "REFUSED"
    return (
        "PROMOTED"
        if outcome.decision.stage == "live"
        else f"PASSED, not promoted: {outcome.decision.reason.removeprefix('passed, but ')}"
    )


def _signal(outcome: "Outcome") -> str:
    signal = outcome.signal
    if signal is None:
        return "none: only a promoted model speaks"
    text = f"none: {signal.reason}" if signal.plan is None else f"{signal.side} {signal.confidence:.1%}"
    if signal.status == "expired":
        text += f", expired: {signal.reason}"
    return text if signal.stage == "live" else f"rehearsal: {text}"
