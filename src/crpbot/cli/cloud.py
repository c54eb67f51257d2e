"""`crpbot cloud`: train on AWS, with the bill known before and nothing left running."""

import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crpbot.cli.cloud_options import (
    BackendOption,
    BucketOption,
    DemandOption,
    GroupOption,
    HoursOption,
    ImageOption,
    InstanceOption,
    JobsArgument,
    JsonOption,
    MostOption,
    PriceOption,
    RegionOption,
    RoleOption,
    SpotOption,
    SubnetOption,
    SymbolsOption,
)
from crpbot.cli.options import CandlesOption, HomeOption, RecipeOption, SeedOption, home_folder, names, now
from crpbot.errors import CloudError, CrpbotError, printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crpbot.cloud.jobs import Sent
    from crpbot.cloud.order import Market, Wish
    from crpbot.cloud.plan import Plan
    from crpbot.cloud.status import JobStatus
    from crpbot.doctor import Finding

app = typer.Typer(help="Train on AWS: plan, train, status, fetch, stop, sweep.", rich_markup_mode=None, no_args_is_help=True)


@app.command("plan")
def plan(
    symbols: SymbolsOption = None,
    backend: BackendOption = "sagemaker",
    recipe: RecipeOption = "v7",
    candles: CandlesOption = None,
    seed: SeedOption = 0,
    max_cost: MostOption = None,
    max_hours: HoursOption = None,
    spot: SpotOption = False,
    price: PriceOption = None,
    on_demand: DemandOption = None,
    instance: InstanceOption = None,
    image: ImageOption = None,
    region: RegionOption = None,
    bucket: BucketOption = None,
    role: RoleOption = None,
    subnet: SubnetOption = None,
    group: GroupOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show every request, the hours and the money. Nothing is sent, and AWS is not asked.

    Without --candles, two years of minutes are counted.

    Example: crpbot cloud plan --backend sagemaker --symbols BTC-USD,ETH-USD,SOL-USD --recipe v7 --max-cost 15
    """
    from crpbot.cloud.order import make_plan
    from crpbot.model.recipe import load_recipe

    wish = _wish(backend, region, bucket, role, image, instance, spot, price, on_demand, max_cost, max_hours, subnet, group)
    made = make_plan(wish, _markets(candles, symbols, seed), load_recipe(recipe), seed=seed)
    if as_json:
        typer.echo(made.to_json(), nl=False)
    else:
        _print_plan(made)


@app.command("train")
def train(
    candles: CandlesOption = None,
    symbols: SymbolsOption = None,
    backend: BackendOption = "sagemaker",
    recipe: RecipeOption = "v7",
    seed: SeedOption = 0,
    max_cost: MostOption = None,
    max_hours: HoursOption = None,
    spot: SpotOption = False,
    price: PriceOption = None,
    on_demand: DemandOption = None,
    instance: InstanceOption = None,
    image: ImageOption = None,
    region: RegionOption = None,
    bucket: BucketOption = None,
    role: RoleOption = None,
    subnet: SubnetOption = None,
    group: GroupOption = None,
    local: Annotated[
        bool, typer.Option("--local", help="Run the job's contract on this machine instead; nothing is sent.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Of --local: folder for the model folders.")] = Path("models"),
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check everything that AWS needs, then send the plan: the same work is sent, and paid, once.

    Example: crpbot cloud train --symbols BTC-USD,ETH-USD,SOL-USD --candles candles/ --max-cost 15 --spot
    """
    from crpbot.cloud.order import make_plan
    from crpbot.model.recipe import load_recipe

    wish = _wish(backend, region, bucket, role, image, instance, spot, price, on_demand, max_cost, max_hours, subnet, group)
    markets = _markets(candles, symbols, seed, needed=True)
    chosen = load_recipe(recipe)
    if local:
        _train_here(make_plan(wish, markets, chosen, seed=seed), markets, home_folder(home), out)
        return
    from crpbot.cloud.aws import Aws
    from crpbot.cloud.jobs import Jobs
    from crpbot.cloud.preflight import find_account, preflight
    from crpbot.cloud.send import send

    aws = Aws(wish.region)
    wish = replace(wish, account=find_account(aws))
    made = make_plan(wish, markets, chosen, seed=seed)
    _check(preflight(wish, aws, machines=made.bill.machines))
    sent = send(
        made,
        aws,
        Jobs(home_folder(home)),
        account=wish.account,
        candles=candles or "",
        now=now(),
        told=lambda line: typer.echo(line, err=True),
    )
    if as_json:
        typer.echo(json.dumps([_plain(job) for job in sent], indent=1))
        return
    bill = made.bill
    for job in sent:
        typer.echo(f"{job.symbol}: {job.run} {job.instance_id}".rstrip())
    most = sum(bill.most_of(seconds, bill.price) for seconds in {job.run: job.limit_seconds for job in sent}.values())
    typer.echo(f"about ${bill.cost_usd:.2f} for {bill.hours:.2f} hours, at most ${most:.2f}; crpbot cloud status --follow")


def _check(checks: "tuple[Finding, ...]") -> None:
    from crpbot.cloud.preflight import refusal

    for check in checks:
        remedy = f" ({check.remedy})" if check.remedy else ""
        typer.echo(printable(f"{check.status:8}{check.name}: {check.words}{remedy}"), err=True)
    if bad := refusal(checks):
        raise CloudError(f"everything must be there before anything is paid, found {bad}")


@app.command("status")
def status(
    jobs: JobsArgument = None,
    follow: Annotated[bool, typer.Option("--follow", help="Until everything is over.")] = False,
    every: Annotated[float, typer.Option("--every", min=0.1, help="Seconds between two looks.")] = 15.0,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say how far each job is, what it has cost, and why it failed. Exit 1 when one has failed.

    Example: crpbot cloud status --follow
    """
    from crpbot.cloud.aws import Aws
    from crpbot.cloud.jobs import Jobs
    from crpbot.cloud.status import look_at

    chosen = Jobs(home_folder(home)).chosen(tuple(jobs or ()))
    regions = {job.region: Aws(job.region) for job in chosen}
    said: dict[str, int] = {}
    while True:
        found = look_at(chosen, regions, now=now())
        if not as_json and follow:
            _print_new(found, said)
        if not follow or all(one.over for one in found):
            break
        time.sleep(every)
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], indent=1))
    else:
        for one in found:
            _print_status(one)
    if any(one.state == "Failed" for one in found):
        raise typer.Exit(1)


@app.command("fetch")
def fetch(
    jobs: JobsArgument = None,
    out: Annotated[Path, typer.Option(help="Folder; each model goes to OUT/SYMBOL.")] = Path("models"),
    candles: Annotated[
        str | None, typer.Option("--candles", metavar="PATH", help="Default: those that the job was sent with.")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Download what the jobs made, verify it, and only then place it.

    Digests, scaler, sanity and the whole diagnosis are checked again here. Only the checkpoint is taken, and read as data.

    Example: crpbot cloud fetch BTC-USD --out models
    """
    from crpbot.cli.show import print_reasons, print_table
    from crpbot.cloud.aws import Aws
    from crpbot.cloud.fetch import fetch as bring

    from crpbot.cloud.jobs import Jobs  # isort: skip

    judgements, errors = [], []
    for job in Jobs(home_folder(home)).chosen(tuple(jobs or ())):
        try:
            judgement = bring(
                job, Aws(job.region), out=out, candles=candles, now=now(), told=lambda line: typer.echo(line, err=True)
            )
        except CrpbotError as error:
            errors.append(f"{job.symbol}: {error}")
        else:
            judgements.append(judgement)
            typer.echo(f"verified and written: {out / job.symbol}")
    if judgements:
        print_table(judgements)
        for judgement in judgements:
            print_reasons(judgement)
    if errors:
        raise CloudError("; ".join(errors))


@app.command("stop")
def stop(jobs: JobsArgument = None, home: HomeOption = None) -> None:
    """Stop jobs. What they have trained so far is kept, and the next `crpbot cloud train` goes on from there.

    Example: crpbot cloud stop BTC-USD
    """
    from crpbot.cloud.aws import Aws
    from crpbot.cloud.jobs import Jobs
    from crpbot.cloud.send import stop as end

    left = []
    for job in Jobs(home_folder(home)).chosen(tuple(jobs or ())):
        try:
            end(job, Aws(job.region))
        except CrpbotError as error:
            left.append(f"{job.run}: {error}")
        else:
            typer.echo(f"{job.symbol}: {job.run} runs no more, or is stopping")
    if left:
        raise CloudError(f"every job must be stopped, found {len(left)} that may still run: {'; '.join(left)}")


@app.command("sweep")
def sweep(
    dry: Annotated[bool, typer.Option("--dry-run", help="Only look.")] = False,
    region: RegionOption = None,
    as_json: JsonOption = False,
) -> None:
    """End everything of crpbot that still runs after its time, whoever sent it. Exit 1 when something was found late.

    Example: crpbot cloud sweep --dry-run
    """
    from crpbot.cloud.aws import Aws, region_of
    from crpbot.cloud.sweep import sweep as end

    door = Aws(region_of(region))
    swept = end(door, now=now(), dry=dry)
    found = swept.found
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], indent=1))
    else:
        for one in found:
            what = "within its time" if not one.late else "late, left running (--dry-run)" if dry else "late, told to end"
            typer.echo(f"{one.backend} {one.run} {one.id}: {one.hours:.2f} of {one.limit_hours:.2f} hours, {what}")
        if not found and not swept.left:
            typer.echo(f"nothing of crpbot runs in {door.region}")
    if swept.left:
        raise CloudError(f"all of crpbot in {door.region} must be looked at and ended, found left: {'; '.join(swept.left)}")
    if any(one.late for one in found):
        raise typer.Exit(1)


