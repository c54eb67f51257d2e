"""What `crpbot serve` starts: one process that listens, on a home folder or on the demo."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from crpbot.errors import CrpbotError
from crpbot.web.place import sweep
from crpbot.web.setting import Setting, read_token

if TYPE_CHECKING:
    from crpbot.web.house import House


def serve(setting: Setting, *, told: Callable[[str], object] = lambda _: None) -> None:
    """Listen until the process is asked to stop (Ctrl-C, SIGTERM).

    Args:
        setting: what to show, and where to listen.
        told: is told where it listens, once it does.

    Raises:
        CrpbotError: the port is taken, or the address is not of this machine.

    """
    import uvicorn  # noqa: PLC0415  an extra

    from crpbot.web.app import make_app  # noqa: PLC0415  likewise
    from crpbot.web.connection import Connection  # noqa: PLC0415  likewise
    from crpbot.web.security import MOST_HEAD  # noqa: PLC0415  likewise

    sweep()

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                told(f"http://{_shown(setting.host)}:{listener.getsockname()[1]}")
                warming.start()

    family = socket.AF_INET6 if ":" in setting.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        if sys.platform != "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((setting.host, setting.port))
        except (OSError, OverflowError) as error:
            raise CrpbotError(
                f"the dashboard must be able to listen on {setting.host}:{setting.port}, found: {error}; choose another --port"
            ) from None
        app, ended = make_app(setting), threading.Event()
        warming = threading.Thread(target=_warm, args=(app.state.house, ended), daemon=True)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,  # an address that a stranger may choose is none
            timeout_graceful_shutdown=2,  # pages that listen for news never end by themselves
            http=Connection,
            ws="none",
            h11_max_incomplete_event_size=MOST_HEAD,
            limit_concurrency=1_000,
        )
        try:
            Server(config).run(sockets=[listener])
        finally:
            ended.set()
            if warming.is_alive():
                warming.join()  # an interpreter that ends while Polars is at work is aborted


@contextmanager
def in_order() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the block as an error would, so that nothing is left behind, and end the program after it.

    What waits for the end may take seconds, and is not cut short by a second one.
    """
    if threading.current_thread() is not threading.main_thread():  # signals go to the main one
        yield
        return
    ours = (signal.SIGINT, signal.SIGTERM)

    def end(*_: object) -> None:
        for one in ours:
            signal.signal(one, signal.SIG_IGN)
        raise SystemExit(0)

    before = {one: signal.signal(one, end) for one in ours}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _warm(house: "House", ended: threading.Event) -> None:
    """Do once, while nobody looks yet, what takes long."""
    from crpbot.web import data  # noqa: PLC0415  an extra

    with suppress(CrpbotError, OSError):
        data.warm(house, ended)


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@contextmanager
def demo_setting(*, host: str, port: int, speed: float = 60.0, environ: Mapping[str, str] = os.environ) -> Iterator[Setting]:
    """Give the setting of the demo: bundled data, a replayed market, and a home folder that is gone afterwards."""
    from crpbot.web.demo import demo  # noqa: PLC0415  only for those who want it
    from crpbot.web.practice import RUNS, practice  # noqa: PLC0415  likewise

    token = read_token(host, environ)
    with demo(speed) as found, practice(found.home) as training:
        yield Setting(
            home=found.home,
            now=found.now,
            candles=None,
            until=found.now,
            journal=found.journal,
            runs=(found.home / RUNS,),
            host=host,
            port=port,
            token=token,
            threshold=found.threshold,
            words=f"{found.words} {training}",
        )


def home_setting(
    home: Path,
    *,
    now: Callable[[], int],
    candles: str | None,
    journal: str | None,
    runs: tuple[Path, ...],
    threshold: float,
    host: str,
    port: int,
    environ: Mapping[str, str] = os.environ,
) -> Setting:
    """Return the setting of a home folder: its candles are those that are named, else its own lake, else the bundled sample."""
    lake = home / "lake"
    if candles is None and lake.is_dir():
        candles = str(lake)
    return Setting(
        home=home,
        now=now,
        candles=candles,
        journal=journal,
        runs=runs,
        threshold=threshold,
        host=host,
        port=port,
        token=read_token(host, environ),
    )
