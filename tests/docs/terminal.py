"""The folder of a page, and what runs there: commands, and Python in one namespace."""

import os
import shlex
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from docs.blocks import Block, Line, lines_of
from shell import crpbot

SHORT = Path(__file__).with_name("short.py")
WHOLE = bool(os.environ.get("CRPBOT_WHOLE_DOCS"))
VERDICTS = {"audit", "diagnose", "promote", "repair"}
"""Commands whose exit code may be another one on a few rows: 0 and 1 are both an answer there."""


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
    whole: bool = WHOLE
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
        begun = time.monotonic()
        if words[0] == "crpbot" and not {"|", "&&", ">", ";"} & set(words):
            interpreter = {} if self.whole else {"interpreter": SHORT}
            done = crpbot(*words[1:], cwd=self.folder, **interpreter)
        else:
            done = subprocess.run(["bash", "-c", line.command], cwd=self.folder, capture_output=True, text=True, check=False)
        print(f"{time.monotonic() - begun:5.1f} s  {line.command}")
        said = [one for one in done.stderr.splitlines() if one.startswith("error: ")]
        self.printed.append((done.stdout if done.stdout.strip() else "") + "".join(f"{one}\n" for one in said))
        allowed = {0, 1} if not self.whole and len(words) > 1 and words[1] in VERDICTS and line.exit_code < 2 else {line.exit_code}
        assert done.returncode in allowed, f"{line.command}\n{done.stdout}\n{done.stderr}"
