"""The scaler of a stranger: mean and scale of each input, from wherever they were put."""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crpbot.errors import CheckpointError
from crpbot.model.archive import MOST_BYTES, STANDARD_SCALERS, numbers_of, read_archive, read_bounded
from crpbot.model.pickles import Record

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Scaler:
    """What inputs are shifted and divided by.

    Attributes:
        mean, scale: of each input, in feature units, shape `(n,)`; anything that a file may hold.
        features: names of the inputs in the scaler's order; empty where it does not say.

    """

    mean: Floats
    scale: Floats
    features: tuple[str, ...] = ()

    @property
    def fitted(self) -> bool:
        """Whether it can have been fitted: see `is_fitted`."""
        return is_fitted(self.mean, self.scale)

    def arrays(self, names: tuple[str, ...], where: str) -> tuple[Floats, Floats]:
        """Return mean and scale in the order of `names`.

        Raises:
            CheckpointError: there is not one mean and one scale for each input, or the scaler has other inputs.

        """
        if self.mean.shape != (len(names),) or self.scale.shape != (len(names),):
            raise CheckpointError(
                f"{where}: its scaler must have one mean and one scale for each of {len(names)} features, found "
                f"{self.mean.size} and {self.scale.size}; export it again"
            )
        if not self.features or self.features == names:
            return self.mean, self.scale
        if sorted(self.features) != sorted(names):
            raise CheckpointError(f"{where}: its scaler must have the inputs of the network, found others; export it again")
        order = [self.features.index(name) for name in names]
        return self.mean[order], self.scale[order]


def is_fitted(mean: Floats, scale: Floats) -> bool:
    """Whether mean and scale can come from data: finite, positive scales, and not all alike as before a fit."""
    usable = bool(np.isfinite(mean).all() and np.isfinite(scale).all() and (scale > 0).all())
    alike = bool((mean == mean[0]).all() and (scale == scale[0]).all())
    untouched = alike and (len(mean) > 1 or (mean[0] == 0 and scale[0] == 1))
    return usable and not untouched


def scaler_in(payload: Mapping[Any, Any], where: str) -> Scaler | None:
    """Return the scaler of a checkpoint: `scaler_mean` and `scaler_scale`, `scaler_params`, `scaler`, or a normalizer of ours.

    Raises:
        CheckpointError: there is one that is no pair of lists of numbers, or is of another kind.

    """
    for key in ("scaler_params", "scaler"):
        if isinstance(payload.get(key), Mapping | Record):
            return _scaler_of(payload[key], f"{where}: {key}")
    for prefix in ("scaler_", "normalizer."):
        if payload.get(f"{prefix}mean") is not None:
            return _pair(payload[f"{prefix}mean"], payload.get(f"{prefix}scale"), (), where)
    return None


def read_scaler(path: Path) -> Scaler:
    """Read a scaler file: JSON or npz with `mean` and `scale`, a `.pt` that holds one, or a scikit-learn `StandardScaler` pickle.

    A pickle is read as data: nothing in it is imported, constructed or called.

    Raises:
        CheckpointError: the file has no scaler.

    """
    if not path.is_file():
        raise CheckpointError(f"--scaler must be a file, found nothing at {path}; check the path")
    content, where = read_bounded(path), str(path)
    if content[:1] in b"{[" or path.suffix == ".json":
        try:
            payload = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"{where} must be JSON with mean and scale: {error}; correct it") from None
    else:
        payload = _npz(path) if path.suffix == ".npz" else read_archive(content, where=where)
    if isinstance(payload, Mapping):
        state = payload.get("model_state_dict")
        found = scaler_in({**payload, **state} if isinstance(state, Mapping) else payload, where)
        if found is not None:
            return found
    return _scaler_of(payload, where)


def _npz(path: Path) -> Mapping[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(info.file_size for info in archive.infolist()) > MOST_BYTES:
                raise CheckpointError(f"{path} must unpack to at most {MOST_BYTES // 2**20} MiB, found more; it is no scaler")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, zipfile.BadZipFile, KeyError, EOFError) as error:
        raise CheckpointError(f"{path} must be an npz with mean and scale: {error}; correct it") from None


def _scaler_of(value: Any, where: str) -> Scaler:  # noqa: ANN401
    if isinstance(value, Record) and value.name in STANDARD_SCALERS and isinstance(value.state, Mapping):
        value = value.state
    elif isinstance(value, Record):
        raise CheckpointError(f"{where} must be a StandardScaler, or mean and scale, found {value.name:.80}; export its numbers")
    if not isinstance(value, Mapping):
        raise CheckpointError(f"{where} must have mean and scale, found {type(value).__name__}; export its numbers")
    mean, scale = (next((value[key] for key in (name, f"{name}_") if key in value), None) for name in ("mean", "scale"))
    names = value.get("feature_names_in_", value.get("features", value.get("feature_columns", ())))
    return _pair(mean, scale, tuple(map(str, names)) if isinstance(names, list | tuple) else (), where)


def _pair(mean: Any, scale: Any, features: tuple[str, ...], where: str) -> Scaler:  # noqa: ANN401
    numbers = numbers_of(mean), numbers_of(scale)
    if numbers[0] is None or numbers[1] is None:
        raise CheckpointError(f"{where}: its scaler must have one mean and one scale for each feature; export it again")
    return Scaler(mean=numbers[0].reshape(-1), scale=numbers[1].reshape(-1), features=features)
