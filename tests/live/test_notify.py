"""Messages to people: each once to each address, whatever its server does."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from receiver import HOUR, Box, Hand, Receiver, at, drive, patch_hosts, receiver

from crpbot.live.addresses import Address
from crpbot.live.notify import FIRST_DELAY, LONGEST_DELAY, Message, Notifier, digest

pytestmark = pytest.mark.slow  # receivers on loopback, and Apprise


def until(true: Callable[[], bool]) -> None:
    """Wait for what other threads do; how long it takes proves nothing."""
    waiting = threading.Event()
    for _ in range(3_000):
        if true():
            return
        waiting.wait(0.01)
    pytest.fail("did not happen")


@pytest.fixture
def server() -> Iterator[Receiver]:
    with receiver() as box:
        yield box


@pytest.fixture
def other() -> Iterator[Receiver]:
    with receiver() as box:
        yield box


@pytest.mark.parametrize("schema", ["json", "form"])
def test_a_message_arrives_once(server: Receiver, schema: str) -> None:
    clock, box = Hand(), Box()
    notifier = Notifier(at(f"{schema}://127.0.0.1:{server.port}/hook"), box, clock)
    assert notifier.tell("a", "LONG BTC-USD", "confidence < 62 % & more", until=clock.now() + HOUR)
    assert not notifier.tell("a", "LONG BTC-USD", "again", until=clock.now() + HOUR)
    drive(notifier)
    drive(notifier)
    ((path, body),) = server.taken
    assert path.startswith("/hook")
    assert "LONG" in body
    if schema == "json":
        assert json.loads(body)["message"] == "confidence < 62 % & more"
    counters = notifier.counters()
    assert (counters.sent, counters.failed, counters.expired, counters.waiting, counters.last_error) == (1, 0, 0, 0, "")


@pytest.mark.parametrize(
    ("url", "name"),
    [("tgram://123456789:abcdefg_hijklmnop/-1001234", "telegram"), ("discord://123456789012345678/abcdefghij_klmnop", "discord")],
)
def test_telegram_and_discord_take_it(server: Receiver, monkeypatch: pytest.MonkeyPatch, url: str, name: str) -> None:
    patch_hosts(server, monkeypatch)
    clock = Hand()
    notifier = Notifier(at(url), Box(), clock)
    notifier.tell("a", "LONG BTC-USD", "confidence < 62 % & more\n" + "x" * 3_000, until=clock.now() + HOUR)
    drive(notifier)
    assert notifier.counters().sent == 1, notifier.counters().last_error
    text = "".join(body for _, body in server.taken)
    assert "LONG BTC-USD" in text
    assert text.count("x") >= 3_000
    limit = 2_000 if name == "discord" else 4_096
    assert all(len(json.loads(body).get("content", "")) <= limit for _, body in server.taken)
    assert (len(server.taken) > 1) == (name == "discord")


@pytest.mark.parametrize(("fate", "reason"), [(503, "503"), (429, "429"), ("cut", "onnection"), ("refused", "onnection")])
def test_a_failure_is_tried_again_later_and_not_before(server: Receiver, fate: int | str, reason: str) -> None:
    clock, box = Hand(), Box()
    if fate == "refused":
        with receiver() as gone:
            url = gone.address  # nobody listens there any more
    else:
        url, server.script = server.address, [fate]
    notifier = Notifier(at(url), box, clock, chance=lambda: 0.0)
    notifier.tell("a", "LONG", "body", until=clock.now() + HOUR)
    drive(notifier)
    assert (notifier.counters().sent, notifier.counters().failed, notifier.counters().waiting) == (0, 1, 1)
    assert reason in notifier.counters().last_error
    assert notifier.counters().last_error.startswith("json (line 1): ")
    assert box.errors == [notifier.counters().last_error]
    clock.sleep(FIRST_DELAY - 0.001)
    drive(notifier)
    assert notifier.counters().failed == 1
    clock.sleep(0.001)
    drive(notifier)
    assert notifier.counters().failed == (2 if fate == "refused" else 1)
    assert server.titles == ([] if fate == "refused" else ["LONG"])


def test_a_redirect_is_a_failure_and_tells_nobody_elsewhere(server: Receiver, other: Receiver) -> None:
    server.always, server.elsewhere = 307, f"http://127.0.0.1:{other.port}/hook"
    clock = Hand()
    notifier = Notifier(at(server.address), Box(), clock)
    notifier.tell("a", "LONG", "body", until=clock.now() + HOUR)
    drive(notifier)
    assert (notifier.counters().sent, notifier.counters().failed) == (0, 1)
    assert not other.asked


def test_tries_become_rarer_and_end_with_the_message(server: Receiver) -> None:
    server.always = 503
    clock, box = Hand(), Box()
    notifier = Notifier(at(server.address), box, clock, chance=lambda: 0.0)
    notifier.tell("a", "LONG", "body", until=clock.now() + HOUR)
    times, start = list[int](), clock.now()
    while clock.now() <= start + 2 * HOUR:
        before = len(server.asked)
        drive(notifier)
        times += [clock.now() - start] * (len(server.asked) - before)
        clock.sleep(1)
    gaps = [(b - a) // 1_000 for a, b in pairwise(times)]
    assert gaps[:8] == [2, 4, 8, 16, 32, 64, 128, 256]
    assert set(gaps[8:]) == {LONGEST_DELAY}
    assert times[-1] < HOUR
    counters = notifier.counters()
    assert (counters.sent, counters.failed, counters.expired, counters.waiting) == (0, len(times), 1, 0)


@given(tries=st.integers(1, 10_000), chance=st.floats(0, 1))
def test_a_delay_is_bounded_and_spread(tries: int, chance: float) -> None:
    notifier = Notifier((), Box(), Hand(), chance=lambda: chance)
    longest = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(tries - 1, 100))
    assert longest / 2 - 1e-3 <= notifier._delay(tries) / 1_000 <= longest


def test_when_one_of_two_fails_the_other_never_gets_it_twice(server: Receiver, other: Receiver) -> None:
    other.always = 503
    clock, box = Hand(), Box()
    notifier = Notifier(at(server.address, other.address), box, clock)
    notifier.tell("a", "LONG", "body", until=clock.now() + HOUR)
    for _ in range(5):
        drive(notifier)
        clock.sleep(100)
    assert (server.titles, other.titles) == (["LONG"], [])
    notifier.stop()
    again = Notifier(at(other.address, server.address), box, clock)  # a new process, and the file in another order
    assert not again.tell("a", "LONG", "body", until=clock.now() + HOUR)
    other.always = 200
    drive(again)
    assert (server.titles, other.titles) == (["LONG"], ["LONG"])


def test_what_waits_outlives_the_process(server: Receiver) -> None:
    server.always = "cut"
    clock, box = Hand(), Box()
    first = Notifier(at(server.address), box, clock)
    for i in range(3):
        first.tell(f"{i}", f"LONG {i}", "body", until=clock.now() + HOUR)
    drive(first)
    assert first.stop() == 3
    server.always = 200
    second = Notifier(at(server.address), box, clock)
    drive(second)
    assert server.titles == ["LONG 1", "LONG 2", "LONG 0"]  # the one that failed comes last
    second.stop()
    drive(Notifier(at(server.address), box, clock))
    assert len(server.taken) == 3


def test_what_nobody_may_follow_any_more_is_not_sent(server: Receiver) -> None:
    server.script = [503]
    clock, box = Hand(), Box()
    notifier = Notifier(at(server.address), box, clock)
    notifier.tell("signal", "LONG", "body", until=clock.now() + 1_000)
    notifier.tell("alarm", "ALARM", "body", until=clock.now() + HOUR)
    drive(notifier)
    clock.sleep(1_000)
    drive(notifier)
    clock.sleep(300)
    drive(notifier)
    assert server.titles == ["ALARM"]
    assert (notifier.counters().expired, notifier.counters().sent) == (1, 1)


def test_beyond_the_limit_messages_are_joined_and_none_is_dropped(server: Receiver) -> None:
    clock, box = Hand(), Box()
    notifier = Notifier(at(server.address), box, clock)
    for i in range(57):
        notifier.tell(f"{i}", f"LONG {i}", "body", until=clock.now() + HOUR)
    drive(notifier)
    assert server.titles == [*(f"LONG {i}" for i in range(19)), "38 messages"]
    joined = json.loads(server.taken[-1][1])["message"].splitlines()
    assert joined == [f"LONG {i}" for i in range(19, 57)]
    assert (notifier.counters().sent, notifier.counters().waiting) == (57, 0)
    notifier.tell("57", "LONG 57", "body", until=clock.now() + HOUR)
    drive(notifier)
    assert len(server.taken) == 20
    clock.sleep(3)  # a third of a minute's twentieth
    drive(notifier)
    assert server.titles[20:] == ["LONG 57"]


@given(
    per_minute=st.integers(1, 9),
    steps=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 40_000)), min_size=1, max_size=12),
)
def test_no_minute_has_more_than_the_limit_and_every_message_counts_once(per_minute: int, steps: list[tuple[int, int]]) -> None:
    clock, box, sent = Hand(), Box(), list[tuple[int, int]]()
    notifier = Notifier(at("json://127.0.0.1:9/x"), box, clock, per_minute=per_minute)
    told = 0

    def deliver(_address: Address, title: str, *_: object) -> str:
        sent.append((clock.now(), int(title.split(maxsplit=1)[0]) if title.endswith("messages") else 1))
        return ""

    with patch("crpbot.live.notify.deliver", deliver):
        for count, gap in [*steps, (0, 60_000), (0, 0)]:
            for _ in range(count):
                notifier.tell(f"{told}", f"LONG {told}", "", until=clock.now() + 1_000 * HOUR)
                told += 1
            drive(notifier)
            clock.time += gap
    assert sum(count for _, count in sent) == told
    for start, _ in sent:
        assert sum(start <= time < start + 60_000 for time, _ in sent) <= 2 * per_minute


@given(
    titles=st.lists(
        st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=300), min_size=2, max_size=120
    )
)
def test_a_joined_message_names_or_counts_each(titles: list[str]) -> None:
    messages = [Message(key=f"{i}", title=title, body="", until=i) for i, title in enumerate(titles)]
    title, body = digest(messages)
    lines = body.split("\n")
    more = re.fullmatch(r"and (\d+) more messages; .*", lines[-1])
    named = lines[:-1] if more else lines
    assert title == f"{len(titles)} messages"
    assert named == [one[:200] for one in titles[::-1]][: len(named)]  # the longest-lived first
    assert len(named) + (int(more[1]) if more else 0) == len(titles)
    assert len(body) <= 1_600


def test_a_message_that_its_service_does_not_like_holds_up_no_other(server: Receiver) -> None:
    server.refuses = "poison"
    clock, box = Hand(), Box()
    notifier = Notifier(at(server.address), box, clock)
    for i, title in enumerate(["poison", "LONG 1", "LONG 2"]):
        notifier.tell(f"{i}", title, "body", until=clock.now() + HOUR)
    for _ in range(4):
        drive(notifier)
        clock.sleep(3)
    assert server.titles == ["LONG 1", "LONG 2"]
    assert notifier.counters().waiting == 1


@pytest.mark.slow
def test_a_server_that_hangs_holds_up_nobody_else_and_counts_when_it_takes_it_after_all(
    server: Receiver, other: Receiver
) -> None:
    server.always = "late"
    clock, box = Hand(), Box()
    notifier = Notifier(at(server.address, other.address), box, clock, patience=0.05)
    notifier.start()
    assert notifier.tell("a", "LONG", "body", until=clock.now() + HOUR)
    until(lambda: notifier.counters().failed == 1)
    assert "no answer within 0.05 s" in notifier.counters().last_error
    assert notifier.tell("b", "SHORT", "body", until=clock.now() + HOUR)
    until(lambda: other.titles == ["LONG", "SHORT"])
    server.release.set()
    until(lambda: "LONG" in server.titles and notifier.counters().sent >= 3)
    clock.sleep(1_000)
    until(lambda: notifier.counters().waiting == 0)
    assert notifier.stop() == 0
    assert sorted(server.titles) == ["LONG", "SHORT"]
    assert notifier.counters().sent == 4


def test_a_server_that_always_hangs_gets_few_threads(server: Receiver) -> None:
    server.always = "hang"
    clock, box = Hand(), Box()
    notifier = Notifier(at(server.address), box, clock, patience=0.0)
    for i in range(12):
        notifier.tell(f"{i}", "LONG", "body", until=clock.now() + 100 * HOUR)
    for _ in range(40):
        notifier.work()
        clock.sleep(1_000)
    until(lambda: len(server.asked) == 4)
    assert notifier.counters().waiting == 12


def test_stopping_does_not_wait_for_a_server_that_hangs_and_keeps_its_message(server: Receiver) -> None:
    server.always = "hang"
    clock, box = Hand(), Box()
    notifier = Notifier(at(server.address), box, clock)
    notifier.start()
    notifier.tell("a", "LONG", "body", until=clock.now() + HOUR)
    until(lambda: len(server.asked) == 1)
    assert notifier.stop(timeout=0.05) == 1  # the server is let go only after this
    assert not [
        one.name for one in threading.enumerate() if "ThreadPool" in one.name
    ]  # the interpreter would wait for it at its end
    assert all(one.daemon for one in threading.enumerate() if one.name == "delivery")
    server.release.set()
    assert not box.done
    assert [one.key.partition("@")[0] for one in box.pending(clock.now())] == ["a"]


def test_what_is_told_last_goes_out_before_the_stop(server: Receiver) -> None:
    clock, box = Hand(), Box()
    notifier = Notifier(at(server.address), box, clock)
    notifier.start()
    notifier.tell("stop", "stopped", "by hand", until=clock.now() + HOUR)
    assert notifier.stop(timeout=30) == 0
    assert server.titles == ["stopped"]


@pytest.mark.parametrize("call", ["pending", "sent", "failed"])
def test_a_database_that_fails_for_a_while_neither_loses_nor_doubles(
    server: Receiver, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crpbot.live.notify.IDLE", 0.01)
    server.script = [503] if call == "failed" else []
    clock, box = Hand(), Box(broken=[call])
    notifier = Notifier(at(server.address), box, clock)
    notifier.start()
    notifier.tell("a", "LONG", "body", until=clock.now() + HOUR)
    until(lambda: not box.broken)
    clock.sleep(300)
    notifier._wake.set()
    until(lambda: len(box.done) == 1)
    assert notifier.stop() == 0
    assert server.titles == ["LONG"]


def test_a_clock_that_is_put_back_stops_nothing(server: Receiver) -> None:
    server.script = [503, 503]
    clock, box = Hand(), Box()
    notifier = Notifier(at(server.address), box, clock)
    notifier.tell("a", "LONG", "body", until=clock.now() + HOUR)
    drive(notifier)
    clock.sleep(-86_400)
    drive(notifier)
    clock.sleep(300)
    drive(notifier)
    assert server.titles == ["LONG"]


def test_what_waits_for_an_address_that_is_gone_goes_to_those_that_are_there(server: Receiver, other: Receiver) -> None:
    server.always = 503
    clock, box = Hand(), Box()
    old = Notifier(at(server.address, other.address), box, clock)
    old.tell("a", "LONG", "body", until=clock.now() + HOUR)
    drive(old)
    assert (server.titles, other.titles) == ([], ["LONG"])
    old.stop()
    with receiver() as newer:
        new = Notifier(at(other.address, newer.address), box, clock)
        for _ in range(3):
            drive(new)
            clock.sleep(300)
        assert (newer.titles, other.titles) == (["LONG"], ["LONG"])


def test_what_another_program_puts_goes_to_every_address(server: Receiver, other: Receiver) -> None:
    clock, box = Hand(), Box()
    notifier = Notifier(at(server.address, other.address), box, clock)
    box.put("promoted:1@BTC-USD", "promoted", "by hand", now=clock.now(), until=clock.now() + HOUR)
    drive(notifier)
    drive(notifier)
    assert (server.titles, other.titles) == (["promoted"], ["promoted"])
    assert not box.pending(clock.now())


def test_without_an_address_nobody_is_told_and_nothing_is_kept() -> None:
    clock, box = Hand(), Box()
    notifier = Notifier((), box, clock)
    notifier.start()
    assert not notifier.tell("a", "LONG", "body", until=clock.now() + HOUR)
    assert notifier.stop() == 0
    assert not box.messages


@pytest.mark.slow
def test_apprise_is_imported_only_when_there_is_an_address() -> None:
    code = (
        "import sys; from crpbot.live.addresses import read_addresses; from crpbot.live.notify import Notifier;"
        "print(read_addresses({}), 'apprise' in sys.modules);"
        "read_addresses({'CRPBOT_NOTIFY': 'json://a'}); print('apprise' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["()", "False", "True"]