def _wish(
    backend: str,
    region: str | None,
    bucket: str | None,
    role: str | None,
    image: str | None,
    instance: str | None,
    spot: bool,
    price: float | None,
    on_demand: float | None,
    max_cost: float | None,
    max_hours: float | None,
    subnet: str | None,
    group: str | None,
) -> "Wish":
    from crpbot.cloud.aws import region_of
    from crpbot.cloud.order import Wish
    from crpbot.cloud.plan import BACKENDS

    chosen = next((one for one in BACKENDS if one == backend), None)
    if chosen is None:
        raise CloudError(f"--backend must be one of {', '.join(BACKENDS)}, found {backend!r}; choose one")
    return Wish(
        backend=chosen,
        region=region_of(region),
        bucket=bucket,
        role=role,
        image=image,
        instance=instance,
        spot=spot,
        price=price,
        on_demand=on_demand,
        max_cost=max_cost,
        max_hours=max_hours,
        subnet=subnet,
        group=group,
    )


def _markets(candles: str | None, symbols: str | None, seed: int, *, needed: bool = False) -> "Mapping[str, Market]":
    """Read the candles; in a plan without any, two years are counted for each symbol."""
    from crpbot.cloud.order import Market
    from crpbot.market.sample import SAMPLE
    from crpbot.market.source import open_source

    wanted = names(symbols)
    if candles is None and not needed:
        return {symbol: Market() for symbol in wanted or SAMPLE}
    source = open_source(candles, symbols=wanted, seed=seed)
    return {one: Market(kind=source.kind, name=candles or "", candles=source.read(one)) for one in wanted or source.symbols}


