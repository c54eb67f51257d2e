import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from models import market, model

from crpbot.disk import write_whole
from crpbot.errors import RegistryError
from crpbot.factory import diagnose
from crpbot.market.candles import MINUTE
from crpbot.model.loading import file_sha256, load_checkpoint
from crpbot.model.pt_file import save_checkpoint
from crpbot.model.recipe import Recipe, load_recipe
from crpbot.quality.gates import Verdict
from crpbot.quality.report.data import Judgement
from crpbot.registry.entries import Entry, add_up
from crpbot.registry.ledger import START, Ledger, Line
from crpbot.registry.registry import DAY, Registry, decide, recipe_digest
from crpbot.registry.stages import MOVES, STAGES, move

pytestmark = pytest.mark.slow  # they train and diagnose
NOW = 1_900_000_000_000


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("model"), epochs=4)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("other"), epochs=3)


def saved(folder: Path, *, epochs: int) -> Path:
    path = folder / "lstm_BTC-USD_v7_enhanced.pt"
    save_checkpoint(model(epochs=epochs), path, probe=market_rows())
    return path


def market_rows() -> object:
    from crpbot.dataset.assemble import assemble
    from crpbot.dataset.features.sets import feature_set
    from crpbot.dataset.labels import LabelRule

    return assemble(market(), feature_set("founding-72"), LabelRule(kind="horizon", horizon=15)).x[:50]


@pytest.fixture(scope="module")
def judgement(file: Path) -> Judgement:
    return diagnose(file, market(), source="synthetic")


@pytest.fixture(scope="module")
def second(other: Path) -> Judgement:
    return diagnose(other, market(), source="synthetic")


def passing(judgement: Judgement, *, source: str = "file", trained_on: str = "file", table: str = "market") -> Judgement:
    """Return the judgement as if every gate had passed, of candles of another kind."""
    d = judgement.diagnosis
    checkpoint = dataclasses.replace(d.checkpoint, origin=dataclasses.replace(d.checkpoint.origin, source=trained_on))
    subject = dataclasses.replace(d.subject, checkpoint=checkpoint)
    d = dataclasses.replace(d, subject=subject, data=dataclasses.replace(d.data, source=source))
    good = tuple(dataclasses.replace(result, passed=True) for result in judgement.verdict.results)
    return dataclasses.replace(judgement, diagnosis=d, verdict=Verdict(table, good))


def stages(registry: Registry) -> dict[str, str]:
    return {entry.sha256: entry.stage for entry in registry.entries(every=True)}


# What a judgement earns


@pytest.mark.parametrize(
    ("facts", "stage"),
    [
        ({}, "live"),
        ({"source": "sample", "trained_on": "sample"}, "live"),
        ({"source": "synthetic"}, "shadow"),
        ({"trained_on": "synthetic"}, "shadow"),
        ({"table": "seed"}, "shadow"),
    ],
)
def test_only_market_gates_on_real_candles_lead_to_live(judgement: Judgement, facts: dict, stage: str) -> None:
    assert decide(passing(judgement, **facts)).stage == stage


def test_a_failed_gate_or_an_unknown_history_refuses(judgement: Judgement) -> None:
    assert decide(judgement).stage is None
    assert "too-good" in decide(judgement).reason
    good = passing(judgement)
    nobody = dataclasses.replace(good.diagnosis.checkpoint, origin=None)
    foreign = dataclasses.replace(good.diagnosis, subject=dataclasses.replace(good.diagnosis.subject, checkpoint=nobody))
    assert decide(dataclasses.replace(good, diagnosis=foreign)).stage is None


# The table


@pytest.mark.parametrize("kind", MOVES)
@pytest.mark.parametrize("now", [None, *STAGES])
def test_a_move_that_is_not_in_the_table_is_refused(kind: str, now: str | None) -> None:
    starts, end = MOVES[kind]
    if now in starts:
        assert move("BTC-USD", kind, now=now) == (end or now or "candidate")
    else:
        with pytest.raises(RegistryError, match="from which one can"):
            move("BTC-USD", kind, now=now)


