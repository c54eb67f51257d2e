"""A real PostgreSQL that the tests start themselves, in a folder of its own, and stop."""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

USER = "crpbot"


def binaries() -> Path | None:
    """Return the folder of the newest server that is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@dataclass(frozen=True)
class Server:
    """A server that runs; its password has a letter that has to be written as %40 in a URL."""

    port: int
    password: str
    folder: Path

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, password=self.password, dbname=database, autocommit=True
        )

    def new(self) -> str:
        """Make a database and return its name."""
        name = f"journal_{secrets.token_hex(6)}"
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return name

    def url(self, database: str) -> str:
        return f"postgresql://{USER}:{self.password.replace('@', '%40')}@127.0.0.1:{self.port}/{database}"


@contextmanager
def server(where: Path) -> Iterator[Server]:
    """Start a server on a free port. Its programs refuse to run as root: then they are the user's that Debian made for them."""
    as_user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="crpbot-pg-"))
    if as_user:
        shutil.chown(folder, "postgres", "postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    password = f"se@cret-{secrets.token_hex(8)}"
    words, data, log = folder / "password", folder / "data", folder / "log"
    words.write_text(password)
    words.chmod(0o644)  # inside a folder that nobody else may enter

    def run(name: str, *options: object) -> None:
        with (folder / "output").open("w+") as output:
            words = [where / name, *map(str, options)]
            done = subprocess.run(words, check=False, cwd=folder, stdout=output, stderr=output, timeout=60, **as_user)
            output.seek(0)
            assert done.returncode == 0, output.read()

    try:
        run("initdb", "-D", data, "-U", USER, f"--pwfile={words}", "-A", "scram-sha-256", "-E", "UTF8", "--no-sync")
        run("pg_ctl", "-D", data, "-l", log, "-w", "-o", f"-p {port} -h 127.0.0.1 -k {folder} -c fsync=off", "start")
        try:
            yield Server(port, password, folder)
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder)
