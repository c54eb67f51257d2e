"""Which models speak of which market, as the registry says at this moment."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from crpbot.errors import CrpbotError, RegistryError
from crpbot.live.desk import Model, Style, load_model
from crpbot.live.journal import Journal
from crpbot.registry.entries import Entry
from crpbot.registry.ledger import head_of
from crpbot.registry.registry import Registry
from crpbot.signals.rules import UNKNOWN, MarketRules

if TYPE_CHECKING:
    from crpbot.model.checkpoint import Checkpoint

FindRules: TypeAlias = Callable[[Sequence[str]], Mapping[str, MarketRules]]


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
        find_rules: asks for the rules of markets, and leaves out what it does not find; None where there are none to be had.

    """

    def __init__(
        self,
        registry: Registry,
        journal: Journal,
        symbols: Sequence[str],
        *,
        style: Style,
        find_rules: FindRules | None,
    ) -> None:
        self.registry, self.symbols = registry, tuple(symbols)
        self._journal, self._style, self._find_rules = journal, style, find_rules
        self._rules: dict[str, MarketRules] = {}
        self._loaded: dict[tuple[str, str], Checkpoint] = {}
        self._seen: tuple[int, int] | None = None
        self._unruled: frozenset[str] = frozenset()

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
        wanted = [one for one in self.registry.entries() if not self.symbols or one.symbol in self.symbols]
        self._learn_rules({entry.symbol for entry in wanted})
        for entry in wanted:
            try:
                models[entry.symbol] = (*models.get(entry.symbol, ()), self._model(entry, head))
            except CrpbotError as error:
                problems[entry.symbol] = str(error)
        return Roll(models=models, problems=problems)

    @property
    def unruled(self) -> frozenset[str]:
        """Markets whose rules could not be found: their orders are not rounded."""
        return self._unruled

    def _learn_rules(self, symbols: Collection[str]) -> None:
        missing = sorted(set(symbols) - self._rules.keys())
        if self._find_rules is not None and missing:
            self._rules |= self._find_rules(missing)
        self._unruled = frozenset() if self._find_rules is None else frozenset(set(symbols) - self._rules.keys())

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
