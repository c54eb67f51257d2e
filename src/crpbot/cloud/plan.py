"""The plan: every request that would be sent, what it takes and what it costs. Making one sends nothing."""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from crpbot.cloud.aws import ACTIONS
from crpbot.cloud.estimate import MEASURED, START_MINUTES, Estimate
from crpbot.cloud.prices import Price
from crpbot.errors import CloudError
from crpbot.market.source import SourceKind
from crpbot.model.recipe import Recipe

Backend = Literal["sagemaker", "ec2"]
BACKENDS: tuple[Backend, ...] = ("sagemaker", "ec2")
ACCOUNT = "ACCOUNT"
"""Stands for the number of the account in a plan that was made without asking AWS for it."""
FOUNDING: Mapping[str, Any] = {
    "case": "three models on g5.xlarge (A10G)",
    "hours": [6, 9],
    "cost_usd": 12,
    "words": "the founding document expected 6 to 9 hours and about $12 for three models",
}
SLACK = 3.0
"""A machine may take this many times as long as was estimated before it is stopped; the GPU and the network are not measured."""
LEAST_LIMIT_HOURS = 1.0
STOPPING_MINUTES = 5.0
"""That AWS may bill after a machine was told to stop: two minutes of grace, and what it has made is uploaded. An assumption."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call to AWS, as data.

    Attributes:
        service, operation: as boto3 names them.
        parameters: of the call, plain JSON types.
        why: in words.
        body: of an upload.
        job: whose start this is; empty for everything that starts nothing.

    """

    service: str
    operation: str
    parameters: Mapping[str, Any]
    why: str
    body: bytes | None = field(default=None, repr=False)
    job: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the request as plain types; of an upload, size and digest."""
        plain: dict[str, Any] = {
            "service": self.service,
            "operation": self.operation,
            "permission": ACTIONS[self.service, self.operation][0],
            "why": self.why,
            "parameters": dict(self.parameters),
        }
        if self.body is not None:
            plain["body"] = {"bytes": len(self.body), "sha256": hashlib.sha256(self.body).hexdigest()}
        return plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The training of one symbol.

    Attributes:
        name: of the job: the same work has the same name, so that it is not paid twice.
        symbol: of the market.
        recipe: of the model.
        seed: of the training.
        kind: of the candles; made-up ones stay made up.
        candles: `synthetic:NAME:ROWS` or empty, for candles that the job can make or has; else they are uploaded.
        candles_sha256: digest of the candles; empty in a plan without candles.
        estimate: how long it takes.

    """

    name: str
    symbol: str
    recipe: Recipe
    seed: int
    kind: SourceKind
    candles: str
    candles_sha256: str
    estimate: Estimate

    @property
    def folder(self) -> str:
        """Where in the bucket its files lie."""
        return f"crpbot/jobs/{self.name}"

    def hyperparameters(self) -> dict[str, str]:
        """Return what the container is told: text by name, as SageMaker wants it."""
        return {
            "symbol": self.symbol,
            "seed": str(self.seed),
            "kind": self.kind,
            "candles": self.candles,
            "candles_sha256": self.candles_sha256,
            "job": self.name,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What a plan takes and costs.

    Attributes:
        machines: that run, at the same time.
        hours: that are paid, of all machines together, as estimated.
        wall_hours: until the last machine is done, as estimated.
        limit_seconds: after which each machine is stopped, done or not.
        price: of an hour.
        max_cost: USD that may be spent at most; None where nobody said.

    """

    machines: int
    hours: float
    wall_hours: float
    limit_seconds: int
    price: Price
    max_cost: float | None = None

    @property
    def cost_usd(self) -> float:
        """What it costs, as estimated."""
        return self.hours * self.price.hour

    @property
    def most_usd(self) -> float:
        """What it costs at most: every machine until it has stopped, at the highest price."""
        return self.machines * self.most_of(self.limit_seconds, self.price)

    @staticmethod
    def most_of(limit_seconds: float, price: Price) -> float:
        """Return what a machine with such a limit costs at most, in USD; AWS bills the minutes of stopping, too."""
        return (limit_seconds / 3_600 + STOPPING_MINUTES / 60) * price.ceiling


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What would be sent.

    Attributes:
        backend: of AWS.
        region: of AWS.
        instance: type of the machines.
        image: of the machines.
        spot: whether they may be taken away, for less money.
        bucket: for everything.
        jobs: one a symbol.
        requests: in the order of sending.
        bill: hours and money.

    """

    backend: Backend
    region: str
    instance: str
    image: str
    spot: bool
    bucket: str
    jobs: tuple[Job, ...]
    requests: tuple[Request, ...]
    bill: Bill

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain types."""
        bill = self.bill
        return {
            "format": "crpbot.plan/1",
            "backend": self.backend,
            "region": self.region,
            "instance": self.instance,
            "image": self.image,
            "spot": self.spot,
            "bucket": self.bucket,
            "hours": round(bill.hours, 4),
            "wall_hours": round(bill.wall_hours, 4),
            "cost_usd": round(bill.cost_usd, 4),
            "most_usd": round(bill.most_usd, 4),
            "limit_hours": round(bill.limit_seconds / 3_600, 4),
            "price": {"usd_per_hour": bill.price.hour, "most_usd_per_hour": bill.price.ceiling, "words": bill.price.words},
            "founding": founding_case(self),
            "assumptions": list(assumptions(self)),
            "jobs": [
                {
                    "name": job.name,
                    "symbol": job.symbol,
                    "recipe": job.recipe.name,
                    "candles": job.estimate.candles,
                    "rows": job.estimate.rows,
                    "epochs": job.estimate.epochs,
                    "members": job.estimate.members,
                    "rows_per_second": job.estimate.rows_per_second,
                    "training_hours": round(job.estimate.hours, 4),
                }
                for job in self.jobs
            ],
            "requests": [request.to_dict() for request in self.requests],
        }

    def to_json(self) -> str:
        """Return the plan as JSON."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n"


def founding_case(plan: Plan) -> dict[str, Any]:
    """Return what the founding document expected, and what its hours cost at the price of this plan."""
    hour = plan.bill.price.hour
    return {**FOUNDING, "its_hours_at_this_price_usd": [round(hours * hour, 2) for hours in FOUNDING["hours"]]}


def assumptions(plan: Plan) -> tuple[str, ...]:
    """Return what the estimate rests on."""
    start = START_MINUTES[plan.backend]
    return (
        f"{plan.jobs[0].estimate.rows_per_second:,.0f} rows a second: {MEASURED}",
        "every epoch of the recipe is counted, though early stopping may end it sooner",
        f"{start:g} minutes until a machine trains, 2 minutes a symbol for features, diagnosis and upload; not measured on AWS",
        f"price: {plan.bill.price.words}; storage and transfer are not counted (cents)",
    )


def settle(
    backend: Backend, estimates: Sequence[Estimate], price: Price, *, max_cost: float | None, max_hours: float | None = None
) -> Bill:
    """Return the bill of some symbols: SageMaker runs a machine each, EC2 one machine for all.

    Args:
        backend: of AWS.
        estimates: one a symbol.
        price: of an hour.
        max_cost: USD that may be spent at most; sets when machines are stopped.
        max_hours: of each machine at most.

    Raises:
        CloudError: the estimate alone is above what may be spent, or no machine could finish in time.

    """
    start = START_MINUTES[backend] / 60
    each = [start + one.hours for one in estimates] if backend == "sagemaker" else [start + sum(one.hours for one in estimates)]
    for name, value in (("--max-hours", max_hours), ("--max-cost", max_cost)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise CloudError(f"{name} must be a number above 0, found {value:g}; correct it")
    limit = max(LEAST_LIMIT_HOURS, SLACK * max(each))
    if max_hours is not None:
        limit = min(limit, max_hours)
    if max_cost is not None:
        cost = sum(each) * price.hour
        if cost > max_cost:
            raise CloudError(
                f"the plan must cost at most ${max_cost:,.2f}, found ${cost:,.2f} for {sum(each):.2f} hours; "
                "train fewer symbols, a shorter recipe or on spot, or allow more with --max-cost"
            )
        limit = min(limit, max_cost / (len(each) * price.ceiling) - STOPPING_MINUTES / 60)
    if not limit >= max(each):
        raise CloudError(
            f"each machine must have time for the {max(each):.2f} hours that it needs, found a limit of {max(limit, 0.0):.2f}; "
            "allow more with --max-cost or --max-hours"
        )
    return Bill(
        machines=len(each),
        hours=sum(each),
        wall_hours=max(each),
        limit_seconds=int(limit * 3_600),
        price=price,
        max_cost=max_cost,
    )


def job_name(symbol: str, recipe: Recipe, *facts: str) -> str:
    """Return the name of a job; it holds a digest of everything that decides the result.

    >>> from crpbot.model.recipe import load_recipe
    >>> job_name("BTC-USD", load_recipe("v7"), "candles").rpartition("-")[0]
    'crpbot-BTC-USD-v7'
    """
    digest = hashlib.sha256(json.dumps([symbol, recipe.to_dict(), *facts], sort_keys=True).encode()).hexdigest()[:12]
    room = 63 - len(f"crpbot-{symbol}--{digest}-99")
    short = re.sub(r"[^A-Za-z0-9]+", "-", recipe.name)[: max(room, 0)].strip("-")
    return "-".join(part for part in ("crpbot", symbol, short, digest) if part)


def tags(job: str, symbols: str, recipe: str, limit_seconds: int) -> list[dict[str, str]]:
    """Return the labels by which `sweep` and the bill find what is ours."""
    values = {"job": job, "symbols": symbols, "recipe": recipe, "seconds": str(limit_seconds)}
    return [{"Key": f"crpbot:{key}", "Value": value} for key, value in values.items()]
