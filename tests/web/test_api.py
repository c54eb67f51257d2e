"""The API is what it says it is: whatever is asked, the answer is one that its own description knows, and never a bug."""

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from live.worlds import promoted
from models import market
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance
from web.houses import TOKEN, listening

from crpbot.market.candles import MINUTE
from crpbot.web.setting import Setting

pytestmark = pytest.mark.slow
CHECKS = [not_a_server_error, status_code_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("home")
    promoted(home, home / "made")
    with listening(Setting(home=home, now=lambda: int(market().time[-1]) + MINUTE, token=TOKEN)) as found:
        yield found


def test_every_answer_is_one_that_the_description_knows(address: str) -> None:
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json").exclude(path="/api/events")  # which never ends
    asked = 0
    for found in schema.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy())
        @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
        def fuzz(case: schemathesis.Case) -> None:
            nonlocal asked
            asked += 1
            case.call_and_validate(headers={"Authorization": f"Bearer {TOKEN}"}, checks=CHECKS)

        fuzz()
    assert asked >= 10
