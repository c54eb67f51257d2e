"""What is fuzzed: each target takes the bytes of a file, or of an answer, and may only return or refuse in words of ours."""

import asyncio
import atexit
import gzip
import io
import json
import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from crpbot.cloud.artefact import read_manifest, unpack, write_manifest
from crpbot.cloud.jobs import Jobs, Sent
from crpbot.cloud.status import look, manifest_in
from crpbot.cloud.verify import _compare, _diagnosis, _history
from crpbot.dataset.features.live import LiveFeatures
from crpbot.dataset.features.sets import feature_set
from crpbot.errors import CheckpointError, CrpbotError
from crpbot.live.address import read_address
from crpbot.live.addresses import read_addresses
from crpbot.live.dialects import DIALECTS
from crpbot.live.redact import _GUARD
from crpbot.live.states import States
from crpbot.live.tape import Tape
from crpbot.live.trail import read_trail, trail_file
from crpbot.making.space import space_from_toml
from crpbot.market.candles import MINUTE
from crpbot.market.files import read_candles
from crpbot.market.formats import read_foreign, write_foreign
from crpbot.market.lake import Lake
from crpbot.market.synthetic import make_market
from crpbot.model.archive import read_archive
from crpbot.model.checkpoint import Checkpoint
from crpbot.model.loading import checkpoint_of
from crpbot.model.onnx_file import read_onnx
from crpbot.model.onnx_graph import DIGEST_KEY, HEADER_KEY, digest
from crpbot.model.recipe import builtin_recipes, load_recipe, recipe_from_dict, recipe_from_toml, recipe_text
from crpbot.model.scaler import read_scaler
from crpbot.registry.entries import add_up
from crpbot.registry.ledger import Ledger, Line

HERE = Path(os.environ.get("CRPBOT_FUZZ_FOLDER") or Path(tempfile.gettempdir()) / f"crpbot-fuzz-{os.getpid()}")
atexit.register(shutil.rmtree, HERE, ignore_errors=True)
MARKET = make_market("random-walk", "BTC-USD", rows=40)


@dataclass(frozen=True, kw_only=True)
class Target:
    """One door that bytes of strangers come through.

    Attributes:
        what: is behind it, in words.
        take: lets bytes in; raises `CrpbotError`, or nothing.
        seeds: good files, made anew in each process.
        kind: of damage, a key of `damage.KINDS`.

    """

    what: str
    take: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]
    kind: str


def _file(name: str, content: bytes) -> Path:
    HERE.mkdir(exist_ok=True)
    path = HERE / name
    path.write_bytes(content)
    return path


# Candles


def take_csv(content: bytes) -> None:
    read_candles(_file("BTC-USD.csv", content))


def take_parquet(content: bytes) -> None:
    read_candles(_file("BTC-USD.parquet", content))


def take_foreign(content: bytes) -> None:
    read_foreign(_file("BTC-USD-1m", content))


def take_lake(content: bytes) -> None:
    lake = _lake()
    (HERE / "lake" / "BTC-USD" / "manifest.json").write_bytes(content)
    lake.manifest("BTC-USD")
    lake.damaged("BTC-USD")
    lake.missing("BTC-USD", int(MARKET.time[0]), int(MARKET.time[-1]))


@cache
def _lake() -> Lake:
    lake = Lake(HERE / "lake")
    lake.add("BTC-USD", MARKET, venue="here", asked=(int(MARKET.time[0]) - 3 * MINUTE, int(MARKET.time[-1])))
    return lake


def _written(name: str) -> bytes:
    path = HERE / name
    HERE.mkdir(exist_ok=True)
    write_foreign(MARKET, path, symbol="BTC-USD")
    return path.read_bytes()


def csv_seeds() -> list[bytes]:
    text = _written("BTC-USD.csv")
    rows = [line.split(",", 1)[1] for line in text.decode().splitlines()[1:]]
    numbers = [f"{time},{row}" for time, row in zip(MARKET.time.tolist(), rows, strict=True)]
    marked = [f"{line},{n % 2 == 1}" for n, line in enumerate(numbers)]
    return [
        text,
        "\n".join(["time,open,high,low,close,volume", *numbers]).encode(),
        "\n".join(["time,open,high,low,close,volume,filled", *marked]).encode(),
    ]