def test_nothing_leads_to_live_but_a_fresh_judgement_and_a_rollback_to_what_was_live() -> None:
    assert {name for name, (_, end) in MOVES.items() if end == "live"} == {"promote", "rollback"}
    assert MOVES["rollback"][0] == ("retired",)


# A life


def test_a_model_is_kept_by_its_digest_and_a_refusal_changes_nothing(tmp_path: Path, judgement: Judgement, file: Path) -> None:
    registry = Registry(tmp_path)
    assert (registry.entries(), registry.head()) == ((), START)
    refused = registry.record(judgement, file, now=NOW)
    (candidate,) = registry.entries(every=True)
    assert (refused.stage, candidate.stage, registry.entries()) == (None, "candidate", ())
    assert registry.record(passing(judgement), file, now=NOW + 60_000).stage == "live"
    registry.record(judgement, file, now=NOW + 120_000)
    assert registry.record(passing(judgement, source="synthetic"), file, now=NOW + 180_000).stage is None  # proves less
    (live,) = registry.entries(every=True)
    assert live.stage == "live"
    place = tmp_path / "models" / live.sha256
    assert {one.name for one in place.iterdir()} == {file.name, "model.onnx", "recipe.toml"} == set(live.files)
    assert registry.checkpoint(live).read_bytes() == file.read_bytes()
    assert load_checkpoint(registry.deployed(live)).network.checkpoint_sha256 == live.sha256 == file_sha256(file)
    assert [(line.number, line.move, line.was, line.stage) for line in registry.lines()] == [
        (1, "refuse", None, "candidate"),
        (2, "promote", "candidate", "live"),
        (3, "refuse", "live", "live"),
        (4, "refuse", "live", "live"),
    ]
    assert registry.lines()[1].who


def test_what_was_looked_at_to_find_each_recipe_is_counted(tmp_path: Path) -> None:
    """Two seeds of a recipe that was found among 41, one of another among 21, one of a plain recipe, one foreign file."""
    registry, plain = Registry(tmp_path), load_recipe("v7")
    first, second = (dataclasses.replace(plain, name=f"tuned-{n}", trials=n) for n in (41, 21))
    with registry._ledger.turn():
        for n, recipe in enumerate((first, first, second, plain, None), start=1):
            add_model(registry, str(n), recipe)
            add_model(registry, str(n), recipe)  # judged once more
    assert registry.tries_with("BTC-USD", "1", first) == 5 + 40 + 20
    assert registry.tries_with("BTC-USD", "new", dataclasses.replace(plain, trials=11)) == 6 + 40 + 20 + 10
    assert registry.tries_with("BTC-USD", "new") == 6 + 40 + 20
    assert registry.tries_with("ETH-USD", "1", first) == 1 + 40
    kept = tmp_path / "models" / "3" / "recipe.toml"
    kept.write_text(kept.read_text().replace("trials = 21", "trials = 1"))
    with pytest.raises(RegistryError, match="restore it"):
        registry.tries_with("BTC-USD", "1", first)


def add_model(registry: Registry, sha256: str, recipe: Recipe | None) -> None:
    """Write a refusal of a model to the ledger, and its recipe beside it, as if it had been trained and judged."""
    files = {}
    if recipe is not None:
        write_whole(registry.path.parent / "models" / sha256 / "recipe.toml", recipe.to_toml())
        files["recipe.toml"] = hashlib.sha256(recipe.to_toml().encode()).hexdigest()
    lines = registry.lines()
    line = Line(
        number=len(lines) + 1,
        previous=registry.head(),
        time=NOW,
        who="somebody",
        move="refuse",
        symbol="BTC-USD",
        sha256=sha256,
        was=None,
        stage="candidate",
        reason="for no reason",
        recipe_sha256=recipe and recipe_digest(recipe),
        files=files,
        code_sha256="",
        version="",
    )
    registry._ledger.append(line.sealed())


