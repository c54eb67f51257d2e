"""What the dashboard was told when it was started."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from crpbot.errors import CrpbotError
from crpbot.live.metrics import LEAST, is_loopback, token_in
from crpbot.signals.ensemble import THRESHOLD

TOKEN, TOKEN_FILE = "CRPBOT_WEB_TOKEN", "CRPBOT_WEB_TOKEN_FILE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What the dashboard was told.

    Attributes:
        home: folder of the registry, the journal and the runtime.
        now: the time in milliseconds of UTC; of a demo, that of the recording.
        candles: where candles are, as a person types it; None for the bundled sample.
        until: open time before which a candle must be to be known yet, in milliseconds of UTC; None where all are known.
        journal: address of the journal; None for the file in the home folder.
        runs: folders below which models are trained.
        host, port: to listen on.
        token: that lets somebody in; None where nobody can change anything.
        threshold: the least confidence of a signal, as the runtime was told.
        words: of a banner on each page; empty for none.

    """

    home: Path
    now: Callable[[], int]
    candles: str | None = None
    until: Callable[[], int] | None = None
    journal: str | None = None
    runs: tuple[Path, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)
    threshold: float = THRESHOLD
    words: str = ""

    @property
    def open(self) -> bool:
        """Whether whoever reaches it may read without the token: only this machine does."""
        return is_loopback(self.host)


def read_token(host: str, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the token of the dashboard; None where there is none and only this machine can read.

    Raises:
        CrpbotError: others could reach it and there is none, or it is too short to be safe, or its file cannot be read.

    """
    token = token_in(environ, TOKEN, TOKEN_FILE).strip()
    if not token and is_loopback(host):
        return None
    if len(token) < LEAST:
        raise CrpbotError(
            f"a dashboard {'with a login' if token else 'that others can reach'} needs a token of at least {LEAST} characters, "
            f"found {'a shorter one' if token else 'none'}; set {TOKEN} or {TOKEN_FILE}"
            f"{'' if token else ', or listen on 127.0.0.1'}"
        )
    return token
