"""No secret part of an address leaves the process, whatever fails and whoever writes about it."""

import base64
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from receiver import HOUR, Box, Hand, Receiver, at, drive, patch_hosts, receiver

from crpbot.errors import NotifyError
from crpbot.live.addresses import read_addresses
from crpbot.live.notify import Notifier
from crpbot.live.post import deliver
from crpbot.live.redact import MASK, guard_logs, redactor, secrets_of

pytestmark = pytest.mark.slow  # receivers on loopback, and Apprise

SECRETS = [
    *("ann-the-user", "pass/w@rd: 1", "tok3n-in-the-path", "k3y-in-the-query", "h3ader-value"),
    *("987654321", "TelegramToken_abcdefg-hijk", "-100777888999", "112233445566778899", "DiscordToken_klmnop-qrst"),
    "zz9",
]
BASIC = base64.b64encode(b"ann-the-user:pass/w@rd: 1").decode()


@pytest.fixture
def server() -> Iterator[Receiver]:
    with receiver() as box:
        yield box


@pytest.fixture
def written() -> Iterator[list[str]]:
    """Everything that is logged by anybody at any level, as a handler writes it."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    root, keep, loud = logging.getLogger(), Keep(level=1), [logging.getLogger(name) for name in ("", "apprise", "urllib3")]
    levels = [logger.level for logger in loud]
    root.addHandler(keep)
    for logger in loud:
        logger.setLevel(1)
    yield lines
    root.removeHandler(keep)
    for logger, level in zip(loud, levels, strict=True):
        logger.setLevel(level)


def addresses(port: int) -> str:
    user = f"{quote('ann-the-user', safe='')}:{quote('pass/w@rd: 1', safe='')}"
    query = "k=k3y-in-the-query&+X-Token=h3ader-value&cto=2&rto=2"
    return (
        f"json://{user}@127.0.0.1:{port}/tok3n-in-the-path/zz9?{query}\n"
        f"form://{user}@127.0.0.1:{port}/tok3n-in-the-path/zz9?{query}\n"
        "tgram://987654321:TelegramToken_abcdefg-hijk/-100777888999\n"
        "# a comment, then Discord\n\n"
        "discord://112233445566778899/DiscordToken_klmnop-qrst\n"
    )


def assert_clean(texts: Sequence[str]) -> None:
    text = "\n".join(texts)
    for secret in [*SECRETS, BASIC, *(quote(secret, safe="") for secret in SECRETS)]:
        assert secret.lower() not in text.lower(), [line for line in texts if secret.lower() in line.lower()]


@pytest.mark.slow
@pytest.mark.parametrize("fate", [503, 429, 401, "cut", "refused", "hang", "late", 200])
def test_whatever_fails_no_secret_is_written(
    server: Receiver,
    written: list[str],
    fate: int | str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    patch_hosts(server, monkeypatch)
    file = tmp_path / "notify.txt"
    file.write_text(addresses(server.port))
    file.chmod(0o600)
    clock, box = Hand(), Box()
    if fate == "refused":
        with receiver() as gone:
            file.write_text(addresses(gone.port))
            patch_hosts(gone, monkeypatch)
    else:
        server.always = fate
    found = read_addresses({"CRPBOT_NOTIFY_FILE": str(file)})
    assert [one.name for one in found] == [
        *("json (line 1 of notify.txt)", "form (line 2 of notify.txt)", "tgram (line 3 of notify.txt)"),
        "discord (line 6 of notify.txt)",
    ]
    if fate in {"hang", "late"}:
        notifier = Notifier(found, box, clock, patience=0.05)
        for step in range(3):
            notifier.tell(f"{step}", "LONG BTC-USD", "body", until=clock.now() + HOUR)
            notifier.work()
            for lane in notifier._lanes.values():
                if lane.flight:
                    lane.flight.done.wait(0.1)
            clock.sleep(300)
        notifier.work()
        server.release.set()
    else:
        notifier = Notifier(found, box, clock)
        notifier.tell("0", "LONG BTC-USD", "body", until=clock.now() + HOUR)
        for _ in range(3):
            drive(notifier)
            clock.sleep(300)
    notifier.stop()
    counters = notifier.counters()
    assert (counters.sent > 0) == (fate in {200, "late"}) or fate == "late"
    assert (counters.failed > 0) == (fate != 200)
    if fate != "refused":
        assert "tok3n-in-the-path" in "".join(path for path, _ in server.asked)  # it was there to be written
    said = capfd.readouterr()
    assert len(written) > 20, "apprise and urllib3 write a lot at this level"
    assert_clean(
        [*written, *box.errors, *box.messages, repr(box), repr(counters), repr(found), repr(notifier), said.out, said.err]
    )


@pytest.mark.parametrize(
    ("text", "where", "found"),
    [
        ("json://a\n\ndiscord://S3cretId_123", "line 3 of notify.txt", "schema `discord`"),
        ("S3cretId_123", "line 1 of notify.txt", "no schema"),
        ("S3cretId123://x", "line 1 of notify.txt", "no schema that it knows"),
        ("json://a json://S3cretId_123", "line 1 of notify.txt", "schema `json`"),
        ("tgram://S3cretId_123/", "line 1 of notify.txt", "schema `tgram`"),
    ],
)
def test_a_bad_address_is_an_error_that_says_where_and_not_what(
    text: str, where: str, found: str, tmp_path: Path, written: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "notify.txt"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(NotifyError) as error:
        read_addresses({"CRPBOT_NOTIFY_FILE": str(file)})
    assert str(error.value).startswith(f"{where} must be one address")
    assert found in str(error.value)
    said = capfd.readouterr()
    for line in [str(error.value), said.out, said.err, *written]:
        assert "s3cretid" not in line.lower()


def test_the_environment_and_the_file_are_joined_and_what_stands_twice_counts_once(tmp_path: Path) -> None:
    file = tmp_path / "notify.txt"
    file.write_text("# people\n  json://two  \n")
    file.chmod(0o640)
    found = read_addresses({"CRPBOT_NOTIFY": " json://one\n\tjson://two ", "CRPBOT_NOTIFY_FILE": str(file)})
    assert [one.where for one in found] == ["address 1 of CRPBOT_NOTIFY", "address 2 of CRPBOT_NOTIFY"]
    assert read_addresses({}) == read_addresses({"CRPBOT_NOTIFY": "", "CRPBOT_NOTIFY_FILE": ""}) == ()


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True), (0o602, True)])
def test_a_file_that_everybody_may_read_gets_a_warning(mode: int, *, warned: bool, tmp_path: Path, written: list[str]) -> None:
    file = tmp_path / "notify.txt"
    file.write_text("json://localhost\n")
    file.chmod(mode)
    read_addresses({"CRPBOT_NOTIFY_FILE": str(file)})
    assert any("chmod 600" in line for line in written) == warned


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "long").write_bytes(b"#" * 70_000)
    for name, found in (("absent", "No such file"), ("", "Is a directory"), ("binary", "other bytes"), ("long", "found more")):
        with pytest.raises(NotifyError, match=found):
            read_addresses({"CRPBOT_NOTIFY_FILE": str(tmp_path / name)})


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=4, max_size=30)


@given(user=WORDS, password=WORDS, token=WORDS, value=WORDS)
def test_every_form_of_every_part_is_masked(user: str, password: str, token: str, value: str) -> None:
    parts = (user, password, token, value)
    assume(not any(part.lower() in "error *** said" for part in parts))
    u, p, t, v = (quote(part, safe="") for part in parts)
    redact = redactor(secrets_of(f"json://{u}:{p}@host.example:80/{t}?key={v}"))
    for part in parts:
        for form in (part, quote(part, safe=""), json.dumps(part)[1:-1], repr(part)[1:-1]):
            assert redact(f"error {form} said") == f"error {MASK} said"
    header = base64.b64encode(f"{user}:{password}".encode()).decode()
    assert redact(f"error {header} said") == f"error {MASK} said"


def test_the_reason_of_a_failure_is_masked_by_itself() -> None:
    """Also where the guard of the logs has never heard of the address."""
    (address,) = at("json://127.0.0.7:9/x")
    reasons = [deliver(address, "LONG", "body", redact) for redact in (str, redactor(secrets_of(address.url)))]
    assert ["127.0.0.7" in reason for reason in reasons] == [True, False]
    assert MASK in reasons[1]


def test_short_parts_are_masked_where_they_stand_alone_and_settings_are_not() -> None:
    redact = redactor(secrets_of("json://u:ab@h/x?cto=3&verify=no&key=xyz"))
    assert redact("table ab: no 3 xyz xyzzy /ab/") == f"table {MASK}: no 3 {MASK} xyzzy /{MASK}/"


def test_tracebacks_and_records_that_cannot_be_written_are_masked_too(
    written: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    guard_logs(secrets_of("json://host.example/Tr4ceback-secret"))
    log = logging.getLogger("somebody.else")
    try:
        Path("/Tr4ceback-secret").read_text()
    except OSError:
        log.exception("failed")
    log.error("%d of %s", "no number", "Tr4ceback-secret")
    log.error("%s", {"url": "/tr4ceback-SECRET"})
    log.error("nothing of that %s", "kind")
    said = capfd.readouterr()
    assert "Traceback" in written[0]
    assert written[-1] == "nothing of that kind"
    assert len(written) == 4
    assert "tr4ceback-secret" not in "\n".join([*written, said.out, said.err]).lower()
