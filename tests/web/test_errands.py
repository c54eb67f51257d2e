"""Errands: the limits bite, nothing of ours is given away, and nothing is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crpbot.web.child import ANSWER
from crpbot.web.errands import KEPT, MOST_WAITING, BusyError, Errand, Errands, Kind, safe_name
from crpbot.web.place import ERRANDS, sweep
from crpbot.web.process import Limits, Process, clean_environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits on Windows"),
]
SMALL = Limits(memory=200 * 2**20, seconds=1.5, file=2**20)
HEAD = "import json, os, sys, time; from crpbot.web import child; told = json.loads(sys.stdin.readline()); "
LIMITED = HEAD + "child.limit(**told['limits']); "


def errands(code: str, limits: Limits = SMALL) -> Errands:
    """Return errands whose process runs `code`."""
    return Errands(limits={"diagnose": limits, "promote": limits}, command=(sys.executable, "-c", code))


def start(found: Errands, kind: Kind = "diagnose", **more: object) -> Errand:
    with found.new_folder(kind) as folder:
        return found.start(kind, folder, name="a.pt", command="", request=dict, **more)


def outcome(code: str, limits: Limits = SMALL) -> Errand:
    found = errands(code, limits)
    try:
        return wait(found, start(found))
    finally:
        found.stop()


def wait(found: Errands, errand: Errand, seconds: float = 30.0) -> Errand:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        seen = found.get(errand.id)
        assert seen is not None
        if seen.over:
            return seen
        time.sleep(0.02)
    raise AssertionError(f"{errand} does not end")


def gone(pid: int) -> bool:
    """Say whether a process ends soon, or is dead and only not taken note of."""
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_a_process_that_eats_memory_is_ended_in_words() -> None:
    found = outcome(LIMITED + "found = [bytearray(2**24) for _ in range(1000)]", Limits(memory=200 * 2**20, seconds=20))
    assert (found.state, found.words) == ("failed", "it must be done within 0.2 GiB of memory, and was not: it was ended")


def test_a_process_that_sleeps_is_ended_by_the_clock() -> None:
    found = outcome(HEAD + "time.sleep(60)")
    assert (found.state, found.words) == ("failed", "it must be done within 1.5 seconds, and was not: it was ended")
    assert found.seconds is not None
    assert found.seconds < 6


def test_a_process_that_loops_is_ended_by_its_own_limit(tmp_path: Path) -> None:
    """Also where nobody looks at a clock."""
    code = "from crpbot.web import child\nchild.limit(memory=2**30, seconds=1, file=2**20)\nwhile True: pass"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, timeout=60, check=False)
    assert done.returncode == -signal.SIGXCPU


def test_a_process_that_writes_without_end_is_stopped() -> None:
    found = outcome(LIMITED + "open('much', 'wb').write(bytes(2**24))")
    assert found.state == "failed"
    assert "File too large" in found.words


def test_what_a_process_has_started_is_ended_with_it(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    code = HEAD + f"pid = os.fork(); pid or time.sleep(60); open({str(mark)!r}, 'w').write(str(pid)); time.sleep(60)"
    assert outcome(code).state == "failed"
    assert gone(int(mark.read_text()))


def test_a_process_is_told_no_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secrets = ("CRPBOT_WEB_TOKEN", "AWS_SECRET_ACCESS_KEY", "CRPBOT_JOURNAL", "CRPBOT_NOTIFY", "SSH_AUTH_SOCK")
    for name in secrets:
        monkeypatch.setenv(name, "not-for-others")
    assert "not-for-others" not in clean_environment(tmp_path).values()
    found = outcome(HEAD + "child.write_whole(child.Path(child.ANSWER), json.dumps({'state': 'done', 'words': str(os.environ)}))")
    assert found.state == "done"
    assert "not-for-others" not in found.words
    assert "PATH" in found.words


def test_a_module_that_a_stranger_has_sent_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("open('EXECUTED', 'w')")
    (tmp_path / "a.pt").write_bytes(b"none")
    limits = {"memory": 2**30, "seconds": 20, "file": 2**20}
    request = {"do": "diagnose", "model": "a.pt", "limits": limits}
    assert Process(request, tmp_path).wait(Limits(**limits))["state"] == "refused"
    assert not (tmp_path / "EXECUTED").exists()


def test_one_runs_and_the_others_wait_until_there_are_too_many() -> None:
    found = errands(HEAD + "time.sleep(60)", Limits(memory=2**30, seconds=60))
    first = start(found)
    while found.get(first.id).state != "running":
        time.sleep(0.01)
    rest = [start(found) for _ in range(MOST_WAITING)]
    assert {found.get(one.id).state for one in rest} == {"waiting"}
    with pytest.raises(BusyError, match="may wait"):
        start(found)
    found.stop()


def test_to_stop_ends_what_runs_and_forgets_the_files() -> None:
    code = HEAD + "open('pid.part', 'w').write(str(os.getpid())); os.rename('pid.part', 'pid'); time.sleep(60)"
    found = errands(code, Limits(memory=2**30, seconds=60))
    with found.new_folder("diagnose") as folder:
        found.start("diagnose", folder, name="a.pt", command="", request=dict)
    while not (folder / "pid").exists():
        time.sleep(0.01)
    pid = int((folder / "pid").read_text())
    began = time.monotonic()
    found.stop()
    assert gone(pid)
    assert time.monotonic() - began < 5
    assert not folder.exists()


def test_a_process_ends_when_whoever_started_it_is_killed(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    code = (
        "import sys, time; from pathlib import Path; from crpbot.web.process import Process\n"
        "code = 'import sys, json, time, threading; from crpbot.web import child; sys.stdin.readline();'\n"
        "code += 'threading.Thread(target=child._end_with_input, daemon=True).start(); print(1, flush=True); time.sleep(60)'\n"
        "made = Process({}, Path('inner'), command=(sys.executable, '-c', code))\n"
        "print(made._process.pid, flush=True); time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate()
    assert gone(pid)


def test_the_newest_are_remembered() -> None:
    answer = """echo '{"state": "done", "words": ""}' > .answer.json"""  # a shell starts at once
    found = Errands(command=("/bin/sh", "-c", answer))
    names = []
    for _ in range(KEPT + 2):
        names.append(start(found).id)
        wait(found, found.get(names[-1]))
    assert [one.id for one in found.all()] == names[:1:-1]
    assert found.get(names[0]) is None
    found.stop()


@pytest.mark.parametrize(
    "answer",
    [
        *("[]", "[" * 100_000, "{}", '{"id": "1", "x": 2}', '{"state": "done"}', '{"state": "waiting", "words": ""}'),
        *('{"state": "done", "words": "", "judgement": [1]}', '{"state": ["done"], "words": ""}'),
        *('{"state": "done", "words": "", "passed": 1}', '{"state": "done", "words": "", "name": "x"}'),
    ],
)
def test_an_answer_that_is_none_is_a_failure_and_the_next_one_has_its_turn(answer: str, tmp_path: Path) -> None:
    (tmp_path / "answer").write_text(answer)
    found = Errands(command=("/bin/sh", "-c", f"cp {tmp_path}/answer {ANSWER}"))
    try:
        assert [wait(found, start(found)).state for _ in range(2)] == ["failed", "failed"]
    finally:
        found.stop()


def test_what_a_visitor_has_sent_is_never_the_answer() -> None:
    """However it is called: the names of a process begin as none of a visitor's does."""
    answer = '{"state": "done", "words": "all is well", "passed": true}'
    for name in (ANSWER, "answer.json", f"../{ANSWER}", f"x/{ANSWER}", ".said"):
        found = Errands(command=("/bin/false",))
        with found.new_folder("diagnose") as folder:
            (folder / safe_name(name)).write_text(answer)
            errand = found.start("diagnose", folder, name=safe_name(name), command="", request=dict)
        assert wait(found, errand).state == "failed"
        found.stop()


