"""The scaler for other tools."""

import pickle
from pathlib import Path

from crpbot.disk import write_whole
from crpbot.errors import CheckpointError
from crpbot.model.checkpoint import Checkpoint


def export_scaler(checkpoint: Checkpoint, path: Path) -> None:
    """Write the normalizer of `checkpoint` as a pickled scikit-learn `StandardScaler` with the same numbers.

    A founding deliverable, for tools that expect one. crpbot itself never unpickles one: pickles run code.
    """
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415  heavy, and for this one file only

    normalizer = checkpoint.network.normalizer
    if normalizer is None or checkpoint.origin is None:
        raise CheckpointError("only a checkpoint of ours with a normalizer has a scaler, found one without; nothing to export")
    scaler = StandardScaler()
    scaler.mean_ = normalizer.mean.numpy().copy()
    scaler.scale_ = normalizer.scale.numpy().copy()
    scaler.var_ = scaler.scale_**2
    scaler.n_features_in_ = len(checkpoint.features)
    scaler.n_samples_seen_ = checkpoint.origin.training_rows
    write_whole(path, pickle.dumps(scaler, protocol=4))
