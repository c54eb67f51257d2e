"""The plan: true before anything is sent, and never above what may be spent."""

import dataclasses
import io
import json
import re
import socket
import subprocess
import sys
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import market, quick

from crpbot.cli.show import _words
from crpbot.cloud import ec2, pack, sagemaker
from crpbot.cloud.estimate import END_MINUTES, ROWS_PER_SECOND, START_MINUTES, TWO_YEARS, estimate, rows_per_second
from crpbot.cloud.order import Market, Wish, make_plan
from crpbot.cloud.plan import Plan, job_name, settle
from crpbot.cloud.prices import ON_DEMAND, price_of
from crpbot.errors import CandleError, CloudError
from crpbot.model.recipe import load_recipe
from crpbot.model.training import Epoch

pytestmark = pytest.mark.slow  # what a cloud does, `make test` asks

V7 = load_recipe("v7")
KEYS = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD")


ZIPPED = pack._zipped


@pytest.fixture(autouse=True)
def _small_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine megabytes of code are zipped where they are what is tested."""
    monkeypatch.setattr(pack, "_zipped", lambda _: b"a small package")


def planned(*, symbols: tuple[str, ...] = SYMBOLS, candles: bool = False, recipe: Any = V7, seed: int = 0, **wish: Any) -> Plan:
    found = Market(candles=market(rows=6_000)) if candles else Market()
    return make_plan(Wish(**wish), dict.fromkeys(symbols, found), recipe, seed=seed)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_words: object) -> None:
        raise AssertionError("a plan must not reach for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("backend", ["sagemaker", "ec2"])
def test_a_plan_reaches_for_no_network(backend: str) -> None:
    assert planned(backend=backend).requests


@pytest.mark.slow
def test_a_plan_does_not_even_load_boto3() -> None:
    code = "import sys; from crpbot.cli import app; app(['cloud', 'plan'], standalone_mode=False); "
    code += "print([m for m in ('boto3', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
    assert "nothing was sent" in done.stdout


def test_the_founding_case_stands_beside_our_estimate() -> None:
    plain = planned().to_dict()
    seconds = int(TWO_YEARS * 0.7) * 30 / ROWS_PER_SECOND
    each = (START_MINUTES["sagemaker"] + END_MINUTES) / 60 + seconds / 3_600
    assert plain["hours"] == pytest.approx(3 * each, abs=1e-4)
    assert plain["wall_hours"] == pytest.approx(each, abs=1e-4)
    assert plain["cost_usd"] == pytest.approx(3 * each * 1.408, abs=1e-3)
    assert (plain["instance"], plain["price"]["usd_per_hour"]) == ("ml.g5.xlarge", 1.408)
    assert plain["founding"]["hours"] == [6, 9]
    assert plain["founding"]["cost_usd"] == 12
    assert plain["founding"]["its_hours_at_this_price_usd"] == [8.45, 12.67]
    assert "no GPU was measured" in " ".join(plain["assumptions"])
    assert plain["cost_usd"] < plain["most_usd"]
    json.dumps(plain)


def test_one_machine_of_ec2_does_all_symbols_and_starts_once() -> None:
    plan = planned(backend="ec2")
    training = sum(job.estimate.hours for job in plan.jobs)
    assert plan.bill.hours == pytest.approx(START_MINUTES["ec2"] / 60 + training)
    assert (plan.bill.machines, plan.bill.price.hour) == (1, 1.006)
    assert [request.operation for request in plan.requests].count("run_instances") == 1


@given(
    st.floats(0.01, 50),
    st.integers(1, 6),
    st.sampled_from(["sagemaker", "ec2"]),
    st.booleans(),
    st.integers(1_000, 4_000_000),
    st.sampled_from([None, 0.2, 1.0, 30.0]),
)
def test_no_plan_can_cost_more_than_is_allowed(
    most: float,
    n: int,
    backend: Any,
    spot: Any,
    candles: int,
    hours: float | None,
) -> None:
    """Either it is refused, or even machines that run until they are stopped stay below, and each has the time it needs."""
    price = price_of("ml.g5.xlarge" if backend == "sagemaker" else "g5.xlarge", spot=spot)
    estimates = [estimate(V7, candles)] * n
    try:
        bill = settle(backend, estimates, price, max_cost=most, max_hours=hours)
    except CloudError as error:
        assert "--max-cost" in str(error)  # noqa: PT017
        return
    assert bill.most_usd <= most
    assert bill.cost_usd <= bill.most_usd
    assert bill.limit_seconds >= int(bill.wall_hours * 3_600)
    assert hours is None or bill.limit_seconds <= hours * 3_600


def test_money_decides_when_machines_are_stopped() -> None:
    generous, tight = planned(), planned(max_cost=1.3)
    with pytest.raises(CloudError, match=r"at most \$0\.80, found \$0\.8\d for 0\.60 hours"):
        planned(max_cost=0.8)
    assert tight.bill.limit_seconds < generous.bill.limit_seconds
    stopping = tight.requests[-1].parameters["StoppingCondition"]
    assert stopping == {"MaxRuntimeInSeconds": tight.bill.limit_seconds}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -1.0])
@pytest.mark.parametrize("name", ["max_cost", "max_hours"])
def test_a_limit_that_is_no_number_is_refused(name: str, value: float) -> None:
    with pytest.raises(CloudError, match="must be a number above 0"):
        planned(**{name: value})


def test_what_may_be_spent_includes_the_minutes_of_stopping() -> None:
    bill = planned(max_cost=1.3).bill
    assert bill.machines * (bill.limit_seconds + 300) / 3_600 * bill.price.ceiling == pytest.approx(1.3, abs=0.01)
    assert bill.most_usd == pytest.approx(1.3, abs=0.01)


def test_what_may_be_spent_rests_on_a_price_of_that_region() -> None:
    with pytest.raises(CloudError, match=r"price of eu-central-1, found only a table of us-east-1.*--price"):
        planned(region="eu-central-1", max_cost=50)
    assert planned(region="eu-central-1", max_cost=50, price=2.0).bill.price.ceiling == 2.0
    assert planned(region="eu-central-1").bill.price.hour == ON_DEMAND["ml.g5.xlarge"]
    for place in ({"region": "eu-central-1"}, {"instance": "ml.p9.xlarge"}):
        with pytest.raises(CloudError, match=r"on demand.*--on-demand-price"):
            planned(**place, spot=True, price=0.5, max_cost=50)
        assert planned(**place, spot=True, price=0.5, on_demand=1.9, max_cost=50).bill.price.ceiling == 1.9


def test_spot_asks_for_spot_and_waits_longer() -> None:
    asked = planned(spot=True, price=0.6).requests[-1].parameters
    assert asked["EnableManagedSpotTraining"] is True
    assert asked["StoppingCondition"]["MaxWaitTimeInSeconds"] >= asked["StoppingCondition"]["MaxRuntimeInSeconds"]
    assert planned(spot=True, price=0.6).bill.price.ceiling == ON_DEMAND["ml.g5.xlarge"]
    options = planned(spot=True, backend="ec2").requests[-1].parameters["InstanceMarketOptions"]
    assert options["SpotOptions"]["InstanceInterruptionBehavior"] == "terminate"


@pytest.mark.parametrize("backend", ["sagemaker", "ec2"])
@pytest.mark.parametrize("spot", [False, True])
@pytest.mark.parametrize("candles", [False, True])
def test_every_request_is_one_that_aws_knows(backend: str, spot: bool, candles: bool) -> None:  # noqa: FBT001
    """Held against AWS's own model of its services, as botocore ships it."""
    import boto3
    from botocore.validate import ParamValidator

    for request in planned(backend=backend, spot=spot, candles=candles).requests:
        client = boto3.client(request.service, region_name="us-east-1", **KEYS)
        shape = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[request.operation]).input_shape
        found = ParamValidator().validate(dict(request.parameters), shape)
        assert not found.has_errors(), found.generate_report()