def parquet_seeds() -> list[bytes]:
    """Good ones, and tables whose columns are of every type that there is."""
    frame = pl.read_parquet(io.BytesIO(_written("BTC-USD.parquet")))
    kinds: list[Any] = [
        *(pl.Date, pl.Time, pl.Duration, pl.Datetime("ns", "Europe/Berlin"), pl.Datetime("us"), pl.UInt64, pl.Int8, pl.Float32),
        *(pl.String, pl.Boolean, pl.Binary, pl.Categorical, pl.Decimal(30, 9), pl.Null, pl.List(pl.Int64), pl.Object),
    ]
    frames = [frame, frame[:0], frame.with_columns(filled=pl.lit(value=True))]
    for kind in kinds:
        for column in ("time", "close", "filled"):
            with suppress(pl.exceptions.PolarsError, TypeError):
                base = frame if column in frame.columns else frame.with_columns(pl.lit(1).alias(column))
                frames.append(base.with_columns(pl.col(column).cast(pl.Int64).cast(kind, strict=False)))
    return [content for one in frames if (content := _parquet(one))]


def _parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    with suppress(pl.exceptions.PolarsError, pl.exceptions.PanicException):
        frame.write_parquet(buffer)
        return buffer.getvalue()
    return b""


def foreign_seeds() -> list[bytes]:
    """Binance's zip, freqtrade's JSON and Feather, a CSV of CryptoDataDownload, and what is exported for them."""
    rows = [[*row, int(row[0]) + 59_999, 1.0, 3, 0.5, 0.5, 0] for row in zip(*_columns(), strict=True)]
    klines = "\n".join(",".join(map(str, row)) for row in rows).encode()
    download = ["https://www.CryptoDataDownload.com", "unix,date,symbol,open,high,low,close,Volume BTC,Volume USD"]
    download += [f"{row[0]},2024-01-01 00:00:00,BTC/USD,{','.join(map(str, row[1:6]))},1.0" for row in reversed(rows[:20])]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("BTCUSDT-1m-2024-01.csv", klines)
    listed = json.dumps([row[:6] for row in rows]).encode()
    names = ("BTC-USD.csv", "BTC-USD.parquet", "BTC_USD-1m.feather", "BTC_USD-1m.json.gz")
    return [klines, "\n".join(download).encode(), packed.getvalue(), listed, gzip.compress(listed), *map(_written, names)]


def _columns() -> list[list[float]]:
    return [getattr(MARKET, name).tolist() for name in ("time", "open", "high", "low", "close", "volume")]


def lake_seeds() -> list[bytes]:
    _lake()
    return [(HERE / "lake" / "BTC-USD" / "manifest.json").read_bytes()]


# Recipes


def take_recipe(content: bytes) -> None:
    recipe = load_recipe(str(_file("mine.toml", content)))
    assert len(recipe.features.table) > 0
    assert recipe_from_toml(recipe.to_toml()) == recipe


def take_space(content: bytes) -> None:
    space_from_toml(content.decode("utf-8", "surrogateescape"), load_recipe("v7"), where="the space")


OWN = {
    "set": "mine", "where": {"step": "close / lag(close, 1) - 1"},
    "formulas": {"calm": "mean(step, 5) / max(std(step, 20), 1e-9)", "depth": "(close - lowest(low, 20)) / close"},
}  # fmt: skip


def recipe_seeds() -> list[bytes]:
    plain = load_recipe("v7").to_dict()
    own = recipe_from_dict({**plain, "features": OWN}), recipe_from_dict({**plain, "features": {**OWN, "base": "relative-72"}})
    texts = [recipe_text(name) for name in builtin_recipes()] + [recipe.to_toml() for recipe in own] * 3
    return [text.encode() for text in texts]


