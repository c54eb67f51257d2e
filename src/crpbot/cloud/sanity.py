"""What a job must find of its own checkpoint before it counts: the normalizer is there, and the predictions are sane."""

from dataclasses import dataclass
from pathlib import Path

from crpbot.errors import CrpbotError
from crpbot.market.candles import Candles
from crpbot.market.source import SourceKind
from crpbot.model.loading import open_model, subject_in
from crpbot.model.recipe import load_recipe
from crpbot.quality.diagnosis import diagnose_subject
from crpbot.quality.gates import GateResult, judge

SANITY_GATES = ("finite-weights", "normalizer-present", "normalizer-fits", "logit-range", "overconfidence")
"""The gates that say that a training went right, not that it learned something; they are asked of the calibration block."""


@dataclass(frozen=True, slots=True)
class Sanity:
    """What was found.

    Attributes:
        results: of the sanity gates; empty where the file could not even be read.
        reason: why it is refused; empty where it is not.

    """

    results: tuple[GateResult, ...]
    reason: str

    @property
    def passed(self) -> bool:
        """Whether the checkpoint may leave the job."""
        return not self.reason


def examine(checkpoint: Path, candles: Candles, *, source: SourceKind) -> Sanity:
    """Ask the sanity gates about a checkpoint on its calibration block; the test block is not touched.

    Args:
        checkpoint: the file.
        candles: that it was trained on.
        source: kind of the candles.

    """
    try:
        model = open_model(checkpoint)
        subject = subject_in(model)
    except CrpbotError as error:
        return Sanity((), str(error))
    origin = subject.checkpoint.origin if subject.checkpoint else None
    if origin is None or origin.candles_sha256 != candles.sha256:
        return Sanity((), f"{checkpoint.name} must be trained on these very candles, found others; train it again")
    diagnosis = diagnose_subject(
        subject,
        candles,
        path=str(checkpoint),
        sha256=model.sha256,
        source=source,
        label_recipe=load_recipe("v7"),
        on="calibration",
    )
    if diagnosis.learned is None:
        return Sanity((), f"{checkpoint.name} must say which rows it was calibrated on, found others; train it again")
    results = tuple(result for result in judge(diagnosis.metrics, "market").results if result.name in SANITY_GATES)
    failed = [f"{result.name}: {result.words} (must be {result.limit})" for result in results if not result.passed]
    return Sanity(results, "; ".join(failed))
