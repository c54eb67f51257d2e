"""What training makes small."""

import torch
from torch import Tensor
from torch.nn import functional

from crpbot.model.choices import LossChoice


def focal_loss(logits: Tensor, y: Tensor, *, alpha: float, gamma: float, label_smoothing: float) -> Tensor:
    """Return mean(α·(1 − exp(−ce))^γ·ce), ce the cross entropy with label smoothing.

    (Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, equation 5, over the smoothed cross entropy of
    Szegedy et al., CVPR 2016.)

    Shape:
        - logits: `(batch, 3)`; y: `(batch,)`, class numbers; result: a scalar, in nats

    """
    ce = functional.cross_entropy(logits, y, label_smoothing=label_smoothing, reduction="none")
    return (alpha * (1 - torch.exp(-ce)) ** gamma * ce).mean()


def mean_loss(choice: LossChoice, logits: Tensor, y: Tensor) -> float:
    """Return the mean loss of a recipe, in nats, of logits of shape `(n, 3)` as served."""
    if choice.kind == "focal":
        loss = focal_loss(logits, y, alpha=choice.alpha, gamma=choice.gamma, label_smoothing=choice.label_smoothing)
    else:
        loss = functional.cross_entropy(logits, y, label_smoothing=choice.label_smoothing)
    return float(loss)
