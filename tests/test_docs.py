"""docs/ names what there is, and its example runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import mnv2_kernels  # noqa: F401

ROOT = Path(__file__).resolve().parent.parent
OPERATORS = (ROOT / "docs" / "operators.md").read_text()
PAGES = "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
HELPERS = ("check_", "cuda_")


def test_every_operator_is_documented() -> None:
    names = {
        name.removeprefix("mnv2::") for name in torch._C._dispatch_get_all_op_names() if name[:6] == "mnv2::"
    }
    public = {name.partition(".")[0] for name in names if not name.startswith(HELPERS)}
    named = set(re.findall(r"`(\w+)`", OPERATORS))
    assert public <= named


@pytest.mark.parametrize("page", ["operators.md", "deploy.md"])
def test_the_examples_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
    assert examples
    for example in examples:
        exec(example, names)


def test_every_file_that_is_named_exists() -> None:
    paths = re.findall(r"(?:csrc|mnv2_kernels|benchmarks|tests)/[\w./-]+\.(?:h|cpp|py|md)\b", PAGES)
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []
