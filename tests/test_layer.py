"""A layer has the same fields, text and checks in Python and C++."""

from __future__ import annotations

import itertools
import re
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnv2_kernels import _native
from mnv2_kernels.dtypes import DTYPE_NAMES
from mnv2_kernels.layer import KINDS, SAME, Layer, is_chain, join_layers, layer_of, layer_shapes, parse_layers
from mnv2_kernels.shapes import (
    ACTIVATIONS,
    GATE_ACTIVATIONS,
    KERNEL_SIZES,
    MAX_CHANNELS,
    mobilenet_v2,
    symmetric_padding,
)

HEADER = Path(__file__).parent.parent / "csrc/core/layer.h"

# Python's names of C++'s fields, where they differ.
RENAMED = {"is_same_padded": "padding", "has_expand": "expand", "has_residual": "residual"}

channels = st.integers(1, MAX_CHANNELS)
activations = st.sampled_from(ACTIVATIONS)


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    """Any layer that a kernel takes."""
    kind = draw(st.sampled_from(KINDS))
    options = {}
    options["activation"] = draw(activations)
    if kind in ("stem", "block"):
        options["kernel"] = kernel = draw(st.sampled_from(KERNEL_SIZES))
        paddings = st.one_of(st.just(SAME), st.tuples(*[st.integers(0, kernel // 2)] * 4))
        options |= {"stride": draw(st.sampled_from((1, 2))), "padding": draw(paddings)}
    inp, out = draw(channels), draw(channels)
    if kind == "stem":
        options["bytes_as"] = draw(st.one_of(st.none(), st.sampled_from(DTYPE_NAMES)))
    if kind == "block":
        options |= {"expand": draw(st.booleans()), "project_activation": draw(activations)}
        options["depthwise_activation"] = draw(st.one_of(st.none(), activations))
        options["expanded_channels"] = draw(channels) if options["expand"] else inp
        if draw(st.booleans()):
            options |= {"squeezed_channels": draw(channels), "squeeze_activation": draw(activations)}
            options["excite_activation"] = draw(st.sampled_from(GATE_ACTIVATIONS))
        keeps_size = options["stride"] == 1 and options["padding"] in (SAME, symmetric_padding(kernel))
        options["residual"] = keeps_size and draw(st.booleans())
        out = inp if options["residual"] else out
    # An int8 stem takes fewer channels.
    if kind != "stem" or inp <= 64:
        options["arithmetic"] = draw(st.sampled_from(("float", "int8")))
    return Layer(kind, inp, out, **options)


def test_both_languages_have_the_same_fields():
    struct = re.search(r"struct Layer \{(.*?)bool operator==", HEADER.read_text(), re.DOTALL).group(1)
    declarations = re.findall(r"^ {4}[\w:<>]+ ([^;]+);", struct, re.MULTILINE)
    names = [each.split("=")[0].strip() for declared in declarations for each in declared.split(",")]
    assert {RENAMED.get(name, name) for name in names} == {field.name for field in fields(Layer)}


@given(layers())
def test_both_languages_write_the_same_text(layer):
    assert _native.canonical_layers(str(layer)) == str(layer)
    assert Layer.parse(str(layer)) == layer


def test_an_activation_that_is_named_twice():
    named = "block in_channels=8 expanded_channels=9 out_channels=8 depthwise_activation=silu activation=silu"
    written = "block in_channels=8 expanded_channels=9 out_channels=8 activation=silu"
    assert _native.canonical_layers(named) == written
    twice = Layer("block", 8, 8, 9, activation="silu", depthwise_activation="silu")
    assert twice == Layer("block", 8, 8, 9, activation="silu")


@given(st.lists(layers(), min_size=1, max_size=4))
def test_a_list_of_layers(chain):
    text = join_layers(chain)
    assert _native.canonical_layers(text) == text
    assert parse_layers(text) == tuple(chain)


def test_options_come_in_any_order_and_spacing():
    text = " block residual=1 out_channels=8  expanded_channels=9 in_channels=8;"
    text += "linear  out_channels=2 in_channels=1"
    block = "block in_channels=8 expanded_channels=9 out_channels=8 residual=1"
    written = f"{block}; linear in_channels=1 out_channels=2"
    assert _native.canonical_layers(text) == written
    assert join_layers(parse_layers(text)) == written


KIND = "expected a stem, block, head_pool or linear"
CHANNELS = "expected 1 to 1048576 channels"
PADDING = "padding: expected (top, left, bottom, right), each 0 or 1"
ACTIVATION = 'expected "none", "relu", "relu6", "hardswish" or "silu"'
STEM = "stem in_channels=3 out_channels=8"
BLOCK = "block in_channels=8 expanded_channels=48 out_channels=8"
LINEAR = "linear in_channels=8 out_channels=8"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("conv in_channels=1", f'layers: {KIND}, got "conv"'),
        (f"{STEM}; ", f'layers[1]: {KIND}, got ""'),
        ("linear in_channels=0 out_channels=8", f"in_channels: {CHANNELS}, got 0"),
        ("linear in_channels=8", f"out_channels: {CHANNELS}, got 0"),
        ("linear in_channels=8 out_channels=1.5", 'out_channels: expected a number, got "1.5"'),
        (f"{LINEAR} stride=1", 'layers: expected an option of a linear, got "stride"'),
        (f"{STEM} stride=3", "stride: expected 1 or 2, got 3"),
        (f"{STEM} bytes_as=int8", 'bytes_as: expected "float32", "float16" or "bfloat16", got "int8"'),
        (f"{BLOCK} bytes_as=float32", 'layers: expected an option of a block, got "bytes_as"'),
        (f"{STEM} padding=1,1,1,2", f"{PADDING}, got (1, 1, 1, 2)"),
        (f"{STEM} padding=1,1,1,1,", 'padding: expected a number, got ""'),
        (f"{STEM} padding=1", f"{PADDING}, got (1,)"),
        ("stem in_channels=3 in_channels=4", 'in_channels: expected one value, got another one: "4"'),
        (f"{STEM} activation=gelu", f'activation: {ACTIVATION}, got "gelu"'),
        (f"{BLOCK} depthwise_activation=gelu", f'depthwise_activation: {ACTIVATION}, got "gelu"'),
        (f"{STEM} kernel=4", "kernel: expected 3, 5 or 7, got 4"),
        (f"{LINEAR} kernel=3", 'layers: expected an option of a linear, got "kernel"'),
        (
            f"{STEM} padding=1,1,1,3 kernel=5",
            "padding: expected (top, left, bottom, right), each 0 to 2, got (1, 1, 1, 3)",
        ),
        (f"{BLOCK} squeezed_channels=-1", f"squeezed_channels: {CHANNELS}, got -1"),
        (f"{BLOCK} squeeze_activation=silu", "squeezed_channels: expected those of a gate, got none"),
        (
            f"{BLOCK} squeezed_channels=2 squeeze_activation=gelu",
            f'squeeze_activation: {ACTIVATION}, got "gelu"',
        ),
        (
            f"{BLOCK} squeezed_channels=2 excite_activation=relu",
            'excite_activation: expected "sigmoid" or "hardsigmoid", got "relu"',
        ),
        (f"{BLOCK} expand=0", "expanded_channels: expected 8 (in_channels, without expand), got 48"),
        (f"{BLOCK} residual=2", 'residual: expected 0 or 1, got "2"'),
        (f"{BLOCK} residual=1 stride=2", "residual: expected stride 1, got 2"),
        (
            "block in_channels=8 expanded_channels=48 out_channels=16 residual=1",
            "residual: expected equal input and output channels, got 8 and 16",
        ),
        (f"{BLOCK} residual=1 padding=0,1,1,1", "residual: expected padding (1, 1, 1, 1), got (0, 1, 1, 1)"),
        (f"{BLOCK} residual=1 kernel=5", "residual: expected padding (2, 2, 2, 2), got (1, 1, 1, 1)"),
    ],
)
def test_what_no_kernel_takes_is_refused(text, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        _native.canonical_layers(text)


@pytest.mark.parametrize("length", range(4))
def test_both_languages_know_the_same_chains(length):
    kinds = [(kind, 8 if kind == "block" else 0) for kind in KINDS]
    layers = [Layer(kind, 8, channels, expanded) for kind, expanded in kinds for channels in (8, 9)]
    for chain in itertools.product(layers, repeat=length):
        with pytest.raises(RuntimeError) as refused:  # no chain takes one weight
            torch.ops.mnv2.pack([torch.ones(1)], layers=join_layers(chain))
        assert is_chain(chain) == ("mnv2::pack: layers" not in str(refused.value)), chain


@pytest.mark.parametrize("padding", ["torch", "same"])
def test_layers_of_a_network_give_its_shapes(padding):
    network = mobilenet_v2(1.0, 225, 2, padding)
    shapes = [network.stem, *network.blocks, network.head, network.classifier]
    chain = [layer_of(shape) for shape in shapes]
    assert list(layer_shapes(chain, 2, 225, 225)) == shapes
    if padding == "same":
        same = [
            Layer(**{**vars(layer), "padding": SAME}) if layer.kind in ("stem", "block") else layer
            for layer in chain
        ]
        assert list(layer_shapes(same, 2, 225, 225)) == shapes


def test_an_image_that_does_not_fill_a_window():
    chain = [Layer("stem", 3, 8, padding=(0, 0, 0, 0)), Layer("head_pool", 8, 8)]
    with pytest.raises(ValueError, match=r"^expected an image that fills the window of every layer$"):
        list(layer_shapes(chain, 1, 2, 9))