def space_seeds() -> list[bytes]:
    return [(files("crpbot.making") / "spaces" / "default.toml").read_bytes()]


# Models


def take_checkpoint(content: bytes) -> None:
    payload = read_archive(content, where="model.pt")
    _serve(checkpoint_of(payload, "model.pt") if isinstance(payload, dict) else None)


def _serve(checkpoint: Checkpoint | None) -> None:
    if checkpoint is not None:
        with np.errstate(all="ignore"):
            checkpoint.predict(np.ones((2, len(checkpoint.features))))


def take_onnx(content: bytes) -> None:
    """Read it; where only its digest is wrong, sign it anew, as whoever means harm would."""
    for signed in (content, _signed(content)):
        with suppress(CheckpointError):
            _, checkpoint = read_onnx(signed, where="model.onnx")
            _serve(checkpoint)


def _signed(content: bytes) -> bytes:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_from_string(content)
        entries = {one.key: one for one in model.metadata_props}
        header = entries[HEADER_KEY].value.encode()
        entries[DIGEST_KEY].value = digest(header, model.graph.SerializeToString())
        return bytes(model.SerializeToString())
    except (AttributeError, DecodeError, KeyError, ValueError):
        return content


def take_scaler(content: bytes) -> None:
    for name in ("scaler.json", "scaler.npz", "scaler.pkl"):
        with suppress(CheckpointError):
            read_scaler(_file(name, content)).arrays(("returns", "rsi_14"), "scaler")


@cache
def _small(members: int = 1) -> tuple[bytes, bytes]:
    """Return a tiny checkpoint of ours, and its deployed form."""
    import dataclasses

    from models import market, quick, several

    from crpbot.making.model import make_model
    from crpbot.model.export import export_onnx
    from crpbot.model.pt_file import to_bytes

    recipe = several(quick(epochs=1), 2) if members > 1 else quick(epochs=1)
    recipe = dataclasses.replace(recipe, network=dataclasses.replace(recipe.network, hidden=(4, 3)))
    checkpoint = make_model("BTC-USD", market(rows=3_000), recipe, source="synthetic", seed=0)[0]
    content = to_bytes(checkpoint)
    HERE.mkdir(exist_ok=True)
    export_onnx(checkpoint, HERE / "model.onnx", checkpoint_sha256="0" * 64, probe=np.ones((2, 72)))
    return content, (HERE / "model.onnx").read_bytes()


def foreign_checkpoints() -> list[bytes]:
    """Files of the founding kind: a state dict alone, wrapped, with a scaler, in both forms of torch, and weightless."""
    import torch
    from hostile import saved

    state = {
        "fc1.weight": torch.ones(4, 72),
        "fc1.bias": torch.ones(4),
        "fc2.weight": torch.ones(3, 4),
        "fc2.bias": torch.ones(3),
    }
    norm = {f"bn1.{name}": torch.ones(4) for name in ("weight", "bias", "running_mean", "running_var")}
    whole = {
        "model_state_dict": state | norm | {"temperature": torch.tensor(2.5)}, "input_size": 72, "epoch": 3,
        "feature_columns": list(feature_set("founding-72").names), "scaler_params": {"mean": [0.0] * 72, "scale": [1.0] * 72},
    }  # fmt: skip
    half = {"state_dict": {f"module.{name}": value.half() for name, value in state.items()}}
    return [saved(state), saved(whole), saved(whole, legacy=True), saved(half), saved({"accuracy": 0.7, "epoch": 3})]


def checkpoint_seeds() -> list[bytes]:
    return [_small()[0], _small(2)[0], *foreign_checkpoints()]


def onnx_seeds() -> list[bytes]:
    return [_small()[1], _small(2)[1]]


def scaler_seeds() -> list[bytes]:
    import pickle

    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(np.arange(8.0).reshape(4, 2) ** 2)
    packed = io.BytesIO()
    np.savez(packed, mean=scaler.mean_, scale=scaler.scale_, features=np.array(["returns", "rsi_14"]))
    plain = json.dumps({"mean": [0.5, 1.5], "scale": [1.0, 2.0], "features": ["returns", "rsi_14"]}).encode()
    return [plain, packed.getvalue(), *(pickle.dumps(scaler, protocol) for protocol in (0, 2, 5))]


