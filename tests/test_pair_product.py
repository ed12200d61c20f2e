"""The pair product as users meet it: who chooses it, that it runs, and how accurate trained networks are."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from cli_cases import needs_data, refusal
from conftest import SUPPORTED_ISAS
from models import small
from torch import Tensor

from mnv2_kernels import FusedMobileNetV2, _native
from mnv2_kernels.accuracy import MINIMUM_INPUTS
from mnv2_kernels.info import gather_info
from mnv2_kernels.packed_network import layer_plans
from mnv2_kernels.pair_product import PAIR_PRODUCTS, VARIABLE
from mnv2_kernels.photos import load_photos
from mnv2_kernels.profile import describe_plan
from mnv2_kernels.verify import compare_parts
from mnv2_kernels.weights import DATA_NETWORKS, data_photos, load_network

CHOICES = 'expected "off", "safe" or "all", got "on"'

# Deep enough that weights at random pass the accuracy test of "safe"; the first block has no expand.
SETTING = [[1, 64, 1, 1], [3, 96, 2, 2]]
EXPANDS, PROJECTS = 2, 3


def network(pair_product: str | None = None) -> FusedMobileNetV2:
    return small(width_mult=1.0, inverted_residual_setting=SETTING, pair_product=pair_product)


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def pair_isa(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An instruction set with a pair product, forced."""
    for isa in SUPPORTED_ISAS:
        monkeypatch.setenv("MNV2_FORCE_ISA", isa)
        if _native.has_pair_product():
            return isa
    pytest.skip("no instruction set of this machine has a pair product")


def pair_layers(model: FusedMobileNetV2) -> list[str]:
    """The layers in pairs of the packed network."""
    plans = layer_plans(model.deploy().network.packed, torch.empty(1, 3, 32, 32), 1)
    return [layer for plan in plans for layer in plan.get("pair_layers", ())]


def counts(layers: list[str]) -> tuple[int, int, int]:
    return layers.count("expand"), layers.count("project"), layers.count("head")


# --- the choice ---


def test_by_default_the_processor_decides(pair_isa: str) -> None:
    expected = "safe" if _native.additions_are_free() else "off"
    info = gather_info()
    assert (_native.selected_pair_product(), info.pair_product) == (expected, expected)
    assert "as measured" in info.pair_product_reason
    assert pair_layers(network()) == pair_layers(network(expected))


@pytest.mark.parametrize("choice", PAIR_PRODUCTS)
def test_the_variable_overrides_the_processor(
    choice: str, pair_isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, choice)
    info = gather_info()
    assert (info.pair_product, info.pair_product_reason) == (choice, f"set by {VARIABLE}")
    assert pair_layers(network()) == pair_layers(network(choice))


def test_the_argument_says_which_layers(pair_isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "safe")
    assert counts(pair_layers(network("off"))) == (0, 0, 0)
    assert counts(pair_layers(network("safe"))) == (EXPANDS, 0, 1)
    assert counts(pair_layers(network("all"))) == (EXPANDS, PROJECTS, 1)


def test_profiles_name_the_layers() -> None:
    plan = {"segments": 1, "pair_layers": ["expand", "project"]}
    assert describe_plan(plan) == "expand and project in pairs"


def test_other_instruction_sets_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(2, 3, 32, 32)
    monkeypatch.setenv("MNV2_FORCE_ISA", "scalar")
    assert _native.selected_pair_product() == "off"
    assert gather_info().pair_product_reason == "scalar has no kernels for it"
    plain, paired = network("off"), network("all")
    assert pair_layers(paired) == []
    with torch.no_grad():
        assert torch.equal(plain(x), paired(x))


def test_an_unknown_name_lists_the_choices(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="pair_product: expected one of off, safe, all, or None, got 'on'"):
        network("on")
    weights = torch.zeros(8, 16, 1, 1), None, None
    with pytest.raises(RuntimeError, match=f"mnv2::pack_head_pool: pair_product: {CHOICES}"):
        torch.ops.mnv2.pack_head_pool(*weights, pair_product="on")
    monkeypatch.setenv(VARIABLE, "on")
    with pytest.raises(RuntimeError, match=f"{VARIABLE}: {CHOICES}"):
        torch.ops.mnv2.pack_head_pool(*weights)
    assert f"{VARIABLE}: {CHOICES}" in refusal(capsys, ["info"])


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_scaled_inputs_take_a_third_more_scratch(threads: int, pair_isa: str) -> None:
    model = FusedMobileNetV2().eval()
    most = {}
    for choice in PAIR_PRODUCTS:
        model.pair_product = choice
        plans = layer_plans(model.deploy().network.packed, torch.empty(1, 3, 224, 224), threads)
        most[choice] = max(plan["scratch_bytes"] for plan in plans)
    assert most["off"] < most["safe"] <= most["all"] < 1.4 * most["off"]


