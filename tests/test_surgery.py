"""Whatever is done to a network: the fused one follows it, or an error names what it does not follow."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from random import Random

import pytest
import torch
import torchvision
from models import SMALL_SETTING, randomised
from surgery import FUSED, IDLE, SURGERIES, NotApplicable, Patient, Words
from torch import Tensor, nn

from mnv2_kernels import FusedMobileNetV2
from mnv2_kernels.accuracy import MINIMUM_INPUTS, largest_allowed_error

MOMENTS = ("before conversion", "after conversion", "after a call")
SEEDS = 4  # of each surgery at each moment
CLASSES = 64
SIZE = 32
SCALE = 6.0  # of images, so that activations are clipped on both sides


@cache
def healthy(dtype: torch.dtype) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = torchvision.models.MobileNetV2(CLASSES, 0.5, SMALL_SETTING)
        return randomised(model).eval().to(dtype)


@cache
def converted() -> FusedMobileNetV2:
    return FusedMobileNetV2.from_model(healthy(torch.float32))


@cache
def healthy_result() -> Tensor:
    with torch.no_grad():
        return healthy(torch.float64)(images(torch.float64))


@cache
def images(dtype: torch.dtype) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return (SCALE * torch.randn(MINIMUM_INPUTS, 3, SIZE, SIZE)).to(dtype)


class Case:
    """Some surgeries, done alike to whatever network is asked for."""

    def __init__(self, names: list[str], seed: int, undo: ExitStack) -> None:
        self._names, self._seed, self._undo = names, seed, undo

    def operate(self, network: nn.Module) -> Words:
        """Returns words of which an error about it should contain one."""
        torch.manual_seed(self._seed)
        patient = Patient(network, Random(self._seed), self._undo.callback)
        return [word for name in self._names for word in SURGERIES[name](patient)]

    def operated(self, dtype: torch.dtype) -> nn.Module:
        network = copy.deepcopy(healthy(dtype))
        self.operate(network)
        return network


@contextmanager
def case(names: list[str], seed: int) -> Iterator[Case]:
    with ExitStack() as undo:
        yield Case(names, seed, undo)


class Outcome(Exception):
    """How a case ended before there was a result to compare."""


def fused(case: Case, moment: str, source: nn.Module) -> tuple[nn.Module, Words]:
    """The fused network after the surgery, and the words that tell of it; ``source`` is torchvision's."""
    if moment == "before conversion":
        words = case.operate(copy.deepcopy(healthy(torch.float32)))
        with named(ValueError, words):
            return FusedMobileNetV2.from_model(source), words
    model = copy.deepcopy(converted())
    if moment == "after a call":
        model(images(torch.float32))
    return model, case.operate(model)


@contextmanager
def named(error: type[Exception], words: Words) -> Iterator[None]:
    """Ends the case where an error names the surgery; any other error fails the test."""
    try:
        yield
    except error as found:
        if any(short(word) in str(found) for word in words):
            raise Outcome("refused") from None
        raise


def short(word: str) -> str:
    """features.2.conv.1 as features.2: the units are what deploy() names first."""
    return ".".join(word.split(".")[:2])


def assert_equal(model: Callable[[Tensor], Tensor], eager: Tensor, truth: Tensor) -> None:
    y = model(images(torch.float32))
    limit = largest_allowed_error(max_error(eager, truth), truth.abs().max().item(), torch.float32)
    assert y.shape == truth.shape
    error = max_error(y, truth)
    assert error <= limit, f"error {error:.3g} over the limit {limit:.3g}"


@torch.enable_grad()
def input_gradient(network: nn.Module) -> Tensor:
    x = images(torch.float32).clone().requires_grad_()
    network(x).square().sum().backward()
    return x.grad


def max_error(y: Tensor, truth: Tensor) -> float:
    return (y.double() - truth).abs().max().item()


@torch.no_grad()
def run(names: list[str], moment: str, seed: int) -> tuple[str, bool]:
    """The outcome of a case, and whether the surgery changes what the network computes."""
    with case(names, seed) as surgery:
        source = surgery.operated(torch.float32)
        truth = surgery.operated(torch.float64)(images(torch.float64))
        eager = source(images(torch.float32))
        changes = truth.shape != healthy_result().shape or not torch.equal(truth, healthy_result())
        try:
            model, words = fused(surgery, moment, source)
            assert_equal(model, eager, truth)
            if names == ["backward hook"]:
                expected = input_gradient(source)
                scale = expected.abs().max().item()
                torch.testing.assert_close(input_gradient(model), expected, rtol=1e-4, atol=1e-5 * scale)
            with named(RuntimeError, words):
                deployed = model.deploy()
            assert_equal(deployed, eager, truth)
        except Outcome as outcome:
            return str(outcome), changes
        return "deployed", changes


@pytest.mark.slow
@pytest.mark.parametrize("surgery", SURGERIES)
def test_no_silent_difference(surgery: str) -> None:
    outcomes, effective = Counter(), 0
    for moment in MOMENTS:
        for seed in range(SEEDS):
            # Every other time with another one on top.
            second = Random(f"{surgery} {moment} {seed}").choice(list(SURGERIES))
            names = [surgery, second] if seed % 2 else [surgery]
            try:
                outcome, changes = run(names, moment, seed)
            except NotApplicable:
                outcome, changes = "not applicable", False
            except Exception as error:
                error.add_note(f"{names}, {moment}, seed {seed}")
                raise
            outcomes[outcome] += 1
            if len(names) == 1:
                effective += changes
                assert surgery not in FUSED or outcome == "deployed", (names, moment, seed, outcome)
    assert effective or surgery in IDLE, outcomes
    assert outcomes["not applicable"] <= sum(outcomes.values()) / 2, outcomes
