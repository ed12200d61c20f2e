"""Inverted residuals in many spellings, and what only looks like one: a class led by a word."""

from __future__ import annotations

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

CHANNELS, EXPANDED = 16, 40

# Each computes the block that the operators compute.
SPELLINGS = (
    *("F.relu6", "F.relu6 in place", "clamp", "hardtanh_", "TorchScript", "autograd.Function"),
    *(
        "FloatFunctional",
        "in place",
        "torch.add",
        "y + x",
        "SyncBatchNorm",
        "FrozenBatchNorm",
        "bias",
        "no norm",
    ),
    *(
        "layer scale",
        "layer scale of a number",
        "weight standardisation",
        "dropout",
        "drop path",
        "F.pad",
        "same",
    ),
    *(
        "kernel 5",
        "checkpoint",
        "weight_norm",
        "bias behind",
        "instance without a shortcut",
        "frozen norm by hand",
        "reshaped",
    ),
)

# Each is something else, with a word of the reason.
LOOKALIKES = {
    "shortcut scaled": "addition",
    "torch.add with alpha": "add",
    "activation behind the sum": "activation behind",
    "shortcut from the expanded tensor": "slice",
    "shortcut added twice": "addition",
    "shortcut multiplied": "mul",
    "expanded tensor used twice": "addition",
    "expanded tensor returned, too": "tuple",
    "expanded tensor kept": "keeps",
    "expanded tensor appended": "keeps",
    "dilation": "dilation 2",
    "stride 3": "stride 3",
    "reflected padding": "reflection_pad2d",
    "padding of ones": "constant_pad_nd",
    "padding of 2": "padding",
    "anti-aliasing": "avg_pool2d",
    "blur": "addition",
    "channels shuffled": "view",
    "statistics of the batch": "batch's statistics",
    "instance norm": "view",
    "group norm": "native_group_norm",
    "random": "random",
    "decides by values": "values",
    "decides by the size": "flip",
    "decides by the layout": "lies in memory",
    "scaled by the size": "size",
    "padded like no other": "padding depends",
    "other dtype between": "_to_copy",
    "into its input": "changes its input",
    "weight from outside": "neither a parameter nor a buffer",
    "leaky": "leaky_relu",
    "two groups": "grouped",
    "sum of halves": "cat",
    "without gradients inside": "gradients",
    "normalised by its own maximum": "div",
}