# --- that it runs ---


@torch.no_grad()
def test_a_change_of_the_attribute_packs_anew(pair_isa: str) -> None:
    x = torch.randn(2, 3, 32, 32)
    model = network("off")
    plain = model(x)
    results = {}
    for choice in PAIR_PRODUCTS:
        model.pair_product = choice
        results[choice] = model(x)
        assert torch.equal(results[choice], network(choice)(x))
        assert torch.equal(results[choice], copy.deepcopy(model)(x))
    assert torch.equal(results["off"], plain)
    assert not torch.equal(results["safe"], plain)
    assert not torch.equal(results["all"], results["safe"])


@torch.no_grad()
@pytest.mark.parametrize("choice", PAIR_PRODUCTS)
def test_block_by_block_and_deployed_to_the_same_bits(choice: str, pair_isa: str) -> None:
    x = torch.randn(3, 3, 40, 40)
    model = network(choice)
    expected = model(x)
    assert torch.equal(model.deploy()(x), expected)
    calls = []
    handle = model.features[1].register_forward_hook(lambda *_: calls.append(1))
    assert torch.equal(model(x), expected)
    assert calls
    handle.remove()
    for index in range(len(x)):
        assert torch.equal(model(x[index : index + 1])[0], expected[index])


@pytest.mark.parametrize("choice", PAIR_PRODUCTS)
def test_unpacked_operators_choose_the_same(
    choice: str, pair_isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, choice)
    weights = [torch.randn(96, 16, 1, 1), None, None, torch.randn(96, 1, 3, 3), None, None]
    weights += [torch.randn(24, 96, 1, 1), None, None]
    x = torch.randn(2, 16, 9, 9)
    packed = torch.ops.mnv2.pack_block(*weights)
    assert len(packed) == _native.packed_block_bytes(16, 96, 24)
    options = {"in_channels": 16, "expanded_channels": 96, "out_channels": 24}
    y = torch.ops.mnv2.fused_block_packed(x, packed, **options)
    assert torch.equal(y, torch.ops.mnv2.fused_block(x, *weights))


@pytest.mark.parametrize("choice", ["", *PAIR_PRODUCTS])
def test_packers_have_right_fakes(choice: str, pair_isa: str) -> None:
    block = [torch.randn(48, 8, 1, 1), None, None, torch.randn(48, 1, 3, 3), None, None]
    block += [torch.randn(16, 48, 1, 1), None, None]
    for op, weights in (
        (torch.ops.mnv2.pack_block, block),
        (torch.ops.mnv2.pack_head_pool, (torch.randn(40, 200, 1, 1), None, None)),
    ):
        torch.library.opcheck(op.default, tuple(weights), {"pair_product": choice})


# --- accuracy ---

CROP = 96


def crops(images: Tensor) -> Tensor:
    """The four corners of each image, as they are and mirrored."""
    corners = [
        images[..., rows, columns]
        for rows in (slice(CROP), slice(-CROP, None))
        for columns in (slice(CROP), slice(-CROP, None))
    ]
    return torch.cat([each for corner in corners for each in (corner, corner.flip(-1))])


@needs_data
@torch.no_grad()
@pytest.mark.parametrize("name", DATA_NETWORKS)
def test_safe_keeps_the_rule_on_trained_networks(name: str, pair_isa: str) -> None:
    trained = load_network(name)
    trained.model.pair_product = "safe"
    settings = trained.settings
    images = crops(load_photos(data_photos(), settings.size, settings.preprocess))
    assert len(images) == 8 * 12 >= MINIMUM_INPUTS
    assert counts(pair_layers(trained.model)) == (16, 0, 1)
    parts = list(compare_parts(trained.model, images.split(8)))
    assert [part.name for part in parts if not part.passed] == []
    for part in parts:
        assert part.ratio == part.pair_ratios["safe"]
    # Stem and first block have nothing in pairs; of a few others a project has the largest error.
    same = {part.name for part in parts if part.pair_ratios["safe"] == part.pair_ratios["off"]}
    assert {"features.0", "features.1"} <= same
    assert len(same) < len(parts) / 2
