"""Trained networks on photographs: logits as the float32 eager network gave them."""

from __future__ import annotations

import copy
import json
import os
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import every_isa
from models import eager
from safetensors.torch import load_file
from torch import Tensor, nn

from mnv2_kernels import FusedMobileNetV2
from mnv2_kernels.accuracy import EAGER_FACTOR
from mnv2_kernels.weights.photos import load_photo

DATA = Path(os.environ.get("MNV2_DATA") or Path(__file__).parents[2] / "shared" / "data")
EXPECTED = DATA / "expected.json"

# Absolute. Two float32 convolution libraries differ by 1.3e-5, wrong padding moves some logit by 2 or more.
TOLERANCE = 2e-3
# Absolute, of an input's mean and deviation, which expected.json gives rounded.
INPUT_TOLERANCE = 1e-4

pytestmark = pytest.mark.skipif(not EXPECTED.is_file(), reason=f"MNV2_DATA: no {EXPECTED.name} in {DATA}")


def expected() -> dict[str, Any]:
    return json.loads(EXPECTED.read_text()) if EXPECTED.is_file() else {"models": {}, "photos": []}


NETWORKS = list(expected()["models"])


@lru_cache
def model_of(network: str) -> FusedMobileNetV2:
    """The trained network, its half-precision weights widened."""
    entry = expected()["models"][network]
    norm_layer = partial(nn.BatchNorm2d, eps=entry["bn_eps"])
    model = FusedMobileNetV2(entry["num_classes"], norm_layer=norm_layer, padding="same")
    model.load_state_dict(load_file(DATA / entry["weights"]), strict=True)
    return model.eval()


def photos_of(network: str) -> list[dict[str, Any]]:
    return [photo for photo in expected()["photos"] if network in photo]


@lru_cache
def inputs_of(network: str) -> Tensor:
    size = expected()["models"][network]["input_size"]
    return torch.stack([load_photo(DATA / photo["file"], size, "tf") for photo in photos_of(network)])


def assert_expected(network: str, logits: Tensor, tolerance: float = TOLERANCE) -> None:
    assert len(logits) == len(photos_of(network)) >= 4
    for photo, row in zip(photos_of(network), logits, strict=True):
        top = photo[network]["top5"]
        indices = [entry["index"] for entry in top]
        wanted = torch.tensor([entry["logit"] for entry in top])
        torch.testing.assert_close(row[indices], wanted, rtol=0, atol=tolerance, msg=photo["file"])
        assert row.argmax() == indices[0]


@pytest.mark.parametrize("network", NETWORKS)
def test_inputs_are_those_of_the_expected_logits(network: str) -> None:
    for photo, x in zip(photos_of(network), inputs_of(network), strict=True):
        given = [x.mean(), x.std(correction=0), *x.mean((1, 2))]
        entry = photo[network]["input"]
        wanted = [entry["mean"], entry["std"], *entry["channel_means"]]
        torch.testing.assert_close(torch.stack(given), torch.tensor(wanted), rtol=0, atol=INPUT_TOLERANCE)


@pytest.mark.parametrize("network", NETWORKS)
def test_layers_give_the_expected_logits(network: str) -> None:
    assert_expected(network, eager(model_of(network), inputs_of(network)))


@pytest.mark.slow
@every_isa
@pytest.mark.parametrize("network", NETWORKS)
def test_kernels_give_the_expected_logits(network: str, isa: str) -> None:
    model = copy.deepcopy(model_of(network))  # packs for this instruction set
    with torch.no_grad():
        assert model.fusion_obstacles() == {}
        logits = model(inputs_of(network))
        assert_expected(network, logits)
        assert torch.equal(model.deploy()(inputs_of(network)), logits)


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_kernels_are_as_accurate_as_the_layers(network: str) -> None:
    model, x = model_of(network), inputs_of(network)
    truth = eager(copy.deepcopy(model).double(), x.double())
    with torch.no_grad():
        fused = (model(x) - truth).abs().max()
    assert fused <= EAGER_FACTOR * (eager(model, x) - truth).abs().max()