# Registry, journal, addresses, live


def take_ledger(content: bytes) -> None:
    path = _file("ledger.jsonl", content)
    lines = Ledger(path).lines()
    entries = add_up(lines).entries
    assert len(entries) <= len(lines)
    path.write_bytes(_chained(content))
    add_up(Ledger(path).lines())


def _chained(content: bytes) -> bytes:
    """Make the chain of damaged lines whole again, as whoever means harm would."""
    made, previous = [], "0" * 64
    for number, raw in enumerate(content.splitlines(), 1):
        try:
            plain = json.loads(raw)
            plain |= {"number": number, "previous": previous}
            line = Line(**{name: value for name, value in plain.items() if name != "format"}).sealed()
        except (ValueError, TypeError, RecursionError, KeyError, AttributeError):
            made.append(raw)
            continue
        made.append(json.dumps({"format": "crpbot.ledger/1", **asdict(line)}).encode())
        previous = line.sha256_of_line
    return b"\n".join(made)


def ledger_seeds() -> list[bytes]:
    common = {"time": 1, "who": "me", "symbol": "BTC-USD", "reason": "x", "code_sha256": "c", "version": "1", "previous": ""}
    files = {"lstm_BTC-USD_v7_enhanced.pt": "d", "model.onnx": "e"}
    steps = [("a", "promote", None, "live"), ("b", "promote", None, "live"), ("a", "rollback", "retired", "live")]
    lines = [
        json.dumps(asdict(Line(number=1, move=move, sha256=sha256, was=was, stage=stage, files=files, **common)))
        for sha256, move, was, stage in [*steps, ("a", "demote", "live", "shadow"), ("b", "retire", "retired", "retired")]
    ]
    return [_chained("\n".join(lines).encode())]


def take_addresses(content: bytes) -> None:
    text = content.decode("utf-8", "surrogateescape")
    with suppress(CrpbotError):
        address = read_address(text)
        assert not any(secret in address.shown for secret in address.secrets if len(secret) > 3)
    with suppress(CrpbotError):
        read_addresses({"CRPBOT_NOTIFY": text})
    path = _file("notify.txt", content)
    path.chmod(0o600)
    with suppress(CrpbotError):
        read_addresses({"CRPBOT_NOTIFY_FILE": str(path)})
    _GUARD.secrets = frozenset()  # or it would know more secrets each time


def address_seeds() -> list[bytes]:
    return [
        b"sqlite:////var/lib/crpbot/journal.db", b"journal.db", b"postgresql://anna:s3cret%40@db.example:5432/crpbot?sslmode=require",
        b"# people\njson://anna:Hunter2Secret@127.0.0.1:8080/path?+X-Key=abc\n", b"tgram://123456789:abcdefg_hijklmnop/12315544/\n",
    ]  # fmt: skip


def take_stream(content: bytes) -> None:
    """A message of a venue: what cannot be read cuts the line (`stream._listen`); what was read may break nothing."""
    try:
        message = json.loads(content)
    except (ValueError, RecursionError):
        return  # ccxt's own reader
    for dialect in DIALECTS.values():
        tape = Tape({dialect.market("BTC-USD"): "BTC-USD"}, agreements=0, flags=dialect.flags)
        try:
            said = dialect.read(message)
        except Exception:  # noqa: BLE001  as the stream does
            tape.cut()
        else:
            tape.hear(said)
        tape.candle("BTC-USD", 0)


