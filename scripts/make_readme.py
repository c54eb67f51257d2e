"""Run what the README shows and write the real output into it: `python scripts/make_readme.py`, about 17 minutes on two cores.

Names of blocks (`run`, `lost`, `drift`, `bench`, `training`, `live`) make only these. The last four are what `make bench` has
measured, as docs/benchmarks/results.json keeps it; nothing is measured here.
"""

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.page import plain_text

README = Path(__file__).parents[1] / "README.md"
SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD")


def crpbot(*words: str, refused: bool = False) -> str:
    """Return what a command prints; it may answer with an honest no where `refused`."""
    return python("-m", "crpbot", *words, refused=refused)


def python(*words: str, refused: bool = False) -> str:
    """Return what this Python prints when it is called with `words`."""
    done = subprocess.run([sys.executable, *words], stdout=subprocess.PIPE, text=True, check=not refused)  # noqa: S603
    if done.returncode > 1:
        raise SystemExit(f"{' '.join(words)} ended with {done.returncode}")
    return done.stdout


def put(text: str, mark: str, content: str) -> str:
    """Replace what stands between two marks."""
    block = f"<!-- {mark} -->\n{content.strip()}\n<!-- /{mark} -->"
    return re.sub(f"<!-- {mark} -->.*?<!-- /{mark} -->", lambda _: block, text, flags=re.DOTALL)


def percent(value: float) -> str:
    """Write a fraction."""
    return f"{100 * value:.1f} %"


def table(columns: dict[str, dict[str, Any]]) -> str:
    """Return the honest table in Markdown."""
    m = {name: diagnosis["metrics"] for name, diagnosis in columns.items()}
    rows = {
        "accuracy": lambda x: percent(x["accuracy"]),
        "standard error of what is above the commonest class": lambda x: f"{100 * x['over_majority']['error']:.1f} points",
        "always the commonest class": lambda x: percent(x["majority_accuracy"]),
        "best one-feature rule": lambda x: percent(x["one_feature_accuracy"]),
        "calibration error": lambda x: percent(x["ece"]),
        "logits": lambda x: f"{x['logit_min']:,.1f} to {x['logit_max']:,.1f}",
        "confidence over 99 %": lambda x: percent(x["confidence_over_99"]),
        "confidence from 60 %": lambda x: percent(x["confidence_over_60"]),
        "confidence 50–90 %": lambda x: percent(x["confidence_50_90"]),
        "commonest prediction": lambda x: percent(max(x["predicted_share"].values())),
    }
    lines = ["| | " + " | ".join(columns) + " |", "| --- " * (len(columns) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(cell(x) for x in m.values()) + " |" for name, cell in rows.items()]
    causes = (", ".join(cause["code"] for cause in d["causes"][:1]) or "none" for d in columns.values())
    lines.append("| first cause | " + " | ".join(causes) + " |")
    verdicts = (f"{'passes' if d['passed'] else 'refused'} ({d['gate_table']} gates)" for d in columns.values())
    lines.append("| verdict | " + " | ".join(verdicts) + " |")
    return "\n".join(lines)


def benchmark(name: str) -> str:
    """Return what was measured of a group of benchmarks, as a block."""
    return block(plain_text(json.loads((README.parent / "docs" / "benchmarks" / "results.json").read_text()), [name]))


def block(printed: str) -> str:
    """Return a block of output in Markdown."""
    return f"```text\n{printed.strip()}\n```"


def main() -> None:
    """Make the blocks that are asked for and rewrite the README."""
    makers = {
        "run": make_run,
        "lost": make_lost,
        "drift": lambda: {"drift": benchmark("drift")},
        "bench": lambda: {"bench": benchmark("features")},
        "training": lambda: {"training": benchmark("training")},
        "live": lambda: {"live": benchmark("live")},
    }
    for name in sys.argv[1:] or makers:
        for mark, content in makers[name]().items():
            README.write_text(put(README.read_text(), mark, content))


def make_run() -> dict[str, str]:
    """Run the three jobs and return what they printed, and the table of what they measured."""
    with TemporaryDirectory() as folder:
        crpbot("run", "--recipe", "v7-lost-scaler", "--symbols", "BTC-USD", "--out", f"{folder}/lost")
        crpbot("run", "--candles", "synthetic:level-noise", "--gates", "seed", "--symbols", "BTC-USD", "--out", f"{folder}/noise")
        printed = crpbot("run", "--out", f"{folder}/real").replace(f"{folder}/real", "runs/latest")

        def diagnosis(run: str, symbol: str) -> dict[str, Any]:
            return json.loads((Path(folder) / run / symbol / "diagnosis.json").read_text())

        columns = {f"{symbol}, v7": diagnosis("real", symbol) for symbol in SYMBOLS}
        audit = crpbot("audit", f"{folder}/real/BTC-USD", "--claim", "0.70", refused=True)
        columns["BTC-USD, scaler lost"] = diagnosis("lost", "BTC-USD")
        columns["level-noise, v7"] = diagnosis("noise", "BTC-USD")
    return {"run": block(wrapped(printed)), "table": table(columns), "audit": block(wrapped(audit))}


def make_lost() -> dict[str, str]:
    """Lose a scaler, diagnose, repair, diagnose again; return what was printed, without the table."""
    with TemporaryDirectory() as folder:
        crpbot("train", "--recipe", "v7-lost-scaler", "--symbol", "BTC-USD", "--out", f"{folder}/lost")
        shown = []
        for words in (
            ("diagnose", "runs/lost/BTC-USD"),
            ("repair", "runs/lost/BTC-USD", "-o", "runs/repaired.pt"),
            ("diagnose", "runs/repaired.pt"),
        ):
            real = [word.replace("runs/", f"{folder}/") for word in words]
            printed = crpbot(*real, refused=True).replace(f"{folder}/", "runs/")
            after = printed.rpartition("┘\n")[2]
            shown.append(f"$ crpbot {' '.join(words)}\n{wrapped(after)}")
    return {"lost": block("\n\n".join(shown))}


def wrapped(printed: str) -> str:
    """Return output with its long lines folded."""
    lines = (textwrap.fill(line, 110, subsequent_indent="    ", drop_whitespace=True) for line in printed.splitlines())
    return "\n".join(lines)


if __name__ == "__main__":
    main()