class Block(nn.Module):
    """An inverted residual of CHANNELS, spelled as ``how`` says, in eval mode."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.use_shortcut = how != "instance without a shortcut"
        bias = how in ("bias", "no norm")
        dilation, stride = (2 if how == "dilation" else 1), (3 if how == "stride 3" else 1)
        padding = {
            "dilation": 2,
            "padding of 2": 2,
            "kernel 5": 2,
            "F.pad": 0,
            "reflected padding": 0,
            "padding of ones": 0,
        }
        groups = 2 if how == "two groups" else EXPANDED
        self.expand = nn.Conv2d(CHANNELS, EXPANDED, 1, bias=bias)
        self.depthwise = nn.Conv2d(
            *(EXPANDED, EXPANDED, 5 if how == "kernel 5" else 3, stride),
            "same" if how == "same" else padding.get(how, 1),
            dilation,
            groups,
            bias,
        )
        if how == "padded like no other":
            self.depthwise.padding = (0, 0)
        self.project = nn.Conv2d(EXPANDED, CHANNELS, 1, bias=bias)
        self.norms = nn.ModuleList(self._norm(each) for each in (EXPANDED, EXPANDED, CHANNELS))
        self.skip = torch.ao.nn.quantized.FloatFunctional()
        self.gamma = nn.Parameter(torch.rand(CHANNELS, 1, 1))
        self.outside = [torch.rand(EXPANDED, CHANNELS, 1, 1)]
        self.kept: Tensor | None = None
        self.list: list[Tensor] = []
        self.drop = nn.Dropout2d() if how == "dropout" else torchvision.ops.StochasticDepth(0.5, "row")
        if how == "weight_norm":
            torch.nn.utils.parametrizations.weight_norm(self.project)
        self.eval()

    def _norm(self, channels: int) -> nn.Module:
        classes = {
            "SyncBatchNorm": nn.SyncBatchNorm,
            "FrozenBatchNorm": torchvision.ops.FrozenBatchNorm2d,
            "no norm": lambda channels: nn.Identity(),
            "statistics of the batch": lambda channels: nn.BatchNorm2d(channels, track_running_stats=False),
            "instance norm": nn.InstanceNorm2d,
            "group norm": lambda channels: nn.GroupNorm(4, channels),
        }
        norm = classes.get(self.how, nn.BatchNorm2d)(channels)
        if getattr(norm, "running_var", None) is not None:
            norm.running_mean.normal_(0, 0.2)
            norm.running_var.uniform_(0.01, 0.2)
        return norm

    def activate(self, x: Tensor) -> Tensor:
        return {
            "F.relu6 in place": lambda: F.relu6(x, inplace=True),
            "clamp": lambda: x.clamp(0, 6),
            "hardtanh_": lambda: F.hardtanh_(x, 0.0, 6.0),
            "TorchScript": lambda: _scripted_relu6(x),
            "autograd.Function": lambda: _Relu6.apply(x),
            "leaky": lambda: F.leaky_relu(x, 0.1),
            "normalised by its own maximum": lambda: F.relu6(x) / x.amax(1, keepdim=True).clamp(min=1),
        }.get(self.how, lambda: F.relu6(x))()

    def norm(self, index: int, x: Tensor) -> Tensor:
        norm = self.norms[index]
        if self.how == "frozen norm by hand":
            scale = (norm.weight * (norm.running_var + norm.eps).rsqrt()).view(1, -1, 1, 1)
            return x * scale + (norm.bias.view(1, -1, 1, 1) - norm.running_mean.view(1, -1, 1, 1) * scale)
        return norm(x)

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "checkpoint" and x.requires_grad:
            return torch.utils.checkpoint.checkpoint(self._forward, x, use_reentrant=False)
        return self._forward(x)

    def _forward(self, x: Tensor) -> Tensor:
        how = self.how
        if how == "weight from outside":
            expanded = self.activate(self.norm(0, F.conv2d(x, self.outside[0].to(x))))
        else:
            expanded = self.activate(self.norm(0, self.expand(x)))
        if how == "decides by values" and expanded.mean() > 1e6:
            return expanded
        if how == "decides by the layout" and not x.is_contiguous():
            return expanded
        if how == "decides by the size" and x.shape[-1] > 40:
            expanded = expanded.flip(-1)
        if how == "expanded tensor kept":
            self.kept = expanded
        if how == "expanded tensor appended":
            self.list.append(expanded)
        y = self.activate(self.norm(1, self._filter(expanded)))
        if how == "anti-aliasing":
            y = F.avg_pool2d(y, 3, 1, 1)
        if how == "blur":
            y = y + F.conv2d(y, torch.ones(EXPANDED, 1, 3, 3).to(y) / 9, padding=1, groups=EXPANDED)
        if how == "channels shuffled":
            y = y.view(y.shape[0], 2, -1, *y.shape[2:]).transpose(1, 2).reshape(y.shape)
        if how == "expanded tensor used twice":
            y = y + expanded
        if how == "without gradients inside":
            with torch.no_grad():
                y = self.project(y)
        else:
            y = self.project(y)
        y = self._behind(self.norm(2, y))
        if how == "shortcut from the expanded tensor":
            return y + expanded[:, :CHANNELS]
        if how == "expanded tensor returned, too":
            return y, expanded
        return y if how in ("stride 3", "padding of 2") or not self.use_shortcut else self._add(x, y)

    def _filter(self, x: Tensor) -> Tensor:
        how, weight = self.how, self.depthwise.weight
        if how == "weight standardisation":
            return F.conv2d(x, weight - weight.mean((1, 2, 3), keepdim=True), None, 1, 1, 1, EXPANDED)
        if how == "F.pad":
            x = F.pad(x, [1, 1, 1, 1])
        if how == "reflected padding":
            x = F.pad(x, [1, 1, 1, 1], mode="reflect")
        if how == "padding of ones":
            x = F.pad(x, [1, 1, 1, 1], value=1.0)
        if how == "padded like no other":
            odd = x.shape[-1] % 2
            x = F.pad(x, [odd, 2 - odd, 1, 1])
        return self.depthwise(x)

    def _behind(self, y: Tensor) -> Tensor:
        how = self.how
        if how == "random":
            y = y * (torch.rand(CHANNELS, 1, 1) > 0.5)
        if how == "layer scale":
            y = y * self.gamma
        if how == "layer scale of a number":
            y = y * 0.5
        if how == "scaled by the size":
            y = y * (y.shape[-1] / 8)
        if how == "bias behind":
            y = y + self.gamma
        if how == "other dtype between":
            y = y.bfloat16().float()
        if how == "reshaped":
            y = y.reshape(y.shape)
        return self.drop(y)

    def _add(self, x: Tensor, y: Tensor) -> Tensor:
        sums = {
            "FloatFunctional": lambda: self.skip.add(y, x),
            "in place": lambda: y.add_(x),
            "torch.add": lambda: torch.add(x, y),
            "y + x": lambda: y + x,
            "into its input": lambda: x.add_(y),
            "torch.add with alpha": lambda: torch.add(x, y, alpha=0.5),
            "shortcut scaled": lambda: x * 0.5 + y,
            "shortcut added twice": lambda: x + y + x,
            "shortcut multiplied": lambda: x * y,
            "activation behind the sum": lambda: F.relu(x + y),
            "sum of halves": lambda: torch.cat([y[:, :8] + x[:, :8], y[:, 8:]], 1),
        }
        return sums.get(self.how, lambda: x + y)()


@torch.jit.script
def _scripted_relu6(x: Tensor) -> Tensor:
    return torch.clamp(x, 0.0, 6.0)


class _Relu6(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return F.hardtanh(x, 0.0, 6.0)
