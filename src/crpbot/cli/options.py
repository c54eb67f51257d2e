"""Arguments that several commands share."""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crpbot.errors import CrpbotError

if TYPE_CHECKING:
    from crpbot.quality.gates import GateTable
    from crpbot.signals.plan import Preset

CandlesOption = Annotated[
    str | None,
    typer.Option(
        "--candles",
        metavar="PATH|synthetic:NAME[:ROWS]",
        help="A Parquet or CSV file, a folder of them, or a known-answer market. Default: the bundled real sample.",
    ),
]
RecipeOption = Annotated[
    str,
    typer.Option(
        "--recipe",
        metavar="NAME|FILE",
        help="v6, v6-lost-scaler, v7, v7-barrier, v7-lost-scaler, v7-relative, v8, or a TOML file.",
    ),
]
LAST_SEED = 2**31 - 1
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=LAST_SEED, help="Of the training, and of a known-answer market.")]
WorkersOption = Annotated[
    int,
    typer.Option("--workers", min=0, max=60, help="Models side by side. Default: as many as processors and memory allow."),
]
SymbolOption = Annotated[str | None, typer.Option("--symbol", help="Whose candles; default: the checkpoint's own symbol.")]
LabelOption = Annotated[str, typer.Option("--label", metavar="RECIPE", help="By whose label a foreign checkpoint is judged.")]
ScalerOption = Annotated[
    Path | None,
    typer.Option(
        "--scaler",
        metavar="FILE",
        help="Mean and scale for a checkpoint that lacks them: JSON, npz, .pt, or a StandardScaler .pkl.",
    ),
]
InputsOption = Annotated[
    str | None,
    typer.Option("--features", metavar="A,B,C", help="Inputs of a foreign checkpoint that does not name them, in its order."),
]
GatesOption = Annotated[str, typer.Option("--gates", metavar="market|seed", help="Which table of gates decides.")]
PresetOption = Annotated[
    str,
    typer.Option("--preset", metavar="atr|seed", help="Distances in average true ranges, or the founding 2 %, 1.5 % and 1:1.8."),
]
TickOption = Annotated[float | None, typer.Option("--tick", metavar="0.01", help="Step of the market's prices.")]
LotOption = Annotated[float | None, typer.Option("--lot", metavar="0.0001", help="Step of its sizes.")]
MinNotionalOption = Annotated[float | None, typer.Option("--min-notional", metavar="10", help="Its least order, in money.")]
HomeOption = Annotated[
    Path | None,
    typer.Option("--home", envvar="CRPBOT_HOME", help="Where the registry lives. Default: the user's data folder."),
]


def gate_table(name: str) -> "GateTable":
    """Return the name of a table of gates, checked."""
    from crpbot.quality.gates import GATES

    for table in GATES:
        if name == table:
            return table
    raise CrpbotError(f"--gates must be one of {', '.join(GATES)}, found {name!r}; choose one")


def preset_named(name: str) -> "Preset":
    """Return a preset by its name, checked."""
    from crpbot.signals.plan import PRESETS

    if name not in PRESETS:
        raise CrpbotError(f"--preset must be one of {', '.join(PRESETS)}, found {name!r}; choose one")
    return PRESETS[name]


def home_folder(home: Path | None) -> Path:
    """Return the folder of registry and journal."""
    if home is not None:
        return home
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "crpbot"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "crpbot"
    return Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share")) / "crpbot"


def now() -> int:
    """Return the time in milliseconds of UTC."""
    return int(datetime.now(UTC).timestamp() * 1000)


def names(text: str | None) -> tuple[str, ...]:
    """Split `A,B` into its names."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip())) if text else ()


def hand_out(text: str, file: Path | None) -> bool:
    """Write a result to a file, or print it for `-`; say whether it was printed, so that nothing else may be."""
    from crpbot.disk import write_whole

    if file == Path("-"):
        typer.echo(text, nl=False)
        return True
    if file is not None:
        write_whole(file, text)
    return False
