"""How much of a float network's logits another network, such as its int8 one, keeps."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from .report import decibels


@dataclass(frozen=True)
class Agreement:
    """``sqnr``: signal to noise of the centred logits in dB; ``divergence``: KL of the softmax, in nats.

    ``kept`` is the share of images whose top 1 is the float network's.
    """

    sqnr: float
    divergence: float
    kept: float

    def __str__(self) -> str:
        return f"{self.sqnr:.1f} dB, KL divergence {self.divergence:.4f}, top 1 kept {self.kept:.1%}"


def agreement(got: Tensor, want: Tensor) -> Agreement:
    """Logits (N, classes) beside the float network's."""
    got, want = got.double(), want.double()
    divergence = F.kl_div(got.log_softmax(1), want.log_softmax(1), reduction="batchmean", log_target=True)
    centred, difference = want - want.mean(1, keepdim=True), got - want
    noise = (difference - difference.mean(1, keepdim=True)).square().sum().item()
    kept = (got.argmax(1) == want.argmax(1)).double().mean().item()
    return Agreement(decibels(centred.square().sum().item(), noise), divergence.item(), kept)
