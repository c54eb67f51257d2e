"""The door: who comes in, from where, with what, and how often."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import process_time

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers
from web.houses import HERE, TOKEN, ask, log_in, word

from crpbot.errors import CrpbotError
from crpbot.web.app import ROOMS, make_app
from crpbot.web.security import MOST_BODY, MOST_HEAD, TRIES, WITHIN, Limit, cookies
from crpbot.web.setting import Setting, read_token

pytestmark = pytest.mark.slow
CHANGES = (
    f"/models/{'0' * 64}/promote",
    f"/models/{'0' * 64}/retire",
    "/markets/BTC-USD/rollback",
    f"/diagnose/{'0' * 32}/promote",
    f"/api/models/{'0' * 64}/promote",
    f"/api/models/{'0' * 64}/retire",
    "/api/markets/BTC-USD/rollback",
)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[TestClient]:
    with ask(tmp_path, token=TOKEN) as found:
        yield found


def test_the_list_of_changes_is_whole() -> None:
    routes = [route for room in ROOMS for route in room.router.routes if "POST" in route.methods]
    others = {"/login", "/logout", "/diagnose", "/api/diagnoses"}
    assert len([route for route in routes if route.path not in others]) == len(CHANGES)


def test_nothing_is_changed_without_a_login(browser: TestClient) -> None:
    csrf = word(browser, "/login")
    for path in CHANGES:
        answer = browser.post(path, **({"json": {}} if path.startswith("/api") else {"data": {"csrf": csrf}}))
        assert answer.status_code == 401, path
        assert "logged in" in answer.text


def test_a_form_without_the_word_of_its_session_changes_nothing(browser: TestClient) -> None:
    log_in(browser)
    for path in CHANGES:
        given = {"json": {"csrf": "x"}} if path.startswith("/api") else {"data": {"csrf": "x"}}
        assert browser.post(path, **given).status_code == 403, path


def test_a_form_of_another_site_changes_nothing(browser: TestClient) -> None:
    log_in(browser)
    data = {"csrf": word(browser, "/diagnose")}
    origins = [{"origin": origin} for origin in ("http://evil.example", "null", "http://127.0.0.1:9999")]
    for headers in (*origins, {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": ""}):
        answer = browser.post("/markets/BTC-USD/rollback", data=data, headers=headers)
        assert (answer.status_code, "another origin" in answer.text) == (403, True), headers


def test_a_name_of_another_site_for_this_machine_is_refused(browser: TestClient) -> None:
    """(DNS rebinding.)"""
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::1", "localhost@evil"):
        assert browser.get("/", headers={"host": host}).status_code == 421, host
        assert browser.get("/api/overview", headers={"host": host}).status_code == 421, host


def test_this_machine_is_called_localhost_or_any_address_of_its_own(browser: TestClient) -> None:
    names = ("127.0.0.1:8000", "localhost:8000", "[::1]:8000", "LOCALHOST", "127.0.0.2:8974", "[0:0:0:0:0:0:0:1]:8000")
    for host in names:
        assert browser.get("/api/health", headers={"host": host}).status_code == 200, host


def test_who_guesses_has_to_wait_and_others_have_not(tmp_path: Path) -> None:
    app = make_app(Setting(home=tmp_path, now=lambda: 0, token=TOKEN))
    headers = {"sec-fetch-site": "same-origin"}
    with TestClient(app, base_url=HERE, headers=headers, client=("10.0.0.1", 1), follow_redirects=False) as guesser:
        csrf = word(guesser, "/login")
        codes = [guesser.post("/login", data={"token": "wrong", "csrf": csrf}).status_code for _ in range(TRIES)]
        assert codes == [403] * TRIES
        right = guesser.post("/login", data={"token": TOKEN, "csrf": csrf})
        assert (right.status_code, "Retry-After" in right.headers) == (429, True)
        assert {guesser.post("/login", data={"token": TOKEN, "csrf": csrf}).status_code for _ in range(20)} == {429}
        other = TestClient(app, base_url=HERE, headers=headers, client=("10.0.0.2", 1), follow_redirects=False)
        log_in(other)
    lines = [json.loads(line) for line in (tmp_path / "web" / "audit.jsonl").read_text().splitlines()]
    assert [(line["from"], line["outcome"]) for line in lines] == [
        *[("10.0.0.1", "refused: the token is wrong")] * TRIES,
        ("10.0.0.1", "refused: too many wrong tokens"),
        ("10.0.0.2", "let in"),
    ]
    assert TOKEN not in json.dumps(lines)


def test_a_wrong_token_of_a_program_is_refused_as_one_and_never_locks_the_right_one_out(
    browser: TestClient, tmp_path: Path
) -> None:
    wrong, right = ({"authorization": f"Bearer {token}"} for token in ("wrong", TOKEN))
    retire = f"/api/models/{'0' * 64}/retire"
    answers = [browser.post(retire, json={}, headers=wrong) for _ in range(3 * TRIES)]
    assert [one.status_code for one in answers] == [*[401] * TRIES, *[429] * 2 * TRIES]
    assert "the token must be that of this dashboard" in answers[0].json()["error"]
    assert "too many wrong ones" in answers[-1].json()["error"]
    assert 0 < int(answers[-1].headers["retry-after"]) <= WITHIN
    assert browser.post(retire, json={}, headers=right).status_code == 404, "it comes to the registry"
    log_in(browser)
    outcomes = [json.loads(line)["outcome"] for line in (tmp_path / "web" / "audit.jsonl").read_text().splitlines()]
    assert outcomes == [*["refused: the token is wrong"] * TRIES, "refused: too many wrong tokens", "let in"]


def test_a_burst_is_told_of_once_and_the_next_one_again() -> None:
    limit = Limit(2, 60.0)
    limit.count("one")
    assert [limit.first("one") for _ in range(3)] == [True, False, False]
    limit.count("another")
    assert not limit.first("one")
    limit.count("one")
    assert limit.first("one")


def test_only_who_is_logged_in_leaves_a_line_by_logging_out(browser: TestClient, tmp_path: Path) -> None:
    browser.post("/logout", data={"csrf": word(browser, "/login")})
    assert not (tmp_path / "web" / "audit.jsonl").exists()


def test_where_there_is_no_token_none_is_wrong(tmp_path: Path) -> None:
    with ask(tmp_path) as browser:
        codes = {browser.get("/api/health", headers={"authorization": "Bearer any"}).status_code for _ in range(2 * TRIES)}
    assert codes == {200}


def test_a_login_is_a_new_cookie_that_no_script_and_no_other_site_has(browser: TestClient) -> None:
    before = browser.get("/login").headers["set-cookie"]
    answer = browser.post("/login", data={"token": TOKEN, "csrf": word(browser, "/login")})
    cookie = answer.headers["set-cookie"]
    assert {part.strip() for part in cookie.split(";")[1:]} == {"Path=/", "HttpOnly", "SameSite=Strict"}
    assert cookie.split(";")[0] != before.split(";")[0], "somebody may have planted the one before"
    assert browser.get("/api/health").json()["read_only"] is False
    browser.post("/logout", data={"csrf": word(browser, "/diagnose")})
    assert browser.get("/api/health").json()["read_only"] is True


def test_over_tls_the_cookie_is_sent_over_tls_only(tmp_path: Path) -> None:
    with ask(tmp_path, token=TOKEN) as browser:
        assert "Secure" in browser.get("https://127.0.0.1:8000/login").headers["set-cookie"]


def test_a_cookie_that_somebody_has_made_up_is_none(browser: TestClient) -> None:
    log_in(browser)
    name, _, mark = browser.cookies["crpbot-8000"].partition(".")
    for forged in (f"{name}.{'0' * 64}", f"{'0' * 32}.{mark}", name, "."):
        browser.cookies.clear()
        assert browser.get("/api/health", headers={"cookie": f"crpbot-8000={forged}"}).json()["read_only"] is True


ODD = [
    *(
        'prefs={"theme": "dark"}',
        "cookieconsent",
        "n=a b",
        "k=\u00e9",
        "user@x=1",
        "path=/",
        'sess={"a":1,"b":2}',
        "[a]=1",
        "=",
        ";;",
    ),
    *('crpbot-8000="', f"crpbot-8000={'0' * 32}.{'0' * 64}", f"crpbot={'0' * 97}", "crpbot-8000"),
]


def test_the_cookies_of_other_programs_do_no_harm(browser: TestClient) -> None:
    log_in(browser)
    ours = f"crpbot-8000={browser.cookies['crpbot-8000']}"
    browser.cookies.clear()
    for odd in ODD:
        for cookie in (f"{odd}; {ours}", f"{ours}; {odd}", f"{odd};{ours};{odd}"):
            answer = browser.get("/api/health", headers={"cookie": cookie.encode("latin-1")})
            assert answer.json()["read_only"] is False, cookie


@given(
    st.lists(st.sampled_from([f"crpbot-8000={'0' * 32}.{'0' * 64}", "crpbot-8000=", "a=b", *'; ="\\x.']), max_size=8).map("".join)
)
def test_of_any_cookies_only_what_is_shaped_like_ours_is_looked_at(text: str) -> None:
    """(Reference: a pattern over the whole.)"""
    found = cookies(Headers({"host": "127.0.0.1:8000", "cookie": text}))
    assert len(found) == len(re.findall(r"(?:^|;)\s*crpbot-8000=[0-9a-f]{32}\.[0-9a-f]{64}\s*(?=;|$)", text))


def test_cookies_are_read_in_no_time() -> None:
    """(http.cookies takes seconds of these, on the event loop.)"""
    began = process_time()
    for text in ('crpbot-8000="' + "\\" * 60_000 + '"', "crpbot-8000=" + ";" * 60_000, "crpbot-8000=;" * 5_000, "=" * 60_000):
        assert cookies(Headers({"host": "127.0.0.1:8000", "cookie": text})) == []
    assert process_time() - began < 0.5


def test_more_headers_than_any_browser_has_are_refused_unread(browser: TestClient) -> None:
    for name in ("cookie", "authorization", "x-any"):
        answer = browser.get("/api/health", headers={name: "x" * MOST_HEAD})
        assert (answer.status_code, "found more" in answer.text) == (431, True), name


def test_two_dashboards_of_one_machine_do_not_log_each_other_out(tmp_path: Path) -> None:
    """(All ports of a machine share their cookies.)"""
    with ask(tmp_path, token=TOKEN) as one, ask(tmp_path / "other", token=TOKEN) as other:
        other.base_url = "http://127.0.0.1:8001"
        other.cookies.jar = one.cookies.jar
        log_in(one)
        log_in(other)
        for browser in (one, other):
            assert browser.get("/api/health").json()["read_only"] is False
        assert {cookie.name for cookie in one.cookies.jar} == {"crpbot-8000", "crpbot-8001"}


def test_every_answer_says_what_a_page_may_do(browser: TestClient) -> None:
    for path in ("/", "/api/health", "/nothing", "/static/app.js", "/login", "/diagnose"):
        headers = browser.get(path).headers
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in headers["content-security-policy"], path
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["referrer-policy"] == "same-origin", "with none a browser sends every form with the origin null"
        assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")


def test_no_page_has_script_or_style_within_or_loads_anything_from_elsewhere(browser: TestClient) -> None:
    for path in ("/", "/diagnose", "/jobs", "/login", "/api", "/nothing"):
        text = browser.get(path).text
        assert not [found for found in ("style=", "<style", "<script>") if found in text], path
        assert all(part.startswith("/") for part in (piece.split('"')[0] for piece in text.split('src="')[1:])), path


def test_more_than_a_form_holds_is_refused(browser: TestClient) -> None:
    for length in (str(MOST_BODY + 1), "9" * 5_000, "-1", "many"):
        answer = browser.post("/login", content=b"x", headers={"content-length": length})
        assert answer.status_code == 413, length


def test_elsewhere_nothing_is_shown_without_the_token(tmp_path: Path) -> None:
    with ask(tmp_path, host="0.0.0.0", token=TOKEN) as browser:  # noqa: S104  what is tested
        assert browser.get("/").headers["location"] == "/login"
        assert browser.get("/api/overview").status_code == 401
        assert browser.get("/openapi.json").status_code == 401
        assert browser.get("/login").status_code == 200
        assert browser.get("/static/app.js").status_code == 200
        assert browser.get("/api/overview", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
        log_in(browser)
        assert browser.get("/").status_code == 200


def test_without_a_token_nobody_can_log_in(tmp_path: Path) -> None:
    with ask(tmp_path) as browser:
        assert "CRPBOT_WEB_TOKEN" in browser.get("/login").text
        assert browser.post("/login", data={"token": "", "csrf": "x"}).status_code == 403


def test_the_token_comes_from_the_environment_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert read_token("127.0.0.1", {}) is None
    assert read_token("0.0.0.0", {"CRPBOT_WEB_TOKEN": TOKEN}) == TOKEN  # noqa: S104
    assert read_token("127.0.0.1", {"CRPBOT_WEB_TOKEN_FILE": str(file)}) == TOKEN
    for host, environ in (
        ("0.0.0.0", {}),  # noqa: S104
        ("example.com", {}),
        ("127.0.0.1", {"CRPBOT_WEB_TOKEN": "short"}),
        ("127.0.0.1", {"CRPBOT_WEB_TOKEN_FILE": str(tmp_path / "nothing")}),
    ):
        with pytest.raises(CrpbotError, match="CRPBOT_WEB_TOKEN"):
            read_token(host, environ)
    assert TOKEN not in repr(Setting(home=tmp_path, now=lambda: 0, token=TOKEN))


def test_beyond_this_machine_serve_ends_at_once_without_a_token(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "crpbot", "serve", "--home", str(tmp_path), "--host", "0.0.0.0"]  # noqa: S104
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "needs a token" in done.stderr