def stream_seeds() -> list[bytes]:
    bar = {"symbol": "BTC/USD", "interval_begin": "2024-01-01T00:00:00.000000000Z", "open": 1, "high": 2, "low": 1, "close": 2}
    return [
        json.dumps(one).encode()
        for one in (
            {
                "type": "match",
                "time": "2024-01-01T00:00:00.123456Z",
                "product_id": "BTC-USD",
                "trade_id": 7,
                "price": "1",
                "size": "2",
            },
            {"type": "heartbeat", "time": "2024-01-01T00:00:01Z"},
            {"e": "kline", "E": 1_700_000_000_000, "k": {"s": "BTCUSDT", "t": 0, "x": True, **dict.fromkeys("ohlcv", "1.5")}},
            {"channel": "ohlc", "timestamp": "2024-01-01T00:00:30Z", "data": [{**bar, "volume": 3}]},
        )
    ]


def take_live_state(content: bytes) -> None:
    """A saved state that cannot be used is none; the trail of candles likewise."""
    from crpbot.live.desk import Desk
    from crpbot.live.follow_up import FollowUp

    _file("BTC-USD.json", content)
    trail = trail_file(HERE, "BTC-USD")
    trail.write_bytes(content)
    with suppress(CrpbotError):
        read_trail(HERE, "BTC-USD")
    follow = FollowUp.__new__(FollowUp)
    follow.restore = lambda _: None  # type: ignore[method-assign]
    States(HERE).restore(Desk("BTC-USD"), follow, now=MINUTE)
    try:
        state = json.loads(content)["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return
    with suppress(CrpbotError):
        LiveFeatures.restore(feature_set("founding-72").only("rsi_14"), state, max_gap_minutes=0)


def live_state_seeds() -> list[bytes]:
    features = LiveFeatures(feature_set("founding-72").only("rsi_14"))
    rows = list(zip(*_columns(), strict=True))
    desk = {"format": "crpbot.live-market/1", "symbol": "BTC-USD", "next": MINUTE, "inputs": [], "kept": [list(rows[0])]}
    state = {"desk": desk, "paper": {"a" * 64: 5}, "features": features.state()}
    return [json.dumps(state).encode(), "\n".join(" ".join(map(str, row)) for row in rows).encode()]


# The cloud


def take_artefact(content: bytes) -> None:
    with tempfile.TemporaryDirectory(dir=HERE if HERE.exists() else None) as place:
        folder = Path(place) / "artefact"
        unpack(_file("model.tar.gz", content), folder)
        read_manifest(folder)
        _history(folder / "training.jsonl")
        _compare(_diagnosis(folder / "diagnosis.json"), {"data": {}, "label": {}, "metrics": {}, "model": {"sha256": ""}})


def take_manifest(content: bytes) -> None:
    folder = HERE / "artefact"
    folder.mkdir(parents=True, exist_ok=True)
    for name, read in (("manifest.json", lambda _: read_manifest(folder)), ("diagnosis.json", _diagnosis), ("h.jsonl", _history)):
        (folder / name).write_bytes(content)
        with suppress(CrpbotError):
            read(folder / name)
        (folder / name).unlink()


def artefact_seeds() -> list[bytes]:
    found = []
    for mode in ("w:gz", "w"):
        buffer = io.BytesIO()
        with tempfile.TemporaryDirectory() as place, tarfile.open(fileobj=buffer, mode=mode) as tar:
            for name, text in _handed().items():
                Path(place, name).write_text(text)
            write_manifest(Path(place), {"job": "a", "symbol": "BTC-USD", "seed": 0, "candles_sha256": "c"})
            for path in sorted(Path(place).iterdir()):
                tar.add(path, arcname=path.name)
        found.append(buffer.getvalue() if mode == "w:gz" else gzip.compress(buffer.getvalue(), 0))
    return found


def _handed() -> dict[str, str]:
    from crpbot.model.training import Epoch

    names = Epoch.__dataclass_fields__
    return {"diagnosis.json": json.dumps({"data": {"rows": 1}, "metrics": {"ece": 0.1}, "model": {"sha256": "d"}}),
            "training.jsonl": json.dumps(dict.fromkeys(names, 1)) + "\n"}  # fmt: skip


def manifest_seeds() -> list[bytes]:
    handed = _handed()
    manifest = {"format": "crpbot.artefact/1", "job": "a", "files": {"a.pt": {"bytes": 3, "sha256": "d" * 64}}}
    return [json.dumps(manifest).encode(), *(text.encode() for text in handed.values())]


SENT = Sent(
    name="crpbot-a", run="crpbot-a-1", attempt=1, backend="sagemaker", region="us-east-1", account="1", bucket="b",
    symbol="BTC-USD", recipe="", seed=0, kind="file", candles="", candles_sha256="c", instance="ml.g5.xlarge", instance_id="i-1",
    spot=False, usd_per_hour=1.4, limit_seconds=3_600, created=1_700_000_000_000, usd_on_demand=1.4,
)  # fmt: skip


class _Told:
    """A door to AWS behind which everything has been answered already: what lies in the bucket is a stranger's."""

    region = "us-east-1"

    def __init__(self, content: bytes) -> None:
        self.content = content

    def ask(self, _: str, operation: str, /, **__: object) -> dict[str, Any]:
        if operation == "get_object":
            return {"Body": io.BytesIO(self.content)}
        if operation == "get_log_events":
            return {"events": [{"message": line} for line in self.content.decode(errors="replace").splitlines()]}
        if operation == "describe_training_job":
            return {"TrainingJobStatus": "InProgress", "Tags": [], "TrainingJobName": "crpbot-a-1"}
        return {}

    def pages(self, _: str, __: str, name: str, /, **___: object) -> list[Any]:
        return [{"logStreamName": "a"}] if name == "logStreams" else []


def take_told(content: bytes) -> None:
    """What a machine says of its job (`status.json`), the log of a training, and a record of a job on our own disk."""
    import dataclasses

    door: Any = _Told(content)
    for backend in ("sagemaker", "ec2"):
        look(dataclasses.replace(SENT, backend=backend), door, now=SENT.created + 1)
    manifest_in(tuple(content.decode(errors="replace").splitlines()))
    folder = HERE / "cloud" / "jobs"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "1-us-east-1-crpbot-a.json").write_bytes(content)
    Jobs(HERE).all()