def test_a_new_live_model_displaces_the_old_one_and_rollback_brings_it_back(
    tmp_path: Path, judgement: Judgement, second: Judgement, file: Path, other: Path
) -> None:
    registry, now = Registry(tmp_path), judgement.diagnosis.data.last
    old, new = file_sha256(file), file_sha256(other)
    registry.record(passing(judgement), file, now=now)
    registry.record(passing(second), other, now=now)
    assert stages(registry) == {old: "retired", new: "live"}
    assert registry.rollback("BTC-USD", now=now).sha256 == old
    assert stages(registry) == {old: "live", new: "retired"}
    with pytest.raises(RegistryError, match="must have an earlier live model"):
        registry.rollback("BTC-USD", now=now)
    registry.record(passing(second), other, now=now)
    (entry,) = registry.entries()
    assert (registry.demote(entry, now=now, why="it promised too much").stage, stages(registry)[old]) == ("shadow", "retired")
    assert registry.rollback("BTC-USD", now=now).sha256 == old
    assert stages(registry) == {old: "live", new: "shadow"}
    registry.retire(registry.entries()[0], now=now, why="by hand")
    with pytest.raises(RegistryError, match="must have an earlier live model"):
        registry.rollback("BTC-USD", now=now)


def test_a_rollback_would_bring_back_the_last_of_several() -> None:
    lines = [decided(sha256, number) for number, sha256 in enumerate("abcd", 1)]
    state = add_up(lines)
    assert state.earlier("BTC-USD") == state.entries["c"]
    assert add_up([*lines, dataclasses.replace(decided("c", 5), move="retire", stage="retired")]).earlier("BTC-USD").sha256 == "b"
    assert add_up(lines[:1]).earlier("BTC-USD") is None
    assert state.earlier("ETH-USD") is None


def decided(sha256: str, number: int) -> Line:
    """Return a line that promotes a model."""
    facts = {"previous": START, "time": NOW + number, "who": "me", "symbol": "BTC-USD", "was": None, "reason": ""}
    return Line(
        number=number, move="promote", sha256=sha256, stage="live", files={"a.pt": ""}, code_sha256="", version="", **facts
    )


def test_a_model_expires_and_only_a_fresh_pass_makes_it_last_longer(
    tmp_path: Path, judgement: Judgement, second: Judgement, file: Path, other: Path
) -> None:
    registry, last = Registry(tmp_path), judgement.diagnosis.data.last
    registry.record(passing(judgement), file, now=NOW)
    later = dataclasses.replace(judgement.diagnosis, data=dataclasses.replace(judgement.diagnosis.data, last=last + DAY))
    registry.record(dataclasses.replace(judgement, diagnosis=later), file, now=NOW)
    (entry,) = registry.entries()
    assert (entry.proven_until, entry.expires) == (last, last + MINUTE + 30 * DAY)  # a refusal proves nothing
    assert [entry.expired(entry.expires - 1), entry.expired(entry.expires)] == [False, True]
    registry.record(passing(dataclasses.replace(judgement, diagnosis=later)), file, now=NOW)
    assert registry.entries()[0].expires == last + DAY + MINUTE + 30 * DAY
    registry.record(passing(second), other, now=NOW)
    with pytest.raises(RegistryError, match="must not have expired"):
        registry.rollback("BTC-USD", now=last + 60 * DAY)


def test_an_override_gets_into_shadow_and_never_further(tmp_path: Path, judgement: Judgement, file: Path) -> None:
    registry = Registry(tmp_path)
    assert registry.record(judgement, file, now=NOW, override="I want to watch it").stage == "shadow"
    (entry,) = registry.entries()
    assert (entry.stage, entry.override) == ("shadow", "I want to watch it")
    assert "too-good" in entry.reason
    assert registry.record(passing(judgement), file, now=NOW, override="not needed").stage == "live"
    assert registry.entries()[0].override == ""


def test_a_rollback_passes_over_what_was_demoted_or_failed_since(
    tmp_path: Path, judgement: Judgement, second: Judgement, file: Path, other: Path
) -> None:
    now = judgement.diagnosis.data.last
    for number, since in enumerate(("override", "rehearse", "refuse", "demote")):
        registry = Registry(tmp_path / str(number))
        registry.record(passing(judgement), file, now=now)
        if since == "demote":
            registry.demote(registry.entries()[0], now=now, why="it promised too much")
        registry.record(passing(second), other, now=now)
        if since == "override":
            registry.record(judgement, file, now=now, override="to look at it")
        elif since == "rehearse":
            registry.record(passing(judgement, table="seed"), file, now=now)
        elif since == "refuse":
            registry.record(judgement, file, now=now)
        with pytest.raises(RegistryError, match="must have an earlier live model"):
            registry.rollback("BTC-USD", now=now)


