"""Models of other libraries (extra `zoo`): every inverted residual is found, and fused if it is served."""

import copy

import pytest
import torch
from models import calls
from tolerances import assert_accurate

from mnv2_kernels import fuse, fusion_report
from mnv2_kernels.accuracy import MINIMUM_INPUTS
from mnv2_kernels.bench.zoo import ZOO, prepared
from mnv2_kernels.weights.models import results


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_every_inverted_residual_of_a_model_is_found_and_right(name):
    entry = ZOO[name]
    try:
        eager = prepared(entry)
    except ImportError as missing:
        pytest.skip(f"{missing}: pip install 'mnv2-kernels[zoo]'")
    fused = fuse(copy.deepcopy(eager))
    report = fusion_report(fused)
    assert len(report.fused) + len(report.eager) == entry.blocks
    reasons = {reason for words in report.eager.values() for reason in words.split(", ")}
    assert reasons == {*entry.eager}
    exact = copy.deepcopy(eager).double()
    with torch.no_grad():
        for size in entry.sizes:
            x = torch.randn(MINIMUM_INPUTS, 3, *size)
            with calls() as names:
                ours = results(fused, x)
            assert any(name.startswith("run ") for name in names)
            for one, other, truth in zip(ours, results(eager, x), results(exact, x.double()), strict=True):
                assert_accurate(one, other, truth)
