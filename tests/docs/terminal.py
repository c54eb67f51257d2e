"""The folder of a page, and what runs there: commands, and Python in one namespace."""

import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from docs.blocks import Block, Line, lines_of
from shell import crpbot

SHORT = Path(__file__).with_name("short.py")
WHOLE = bool(os.environ.get("CRPBOT_WHOLE_DOCS"))
VERDICTS = {"audit", "diagnose", "promote", "repair", "signal"}
"""Commands that may say no to few rows where the page promises a yes to many. What is refused on many is refused on few."""


@dataclass
class Terminal:
    """A folder, a registry in it, and what the blocks of one page have defined.

    Attributes:
        folder: where the blocks run.
        whole: whether candles and trainings are those that a page names, and not shorter ones.
        names: the namespace of Python.
        printed: what each command has printed, with its error if it ended in one.

    """

    folder: Path
    whole: bool = False
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "page"})
    printed: list[str] = field(default_factory=list)

    def bring(self, pantry: Path, wanted: str) -> None:
        """Copy what a page says is given."""
        there = self.folder / wanted
        there.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (pantry / wanted).is_dir() else shutil.copy
        copy(pantry / wanted, there)

    def run(self, block: Block) -> None:
        """Run a block, or write it where it says.

        Raises:
            AssertionError: a command ended otherwise than the page says.

        """
        if block.language == "sh":
            for line in lines_of(block):
                self.type(line)
        elif block.language == "python":
            exec(compile(block.text, f"line {block.line}", "exec"), self.names)  # noqa: S102  our own pages
        elif block.title:
            (self.folder / block.title).write_text(block.text, encoding="utf-8")

    def type(self, line: Line) -> None:
        """Run one command."""
        words = shlex.split(line.command)
        if words[0] == "crpbot" and not {"|", "&&", ">", ";"} & set(words):
            interpreter = {} if self.whole else {"interpreter": SHORT}
            done = crpbot(*words[1:], cwd=self.folder, **interpreter)
        else:  # a shell's own, or several in one line
            done = subprocess.run(
                ["bash", "-o", "pipefail", "-c", line.command], cwd=self.folder, capture_output=True, text=True, check=False
            )
        said = [one for one in done.stderr.splitlines() if one.startswith("error: ")]
        self.printed.append((done.stdout if done.stdout.strip() else "") + "".join(f"{one}\n" for one in said))
        either = not self.whole and line.exit_code == 0 and words[0] == "crpbot" and words[1] in VERDICTS
        assert done.returncode in ({0, 1} if either else {line.exit_code}), f"{line.command}\n{done.stdout}\n{done.stderr}"