def test_candles_of_the_future_prove_nothing(tmp_path: Path, judgement: Judgement, file: Path) -> None:
    registry = Registry(tmp_path)
    with pytest.raises(RegistryError, match="must be proven on candles of the past"):
        registry.record(passing(judgement), file, now=judgement.diagnosis.data.last - MINUTE)
    assert registry.lines() == ()


def test_a_file_that_cannot_be_read_is_an_error_of_ours(tmp_path: Path, judgement: Judgement, file: Path) -> None:
    registry = Registry(tmp_path)
    registry.record(passing(judgement), file, now=NOW)
    (entry,) = registry.entries()
    path = registry.deployed(entry)
    path.unlink()
    path.mkdir()
    with pytest.raises(RegistryError, match="found another or none"):
        registry.speaker(entry)
    registry.path.unlink()
    registry.path.mkdir()
    with pytest.raises(RegistryError, match="must be readable"):
        registry.entries()


# What was altered


def test_every_alteration_of_what_was_promoted_is_seen_when_it_is_loaded(
    tmp_path: Path, judgement: Judgement, file: Path
) -> None:
    registry = Registry(tmp_path)
    registry.record(passing(judgement), file, now=NOW)
    (entry,) = registry.entries()
    stored = tmp_path / "judgements" / f"{entry.diagnosis_sha256}.json"
    assert json.loads(stored.read_text())["passed"]
    for path in (
        registry.checkpoint(entry),
        registry.deployed(entry),
        tmp_path / "models" / entry.sha256 / "recipe.toml",
        stored,
    ):
        honest = path.read_bytes()
        path.chmod(0o644)
        for altered in (honest[:-1] + bytes([honest[-1] ^ 1]), honest + b" ", honest.replace(b"true", b"false")):
            if altered == honest:
                continue
            path.write_bytes(altered)
            for load in (registry.checkpoint, registry.deployed, registry.speaker):
                with pytest.raises(RegistryError, match="must be what was kept when the model was judged"):
                    load(entry)
            with pytest.raises(RegistryError, match="must be what was kept"):  # nor can it be promoted again
                registry.record(passing(judgement), file, now=NOW) if path.parent.parent.name == "models" else load(entry)
        path.unlink()
        with pytest.raises(RegistryError, match="found another or none"):
            registry.deployed(entry)
        path.write_bytes(honest)
    assert registry.deployed(entry)


def test_a_kept_file_is_given_as_the_bytes_that_were_proven(tmp_path: Path, judgement: Judgement, file: Path) -> None:
    registry = Registry(tmp_path)
    registry.record(passing(judgement), file, now=NOW)
    (entry,) = registry.entries()
    for name, digest in entry.files.items():
        assert hashlib.sha256(registry.kept(entry, name)).hexdigest() == digest
        kept = tmp_path / "models" / entry.sha256 / name
        kept.chmod(0o644)
        kept.write_bytes(kept.read_bytes() + b" ")
        with pytest.raises(RegistryError, match="must be what was kept"):
            registry.kept(entry, name)
        kept.unlink()
        with pytest.raises(RegistryError, match="found another or none"):
            registry.kept(entry, name)


@pytest.mark.parametrize(
    "wrong",
    [
        *({name: 5} for name in ("symbol", "was", "recipe", "gate_table", "diagnosis_sha256", "reason", "who")),
        *({"files": {name: "0" * 64}} for name in ("../ledger.jsonl", "a/b.pt", "..", ".", "", "a\\b.pt", "a\0")),
    ],
    ids=str,
)
def test_a_line_of_another_form_is_refused_though_its_chain_is_whole(tmp_path: Path, wrong: dict[str, object]) -> None:
    """Whoever may write the file can make a whole chain; what it says still becomes paths and pages."""
    plain = {"number": 1, "previous": START, "time": NOW, "who": "me", "move": "refuse", "symbol": "BTC-USD", "sha256": "0" * 64}
    line = Line(**{**plain, "was": None, "stage": "candidate", "reason": "", "code_sha256": "", "version": "", **wrong})
    Ledger(tmp_path / "ledger.jsonl").append(line.sealed())
    with pytest.raises(RegistryError, match="must have one decision a line"):
        Registry(tmp_path).entries(every=True)