def test_the_same_work_has_the_same_name_and_other_work_another() -> None:
    def names(**change: Any) -> list[str]:
        return [job.name for job in planned(candles=True, **change).jobs]

    first = names()
    assert names() == first
    assert len(set(first)) == 3
    for change in ({"seed": 1}, {"recipe": quick()}, {"backend": "ec2"}, {"image": "1.dkr/x:y"}):
        assert not set(names(**change)) & set(first)
    other = make_plan(Wish(), {"BTC-USD": Market(candles=market(rows=7_000))}, V7, seed=0).jobs[0].name
    assert other not in first


@given(
    st.from_regex(r"[A-Z0-9]{1,20}-[A-Z0-9]{1,20}", fullmatch=True), st.from_regex(r"[a-z0-9][a-z0-9.-]{0,40}", fullmatch=True)
)
def test_every_name_is_one_that_sagemaker_takes(symbol: str, recipe: str) -> None:
    name = job_name(symbol, dataclasses.replace(V7, name=recipe), "facts")
    assert re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", f"{name}-99")


def test_a_recipe_that_the_job_would_refuse_is_refused_before_it_is_paid() -> None:
    for name in ("v6", "v6-lost-scaler", "v7-lost-scaler"):
        with pytest.raises(CloudError, match="normalizer = fit"):
            planned(recipe=load_recipe(name))


