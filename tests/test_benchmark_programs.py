"""The programs in benchmarks find what they take from each other and from the package."""

import ast
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
# Suites are pytest's to import: their conftest has the name of the tests'.
PROGRAMS = sorted(
    each for each in BENCHMARKS.rglob("*.py") if not each.name.startswith(("test_", "conftest"))
)


def is_ours(module: str) -> bool:
    root = module.partition(".")[0]
    return root == "mnv2_kernels" or any(BENCHMARKS.rglob(f"{root}.py"))


def imports(program: Path) -> Iterator[tuple[str, str]]:
    """Modules of benchmarks or the package, each with a name that is taken from it."""
    for node in ast.walk(ast.parse(program.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and is_ours(node.module):
            yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_finds_what_it_imports(program: Path) -> None:
    for module, name in imports(program):
        try:
            found = import_module(module)
        except ModuleNotFoundError as missing:
            if is_ours(str(missing.name)):
                raise
            continue  # a library of an extra
        is_module = hasattr(found, "__path__") and find_spec(f"{module}.{name}")
        assert hasattr(found, name) or is_module, f"{module} has no {name}"