def told_seeds() -> list[bytes]:
    status = {"state": "InProgress", "detail": "training", "time": 1_700_000_000_000, "line": "epoch 3/30", "machine": "i-1"}
    return [json.dumps(one).encode() for one in (status, {"format": "crpbot.cloud-job/1", **asdict(SENT)})] + [b"epoch 3/30\nx"]


# The dashboard


def take_request(content: bytes) -> None:
    """One request: its first line is method and address, its second the kind of its body, the rest the body."""
    head, _, rest = content.partition(b"\n")
    kind, _, body = rest.partition(b"\n")
    method, _, address = head.partition(b" ")
    path, _, query = address.partition(b"?")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "server": ("127.0.0.1", 8000),
        "method": method.decode("latin1").upper()[:10] or "GET", "path": path.decode("utf-8", "replace") or "/", "raw_path": path,
        "root_path": "", "query_string": query, "client": ("127.0.0.1", 5), "state": {},
        "headers": [
            (b"host", b"127.0.0.1:8000"), (b"authorization", b"Bearer " + TOKEN), (b"content-type", kind),
            (b"content-length", b"%d" % len(body)), (b"accept", b"application/json"),
        ],
    }  # fmt: skip
    if scope["path"].rstrip("/") == "/api/events":
        return  # which never ends
    asyncio.run(_ask(scope, body))


TOKEN = b"a token that is long enough"


async def _ask(scope: dict[str, Any], body: bytes) -> None:
    said = [{"type": "http.request", "body": body, "more_body": False}]
    status = 0

    async def receive() -> dict[str, Any]:
        return said.pop() if said else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)

    await _dashboard()(scope, receive, send)
    assert status in range(200, 500) or status == 503, f"{scope['method']} {scope['path']}: {status}"


