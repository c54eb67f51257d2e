"""Everything crpbot raises on purpose.

    CrpbotError             the command line turns each into one line and exit code 2
    ├── CandleError         the market data breaks a rule of `Candles`, or cannot be read
    ├── ExchangeError       a venue cannot be reached, refuses, or sends what cannot be
    ├── RecipeError         a recipe has an unknown key or an impossible value
    ├── DatasetError        the rows cannot carry the question: too few, not finite, the wrong features
    ├── TrainingError       training met numbers that are not finite
    ├── CheckpointError     a checkpoint is damaged, incomplete, or made for other features
    ├── PlanError           no order can be made of a prediction: the market's rules, the money or the models do not allow it
    ├── RegistryError       a model was asked to make a move that its stage does not allow
    ├── JournalError        the journal cannot be opened, read or written, or is not ours
    ├── NotifyError         an address for messages to people is wrong, or cannot be read
    └── CloudError          a cloud plan cannot be paid or sent, or what came back from AWS cannot be believed
        └── AwsError        AWS refused, or did not answer

A message has three parts: what must hold, what was found, and what to do about it.
"""

LONGEST = 600
"""Characters of a message; what a file holds may be quoted, but not at any length."""


def printable(text: str) -> str:
    """Return text in one line without anything that a terminal would obey: what is quoted may come from a stranger.

    >>> printable("one" + chr(10) + "two " + chr(27) + "[31m")
    'one two ?[31m'
    """
    return "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text)


def is_utf8(text: str) -> bool:
    """Return whether a text can be written; bytes that are no UTF-8 come out of an environment as halves of characters.

    >>> is_utf8("Zürich"), is_utf8(chr(0xDC80))
    (True, False)
    """
    return text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text)


class CrpbotError(Exception):
    """The base of every error that is about the input or the call, not about a bug. Its message is one printable line."""

    def __init__(self, message: str) -> None:
        line = printable(message[: 10 * LONGEST])
        super().__init__(line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}")


class CandleError(CrpbotError):
    """The market data breaks a rule of `Candles`, or cannot be read."""


class ExchangeError(CrpbotError):
    """A venue cannot be reached, refuses, or sends what cannot be."""


class RecipeError(CrpbotError):
    """A recipe has an unknown key or an impossible value."""


class DatasetError(CrpbotError):
    """The rows cannot carry the question: too few, not finite, or the wrong features."""


class TrainingError(CrpbotError):
    """Training met numbers that are not finite."""


class CheckpointError(CrpbotError):
    """A checkpoint is damaged, incomplete, or made for other features."""


class PlanError(CrpbotError):
    """No order can be made of a prediction: the market's rules, the money or the models do not allow it."""


class RegistryError(CrpbotError):
    """A model was asked to make a move that its stage does not allow."""


class JournalError(CrpbotError):
    """The journal cannot be opened, read or written, or is not ours."""


class NotifyError(CrpbotError):
    """An address for messages to people is wrong, or cannot be read. Never quotes the address."""


class CloudError(CrpbotError):
    """A plan cannot be paid or sent, or what came back from AWS cannot be believed."""


class AwsError(CloudError):
    """AWS refused, or did not answer; `code` is its own word for why, or "" where it did not answer."""

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(message)
        self.code = code
