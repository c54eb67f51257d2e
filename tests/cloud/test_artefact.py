"""What a stranger may have put into an archive, and what of it comes out."""

import contextlib
import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crpbot.cloud import artefact
from crpbot.cloud.artefact import pack, read_manifest, unpack, write_manifest
from crpbot.errors import CloudError

pytestmark = pytest.mark.slow  # what a cloud does, `make test` asks

NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True)


def archive(path: Path, *members: tuple[str, bytes, bytes, str]) -> Path:
    """Write members of name, type, content and target."""
    with tarfile.open(path, "w:gz") as tar:
        for name, kind, content, target in members:
            member = tarfile.TarInfo(name)
            member.type, member.size, member.linkname = kind, len(content), target
            tar.addfile(member, io.BytesIO(content))
    return path


@given(st.dictionaries(NAMES.map(str.lower), st.binary(max_size=2_000), min_size=1, max_size=8))
def test_plain_files_come_out_as_they_went_in(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    place = tmp_path_factory.mktemp("pack")
    (place / "in").mkdir()
    for name, content in files.items():
        (place / "in" / name).write_bytes(content)
    pack(place / "in", place / "a.tar.gz")
    unpack(place / "a.tar.gz", place / "out")
    assert {one.name: one.read_bytes() for one in (place / "out").iterdir()} == files


REG, SYM, LNK, DIR, FIFO, CHR = (
    tarfile.REGTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.DIRTYPE,
    tarfile.FIFOTYPE,
    tarfile.CHRTYPE,
)


@pytest.mark.parametrize(
    "members",
    [
        [("../evil", REG, b"x", "")],
        [("/evil", REG, b"x", "")],
        [("a/b", REG, b"x", "")],
        [("..", REG, b"x", "")],
        [(".hidden", REG, b"x", "")],
        [("link", SYM, b"", "/etc/passwd")],
        [("link", SYM, b"", "."), ("link/x", REG, b"x", "")],
        [("hard", LNK, b"", "/etc/passwd")],
        [("pipe", FIFO, b"", "")],
        [("device", CHR, b"", "")],
        [("folder", DIR, b"", "")],
        [("twice", REG, b"x", ""), ("twice", REG, b"y", "")],
        [("a\\b", REG, b"x", "")],
        [("a\nb", REG, b"x", "")],
        [(f"f{i}", REG, b"", "") for i in range(40)],
    ],
    ids=lambda members: repr(members[0][0]),
)
def test_everything_but_plain_files_is_refused(tmp_path: Path, members: list[tuple[str, bytes, bytes, str]]) -> None:
    with pytest.raises(CloudError, match="an artefact must hold"):
        unpack(archive(tmp_path / "a.tar.gz", *members), tmp_path / "out")
    assert [one for one in (tmp_path / "out").rglob("*") if one.is_symlink()] == []
    assert not (tmp_path / "evil").exists()


def test_a_small_archive_that_unpacks_to_very_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artefact, "MOST_BYTES", 100_000)
    with pytest.raises(CloudError, match="unpack to at most"):
        unpack(archive(tmp_path / "a.tar.gz", ("big", REG, bytes(10_000_000), "")), tmp_path / "out")
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 10_000_000  # a header of ten million bytes
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress(header.tobuf() + bytes(10_000_000)))
    with pytest.raises(CloudError, match="unpack to at most"):
        unpack(tmp_path / "b.tar.gz", tmp_path / "out2")


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b[:-30], lambda _: b"", lambda b: b"x" + b[1:]])
def test_a_damaged_archive_is_one_line(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = archive(tmp_path / "a.tar.gz", *[(f"f{i}", REG, bytes(range(256)) * 40, "") for i in range(5)])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CloudError):
        unpack(path, tmp_path / "out")


def test_a_sparse_member_and_a_size_that_lies_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    member = tarfile.TarInfo("sparse")
    member.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"%011o\0" % (8 * 2**30)  # its real size: eight gibibytes of holes
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(bytes(header) + bytes(10_240)))
    with pytest.raises(CloudError, match="an artefact must"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    pax = tarfile.TarInfo("sparse")
    pax.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(2**33)}
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as tar:
        pax.size = 512
        tar.addfile(pax, io.BytesIO(b"0\n".ljust(512, b"\0")))
    with pytest.raises(CloudError, match="an artefact must"):
        unpack(tmp_path / "b.tar.gz", tmp_path / "out2")


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_damage_is_anything_but_one_line(tmp_path_factory: pytest.TempPathFactory, place: int, by: int) -> None:
    folder = tmp_path_factory.mktemp("damage")
    path = archive(folder / "a.tar.gz", *[(f"f{i}", REG, bytes(range(256)) * 4, "") for i in range(3)])
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= by
    path.write_bytes(data)
    with contextlib.suppress(CloudError):
        unpack(path, folder / "out")


@pytest.mark.parametrize(
    "manifest", ["[" * 100_000, '{"format": "crpbot.artefact/1", "files": {"a": {"bytes": 1e999, "sha256": ""}}}', "\ud800"]
)
def test_a_manifest_that_is_a_trap_is_one_line(tmp_path: Path, manifest: str) -> None:
    (tmp_path / "manifest.json").write_bytes(manifest.encode(errors="surrogatepass"))
    with pytest.raises(CloudError, match="whole manifest"):
        read_manifest(tmp_path)


def test_a_manifest_holds_every_byte(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"1")
    (tmp_path / "two").write_bytes(b"22")
    digest = write_manifest(tmp_path, {"job": "j"})
    assert len(digest) == 64
    manifest = read_manifest(tmp_path)
    assert (manifest.facts["job"], set(manifest.files)) == ("j", {"one", "two"})
    (tmp_path / "two").write_bytes(b"23")
    with pytest.raises(CloudError, match="two must have the digest"):
        read_manifest(tmp_path)
    (tmp_path / "two").write_bytes(b"22")
    (tmp_path / "three").write_bytes(b"")
    with pytest.raises(CloudError, match="difference in three"):
        read_manifest(tmp_path)
    (tmp_path / "three").unlink()
    (tmp_path / "one").unlink()
    with pytest.raises(CloudError, match="difference in one"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 1}', '{"format": "crpbot.artefact/9", "files": {}}', '{"files": {"a": 1}}']
)
def test_a_manifest_that_is_none_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(CloudError, match="an artefact must have"):
        read_manifest(tmp_path)
