"""`crpbot export`: a checkpoint in another form."""

from pathlib import Path
from typing import Annotated

import typer

from crpbot.cli.options import InputsOption, ScalerOption, names


def command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A checkpoint file or a model folder.")],
    form: Annotated[
        str, typer.Option("--format", metavar="onnx|seed", help="The deployed form, or the founding .pt and its scaler.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="The new file: .onnx, or .pt for seed.")],
    scaler: ScalerOption = None,
    features: InputsOption = None,
) -> None:
    """Write a checkpoint in another form, after proof that it says the same.

    `onnx` is what every model folder holds as model.onnx: normalizer, network, temperature and softmax in one graph, with the
    header. `seed` is a state dict with the scaler's numbers, and the scaler as a pickle beside it, for the founding system.

    Example: crpbot export repaired.pt --format onnx -o repaired.onnx
    """
    from crpbot.model.loading import open_model

    opened = open_model(model)  # screened before torch is imported
    from crpbot import factory

    for path in factory.export(opened, out=out, form=form, scaler=scaler, features=names(features) or None):
        typer.echo(path)
