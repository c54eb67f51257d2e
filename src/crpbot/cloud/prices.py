"""What an hour costs: a dated table of prices in us-east-1, never fetched, always overridable."""

from collections.abc import Mapping
from dataclasses import dataclass

from crpbot.errors import CloudError

DATED = "2025-11"
"""Month of the table. The two g5.xlarge prices are those of the founding document; AWS changes prices without asking."""
ON_DEMAND: Mapping[str, float] = {
    "ml.g5.xlarge": 1.408,
    "ml.g5.2xlarge": 1.515,
    "ml.g4dn.xlarge": 0.7364,
    "ml.m5.xlarge": 0.23,
    "ml.c5.xlarge": 0.204,
    "g5.xlarge": 1.006,
    "g5.2xlarge": 1.212,
    "g4dn.xlarge": 0.526,
    "m5.xlarge": 0.192,
    "c5.xlarge": 0.17,
}
"""USD an hour; `ml.` is SageMaker, the others are EC2."""
VCPUS: Mapping[str, int] = {"g5.xlarge": 4, "g5.2xlarge": 8, "g4dn.xlarge": 4, "m5.xlarge": 4, "c5.xlarge": 4}
"""EC2 counts its quotas in these; a type that is not here counts as 4."""
TABLE_REGION = "us-east-1"
SPOT_SHARE = 0.5
"""Assumed price of spot, as a share of on demand: it changes by the minute. `--price` overrides it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What an hour of an instance costs, in USD.

    Attributes:
        hour: expected.
        ceiling: at most: AWS never charges more for spot than on demand.
        words: where the number is from.

    """

    hour: float
    ceiling: float
    words: str


def price_of(
    instance: str,
    *,
    spot: bool,
    override: float | None = None,
    on_demand: float | None = None,
    region: str = TABLE_REGION,
    binding: bool = False,
) -> Price:
    """Return the price of an instance type.

    Args:
        instance: type of the machine.
        spot: whether it may be taken away.
        override: USD an hour, instead of the table's.
        on_demand: USD an hour on demand, which spot never exceeds; instead of the table's.
        region: where the machine runs; the table knows one region only.
        binding: whether what may be spent depends on it: then nothing is taken from the table of another region.

    Raises:
        CloudError: it is in no table, and none is given.

    """
    for name, given in (("--price", override), ("--on-demand-price", on_demand)):
        if given is not None and not 0 < given < 1_000:
            raise CloudError(f"a price must be USD an hour, above 0 and below 1000, found {given:g}; correct {name}")
    listed = on_demand or (ON_DEMAND.get(instance) if region == TABLE_REGION or not binding else None)
    if binding and override is None and region != TABLE_REGION:
        raise CloudError(
            f"--max-cost must rest on a price of {region}, found only a table of {TABLE_REGION}, and other regions cost more; "
            "give the price with --price USD"
        )
    if binding and spot and listed is None:
        raise CloudError(
            f"--max-cost with --spot must know what {instance} costs on demand in {region}, for AWS may charge up to that, "
            "found it in no table; give it with --on-demand-price USD"
        )
    if override is not None:
        return Price(hour=override, ceiling=max(override, listed or 0.0), words="as given with --price")
    if listed is None:
        raise CloudError(f"the price of {instance} must be known, found it in no table; give it with --price USD")
    if spot:
        words = f"assumed: {SPOT_SHARE:.0%} of on demand (us-east-1, {DATED}); look it up and give it with --price"
        return Price(hour=listed * SPOT_SHARE, ceiling=listed, words=words)
    return Price(hour=listed, ceiling=listed, words=f"on demand, us-east-1, {DATED}")
