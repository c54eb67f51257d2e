"""What the job needs, as files whose names are their digests: uploaded once, however often it is sent."""

import hashlib
import io
import re
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution, distributions
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from crpbot.market.candles import Candles
from crpbot.market.files import write_candles
from crpbot.model.recipe import Recipe

PREFIX = "crpbot"
"""Everything lies under this in the bucket, so that a policy can name it."""
_IMAGE_HAS = re.compile(r"(torch|triton|nvidia-.*|cuda-.*|pip|setuptools|wheel|uv|crpbot)")
"""What an image brings itself, and must not be replaced: torch fits the driver."""
_EXTRAS = ("train", "cloud")
_SAME_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Blob:
    """A file for the bucket.

    Attributes:
        key: of the object; it holds the digest.
        content: the bytes.

    """

    key: str
    content: bytes = field(repr=False)

    @property
    def sha256(self) -> str:
        """The digest of the content."""
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True, slots=True)
class Package:
    """The code of a job.

    Attributes:
        prefix: of its objects; the channel `package` is what lies there.
        sha256: of all files together.
        blobs: the files.

    """

    prefix: str
    sha256: str
    blobs: tuple[Blob, ...]


def package() -> Package:
    """Return this very crpbot, with the versions that it runs with here; the same sources give the same bytes."""
    content = {
        "crpbot.zip": _zipped("crpbot"),
        "requirements.txt": requirements().encode(),
        "constraints.txt": constraints().encode(),
        "start.sh": (files("crpbot.cloud") / "start.sh").read_bytes(),
    }
    digest = hashlib.sha256()
    for name, part in content.items():
        digest.update(f"{name} {hashlib.sha256(part).hexdigest()}\n".encode())
    prefix = f"{PREFIX}/packages/{digest.hexdigest()}/"
    return Package(prefix, digest.hexdigest(), tuple(Blob(prefix + name, part) for name, part in content.items()))


def _closure() -> set[str]:
    """Return the names of everything that crpbot needs there, and of what that needs in turn, as installed here."""
    from packaging.requirements import Requirement  # noqa: PLC0415
    from packaging.utils import canonicalize_name  # noqa: PLC0415

    waiting, seen = [("crpbot", extra) for extra in ("", *_EXTRAS)], set[tuple[str, str]]()
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            texts = distribution(name).requires or ()
        except PackageNotFoundError:
            continue  # for another system, or another Python
        for one in map(Requirement, texts):
            wanted = one.marker is None or one.marker.evaluate({"extra": extra})
            if wanted and not _IMAGE_HAS.fullmatch(canonicalize_name(one.name)):
                waiting += [(canonicalize_name(one.name), inner) for inner in ("", *one.extras)]
    return {name for name, _ in seen}


def requirements() -> str:
    """Return what crpbot needs to train and to reach S3, by name; torch is the image's."""
    names = []
    for text in distribution("crpbot").requires or ():
        name = re.split(r"[^A-Za-z0-9._-]", text, maxsplit=1)[0]
        extra = re.search(r"extra == ['\"](\w+)['\"]", text)
        wanted = extra is None or extra[1] in _EXTRAS
        if wanted and not _IMAGE_HAS.fullmatch(name):
            names.append(name)
    return "".join(f"{name}\n" for name in sorted(set(names)))


def constraints() -> str:
    """Return the versions here of what crpbot needs there, apart from what an image brings: limits, not a list to install.

    Nothing else counts: another package beside crpbot must not give the same work another name, to be paid again.
    """
    wanted = _closure()
    found: Mapping[str, str] = {
        name: one.version
        for one in distributions()
        if one.metadata["Name"]
        and "+" not in one.version
        and (name := re.sub(r"[-_.]+", "-", one.metadata["Name"]).lower()) in wanted
    }
    return "".join(f"{name}=={version}\n" for name, version in sorted(found.items()) if not _IMAGE_HAS.fullmatch(name))


def candles_blob(symbol: str, candles: Candles) -> Blob:
    """Return candles as Parquet; the key is the digest of the candles, not of the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "candles.parquet"
        write_candles(candles, path)
        return Blob(f"{PREFIX}/candles/{candles.sha256}/{symbol}.parquet", path.read_bytes())


def recipe_blob(recipe: Recipe) -> Blob:
    """Return a recipe as its file."""
    content = recipe.to_toml().encode()
    return Blob(f"{PREFIX}/recipes/{hashlib.sha256(content).hexdigest()}/recipe.toml", content)


def _zipped(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, file in sorted(_walk(files(name), name)):
            entry = zipfile.ZipInfo(path, _SAME_TIME)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, file.read_bytes())
    return buffer.getvalue()


def _walk(folder: Traversable, path: str) -> Iterator[tuple[str, Traversable]]:
    for one in folder.iterdir():
        if one.name == "__pycache__" or one.name.startswith(".") or one.name.endswith(".pyc"):
            continue
        if one.is_dir():
            yield from _walk(one, f"{path}/{one.name}")
        else:
            yield f"{path}/{one.name}", one
