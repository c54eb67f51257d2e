"""The scaler of a stranger: mean and scale of each input, from wherever they were put."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crpbot.errors import CheckpointError
from crpbot.model.archive import DAMAGE, NUMBER, STANDARD_SCALERS, TEXT, Parts, numbers_of, read_archive, read_bounded
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
    if not len(mean):
        return False
    alike = bool((scale == scale[0]).all())  # no two features of a market vary alike
    untouched = alike and (len(mean) > 1 or (mean[0] == 0 and scale[0] == 1))
    return usable and not untouched


def second_scaler(where: str) -> CheckpointError:
    """Return the error of a scaler that is brought to a checkpoint which has one."""
    return CheckpointError(f"{where} must lack a scaler for another to be brought, found one in it; leave out --scaler")


def scaler_in(payload: Mapping[Any, Any], where: str) -> Scaler | None:
    """Return the scaler of a checkpoint, by the names that people give it.

    Raises:
        CheckpointError: there is one that is no pair of lists of numbers, or is of another kind.

    """
    for key in ("scaler_params", "scaler"):
        value = payload.get(key)
        if isinstance(value, Mapping | Record):
            return _scaler_of(value, f"{where}: {key}")
        if isinstance(value, list | tuple) and len(value) == 2 and numbers_of(value) is None:
            return _pair(value[0], value[1], (), where)
    for prefix in ("scaler_", "normalizer.", ""):
        mean, scale = (_named(payload, prefix, names) for names in (_MEANS, _SCALES))
        if mean is not None and (prefix or scale is not None):
            return _pair(mean, scale, _texts(payload), where)
    return None


_MEANS, _SCALES = ("mean", "mean_", "means"), ("scale", "scale_", "std", "stds")


def _named(payload: Mapping[Any, Any], prefix: str, names: tuple[str, ...]) -> Any:  # noqa: ANN401
    return next((payload[prefix + name] for name in names if payload.get(prefix + name) is not None), None)


def _texts(payload: Mapping[Any, Any]) -> tuple[str, ...]:
    for key in ("feature_names_in_", "features", "feature_columns"):
        if isinstance(payload.get(key), list | tuple):
            return tuple(map(str, payload[key]))
    return ()


def read_scaler(path: Path) -> Scaler:
    """Read a scaler file: JSON or npz with `mean` and `scale`, a `.pt` that holds one, or a scikit-learn `StandardScaler` pickle.

    A pickle is read as data: nothing in it is imported, constructed or called.

    Raises:
        CheckpointError: the file has no scaler.

    """
    if not path.is_file():
        raise CheckpointError(f"--scaler must be a file, found nothing at {path}; check the path")
    content, where = read_bounded(path), str(path)
    if path.suffix == ".json" or content[:1] in (b"{", b"["):
        payload = _json(content, where)
    elif path.suffix == ".npz":
        payload = _npz(content, where)
    else:
        payload = read_archive(content, where=where)
    if isinstance(payload, Mapping):
        state = payload.get("model_state_dict")
        found = scaler_in({**payload, **state} if isinstance(state, Mapping) else payload, where)
        if found is not None:
            return found
    return _scaler_of(payload, where)


def _json(content: bytes, where: str) -> Any:  # noqa: ANN401
    if len(content) > LONGEST_JSON:
        raise CheckpointError(f"{where} must be JSON of at most {LONGEST_JSON // 2**20} MiB, found more; it is no scaler")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where} must be JSON with mean and scale: {error}; correct it") from None


def _npz(content: bytes, where: str) -> Mapping[str, Any]:
    """Return the arrays of one dimension in an npz that matter to a scaler: numbers, and names.

    (NumPy Enhancement Proposal 1 describes the header; numpy's own reader evaluates it as Python.)
    """
    try:
        parts = Parts(content, where)
        wanted = [name for name in parts.names if name.endswith(".npy") and len(name) < LONGEST_NAME]
        return {name.removesuffix(".npy"): _npy(parts.read(name)) for name in wanted}
    except DAMAGE as error:
        raise CheckpointError(f"{where} must be an npz with mean and scale: {str(error)[:120]}; correct it") from None


def _npy(content: bytes) -> Any:  # noqa: ANN401
    length = int.from_bytes(content[8:10], "little")
    header = _HEADER.match(content[10 : 10 + length].decode("latin1"))
    if content[:6] != b"\x93NUMPY" or content[6] != 1 or header is None:
        raise ValueError("it must hold lists of numbers or texts in the form of numpy")
    array = np.frombuffer(content, header["kind"], int(header["count"]), 10 + length)
    return array.tolist() if array.dtype.kind == "U" else array


LONGEST_JSON = 2**20
LONGEST_NAME = 100
MOST_INPUTS = 10_000
_HEADER = re.compile(
    rf"\{{'descr': '(?P<kind>{NUMBER.pattern}|{TEXT.pattern})', 'fortran_order': (True|False), "
    r"'shape': \((?P<count>[0-9]{1,6}),\), \} *\n"
)


def _scaler_of(value: Any, where: str) -> Scaler:  # noqa: ANN401
    if isinstance(value, Record):
        if value.name not in STANDARD_SCALERS or not isinstance(value.state, Mapping):
            raise CheckpointError(f"{where} must be a StandardScaler, or mean and scale, found {value.name}; export its numbers")
        value = value.state
    if not isinstance(value, Mapping):
        raise CheckpointError(f"{where} must have mean and scale, found {type(value).__name__}; export its numbers")
    mean, scale = (_named(value, "", names) for names in (_MEANS, _SCALES))
    other = numbers_of(mean if scale is None else scale)
    if other is not None and value.get("with_mean") is False:  # it keeps a mean and does not use it
        mean = np.zeros(other.shape)
    if other is not None and value.get("with_std") is False:
        scale = np.ones(other.shape)
    return _pair(mean, scale, _texts(value), where)


def _pair(mean: Any, scale: Any, features: tuple[str, ...], where: str) -> Scaler:  # noqa: ANN401
    if any(isinstance(value, np.ndarray | list | tuple) and _size(value) > MOST_INPUTS for value in (mean, scale)):
        raise CheckpointError(f"{where}: its scaler must have at most {MOST_INPUTS:,} features, found more; export it again")
    numbers = numbers_of(mean), numbers_of(scale)
    if numbers[0] is None or numbers[1] is None:
        raise CheckpointError(f"{where}: its scaler must have one mean and one scale for each feature; export it again")
    return Scaler(mean=numbers[0].reshape(-1), scale=numbers[1].reshape(-1), features=features)


def _size(value: NDArray[Any] | list[Any] | tuple[Any, ...]) -> int:
    return value.size if isinstance(value, np.ndarray) else len(value)
