"""Everything crpbot raises on purpose.

    CrpbotError             the command line turns each into one line and exit code 2
    ├── CandleError         the market data breaks a rule of `Candles`, or cannot be read
    ├── RecipeError         a recipe has an unknown key or an impossible value
    ├── DatasetError        the rows cannot carry the question: too few, not finite, the wrong features
    ├── TrainingError       training met numbers that are not finite
    ├── CheckpointError     a checkpoint is damaged, incomplete, or made for other features
    └── RegistryError       a model was asked to make a move that its stage does not allow

A message has three parts: what must hold, what was found, and what to do about it.
"""


class CrpbotError(Exception):
    """The base of every error that is about the input or the call, not about a bug."""


class CandleError(CrpbotError):
    """The market data breaks a rule of `Candles`, or cannot be read."""


class RecipeError(CrpbotError):
    """A recipe has an unknown key or an impossible value."""


class DatasetError(CrpbotError):
    """The rows cannot carry the question: too few, not finite, or the wrong features."""


class TrainingError(CrpbotError):
    """Training met numbers that are not finite."""


class CheckpointError(CrpbotError):
    """A checkpoint is damaged, incomplete, or made for other features."""


class RegistryError(CrpbotError):
    """A model was asked to make a move that its stage does not allow."""
