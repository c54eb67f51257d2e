import urllib.error
import urllib.request

import pytest

from crpbot.errors import CrpbotError
from crpbot.live.health import Counts, Health, MarketHealth, Meters, read_health, write_health
from crpbot.live.metrics import read_token, serving


def health(**more: object) -> Health:
    market = MarketHealth(candle=60_000, age=2.0, models=("live abc",), problem="", expires={"live": 86_400.0})
    return Health(time=120_000, markets={"BTC-USD": market}, **more)


def asked(port: int, token: str | None = None) -> tuple[int, str]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  on loopback
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


def test_prometheus_reads_what_the_health_says() -> None:
    meters = Meters()
    meters.show(health(counts=Counts(candles=7, signals=2), skew=0.5), {("BTC-USD", "live", "checks"): 3.5})
    meters.show(health(counts=Counts(candles=9, signals=2)), {("BTC-USD", "live", "checks"): 4.5})
    meters.delay.observe(1.7)
    with serving(meters.registry, host="127.0.0.1", port=0, token=None) as port:
        status, text = asked(port)
    assert status == 200
    for line in (
        "crpbot_candles_total 9.0",
        "crpbot_signals_total 2.0",
        "crpbot_well 1.0",
        'crpbot_candle_age_seconds{symbol="BTC-USD"} 2.0',
        'crpbot_model_expires_seconds{stage="live",symbol="BTC-USD"} 86400.0',
        'crpbot_trust_evidence{of="checks",stage="live",symbol="BTC-USD"} 4.5',
        'crpbot_signal_delay_seconds_bucket{le="2.0"} 1.0',
    ):
        assert line in text.splitlines()
    assert "process_resident_memory_bytes" in text


def test_who_has_no_token_is_told_nothing() -> None:
    with serving(Meters().registry, host="127.0.0.1", port=0, token="t" * 16) as port:
        assert asked(port, "t" * 16)[0] == 200
        for wrong in (None, "", "t" * 15, "u" * 16):
            status, text = asked(port, wrong)
            assert (status, "crpbot_" in text) == (401, False)


def test_metrics_that_others_can_reach_need_a_token(tmp_path) -> None:
    for host in ("127.0.0.1", "::1", "localhost"):
        assert read_token(host, {}) is None
    for host in ("0.0.0.0", "10.1.2.3", "example.com"):  # noqa: S104
        for environ in ({}, {"CRPBOT_METRICS_TOKEN": "short"}, {"CRPBOT_METRICS_TOKEN_FILE": str(tmp_path / "none")}):
            with pytest.raises(CrpbotError) as error:
                read_token(host, environ)
            assert "short" not in str(error.value).replace("shorter", "")
        (tmp_path / "token").write_text("s" * 32 + "\n")
        assert read_token(host, {"CRPBOT_METRICS_TOKEN_FILE": str(tmp_path / "token")}) == "s" * 32


def test_the_health_file_is_a_sign_of_life_for_three_minutes(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "health.json"
    assert read_health(path)[0] is False
    write_health(health(), path)
    assert read_health(path)[0]
    import crpbot.live.health as room

    later = room.time.time() + 200
    with monkeypatch.context() as then:
        then.setattr(room.time, "time", lambda: later)
        well, words = read_health(path)
    assert not well
    assert "200 s old" in words
    write_health(health(problems=("journal: the disk is full",)), path)
    assert read_health(path) == (False, read_health(path)[1])
    assert "the disk is full" in read_health(path)[1]
    for text in ("", "{", "[]", '{"written": "x"}'):
        path.write_text(text)
        assert read_health(path)[0] is False