@given(st.text(st.sampled_from(".-/\\ aä\x00\n")) | st.text())
def test_no_name_of_a_visitor_begins_with_a_dot(name: str) -> None:
    assert safe_name(name)[0] not in ".-"
    assert len(Path(safe_name(name)).parts) == 1


def test_what_fails_after_an_errand_stops_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    def broken(_: Errand) -> None:
        raise ValueError("not foreseen")

    found = Errands(command=("/bin/false",))
    assert [wait(found, start(found, ended=broken)).state for _ in range(2)] == ["failed", "failed"]
    found.stop()
    assert "not foreseen" in capsys.readouterr().err


def test_a_promotion_has_a_place_however_many_drops_wait_and_comes_first() -> None:
    found = errands(HEAD + "time.sleep(0.3)", Limits(memory=2**30, seconds=60))
    first = start(found)
    while found.get(first.id).state != "running":
        time.sleep(0.01)
    drops = [start(found) for _ in range(MOST_WAITING)]
    with pytest.raises(BusyError):
        start(found)
    promotion = start(found, "promote")
    wait(found, promotion)
    assert not any(found.get(one.id).over for one in drops)
    found.stop()


def test_drops_push_out_no_promotion() -> None:
    found = Errands(command=("/bin/false",))
    promotion = start(found, "promote")
    for _ in range(KEPT + 2):
        wait(found, start(found))
    assert found.get(promotion.id) is not None
    assert len(found.all()) == KEPT + 1
    found.stop()


def test_a_folder_whose_errand_was_not_started_is_gone() -> None:
    found = Errands()
    with found.new_folder("diagnose") as folder:
        (folder / "a.pt").write_text("x")
    assert not folder.exists()
    found.stop()


OWNER = "import sys; from crpbot.web.place import ERRANDS, place\nwith place(ERRANDS) as one: print(one, flush=True); input()"


def test_the_place_of_a_server_that_was_killed_is_gone_with_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And that of one that lives is not, nor what somebody else has put there under such a name, nor one without a lock."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "mine").mkdir()
    link = tmp_path / f"{ERRANDS}link"
    link.symlink_to(tmp_path / "mine")
    owners = [
        subprocess.Popen([sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    unlocked = tmp_path / f"{ERRANDS}older"
    unlocked.mkdir()
    dead, living = (Path(owner.stdout.readline().strip()) for owner in owners)
    (dead / "a").mkdir()
    owners[0].kill()
    owners[0].communicate()
    assert dead.exists()
    sweep()
    assert not dead.exists()
    assert living.exists()
    owners[1].communicate("\n", timeout=10)
    assert sorted(tmp_path.rglob("*")) == [link, unlocked, tmp_path / "mine"]