def test_prices_are_overridable_and_never_guessed() -> None:
    assert price_of("ml.g5.xlarge", spot=False, override=2.0).hour == 2.0
    with pytest.raises(CloudError, match="--price"):
        price_of("p9.xlarge", spot=False)
    with pytest.raises(CloudError, match="above 0"):
        price_of("ml.g5.xlarge", spot=False, override=float("nan"))


def test_larger_networks_and_smaller_batches_are_not_thought_faster() -> None:
    wide = dataclasses.replace(V7, network=dataclasses.replace(V7.network, hidden=(1024, 1024)))
    assert rows_per_second(wide) < rows_per_second(load_recipe("v6")) <= rows_per_second(quick()) == rows_per_second(V7)


def test_made_up_candles_are_made_again_there_and_stay_made_up() -> None:
    made = Market(kind="synthetic", name="synthetic:level-noise:6000", candles=market(rows=6_000))
    plan = make_plan(Wish(), {"BTC-USD": made}, V7, seed=0)
    assert not [request for request in plan.requests if "/candles/" in str(request.parameters.get("Key"))]
    asked = plan.requests[-1].parameters
    assert asked["HyperParameters"]["kind"] == "synthetic"
    assert asked["HyperParameters"]["candles"] == "synthetic:level-noise:6000"
    assert [channel["ChannelName"] for channel in asked["InputDataConfig"]] == ["package", "recipe"]


def test_the_package_is_this_code_and_the_same_bytes_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "_zipped", ZIPPED)
    first, second = pack.package(), pack.package()
    assert first == second
    assert first.sha256 in first.prefix
    names = [blob.key.rpartition("/")[2] for blob in first.blobs]
    assert names == ["crpbot.zip", "requirements.txt", "constraints.txt", "start.sh"]
    with zipfile.ZipFile(io.BytesIO(first.blobs[0].content)) as archive:
        assert {"crpbot/__init__.py", "crpbot/cloud/worker.py", "crpbot/cloud/user_data.sh"} <= set(archive.namelist())
        assert not [name for name in archive.namelist() if name.endswith(".pyc") or "__pycache__" in name]
    assert {"boto3", "numpy", "polars", "scikit-learn", "typer"} <= set(pack.requirements().split())
    assert not {"torch", "pytest", "moto"} & set(pack.requirements().split())
    limited = {line.partition("==")[0] for line in pack.constraints().split()}
    assert {"boto3", "botocore", "numpy", "polars", "scikit-learn", "typer"} <= limited
    assert not {"pytest", "moto", "mypy", "ruff", "hypothesis"} & limited
    assert not re.search(r"^(torch|nvidia-.*|triton)==", pack.constraints(), re.MULTILINE)


