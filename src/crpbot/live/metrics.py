"""The metrics over HTTP: on this machine only, or to those who have the token."""

import hmac
import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from socketserver import ThreadingMixIn
from threading import Thread
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from crpbot.errors import CrpbotError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

TOKEN, TOKEN_FILE = "CRPBOT_METRICS_TOKEN", "CRPBOT_METRICS_TOKEN_FILE"
LEAST = 16
"""Characters of a token: fewer could be guessed."""


def read_token(host: str, environ: Mapping[str, str]) -> str | None:
    """Return the token that a listener on `host` asks for; None on a loopback address, which only this machine reaches.

    Raises:
        CrpbotError: others could reach it, and there is no token, or too short a one.

    """
    if is_loopback(host):
        return None
    token = token_in(environ, TOKEN, TOKEN_FILE)
    if len(token) < LEAST:
        raise CrpbotError(
            f"metrics that others can reach need a token of at least {LEAST} characters, found "
            f"{'a shorter one' if token else 'none'}; set {TOKEN} or {TOKEN_FILE}, or listen on 127.0.0.1"
        )
    return token


def token_in(environ: Mapping[str, str], token: str, token_file: str) -> str:
    """Return the token that the environment holds, or a file that it names; empty where there is neither.

    Args:
        environ: of this process.
        token: name of the variable that holds it.
        token_file: name of the one that names a file.

    Raises:
        CrpbotError: the file cannot be read.

    """
    file = environ.get(token_file)
    try:
        return Path(file).read_text(encoding="utf-8").strip() if file else environ.get(token, "")
    except (OSError, UnicodeDecodeError) as error:
        raise CrpbotError(f"{token_file} must name a file with the token, found {type(error).__name__}; check the path") from None


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "10.0.0.5", "example.com")]
    [True, True, True, False, False, False]
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def serving(registry: "CollectorRegistry", *, host: str, port: int, token: str | None) -> Iterator[int]:
    """Serve the metrics in a thread until the block ends, and give the port; port 0 is any that is free.

    Raises:
        OSError: the port is taken, or the address is not of this machine.

    """
    from prometheus_client import make_wsgi_app  # noqa: PLC0415  an extra

    application = make_wsgi_app(registry)

    def guarded(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        said = environ.get("HTTP_AUTHORIZATION", "")
        if token is not None and not hmac.compare_digest(said.encode(), f"Bearer {token}".encode()):
            start("401 Unauthorized", [("WWW-Authenticate", "Bearer"), ("Content-Type", "text/plain")])
            return [b"the token is missing or wrong\n"]
        answer: Iterable[bytes] = application(environ, start)
        return answer

    with make_server(host, port, guarded, server_class=_Server, handler_class=_Quiet) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, name="metrics", daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    timeout = 10

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: a scrape every few seconds is no news."""