@cache
def _dashboard() -> Any:
    from crpbot.web.app import make_app
    from crpbot.web.demo import unpack as unpack_demo
    from crpbot.web.errands import Errand
    from crpbot.web.setting import Setting

    home = HERE / "home"
    home.mkdir(parents=True, exist_ok=True)
    unpack_demo(home)
    setting = Setting(home=home, now=lambda: 1_780_000_000_000, token=TOKEN.decode())
    app = make_app(setting)
    errand = Errand(id="0" * 32, kind="diagnose", name="m.pt", command="", created=0)
    app.state.errands.start = lambda *_, **__: errand  # no process of its own for each file that is dropped
    return app


def request_seeds() -> list[bytes]:
    app = _dashboard()
    paths = app.openapi()["paths"]
    found = []
    for path, calls in paths.items():
        for method, call in calls.items():
            asked = "&".join(f"{one['name']}=1" for one in call.get("parameters", ()) if one["in"] == "query")
            full = path.replace("{symbol}", "BTC-USD").replace("{number}", "1").replace("{sha256}", "e2416e71650cf688")
            found.append(f"{method} {full}?{asked}\n\n".encode())
    posts = {
        "/models/e2416e71650cf688/retire": "csrf=00&reason=x", "/login": "token=x&csrf=00", "/markets/BTC-USD/rollback": "csrf=0",
        "/models/e2416e71650cf688/promote": "csrf=00&candles=lake",
    }  # fmt: skip
    found += [f"POST {path}\napplication/x-www-form-urlencoded\n{body}".encode() for path, body in posts.items()]
    part = '--b\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\n{}\r\n'
    body = part.format("csrf", "", "00") + part.format("file", '; filename="m.pt"', "PK") + part.format("symbol", "", "BTC-USD")
    found += [
        f"POST {path}\nmultipart/form-data; boundary=b\n{body}--b--\r\n".encode() for path in ("/diagnose", "/api/diagnoses")
    ]
    pages = ("/", "/signals?page=2", "/models", "/compare?a=1&b=2", "/ledger?page=1", "/data", "/jobs", "/diagnose", "/login")
    return found + [f"GET {page}\n\n".encode() for page in pages]


TARGETS: dict[str, Target] = {
    "csv": Target(what="candles as CSV", take=take_csv, seeds=csv_seeds, kind="table"),
    "parquet": Target(what="candles as Parquet, of any types", take=take_parquet, seeds=parquet_seeds, kind="bytes"),
    "foreign": Target(
        what="files of Binance, freqtrade, CryptoDataDownload", take=take_foreign, seeds=foreign_seeds, kind="table"
    ),
    "lake": Target(what="the manifest of a lake", take=take_lake, seeds=lake_seeds, kind="json"),
    "recipe": Target(what="recipes and their formulas", take=take_recipe, seeds=recipe_seeds, kind="toml"),
    "space": Target(what="what `tune` may vary", take=take_space, seeds=space_seeds, kind="toml"),
    "checkpoint": Target(what="checkpoints, ours and foreign", take=take_checkpoint, seeds=checkpoint_seeds, kind="zip"),
    "onnx": Target(what="deployed forms, signed anew", take=take_onnx, seeds=onnx_seeds, kind="bytes"),
    "scaler": Target(what="scalers: JSON, npz, pickle", take=take_scaler, seeds=scaler_seeds, kind="zip"),
    "ledger": Target(what="the ledger, chained anew", take=take_ledger, seeds=ledger_seeds, kind="lines"),
    "address": Target(what="addresses of journals and of people", take=take_addresses, seeds=address_seeds, kind="text"),
    "stream": Target(what="messages of venues", take=take_stream, seeds=stream_seeds, kind="json"),
    "live-state": Target(what="where live goes on", take=take_live_state, seeds=live_state_seeds, kind="json"),
    "artefact": Target(what="what a job hands over", take=take_artefact, seeds=artefact_seeds, kind="bytes"),
    "manifest": Target(what="its manifest, diagnosis and history", take=take_manifest, seeds=manifest_seeds, kind="json"),
    "cloud": Target(what="what machines say, and records of jobs", take=take_told, seeds=told_seeds, kind="json"),
    "request": Target(what="requests to the dashboard, uploads and forms", take=take_request, seeds=request_seeds, kind="text"),
}
"""By name."""