def test_candles_are_named_by_what_they_say() -> None:
    blob = pack.candles_blob("BTC-USD", market(rows=6_000))
    assert blob.key == f"crpbot/candles/{market(rows=6_000).sha256}/BTC-USD.parquet"


def test_sagemaker_finds_its_metrics_in_the_lines_of_a_training() -> None:
    epoch = Epoch(
        epoch=3,
        of=30,
        training_loss=0.0934,
        calibration_loss=0.1,
        calibration_log_loss=0.931,
        calibration_accuracy=0.5,
        learning_rate=0.001,
        temperature=1.0,
        rows_per_second=41_000.0,
        best=True,
    )
    line = f"BTC-USD  {_words(epoch)}"
    found = {name: re.search(regex, line) for name, regex in sagemaker.METRICS.items()}
    assert {name: float(match[1]) for name, match in found.items() if match} == {
        "epoch": 3.0,
        "loss": 0.0934,
        "calibration": 0.931,
    }


def test_a_machine_of_ec2_ends_itself_and_lets_nobody_in() -> None:
    plan = planned(backend="ec2", max_cost=4)
    asked = plan.requests[-1].parameters
    assert asked["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert asked["MetadataOptions"]["HttpTokens"] == "required"
    assert asked["IamInstanceProfile"] == {"Name": "crpbot-instance"}
    assert "KeyName" not in asked
    assert asked["SecurityGroups"] == [ec2.GROUP]
    assert {"Key": "crpbot:seconds", "Value": str(plan.bill.limit_seconds)} in asked["TagSpecifications"][0]["Tags"]
    assert [request.operation for request in plan.requests[-2:]] == ["create_security_group", "run_instances"]
    assert not [r for r in plan.requests if "authorize_security_group" in r.operation]
    commands = [line for line in asked["UserData"].splitlines() if line and not line.startswith("#")]
    assert commands[0] == f"shutdown -h +{plan.bill.limit_seconds // 60}"  # the timer comes before anything that can fail
    assert [int(step) for step in re.findall(r"^ *(?:.*)# (\d)\. ", asked["UserData"], re.MULTILINE)] == [1, 8, 2, 3, 4]
    assert len(asked["UserData"]) < 16_384
    subprocess.run(["bash", "-n"], input=asked["UserData"], text=True, check=True)


@pytest.mark.parametrize("bucket", ["x; rm -rf /", "$(id)", "a b", "x\nreboot"])
def test_nothing_in_user_data_can_be_a_command_of_somebody_else(bucket: str) -> None:
    with pytest.raises(CloudError, match="letters, digits"):
        planned(backend="ec2", bucket=bucket)


def test_impossible_wishes_are_one_line() -> None:
    with pytest.raises(CandleError):
        planned(symbols=("../../etc",))
    with pytest.raises(CloudError, match="at least one symbol"):
        make_plan(Wish(), {}, V7, seed=0)
    with pytest.raises(CloudError, match="security group"):
        planned(backend="ec2", subnet="subnet-1")


def test_estimates_grow_with_rows_and_epochs() -> None:
    hours = [estimate(V7, rows).hours for rows in (10_000, 100_000, 1_000_000)]
    assert hours == sorted(hours)
    assert estimate(quick(), 1_000_000).hours < hours[-1]
    five = dataclasses.replace(V7, ensemble=dataclasses.replace(V7.ensemble, members=5))
    one, many = (estimate(recipe, 1_000_000).hours - END_MINUTES / 60 for recipe in (V7, five))
    assert many == pytest.approx(5 * one)
    assert np.isfinite(hours).all()