def _train_here(plan: "Plan", markets: "Mapping[str, Market]", home: Path, out: Path) -> None:
    from crpbot.cli.show import print_reasons, print_table
    from crpbot.cloud.local import train_local

    judgements = [train_local(job, markets[job.symbol], home=home, out=out) for job in plan.jobs]
    print_table(judgements)
    for judgement in judgements:
        print_reasons(judgement)
    for job in plan.jobs:
        typer.echo(f"verified and written: {out / job.symbol}")


def _print_plan(plan: "Plan") -> None:
    from crpbot.cloud.plan import assumptions, founding_case

    for number, request in enumerate(plan.requests, start=1):
        what = request.parameters.get("Key") or request.job or request.parameters.get("GroupName", "")
        size = "" if request.body is None else f", {len(request.body):,} bytes"
        typer.echo(f"{number:3}  {request.service} {request.operation}: {what}{size}; {request.why}")
    bill = plan.bill
    typer.echo("")
    kind = "spot" if plan.spot else "on demand"
    typer.echo(
        f"{bill.machines} × {plan.instance} {kind} in {plan.region}: {bill.hours:.2f} hours, done in {bill.wall_hours:.2f}"
    )
    typer.echo(f"estimated ${bill.cost_usd:.2f} at ${bill.price.hour:g} an hour")
    typer.echo(f"at most ${bill.most_usd:.2f}: each machine is stopped after {bill.limit_seconds / 3_600:.2f} hours, done or not")
    case = founding_case(plan)
    least, most = case["its_hours_at_this_price_usd"]
    typer.echo(f"{case['words']}; its hours at this price: ${least:.2f} to ${most:.2f}")
    for line in assumptions(plan):
        typer.echo(f"  {line}")
    typer.echo("nothing was sent; --json shows every request whole")


def _print_new(found: "list[JobStatus]", said: dict[str, int]) -> None:
    for one in found:
        if one.epoch != said.get(one.name, 0):
            said[one.name] = one.epoch
            typer.echo(f"{one.symbol}  epoch {one.epoch}/{one.of}")


def _print_status(one: "JobStatus") -> None:
    epoch = f", epoch {one.epoch}/{one.of}" if one.of else ""
    typer.echo(
        printable(
            f"{one.symbol:10} {one.state:11} {one.run}: {one.seconds / 60:.1f} minutes, ${one.cost_usd:.2f}{epoch}; {one.detail}"
        )
    )
    if one.reason:
        typer.echo(printable(f"{'':10} {one.reason}"))


def _plain(job: "Sent") -> dict[str, object]:
    return {name: value for name, value in asdict(job).items() if name != "recipe"}
