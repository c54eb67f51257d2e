"""The files of `deploy/` and the page about them say what the code does."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import image
import pytest
import typer.main
import yaml

from crpbot.cli import app
from crpbot.live.addresses import FILE_VARIABLE, VARIABLE
from crpbot.live.metrics import TOKEN_FILE

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
PAGE = (ROOT / "docs" / "live.md").read_text()
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
UNITS = sorted(path.name for path in DEPLOY.glob("crpbot-*"))
HEALTH = ["/usr/bin/python3", "-m", "crpbot", "live", "--health"]


def unit(name: str) -> dict[str, list[tuple[str, str]]]:
    """Return the assignments of a unit by section; a key may stand several times."""
    found: dict[str, list[tuple[str, str]]] = {}
    for line in (DEPLOY / name).read_text().splitlines():
        if line.startswith("["):
            section = found.setdefault(line.strip("[]"), [])
        elif line and line[0] != "#":
            key, _, value = line.partition("=")
            section.append((key, value))
    return found


def calls() -> list[str]:
    """Every call of crpbot in `deploy/` and on its page, as the words after `crpbot`."""
    found = [
        value.partition("crpbot ")[2] for name in UNITS for key, value in unit(name).get("Service", ()) if "ExecStart" in key
    ]
    found += [" ".join(COMPOSE["services"]["live"]["command"]), "live --health"]
    lines = fenced().splitlines()
    found += [match[1] for line in lines if (match := re.search(r"(?:^as_crpbot|^crpbot|-m crpbot) (.+)", line))]
    found += re.findall(r"`(?:as_crpbot|crpbot) ([^`;]+)(?:; echo \$\?)?`", PAGE)
    found += re.findall(r"`[^`]*-m crpbot ([^`]+)`", PAGE)
    return list(dict.fromkeys(found))


def fenced() -> str:
    return "\n".join(re.findall(r"```[a-z]*\n(.*?)```", PAGE, re.DOTALL)).replace("\\\n", " ")


@pytest.mark.parametrize("call", calls())
def test_every_command_exists_and_takes_its_options(call: str) -> None:
    words = shlex.split(call.partition(" #")[0].partition(" > ")[0].partition(" | ")[0])
    command: Any = typer.main.get_command(app)
    while words and hasattr(command, "commands") and words[0] in command.commands:
        command = command.commands[words.pop(0)]
    assert not hasattr(command, "commands") or command.name == "models" or not words, f"crpbot {call}"
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
    for word in words:
        assert not word.startswith("--") or word.partition("=")[0] in options, f"crpbot {call}: {word}"


def test_the_image_is_told_its_version_is_not_root_and_asks_for_its_health_without_a_shell() -> None:
    assert 'ARG VERSION=""' in DOCKERFILE
    assert list(COMPOSE["services"]["live"]["build"]["args"]) == ["VERSION"]
    stages = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert stages == ["python:3.11-slim-bookworm", "gcr.io/distroless/python3-debian12:nonroot"]
    assert image.TARGET["python_version"] == "3.11"  # of both stages: extension modules are built for one minor version
    final = DOCKERFILE[DOCKERFILE.rindex("FROM ") :]
    assert not re.search(r"^RUN|^SHELL|sh -c", final, re.MULTILINE)
    assert re.findall(r"^USER (\S+)", final, re.MULTILINE) == ["65532:65532"]
    (check,) = re.findall(r"CMD (\[.*\])\nENTRYPOINT (\[.*\])", final)
    assert yaml.safe_load(check[0]) == HEALTH
    assert yaml.safe_load(check[1]) == HEALTH[:3]


def test_what_the_dockerfile_copies_is_there_and_is_sent() -> None:
    sent = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    for source in re.findall(r"^COPY (?!--from)(\S+)", DOCKERFILE, re.MULTILINE):
        assert (ROOT / source).exists()
        assert f"!{source}" in sent
    assert "*" in sent
    assert "requirements.txt" in DOCKERFILE
    assert "--no-deps" in DOCKERFILE  # nothing but the pins


def test_the_container_may_do_little() -> None:
    live = COMPOSE["services"]["live"]
    assert live["read_only"] is True
    assert live["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in live["security_opt"]
    assert live["restart"] == "unless-stopped"
    assert live["healthcheck"]["test"] == ["CMD", *HEALTH]
    assert live["user"] == "65532:65532"
    assert all(port.startswith("127.0.0.1:") for port in live["ports"])
    assert "mem_limit" in live
    home = dict(re.findall(r"(CRPBOT_HOME)=(\S+)", DOCKERFILE))["CRPBOT_HOME"]
    assert live["volumes"] == [f"home:{home}"]
    assert "ports" not in COMPOSE["services"]["postgres"]
    assert COMPOSE["services"]["postgres"]["profiles"] == ["postgres"]
    assert set(COMPOSE["volumes"]) == {"home", "journal"}


def test_secrets_come_from_files_alone() -> None:
    live = COMPOSE["services"]["live"]
    assert live["environment"] == {FILE_VARIABLE: "/run/secrets/notify", TOKEN_FILE: "/run/secrets/metrics_token"}
    assert live["secrets"] == ["notify", "metrics_token"]
    for name in UNITS:
        service = unit(name).get("Service", [])
        assert not [
            value for key, value in service if key == "Environment" and re.match(rf'"?({VARIABLE}|CRPBOT_JOURNAL)=', value)
        ]
    for secret in (*COMPOSE["secrets"], "live.env"):  # beside compose.yaml, and never in the repository
        assert f"deploy/{secret}" in (ROOT / ".gitignore").read_text().splitlines()
    service = unit("crpbot-live.service")["Service"]
    assert ("LoadCredential", "notify:/etc/crpbot/notify") in service
    assert ("Environment", f"{FILE_VARIABLE}=%d/notify") in service


def test_the_services_may_do_little() -> None:
    for name in ("crpbot-live.service", "crpbot-retrain.service"):
        service = dict(unit(name)["Service"])
        assert service["User"] == "crpbot"
        assert service["ProtectSystem"] == "strict"
        assert service["NoNewPrivileges"] == "yes"
        assert service["CapabilityBoundingSet"] == ""
        assert service["StateDirectory"] == "crpbot"
        assert "MemoryMax" in service
    live = dict(unit("crpbot-live.service")["Service"])
    assert live["Restart"] == "always"
    assert dict(unit("crpbot-live.service")["Unit"])["StartLimitIntervalSec"] == "0"  # weeks: it never gives up
    assert dict(unit("crpbot-retrain.service")["Service"])["Type"] == "oneshot"
    assert dict(unit("crpbot-retrain.timer")["Timer"])["Persistent"] == "true"


@pytest.mark.slow
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not here")
    for name in UNITS:
        (tmp_path / name).write_text((DEPLOY / name).read_text().replace("/opt/crpbot/bin/crpbot", "/bin/true"))
    done = subprocess.run([tool, "verify", *map(str, tmp_path.iterdir())], capture_output=True, text=True, check=False)
    told = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "crpbot" in line]
    assert (done.returncode, told) == (0, []), done.stderr


def test_the_page_and_the_files_name_each_other() -> None:
    for name in [*UNITS, "compose.yaml", "Dockerfile"]:
        assert f"deploy/{name}" in PAGE, name
    for variable in (VARIABLE, FILE_VARIABLE, "CRPBOT_HOME", "CRPBOT_JOURNAL"):
        assert variable in PAGE
    assert f"docker build -f deploy/Dockerfile -t {COMPOSE['services']['live']['image']} ." in PAGE
    assert "was not built" in PAGE
