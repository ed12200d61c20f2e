"""The layers of a network as one operator: which ones make a network, and who has an operator for them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import gpu
from .fusion import Fusion, PackedLayers, PackedOperator, outside_inference_mode
from .layer_description import SEPARATOR, describe_layer
from .ops import weights_dtype

EXPAND_WEIGHTS = 3  # of a block's: weight, scale and bias come first


def joined(fusions: Sequence[Fusion], device: torch.device | None) -> PackedOperator | PackedLayers | None:
    """All layers in one call: by mnv2::network on the CPU, by mnv2::network_layers where CUDA kernels serve.

    Weights are on ``device``, None where they are on several. Returns None where there is no such operator,
    or the layers are not an optional stem, blocks, a head and an optional linear layer.
    """
    if device is None or not _is_network([fusion.kind for fusion in fusions]):
        return None
    if device.type == "cpu":
        return _packed_network(fusions)
    if device.type == "cuda" and gpu.backend() == "cuda":
        return _packed_layers(fusions)
    return None


def _is_network(kinds: list[str]) -> bool:
    body = kinds[1:] if kinds[:1] == ["stem"] else kinds
    body = body[:-1] if body[-1:] == ["linear"] else body
    return body[-1:] == ["head_pool"] and set(body[:-1]) <= {"block"}


# --- on the CPU ---


def _packed_network(fusions: Sequence[Fusion]) -> PackedOperator:
    operators = [fusion.operator() for fusion in fusions]
    first, last = operators[0].options, operators[-1].options
    with outside_inference_mode():
        packed = torch.ops.mnv2.pack_network(
            [operator.packed for operator in operators],
            same_padding=[operator.same_stride is not None for operator in operators],
        )
    channels = {
        "in_channels": first["in_channels"],
        "out_channels": last["out_features" if "out_features" in last else "out_channels"],
    }
    return PackedOperator(torch.ops.mnv2.network.default, packed, channels, None)


# --- on NVIDIA's GPUs ---


def _packed_layers(fusions: Sequence[Fusion]) -> PackedLayers:
    with outside_inference_mode():
        stem_block = _packed_stem_block(fusions)
        rest = fusions if stem_block is None else fusions[2:]
        packed = [fusion.packed_weights() for fusion in rest]
    if stem_block is not None:
        packed.insert(0, stem_block)
    first, *others = fusions
    layers = [_description(first, joined=stem_block is not None), *map(_description, others)]
    return PackedLayers(torch.ops.mnv2.network_layers.default, packed, SEPARATOR.join(layers))


def _packed_stem_block(fusions: Sequence[Fusion]) -> Tensor | None:
    """The weights of the first two layers for the kernel that computes both; None where there is none."""
    if [fusion.kind for fusion in fusions[:2]] != ["stem", "block"]:
        return None
    stem, block = fusions[:2]
    if block.channels["expand"]:
        return None
    layers = SEPARATOR.join((_description(stem, joined=True), _description(block)))
    weights = (*stem.weights(), *block.weights()[EXPAND_WEIGHTS:])
    if torch.ops.mnv2.cuda_stem_block_bytes(layers, dtype=weights_dtype(*weights[::3])) == 0:
        return None
    return torch.ops.mnv2.pack_stem_block(*weights, layers=layers)


def _description(fusion: Fusion, joined: bool = False) -> str:
    return describe_layer(fusion.kind, fusion.channels, fusion.options, joined)