def test_a_model_of_a_made_up_market_is_not_served_live_whatever_the_ledger_says(
    tmp_path: Path, judgement: Judgement, file: Path
) -> None:
    registry = Registry(tmp_path)
    assert registry.record(passing(judgement, trained_on="synthetic"), file, now=NOW).stage == "shadow"
    (entry,) = registry.entries()
    assert registry.speaker(entry).symbol == "BTC-USD"
    registry._decide(lambda state: state.entries[entry.sha256], "promote", "because I say so", now=NOW, who="")
    with pytest.raises(RegistryError, match="must have learned from real candles"):
        registry.speaker(registry.entries()[0])


def test_each_line_of_the_ledger_that_is_edited_taken_out_or_put_in_is_seen(
    tmp_path: Path, judgement: Judgement, file: Path
) -> None:
    registry = Registry(tmp_path)
    for time_ in range(4):
        registry.record(passing(judgement) if time_ else judgement, file, now=NOW + time_ * 60_000)
    honest = registry.path.read_text()
    lines = honest.splitlines(keepends=True)
    edited = [honest.replace('"who": "', '"who": "x', 1), honest.replace('"refuse"', '"promote"', 1)]
    edited += [honest.replace('"stage": "candidate"', '"stage": "live"', 1), honest.replace('"reason": "r', '"reason": "R', 1)]
    edited += ["".join(lines[:i] + lines[i + 1 :]) for i in range(3)]
    edited += [
        "".join([lines[1], *lines]),
        "".join([lines[1], lines[0], *lines[2:]]),
        honest.replace('"number": 2', '"number": 3'),
    ]
    for text in edited:
        assert text != honest
        registry.path.write_text(text)
        for ask in (registry.entries, registry.head, lambda: registry.record(judgement, file, now=NOW)):
            with pytest.raises(RegistryError, match="altered"):
                ask()
    for text in ("{\n", "[]\n", '{"format": "crpbot.ledger/9"}\n', lines[0].replace("crpbot.ledger/1", "crpbot.ledger/2")):
        registry.path.write_text(text)
        with pytest.raises(RegistryError, match="must have"):
            registry.entries()
    registry.path.write_text(honest)
    assert registry.entries()


def test_who_makes_the_chain_anew_makes_other_heads(tmp_path: Path, judgement: Judgement, file: Path) -> None:
    registry = Registry(tmp_path)
    registry.record(judgement, file, now=NOW)
    registry.record(passing(judgement), file, now=NOW + 60_000)
    heads = [line.sha256_of_line for line in registry.lines()]
    forged, previous = [], START
    for line in registry.lines():
        forged.append(dataclasses.replace(line, previous=previous, reason="never refused").sealed())
        previous = forged[-1].sha256_of_line
    registry.path.unlink()
    for line in forged:
        Ledger(registry.path).append(line)
    assert registry.entries()  # the chain is whole
    assert not {line.sha256_of_line for line in registry.lines()} & set(heads)


def test_half_a_line_was_never_decided(tmp_path: Path, judgement: Judgement, file: Path) -> None:
    registry = Registry(tmp_path)
    registry.record(judgement, file, now=NOW)
    registry.record(passing(judgement), file, now=NOW)
    whole = registry.path.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in (first + 1, len(whole) - 2, first):
        registry.path.write_bytes(whole[:cut])
        assert [entry.stage for entry in registry.entries(every=True)] == ["candidate"]
    registry.record(passing(judgement), file, now=NOW)
    assert [line.move for line in registry.lines()] == ["refuse", "promote"]
    registry.path.write_bytes(registry.path.read_bytes()[:-1])  # the line is whole: it lacks nothing but its end
    assert [line.move for line in registry.lines()] == ["refuse", "promote"]
    registry.record(judgement, file, now=NOW)
    assert [line.move for line in registry.lines()] == ["refuse", "promote", "refuse"]


