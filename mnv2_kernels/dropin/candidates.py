"""The blocks and stems of a model, each with the module that holds it, or why none is served."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from ..matching.parts import Part
from ..matching.served import obstacles_of
from .owners import outside_user, owner_of, users_of
from .survey import Reading


@dataclass
class Candidate:
    """A stem or block as a module's reading has it.

    ``owner`` is the name of the smallest module that holds it, ``obstacle`` why no operator computes it.
    """

    part: Part
    owner: str
    obstacle: str


def candidates(model: nn.Module, readings: Sequence[Reading]) -> Iterator[Candidate]:
    """Blocks and stems, each as often as a module that holds it was read."""
    users = users_of(model)
    for reading in readings:
        for part in (part for run in reading.runs for part in run.parts):
            if part.kind in ("block", "stem"):
                owner = owner_of(part, model, users)
                obstacle = ", ".join(obstacles_of(part))
                if not obstacle and (user := outside_user(part, owner, users)):
                    obstacle = f"it shares a weight with {user}"
                yield Candidate(part, owner, obstacle)
