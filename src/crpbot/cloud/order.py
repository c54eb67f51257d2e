"""From what a person wants to the plan: candles, recipe and options in, requests and bill out."""

from collections.abc import Mapping
from dataclasses import dataclass

from crpbot.cloud import ec2, sagemaker
from crpbot.cloud.estimate import TWO_YEARS, estimate
from crpbot.cloud.pack import PREFIX, Blob, Package, candles_blob, package, recipe_blob
from crpbot.cloud.plan import ACCOUNT, Backend, Bill, Job, Plan, Request, job_name, settle
from crpbot.cloud.prices import price_of
from crpbot.errors import CloudError
from crpbot.market.candles import Candles
from crpbot.market.files import check_symbol
from crpbot.market.source import SourceKind
from crpbot.model.recipe import Recipe

INSTANCES: Mapping[Backend, str] = {"sagemaker": "ml.g5.xlarge", "ec2": "g5.xlarge"}
UNREAD = "SHA256"
"""Stands for the digest of candles that were not read, in a plan without any."""
ROLES: Mapping[Backend, str] = {"sagemaker": "crpbot-sagemaker", "ec2": "crpbot-instance"}
"""Names of the role and of the instance profile, as docs/cloud makes them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a person wants of AWS; what is None gets its default.

    Attributes:
        backend: of AWS.
        region: of AWS.
        account: number of the account; a stand-in where it is not known yet.
        bucket: for everything; `crpbot-ACCOUNT-REGION` by default.
        role: role of SageMaker (a name or an ARN), or instance profile of EC2 (a name).
        image: container image, AMI, or SSM parameter that names an AMI.
        instance: type of the machines.
        spot: whether machines may be taken away, for less money.
        price: USD an hour, instead of the table's.
        on_demand: USD an hour on demand, above which spot never goes.
        max_cost: USD at most.
        max_hours: of each machine at most.
        subnet, group: where EC2 has no default network.

    """

    backend: Backend = "sagemaker"
    region: str = "us-east-1"
    account: str = ACCOUNT
    bucket: str | None = None
    role: str | None = None
    image: str | None = None
    instance: str | None = None
    spot: bool = False
    price: float | None = None
    on_demand: float | None = None
    max_cost: float | None = None
    max_hours: float | None = None
    subnet: str | None = None
    group: str | None = None

    @property
    def chosen_bucket(self) -> str:
        """The bucket."""
        return self.bucket or f"crpbot-{self.account}-{self.region}"

    @property
    def chosen_instance(self) -> str:
        """The type of the machines."""
        return self.instance or INSTANCES[self.backend]

    @property
    def chosen_image(self) -> str:
        """The image of the machines."""
        default = sagemaker.FRAMEWORK_IMAGE.format(region=self.region) if self.backend == "sagemaker" else ec2.DEEP_LEARNING_AMI
        return self.image or default

    @property
    def role_name(self) -> str:
        """The name of role or instance profile."""
        return (self.role or ROLES[self.backend]).rpartition("/")[2]

    @property
    def role_arn(self) -> str:
        """The ARN of the role."""
        if self.role is not None and self.role.startswith("arn:"):
            return self.role
        return f"arn:aws:iam::{self.account}:role/{self.role_name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """The candles of one symbol, as the job will get them.

    Attributes:
        kind: where they are from.
        name: what a person typed.
        candles: themselves; None in a plan without any.

    """

    kind: SourceKind = "file"
    name: str = ""
    candles: Candles | None = None

    @property
    def told(self) -> str:
        """What the job is told, where it makes the candles or has them; empty where they are uploaded."""
        return self.name if self.kind == "synthetic" else "sample" if self.kind == "sample" else ""


def make_plan(wish: Wish, markets: Mapping[str, Market], recipe: Recipe, *, seed: int) -> Plan:
    """Return every request for the training of some symbols, with hours and money. Nothing is sent.

    Raises:
        CloudError: the recipe cannot pass the checks of the job, or the money is not enough.

    """
    if recipe.network.normalizer != "fit":
        raise CloudError(
            f"a recipe for AWS must have normalizer = fit, found {recipe.network.normalizer} in {recipe.name}: the job would "
            "refuse its own checkpoint, after it was paid; train it here (crpbot train)"
        )
    if not markets:
        raise CloudError("a plan must have at least one symbol, found none; name them with --symbols")
    code = package()
    of_recipe = recipe_blob(recipe)
    jobs, of_candles = [], {}
    for symbol, market in markets.items():
        job = _job(wish, check_symbol(symbol), market, recipe, seed=seed, package_sha256=code.sha256)
        jobs.append(job)
        if market.candles is None:
            of_candles[symbol] = Blob(f"{PREFIX}/candles/{UNREAD}/{symbol}.parquet", b"")
        elif not market.told:
            of_candles[symbol] = candles_blob(symbol, market.candles)
    price = price_of(
        wish.chosen_instance,
        spot=wish.spot,
        override=wish.price,
        on_demand=wish.on_demand,
        region=wish.region,
        binding=wish.max_cost is not None,
    )
    estimates = [job.estimate for job in jobs]
    bill = settle(wish.backend, estimates, price, max_cost=wish.max_cost, max_hours=wish.max_hours)
    uploads = [_upload(wish, blob, "the code, once for each version") for blob in code.blobs]
    uploads.append(_upload(wish, of_recipe, f"recipe {recipe.name}, once"))
    uploads += [_upload(wish, blob, f"candles of {symbol}, once") for symbol, blob in of_candles.items()]
    keys = {symbol: blob.key for symbol, blob in of_candles.items()}
    starts = _starts(wish, tuple(jobs), code, of_recipe.key, keys, bill)
    return Plan(
        backend=wish.backend,
        region=wish.region,
        instance=wish.chosen_instance,
        image=wish.chosen_image,
        spot=wish.spot,
        bucket=wish.chosen_bucket,
        jobs=tuple(jobs),
        requests=(*uploads, *starts),
        bill=bill,
    )


def _job(wish: Wish, symbol: str, market: Market, recipe: Recipe, *, seed: int, package_sha256: str) -> Job:
    candles = market.candles
    sha256 = "" if candles is None else candles.sha256
    return Job(
        name=job_name(
            symbol, recipe, str(seed), market.kind, market.told, sha256, package_sha256, wish.backend, wish.chosen_image
        ),
        symbol=symbol,
        recipe=recipe,
        seed=seed,
        kind=market.kind,
        candles=market.told,
        candles_sha256=sha256,
        estimate=estimate(recipe, TWO_YEARS if candles is None else len(candles)),
    )


def _upload(wish: Wish, blob: Blob, why: str) -> Request:
    unread = f"/{UNREAD}/" in blob.key
    parameters = {
        "Bucket": wish.chosen_bucket,
        "Key": blob.key,
        "ExpectedBucketOwner": wish.account,
        "ChecksumAlgorithm": "SHA256",
        "IfNoneMatch": "*",
    }
    return Request(
        service="s3",
        operation="put_object",
        parameters=parameters,
        why=f"{why}; not read yet" if unread else why,
        body=None if unread else blob.content,
    )


def _starts(
    wish: Wish, jobs: tuple[Job, ...], code: Package, recipe_key: str, candles_keys: Mapping[str, str], bill: Bill
) -> list[Request]:
    bucket, limit = wish.chosen_bucket, bill.limit_seconds
    if wish.backend == "sagemaker":
        return [
            sagemaker.training_request(
                job,
                bucket=bucket,
                package=code,
                recipe_key=recipe_key,
                candles_key=candles_keys.get(job.symbol, ""),
                instance=wish.chosen_instance,
                image=wish.chosen_image,
                role=wish.role_arn,
                spot=wish.spot,
                limit_seconds=limit,
            )
            for job in jobs
        ]
    key, content = ec2.run_file(jobs, bucket=bucket, package=code, recipe_key=recipe_key, candles_keys=candles_keys)
    told = _upload(wish, Blob(key, content), "what the machine has to do")
    run = ec2.run_request(
        jobs,
        bucket=bucket,
        region=wish.region,
        package=code,
        instance=wish.chosen_instance,
        image=wish.chosen_image,
        profile=wish.role_name,
        spot=wish.spot,
        limit_seconds=limit,
        subnet=wish.subnet,
        group=wish.group,
    )
    return [told, *([] if wish.subnet or wish.group else [ec2.group_request()]), run]
