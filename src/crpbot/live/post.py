"""One message to one address, through Apprise."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from crpbot.live.addresses import Address
from crpbot.live.redact import Redact

if TYPE_CHECKING:
    from apprise import Apprise, AppriseResult

CONNECT, ANSWER = 5.0, 10.0
"""Seconds that a server may take to connect, and for each piece of its answer; an address may ask for less (`cto`, `rto`)."""
LONGEST_REASON = 300
"""Characters of a reason."""


def deliver(address: Address, title: str, body: str, redact: Redact) -> str:
    """Send one plain text; return "" when the service took it, else the reason why not, without a secret.

    It is tried once: when to try again is the notifier's business. A redirect is not followed, since it would carry the secrets
    elsewhere. A text that is too long for the service is sent in pieces.
    """
    try:
        result = _open(address).notify(title=title, body=body, body_format="text")
        if result:
            return ""
        reason = "; ".join(dict.fromkeys(_complaints(result))) or "refused without a reason"
    except Exception as error:  # noqa: BLE001  whatever 160 services and their libraries may raise is a failed delivery
        reason = f"{type(error).__name__}: {error}"
    return redact(" ".join(reason.split()))[:LONGEST_REASON]


def _open(address: Address) -> "Apprise":
    from apprise import Apprise, AppriseAsset, OverflowMode  # noqa: PLC0415  0.3 s that only those with an address pay

    asset = AppriseAsset(
        app_id="crpbot",
        app_desc="crpbot",
        app_url="",
        image_url_mask="",
        image_url_logo="",
        async_mode=False,  # in this thread, which the notifier can leave behind
        service_timeout=0,  # likewise: Apprise would hand it to a pool that the interpreter waits for at its end
        secure_logging=True,
    )
    service = Apprise.instantiate(address.url, asset=asset)
    if service is None:
        raise ValueError("Apprise does not take this address any more")
    service.retry = 0
    service.redirects = False
    service.socket_connect_timeout = min(service.socket_connect_timeout, CONNECT)
    service.socket_read_timeout = min(service.socket_read_timeout, ANSWER)
    if "overflow=" not in address.url:
        service.overflow_mode = OverflowMode.SPLIT
    post = Apprise(asset=asset)
    post.add(service)
    return post


def _complaints(result: "AppriseResult") -> Iterator[str]:
    for entry in result.logs():
        if entry.level in {"WARNING", "ERROR", "CRITICAL"}:
            yield entry.message.strip().rstrip(".")
