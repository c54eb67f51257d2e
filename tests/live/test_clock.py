"""Clocks: what time it is, and sleep that can be ended."""

import threading
import time

import pytest

from crpbot.live.clock import ReplayClock, SystemClock

FOREVER = 1_000.0


@pytest.mark.parametrize("clock", [SystemClock(), ReplayClock(0, speed=1.0)], ids=["system", "replay"])
def test_a_stop_from_another_thread_ends_all_sleep_now_and_later(clock: SystemClock) -> None:
    sleepers = [threading.Thread(target=clock.sleep, args=(FOREVER,)) for _ in range(3)]
    for sleeper in sleepers:
        sleeper.start()
    clock.stop()
    for sleeper in sleepers:
        sleeper.join(10)
        assert not sleeper.is_alive()
    clock.sleep(FOREVER)
    clock.sleep(FOREVER)
    assert clock.stopped


def test_a_stop_by_a_signal_handler_ends_the_sleep_of_the_main_thread() -> None:
    import os
    import signal

    clock = SystemClock()
    before = signal.signal(signal.SIGUSR1, lambda *_: clock.stop())
    try:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        clock.sleep(FOREVER)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert clock.stopped


def test_waking_ends_one_sleep_also_the_next_one() -> None:
    clock = SystemClock()
    clock.wake()
    clock.wake()
    clock.sleep(FOREVER)
    threading.Timer(0.05, clock.wake).start()
    clock.sleep(FOREVER)
    assert not clock.stopped
    began = time.monotonic()
    clock.sleep(0.05)  # nothing is left over
    assert time.monotonic() - began >= 0.04


def test_the_system_clock_is_the_machine_s() -> None:
    before = int(time.time() * 1_000)
    assert before <= SystemClock().now() <= before + 60_000


@pytest.mark.parametrize("speed", [0.0, float("inf")])
def test_a_replay_as_fast_as_it_goes_stands_until_somebody_sleeps(speed: float) -> None:
    clock = ReplayClock(5_000, speed=speed)
    assert clock.now() == 5_000
    clock.sleep(86_400.0)
    clock.sleep(0.0001)
    clock.sleep(-3.0)
    assert clock.now() == 5_000 + 86_400_000 + 1
    clock.stop()
    clock.sleep(10.0)
    assert clock.now() == 5_000 + 86_400_000 + 1


def test_a_replay_with_a_speed_is_that_much_faster_than_ours() -> None:
    began = time.monotonic()
    clock = ReplayClock(0, speed=600.0)
    clock.sleep(60.0)
    passed = clock.now()
    assert 60_000 <= passed <= 600_000 * (time.monotonic() - began)


@pytest.mark.parametrize("speed", [0.0, 1e9])
def test_a_replay_stops_where_the_recording_does(speed: float) -> None:
    clock = ReplayClock(5_000, speed=speed, end=65_000)
    clock.sleep(3_600.0)
    assert clock.now() == 65_000
