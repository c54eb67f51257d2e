"""The table of causes: what each one means, how bad it is, and what to do. Code, documentation and reports read it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Severity = Literal["critical", "warning"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One named cause.

    Attributes:
        code: its name.
        severity: `critical` makes every signal worthless; `warning` does not alone.
        meaning: two sentences, for people.
        sign: how it is recognised, with its limits.
        remedy: what to do.
        founding: which root cause of the founding document it is: 1 no feature normalization, 2 no output calibration,
            3 no regularization, 4 architecture; 0 is none of them.

    """

    code: str
    severity: Severity
    meaning: str
    sign: str
    remedy: str
    founding: int = 0


_CRITICAL: Severity = "critical"
_WARNING: Severity = "warning"

_KINDS = (
    Kind(
        code="no-weights",
        severity=_CRITICAL,
        meaning="The file talks about a model and does not hold it. Nothing can be predicted with it, whatever accuracy it "
        "claims.",
        sign="The file was read to its end, and no array in it is the weight of a layer.",
        remedy="Save model.state_dict() together with mean and scale of the inputs.",
    ),
    Kind(
        code="non-finite-weights",
        severity=_CRITICAL,
        meaning="Some weights are not finite numbers, so neither are the predictions. Training met a NaN, and its result "
        "was kept.",
        sign="Weights that are NaN or infinite are counted, array by array; one is enough.",
        remedy="Train it again with finite features and a lower learning rate.",
    ),
    Kind(
        code="non-finite-outputs",
        severity=_CRITICAL,
        meaning="Its predictions are not finite numbers, though its weights are. Somewhere a number overflows, or is "
        "divided by 0.",
        sign="Every weight is finite and some logit of the judged rows is not; a recorded variance below 0 is named.",
        remedy="Look at the scaler, at the variances of batch normalization, and at the size of the weights.",
    ),
    Kind(
        code="untrained",
        severity=_CRITICAL,
        meaning="Every weight still lies where PyTorch draws it before training. What it says is the echo of a random "
        "number generator.",
        sign="Every weight lies within ±1/√(inputs of its layer) and is spread evenly there, as PyTorch draws it; "
        "batch normalization stands at 1 and 0.",
        remedy="Train it, and check that the trained weights are what is saved.",
    ),
    Kind(
        code="feature-order",
        severity=_CRITICAL,
        meaning="The inputs stand in another order than the network learned. Every number is right and in the wrong place.",
        sign="Another order of the inputs is looked for, by the scaler's statistics and by exchanging columns. It "
        "has to lower the log loss on rows that it was not chosen on, out of chance, and more than other "
        "biases or another temperature would.",
        remedy="Save the names of the inputs with the weights, and feed by name.",
    ),
    Kind(
        code="class-order",
        severity=_CRITICAL,
        meaning="The classes stand in another order than DOWN, NEUTRAL, UP. It says the opposite of what it means.",
        sign="All six orders of the three outputs are tried. Another one has to beat knowing nothing, out of "
        "chance, on rows that it was not chosen on.",
        remedy="Save the names of the classes with the weights, and read the outputs by name.",
    ),
    Kind(
        code="lost-normalizer",
        severity=_CRITICAL,
        founding=1,
        meaning="The network was trained on normalized features and is served raw ones: its scaler was lost. On inputs "
        "standardized by the candles' own statistics it is sound again.",
        sign="There is no scaler; on raw inputs the log loss is more than twice that of knowing nothing, on "
        "standardized ones at most 1.1 times. Or it is mute on raw inputs and knows something on standardized"
        " ones, or it knows something there, out of chance, once the biases of its classes are refitted.",
        remedy='Train it with `normalizer = "fit"`, which keeps the scaler in the checkpoint, or bring the scaler with --scaler.',
    ),
    Kind(
        code="missing-normalizer",
        severity=_CRITICAL,
        founding=1,
        meaning="The network takes raw features, prices beside fractions, and standardizing them does not bring it back. It "
        "was trained that way, or these candles cannot tell, since they are too few, or since there it knows nothing anyway.",
        sign="There is no scaler, and an input reaches the first layer with a mean size above 50, or standardized inputs do "
        "better out of chance; but they do not make the network sound.",
        remedy='If it ever had a scaler, bring it with --scaler; if not, train it again with `normalizer = "fit"`.',
    ),
    Kind(
        code="unfitted-normalizer",
        severity=_CRITICAL,
        founding=1,
        meaning="There is a scaler, and it was never fitted: its numbers are all alike, or no usable numbers. The network "
        "is served raw features all the same.",
        sign="Its means and scales are all alike, as before a fit, or some scale is 0, below 0 or not finite.",
        remedy="Fit the scaler on the training rows before the first epoch, and save it afterwards.",
    ),
    Kind(
        code="foreign-normalizer",
        severity=_CRITICAL,
        founding=1,
        meaning="The scaler does not belong to this market: it was fitted on another symbol, or on made-up prices. The "
        "network sees inputs that it never learned from.",
        sign="A feature without a unit varies more than 10 times as the scaler expects, or less than a tenth; or, "
        "in a file that is not ours, its prices stand at a tenth or at ten times those of the candles.",
        remedy="Use the scaler of the symbol that the network was trained on, or train it on real candles.",
    ),
    Kind(
        code="raw-scale-inputs",
        severity=_CRITICAL,
        founding=1,
        meaning="A few inputs are so large that they decide alone. The first layer multiplies a price by a weight, and "
        "everything else drowns in the product.",
        sign="The mean size of the input that pushes the first layer hardest is above 50, where a normalized one "
        "has about 1. Its push is that size times its largest weight.",
        remedy="Normalize the inputs inside the network, with statistics of its own training rows.",
    ),
    Kind(
        code="batch-norm-stale",
        severity=_CRITICAL,
        meaning="The statistics that batch normalization recorded are not those of these weights and inputs. In training it "
        "looked at the batch instead, so nobody noticed.",
        sign="The statistics are measured again on half of the rows. That has to lower the log loss on the other "
        "half, out of chance, and more than standardized inputs do.",
        remedy="Measure them again on training rows, with the final weights.",
    ),
    Kind(
        code="dead-units",
        severity=_CRITICAL,
        meaning="Most units of a layer never change their mind, whatever the market does. What lies behind them cannot see "
        "the inputs.",
        sign="The weights of a whole layer are 0, or half of its units or more give the same on 10,000 rows spread"
        " over the span.",
        remedy="Look at the weights of that layer and at the scale of the inputs, then train again.",
    ),
    Kind(
        code="extreme-logits",
        severity=_CRITICAL,
        founding=2,
        meaning="Logits beyond 20 leave no room for doubt, which no market supports. They come from inputs, weights or a "
        "temperature of the wrong scale.",
        sign="The largest |logit| is above 20.",
        remedy="Look at the scale of the inputs first, then at the temperature.",
    ),
    Kind(
        code="cosmetic-temperature",
        severity=_WARNING,
        founding=2,
        meaning="The temperature is not the most likely one, or it stands at its bound. It was chosen for how the "
        "confidence looks, not for what comes true.",
        sign="Another temperature, below 0.8 or above 1.25 times this one, lowers the log loss out of chance, and "
        "no other remedy repairs clearly more; or it stands at its bound of 0.05 or 20.",
        remedy="Refit it by likelihood on rows that the weights have not seen.",
    ),
    Kind(
        code="class-bias",
        severity=_WARNING,
        meaning="Its mean probability of a class differs from how often that class comes. It leans to one side before it "
        "has looked.",
        sign="Mean probability and actual share of a class differ by more than 3 points, out of chance.",
        remedy="Refit the biases of the last layer, and check the balance of the labels it was trained on.",
    ),
    Kind(
        code="overconfident",
        severity=_CRITICAL,
        founding=2,
        meaning="It claims more certainty than it earns. A position sized by this confidence ruins its owner.",
        sign="A tenth of the rows or more claim over 99 %: that is critical. Or mean confidence is more than 5 "
        "points above the accuracy, out of chance: a warning.",
        remedy="Refit the temperature on rows that the weights have not seen.",
    ),
    Kind(
        code="underconfident",
        severity=_WARNING,
        founding=2,
        meaning="It is right more often than it says. Signals that it could give never reach their threshold.",
        sign="Mean confidence is more than 5 points below the accuracy, out of chance.",
        remedy="Refit the temperature on rows that the weights have not seen; it may well be below 1.",
    ),
    Kind(
        code="class-collapse",
        severity=_CRITICAL,
        meaning="It says one class nearly always, whatever the market does. Such a model knows one word.",
        sign="One class is the most probable one on more than 90 % of the rows.",
        remedy="Retrain it on normalized features, and look at the balance of its labels.",
    ),
    Kind(
        code="miscalibrated",
        severity=_WARNING,
        founding=2,
        meaning="What it says with a confidence of 70 % does not come true 70 times of 100. Its confidence is a number "
        "without a meaning.",
        sign="The calibration error is above 5 %, and the lower end of its 95 % interval above 2 %.",
        remedy="Refit the temperature on rows that the weights have not seen.",
    ),
    Kind(
        code="no-skill",
        severity=_CRITICAL,
        meaning="Nothing shows that it foretells direction better than always saying the same thing. The market may hold no "
        "edge for these features and this horizon: that is an answer, not a bug, unless a cause above explains it.",
        sign="Accuracy is less than two standard errors above always saying the commonest class, or the log loss "
        "of UP against DOWN is not below that of knowing nothing once the temperature is refitted.",
        remedy="Do not trade it; try another horizon or other features, and count the tries.",
    ),
    Kind(
        code="too-good",
        severity=_WARNING,
        meaning="More than 60 % right on minutes is an alarm, not a success. Honest studies find 50 to 56 %, so look for a "
        "leak first.",
        sign="More than 60 % of the rows are right, on candles that are not made up.",
        remedy="Ask how its rows were split, and whether any feature knows the future.",
    ),
    Kind(
        code="overfit",
        severity=_WARNING,
        founding=3,
        meaning="It is much better on the rows that it was trained on than on later ones. It has learned the past by heart.",
        sign="Against knowing nothing, the log loss is more than 0.02 better on training rows than on unseen ones,"
        " by three standard errors or more. The candles must still hold the training rows.",
        remedy="Use dropout, fewer epochs, a smaller network or more candles.",
    ),
    Kind(
        code="feature-drift",
        severity=_WARNING,
        meaning="The features have left what the network was trained on. It extrapolates, and nobody knows how.",
        sign="More than 5 % of the rows of a feature lie outside the range of the training rows. Where those are "
        "unknown, a mean has moved by more than 3 of the scaler's deviations, or standardized inputs do "
        "better.",
        remedy="Train it again on newer candles, or on features that do not know the level of the price (`relative-72`).",
    ),
    Kind(
        code="label-shift",
        severity=_WARNING,
        meaning="DOWN, NEUTRAL and UP come in other shares than in training. Its prior is out of date.",
        sign="The share of a class differs by more than 5 points from that of the training rows, out of chance.",
        remedy="Train it again on newer candles.",
    ),
    Kind(
        code="saturated-units",
        severity=_WARNING,
        meaning="Most units of a layer are on for every row, so that the layer only passes sums on. The network is close to "
        "a linear one.",
        sign="Half of the units of a layer or more are on for every one of 10,000 rows, and vary.",
        remedy="Normalize the inputs; use batch normalization.",
    ),
    Kind(
        code="no-calibration",
        severity=_WARNING,
        founding=2,
        meaning="The network has no temperature, so its confidence was never compared with what came true. Nothing keeps it "
        "honest.",
        sign="The file holds no temperature.",
        remedy="Fit one on a calibration block, and keep it in the checkpoint.",
    ),
    Kind(
        code="no-regularization",
        severity=_WARNING,
        founding=3,
        meaning="Nothing in it holds the weights back: no dropout, or no sign of any. Such a network learns noise by heart.",
        sign="The recipe says a dropout of 0; in a file without a recipe, there is no batch normalization either, "
        "and so no sign that anything held the weights back.",
        remedy="Train with dropout and label smoothing, as recipe v7 does.",
    ),
    Kind(
        code="no-batch-normalization",
        severity=_WARNING,
        founding=4,
        meaning="Nothing keeps the activations in scale between the layers. One extreme input grows from layer to layer.",
        sign="The network has hidden layers and no batch normalization.",
        remedy="Use batch normalization after each hidden layer, as recipe v7 does.",
    ),
    Kind(
        code="too-few-rows",
        severity=_WARNING,
        meaning="The rows carry too few independent outcomes to judge by. Whatever was measured may be luck.",
        sign="The labels of the rows overlap, and carry fewer than 1,000 independent outcomes.",
        remedy="Bring more candles.",
    ),
)

CAUSES: Mapping[str, Kind] = {kind.code: kind for kind in _KINDS}
"""Every cause by its code; where two explain the same, the one that stands first here is named first."""

FOUNDING_CAUSES: Mapping[int, str] = {
    1: "No feature normalization",
    2: "No output calibration",
    3: "No regularization",
    4: "Architecture: no normalization between layers",
}
"""The root causes of the founding document, by its numbers."""
