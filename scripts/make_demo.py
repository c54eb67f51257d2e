"""Make the home that `crpbot serve --demo` shows, from the bundled sample: `nice python scripts/make_demo.py [MODELS_FOLDER]`.

Everything comes about as it would in earnest: models are trained, judged again and promoted or refused by the gates, and a week
is replayed into a journal, without a clock: the candles say what time it is. Whatever the gates say is shown. Models that are in
MODELS_FOLDER already are not trained again; a change of a report or of a journal needs no new ones.
"""

import os
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from crpbot import factory, upkeep
from crpbot.disk import whole_file
from crpbot.live.journal import open_journal
from crpbot.live.service import Watch
from crpbot.making.jobs import Job, grid, run_here
from crpbot.market.candles import MINUTE, Candles, utc
from crpbot.market.sample import read_sample
from crpbot.model.folder import checkpoint_name
from crpbot.model.loading import open_model
from crpbot.model.recipe import load_recipe
from crpbot.registry.registry import Registry
from crpbot.web import demo, played

EARLIER = played.CUT - 14 * played.DAY
"""When the first model of BTC-USD was made: it has not expired when the demo is over, so that a rollback may go back to it."""
WHO = "the demo"
"""Decides, for the ledger: the user of the machine that makes the file is nobody's business."""


@dataclass(frozen=True)
class Made:
    """One model of the demo: the market, the recipe and its seed, and when it was made, in milliseconds of UTC."""

    symbol: str
    recipe: str
    seed: int
    at: int

    @property
    def name(self) -> str:
        """Its folder."""
        return f"{self.recipe}-{self.seed}-{utc(self.at)[:10]}"


MODELS = (
    Made("BTC-USD", "v7", 0, EARLIER),
    Made("ETH-USD", "v7", 0, played.CUT),
    Made("SOL-USD", "v7", 0, played.CUT),
    Made("BTC-USD", "v7-lost-scaler", 0, played.CUT),
    Made("BTC-USD", "v8", 0, played.CUT),
)
"""In the order in which they are promoted or refused; the registry says who is."""


def known(made: Made) -> Candles:
    """Return the candles that were there when a model was made."""
    candles = read_sample(made.symbol)
    return candles[: int(candles.time.searchsorted(made.at))]


def job(made: Made, folder: Path) -> Job:
    """Return the training of a model."""
    recipe = load_recipe(made.recipe)
    return grid((made.symbol,), recipe, source="sample", gates="market", out=folder / made.name, seed=made.seed)[0]


def train(folder: Path) -> None:
    """Train what is not there yet: two side by side, each with the candles that it may know."""
    for at in (EARLIER, played.CUT):
        missing = [one for one in MODELS if one.at == at and not job(one, folder).folder.exists()]
        markets = {one.symbol: known(one) for one in missing}
        run_here(
            [job(one, folder) for one in missing],
            markets,
            workers=2,
            done=lambda done, _: print(f"{utc(at)} trained {done.folder.relative_to(folder)}"),  # noqa: B023  called before the next
        )


def promote(folder: Path, registry: Registry) -> None:
    """Ask for each model, on the candles of its day, whether it may speak."""
    for made in MODELS:
        todo, candles = job(made, folder), known(made)
        file = todo.folder / checkpoint_name(made.symbol, made.recipe)
        judgement = factory.diagnose(file, candles, source="sample", label_recipe=todo.recipe, called=f"{made.name}/{file.name}")
        found = upkeep.promote(open_model(file), judgement, candles, registry, now=made.at)
        print(f"{utc(made.at)} {made.symbol} {made.name}: {found.decision.stage or 'candidate'}, {found.decision.reason}")


def play(home: Path) -> None:
    """Replay the week before the demo begins into its journal; it has stopped when the demo starts."""
    played.play(home, start=played.CUT, until=played.START - 2 * MINUTE, speed=0, watch=Watch())
    journal = open_journal(home / played.JOURNAL)
    for symbol in played.SYMBOLS:
        said = journal.signals(symbol, limit=100_000)
        days = Counter(utc(one.candle)[5:10] for one in said)
        settled = sum(one.outcome is not None for one in said)
        print(f"{symbol}: {len(said)} signals from {played.THRESHOLD:.0%} on, {settled} settled; {dict(sorted(days.items()))}")
    journal.close()


def pack(home: Path, target: Path) -> None:
    """Write the home into one file, which says nothing of when and by whom it was made."""
    with whole_file(target) as partial, ZipFile(partial, "w") as archive:
        for file in sorted(home.rglob("*")):
            if file.is_file():
                archive.writestr(ZipInfo(file.relative_to(home).as_posix()), file.read_bytes(), ZIP_DEFLATED, 9)
    print(f"written: {target}, {target.stat().st_size / 1e6:.2f} MB")


def main() -> None:
    """Make it."""
    began = monotonic()
    os.environ["LOGNAME"] = WHO
    with TemporaryDirectory() as name:
        home = Path(name) / "home"
        models = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else Path(name) / "models"
        train(models)
        promote(models, Registry(home / "registry"))
        play(home)
        pack(home, Path(demo.__file__).parent / demo.ARCHIVE)
    print(f"{(monotonic() - began) / MINUTE * 1_000:.1f} minutes")


if __name__ == "__main__":
    main()
