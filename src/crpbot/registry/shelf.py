"""What is kept of each model: one folder, named by the digest of its checkpoint, that never changes."""

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from crpbot.disk import open_regular, settle
from crpbot.errors import RegistryError
from crpbot.model.folder import ONNX_NAME, RECIPE_NAME

if TYPE_CHECKING:
    from crpbot.model.checkpoint import Checkpoint
    from crpbot.quality.report.data import Judgement


class Shelf:
    """The folders `models/SHA256/` of models and `judgements/SHA256.json` of what was measured, below one folder.

    Whatever is read here is first held against the digests of the ledger.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(
        self, checkpoint: "Checkpoint", file: Path, judgement: "Judgement", *, known: Mapping[str, str] | None
    ) -> dict[str, str]:
        """Keep a checkpoint with its recipe and its deployed form, and return the digests of the files by name.

        The deployed form is made anew from the checkpoint that was judged: one that lies beside it is not believed.

        Args:
            checkpoint: that was judged.
            file: that holds it.
            judgement: of it.
            known: digests of what the ledger says is kept of it already; None where it was never seen.

        Raises:
            RegistryError: the file has changed since it was judged, or what is kept was altered.

        """
        from crpbot.model.export import PROBE_ROWS, export_onnx  # noqa: PLC0415  who only serves makes no form

        sha256 = judgement.diagnosis.model.sha256
        place = self._folder / "models" / sha256
        if digest_of(file) != sha256:
            raise RegistryError(f"{file} must be the file that was judged, but it has changed since; judge it again")
        if known is not None:
            self.prove(sha256, known)
            return dict(known)
        seen = judgement.diagnosis.judged.x[-PROBE_ROWS:]
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(mkdtemp(dir=place.parent, prefix=f".{sha256[:12]}."))
        try:
            shutil.copyfile(file, partial / file.name)
            probe = seen if seen.shape[1] else None  # a settled judgement has left its features behind
            export_onnx(checkpoint, partial / ONNX_NAME, checkpoint_sha256=sha256, probe=probe)
            if checkpoint.recipe is not None:
                (partial / RECIPE_NAME).write_text(checkpoint.recipe.to_toml(), encoding="utf-8")
            for one in partial.iterdir():
                with one.open("rb+") as written:
                    os.fsync(written.fileno())
                one.chmod(0o444)
            files = {one.name: digest_of(one) for one in sorted(partial.iterdir())}
            if files[file.name] != sha256:
                raise RegistryError(f"{file} must be the file that was judged, but it has changed since; judge it again")
            partial.chmod(0o755)
            shutil.rmtree(place, ignore_errors=True)  # of a process that was killed before it could decide
            settle(partial)
            partial.rename(place)
            settle(place.parent)
            return files
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def keep_judgement(self, judgement: "Judgement") -> str:
        """Keep what was measured, under its digest, and return that."""
        from crpbot.disk import write_whole  # noqa: PLC0415  likewise

        content = judgement.to_json().encode()
        digest = hashlib.sha256(content).hexdigest()
        path = self.judgement(digest)
        if not path.exists():
            write_whole(path, content)
        return digest

    def judgement(self, digest: str) -> Path:
        """Return where what was measured is kept."""
        return self._folder / "judgements" / f"{digest}.json"

    def file(self, sha256: str, name: str) -> Path:
        """Return where a file of a model is kept."""
        return self._folder / "models" / sha256 / name

    def prove(self, sha256: str, files: Mapping[str, str], *, diagnosis: str | None = None) -> None:
        """Check that the files of a model, and what was measured of it, are those that the ledger knows.

        Raises:
            RegistryError: one is another, or gone.

        """
        wanted = {self.file(sha256, name): digest for name, digest in files.items()}
        if diagnosis is not None:
            wanted[self.judgement(diagnosis)] = diagnosis
        for path, digest in wanted.items():
            if not digest or digest_of(path) != digest:
                raise _altered(path)

    def read(self, sha256: str, name: str, digest: str) -> bytes:
        """Return a file of a model, after proof that it is the one that the ledger knows: the bytes that were proven.

        Raises:
            RegistryError: it is another, or gone.

        """
        path = self.file(sha256, name)
        try:
            content = _bytes_of(path)
        except OSError:
            raise _altered(path) from None
        if hashlib.sha256(content).hexdigest() != digest:
            raise _altered(path)
        return content


def _bytes_of(path: Path) -> bytes:
    with open_regular(path) as file:
        return file.read()


def _altered(path: Path) -> RegistryError:
    return RegistryError(
        f"{path} must be what was kept when the model was judged, found another or none; restore it from a backup"
    )


def digest_of(path: Path) -> str:
    """Return the digest of a file; of one that is not there, or cannot be read, an empty one."""
    try:
        return hashlib.sha256(_bytes_of(path)).hexdigest()
    except OSError:
        return ""
