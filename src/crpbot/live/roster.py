"""Which models speak of which market, as the registry says at this moment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crpbot.errors import CrpbotError, RegistryError
from crpbot.live.desk import Model, Style, load_model
from crpbot.live.journal import Journal
from crpbot.registry.ledger import head_of
from crpbot.registry.registry import Entry, Registry
from crpbot.signals.rules import UNKNOWN, MarketRules

if TYPE_CHECKING:
    from crpbot.model.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Roll:
    """What was read of the registry.

    Attributes:
        models: that speak, by symbol.
        problems: why others do not, by symbol.

    """

    models: Mapping[str, tuple[Model, ...]]
    problems: Mapping[str, str]


class Roster:
    """Reads the registry whenever its ledger has changed.

    Args:
        registry: to read.
        journal: whose signals were said under heads of that ledger.
        symbols: that are wanted; none is every one with a model.
        style: how signals are made.
        rules: of the markets, where they are known.

    """

    def __init__(
        self,
        registry: Registry,
        journal: Journal,
        symbols: Sequence[str],
        *,
        style: Style,
        rules: Mapping[str, MarketRules],
    ) -> None:
        self.registry = registry
        self._journal, self._symbols, self._style, self._rules = journal, tuple(symbols), style, rules
        self._loaded: dict[tuple[str, str], Checkpoint] = {}
        self._seen: tuple[int, int] | None = None

    def changed(self) -> bool:
        """Return whether the ledger is another one than when `read` was called last."""
        return self._stamp() != self._seen

    def forget(self) -> None:
        """Read everything again next time, also what has not changed: files may have been altered."""
        self._seen = None

    def read(self) -> Roll:
        """Return who speaks now, after proof of everything that is kept of them.

        Raises:
            RegistryError: the ledger was altered or rewritten: nobody may speak.

        """
        self._seen = self._stamp()
        lines = self.registry.lines()
        strangers = self._journal.heads() - {line.sha256_of_line for line in lines} - {""}
        if strangers:
            raise RegistryError(
                f"the ledger {self.registry.path} must hold every head that a signal was said under, found {len(strangers)} that "
                "it does not: it was rewritten or cut, or this journal is of another registry; restore it from a backup"
            )
        head, models, problems = head_of(lines), dict[str, tuple[Model, ...]](), dict[str, str]()
        for entry in self.registry.entries():
            if self._symbols and entry.symbol not in self._symbols:
                continue
            try:
                models[entry.symbol] = (*models.get(entry.symbol, ()), self._model(entry, head))
            except CrpbotError as error:
                problems[entry.symbol] = str(error)
        return Roll(models=models, problems=problems)

    def _model(self, entry: Entry, head: str) -> Model:
        known = (entry.sha256, entry.stage)
        if known in self._loaded:
            self.registry.deployed(entry)  # the proof; it need not be read again
        else:
            self._loaded[known] = self.registry.speaker(entry)
        rules = self._rules.get(entry.symbol, UNKNOWN)
        return load_model(self._loaded[known], entry, head=head, style=self._style, rules=rules)

    def _stamp(self) -> tuple[int, int] | None:
        try:
            stat = self.registry.path.stat()
        except OSError:
            return (0, 0)
        return stat.st_mtime_ns, stat.st_size
