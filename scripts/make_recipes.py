"""Run the races that docs/recipes.md shows and write what came out into it and into the README.

`python scripts/make_recipes.py CANDLES` takes a folder with two years of BTC-USD and ETH-USD, and with SOL-USD: 40 minutes on two
two cores. A race that was cut off goes on when the same command is given again; one that is over is only read.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from make_readme import put

from crpbot.making.variants import VARIANTS

ROOT = Path(__file__).parents[1]
README, PAGE = ROOT / "README.md", ROOT / "docs" / "recipes.md"
FOLDS = "2"
TRIED = "6"
"""v7, v7-relative and v7-barrier were judged on the test blocks of BTC-USD, ETH-USD and partly SOL-USD before: docs/log.md."""
PLANTED = "synthetic:planted-edge-joint:1051200"
PLANTED_CONTENDERS = "majority,prior,one-feature,logistic,boosting,v7,v8"


def main() -> None:
    """Run both races, and write both pages."""
    if len(sys.argv) != 2:
        raise SystemExit(f"{sys.argv[0]} needs one argument, the folder of the candles, found {len(sys.argv) - 1}")
    real = race("real", "--candles", sys.argv[1], "--folds", FOLDS, "--tried", TRIED)
    words = ("--candles", PLANTED, "--symbols", "BTC-USD", "--contenders", PLANTED_CONTENDERS, "--folds", "1")
    race("planted", *words)
    page = PAGE.read_text()
    for mark, content in {
        "ladder": ladder(),
        "real": tables("real"),
        "against": against(real),
        "data": data(real),
        "planted": tables("planted"),
        "choice": choice(real),
    }.items():
        page = put(page, mark, content)
    PAGE.write_text(page)
    README.write_text(put(README.read_text(), "race", "\n\n".join([compact(real), against(real), *bullets(real), digests(real)])))


def race(name: str, *words: str) -> dict[str, Any]:
    """Run a race, or read it; return the leaderboard."""
    out = ROOT / "runs" / "race" / name
    subprocess.run([sys.executable, "-m", "crpbot", "leaderboard", *words, "--out", str(out)], check=True)  # noqa: S603
    plain: dict[str, Any] = json.loads((out / "leaderboard.json").read_text())
    return plain


def tables(name: str) -> str:
    """Return what the race itself has written."""
    return (ROOT / "runs" / "race" / name / "leaderboard.md").read_text()


def ladder() -> str:
    """Return the variants with their reasons."""
    lines = ["| variant | adds to | what | hoped for |", "| --- | --- | --- | --- |"]
    for one in VARIANTS:
        what = ", ".join(f"`{key} = {short(value)}`" for keys in one.changes.values() for key, value in keys.items())
        lines.append(f"| `v7-{one.name}` | `{f'v7-{one.after}' if one.after else 'v7'}` | {what} | {one.why} |")
    return "\n".join(lines)


def short(value: object) -> str:
    """Write a value of a recipe in a few letters."""
    return f"({len(value)} formulas)" if isinstance(value, Mapping) else json.dumps(value)


def tests(board: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the test block of each symbol."""
    yield from (block for block in board["blocks"] if block["test"])


def against(board: Mapping[str, Any]) -> str:
    """Return v8 against v7 and against one feature, paired."""
    lines = ["| market | v8 against | skill, thousandths of a nat | standard errors | accuracy, points | standard errors |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    lines += [_row(block, other) for block in tests(board) for other in ("v7", "one-feature")]
    return "\n".join(lines)


def _row(block: Mapping[str, Any], other: str) -> str:
    pair = block["pairs"][other]["v8"]
    cells = [f"{pm(pair[what], times)} | {errors(pair[what])}" for what, times in (("skill", 1000), ("accuracy", 100))]
    return f"| {block['symbol']} | {other} | {' | '.join(cells)} |"


def pm(mean: Mapping[str, float], times: float) -> str:
    """Write a mean with its standard error."""
    return f"{times * mean['value']:+.2f} ± {times * mean['error']:.2f}".replace("-", "−")


def errors(mean: Mapping[str, float]) -> str:
    """Write how many standard errors a mean is from 0."""
    return f"{mean['value'] / mean['error']:+.1f}".replace("-", "−") if mean["error"] else "0"


def choice(board: Mapping[str, Any]) -> str:
    """Return what the choice folds said of each recipe, and whom they picked."""
    entries = [one for one in board["choice"]["contenders"] if one["may_be_picked"] and one["skill"]]
    entries.sort(key=lambda one: -one["skill"]["value"])
    lines = ["| recipe | skill on the choice folds, thousandths of a nat |", "| --- | --- |"]
    picked = {board["choice"]["pick"]: " (picked)"}
    lines += [f"| `{one['contender']}`{picked.get(one['contender'], '')} | {pm(one['skill'], 1000)} |" for one in entries]
    return "\n".join(lines)


def data(board: Mapping[str, Any]) -> str:
    """Return what the race was run on."""
    lines = [
        f"- {symbol}: {one['rows']:,} candles, {one['from'][:10]} to {one['to'][:10]}, SHA-256 `{one['sha256'][:16]}…`"
        for symbol, one in board["data"]["symbols"].items()
    ]
    versions = ", ".join(f"{name} {version}" for name, version in board["versions"].items())
    seconds = sum(one.get("seconds") or 0 for block in board["blocks"] for one in block["contenders"].values())
    lines.append(f"- race `{board['race'][:16]}…`, {versions}")
    lines.append(f"- {seconds / 60:.0f} minutes of fitting in all, shared by two cores")
    return "\n".join(lines)


def compact(board: Mapping[str, Any]) -> str:
    """Return one table of all symbols."""
    blocks = list(tests(board))
    names = [one["name"] for one in board["contenders"]]

    def worth(name: str) -> float:
        found = [(block["moves"], block["contenders"][name].get("skill")) for block in blocks]
        return sum(moves * one["value"] for moves, one in found if one) if all(one for _, one in found) else -1e9

    head = [f"{block['symbol']}: skill" for block in blocks] + [f"{block['symbol']}: accuracy" for block in blocks]
    lines = ["| contender | " + " | ".join(head) + " |", "| --- " * (len(head) + 1) + "|"]
    lines += [_line(name, blocks, picked=name == board["choice"]["pick"]) for name in sorted(names, key=worth, reverse=True)]
    return "\n".join(lines)


def _line(name: str, blocks: Sequence[Mapping[str, Any]], *, picked: bool) -> str:
    found = [block["contenders"][name] for block in blocks]
    cells = [cell(one.get(what), times) for what, times in (("skill", 1000), ("over_majority", 100)) for one in found]
    return f"| {name}{' ←' if picked else ''} | {' | '.join(cells)} |"


def digests(board: Mapping[str, Any]) -> str:
    """Return which candles these were."""
    found = ", ".join(f"{symbol} `{one['sha256'][:12]}…`" for symbol, one in board["data"]["symbols"].items())
    return f"(SHA-256 of the candles: {found}; race `{board['race'][:12]}…`.)"


def cell(mean: Mapping[str, float] | None, times: float) -> str:
    """Write a mean, or nothing."""
    return pm(mean, times) if mean else ""


def bullets(board: Mapping[str, Any]) -> Sequence[str]:
    """Return what the leaderboard says."""
    return ["\n".join(f"- {one}" for one in board["sentences"])]


if __name__ == "__main__":
    main()
