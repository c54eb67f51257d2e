"""What an audit finds: checks, and the leaks that they name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Status = Literal["passed", "failed", "unknown", "told"]


@dataclass(frozen=True, slots=True)
class Leak:
    """One way in which a result can know what it must not.

    Attributes:
        meaning: what it is and what it does, for people.
        remedy: what to do.

    """

    meaning: str
    remedy: str


LEAKS: Mapping[str, Leak] = {
    "label-in-feature": Leak(
        "A feature holds the answer: it changes with candles that were not yet there, and alone it foretells the label.",
        "Compute features only from candles up to and including the closed one.",
    ),
    "look-ahead": Leak(
        "What is said of a candle changes when later candles change, so it knows the future.",
        "Look for windows that are centred, back-filled or computed over the whole file, and for statistics of all rows.",
    ),
    "random-split": Leak(
        "Test rows lie between training rows. Their labels overlap with those of their neighbours, which the model has learned.",
        "Split by time: train on what came before.",
    ),
    "trained-on-the-future": Leak(
        "The model was trained on rows that are later than those it was tested on.",
        "Test on what came after everything that the fit has seen.",
    ),
    "shared-timestamps": Leak(
        "The fit has seen minutes of one symbol in which another was tested. Markets move together: the answer was there.",
        "Split all symbols at the same moments.",
    ),
    "no-purge": Leak(
        "Labels that the fit has seen look into the test: they know its first prices.",
        "Drop the rows whose label is known only after the test has begun.",
    ),
    "tuned-on-test": Leak(
        "Calibration rows lie in the test block or after it: early stopping and temperature have seen the answers.",
        "Calibrate on rows between training and test.",
    ),
    "scaler-saw-test-rows": Leak(
        "Mean and scale are those of rows that include the test block.",
        "Fit the scaler on training rows only.",
    ),
    "duplicate-rows": Leak(
        "Test rows are copies of training rows: history was copied into the future, or the blocks overlap.",
        "Find where the candles repeat themselves.",
    ),
    "knows-more-than-its-rows": Leak(
        "Trained again on the rows that it names, the same recipe does far worse on the test: the model has seen others.",
        "Train it again, and look at which rows reach the fit.",
    ),
    "learns-noise": Leak(
        "The same recipe, trained on labels of another time, still beats chance on the test: something else than the features "
        "tells it the answers.",
        "Look at what the fit reads besides the rows it is given.",
    ),
}
"""Every leak that an audit can name, roots before what follows from them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question and its answer.

    Attributes:
        name: of the question.
        status: `passed`; `failed`, then `leak` says what leaks; `unknown`, where what it needs is not there; `told` is only a
            number beside which the result is to be read.
        value: the number that decides or is told; None where there is none.
        words: for people.
        leak: a key of `LEAKS`.

    """

    name: str
    status: Status
    words: str
    value: float | None = None
    leak: str | None = None