KILLED = """
import sys
from pathlib import Path
from crpbot.registry.registry import Registry
registry = Registry(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    live = [one for one in registry.entries() if one.stage == "live"]
    registry.demote(live[0], now=0, why="x" * 5000)
    registry._decide(lambda state: state.entries[live[0].sha256], "promote", "z" * 5000, now=0, who="")
"""


def test_a_process_that_is_killed_while_it_decides_leaves_a_whole_ledger(
    tmp_path: Path, judgement: Judgement, file: Path
) -> None:
    registry = Registry(tmp_path)
    registry.record(passing(judgement), file, now=NOW)
    for wait in (0.05, 0.11, 0.17, 0.23):
        child = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        time.sleep(wait)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        count = len(registry.lines())
        registry._decide(lambda state: next(iter(state.entries.values())), "promote", "again", now=NOW, who="")
        assert len(registry.lines()) == count + 1
    assert count > 4


def test_two_processes_that_decide_at_once_lose_nothing(tmp_path: Path, judgement: Judgement, file: Path) -> None:
    Registry(tmp_path).record(passing(judgement), file, now=NOW)
    code = (
        "import sys; from pathlib import Path; from crpbot.registry.registry import Registry; r = Registry(Path(sys.argv[1]))\n"
        "for _ in range(40): r._decide(lambda s: next(iter(s.entries.values())), 'promote', sys.argv[2], now=0, who='')"
    )
    children = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name]) for name in "ab"]
    assert [child.wait(timeout=120) for child in children] == [0, 0]
    lines = Registry(tmp_path).lines()
    assert len(lines) == 81
    assert sorted(line.reason for line in lines[1:]) == ["a"] * 40 + ["b"] * 40


# What cannot be promoted


def test_a_deployed_form_is_not_promoted(tmp_path: Path, judgement: Judgement) -> None:
    with pytest.raises(RegistryError, match=r"must be the \.pt file"):
        Registry(tmp_path / "r").record(passing(judgement), tmp_path / "model.onnx", now=NOW)
    assert not (tmp_path / "r").exists()


def test_a_file_that_changed_after_it_was_judged_is_not_promoted(tmp_path: Path, judgement: Judgement, file: Path) -> None:
    copy = tmp_path / file.name
    copy.write_bytes(file.read_bytes() + b" ")
    registry = Registry(tmp_path / "r")
    with pytest.raises(RegistryError, match="must be the file that was judged"):
        registry.record(passing(judgement), copy, now=NOW)
    assert registry.lines() == ()


def test_the_registry_of_an_earlier_version_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "registry.json").write_text('{"format": "crpbot.registry/1", "models": []}')
    with pytest.raises(RegistryError, match="promote its models again"):
        Registry(tmp_path)


def test_a_life_of_many_moves_never_has_two_live_models_of_a_symbol(
    tmp_path: Path, judgement: Judgement, second: Judgement, file: Path, other: Path
) -> None:
    import random

    chance = random.Random(5)  # noqa: S311
    registry, now = Registry(tmp_path), judgement.diagnosis.data.last
    deeds = {
        "first": lambda: registry.record(passing(judgement), file, now=now),
        "second": lambda: registry.record(passing(second), other, now=now),
        "rehearse": lambda: registry.record(passing(second, table="seed"), other, now=now),
        "refuse": lambda: registry.record(judgement, file, now=now),
        "rollback": lambda: registry.rollback("BTC-USD", now=now),
        "demote": lambda: registry.demote(entry_of(registry), now=now, why="x"),
        "retire": lambda: registry.retire(entry_of(registry), now=now, why="x"),
    }
    registry.record(judgement, file, now=now)
    for _ in range(60):
        try:
            deeds[chance.choice(sorted(deeds))]()
        except RegistryError:
            continue
        found = [entry.stage for entry in registry.entries()]
        assert sorted(found) == sorted(set(found))


def entry_of(registry: Registry) -> Entry:
    return next(iter(registry.entries()), registry.entries(every=True)[0])
