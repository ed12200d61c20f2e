"""The layers of csrc and mnv2_kernels stay apart, and CMakeLists.txt stays the one list of sources."""

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from mnv2_kernels import _native

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
PACKAGE = ROOT / "mnv2_kernels"
SOURCE_SUFFIXES = {".cpp", ".cu"}
HEADER_SUFFIXES = {".h", ".cuh"}
BUILD_FILES = [
    ROOT / name for name in ("CMakeLists.txt", "CMakePresets.json", "setup.py", "pyproject.toml", "Makefile")
] + sorted((ROOT / "cmake").iterdir())

# What each layer may include of the others. Only csrc/torch knows torch; core/block.h is what crosses.
LAYERS = {
    "core": {"core"},
    "cpu": {"core", "cpu"},
    "cuda": {"core", "cuda"},
    "python": {"core", "cpu", "cuda", "python"},
    "torch": {"core", "cpu", "cuda", "torch"},
}


MOST_SOURCES = 16  # a reader takes in at a glance
MOST_TEMPLATE_ARGUMENTS = 4


def files(folder: Path, suffixes: set[str]) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in suffixes)


def includes(path: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text(), flags=re.MULTILINE)


def layer_of(path: Path) -> str:
    return path.relative_to(CSRC).parts[0]


def test_every_layer_is_known():
    assert {path.name for path in CSRC.iterdir()} == set(LAYERS)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_includes_only_what_lies_below_it(layer):
    own_headers = {str(path.relative_to(CSRC)) for path in files(CSRC, HEADER_SUFFIXES)}
    for path in files(CSRC / layer, SOURCE_SUFFIXES | HEADER_SUFFIXES):
        for included in includes(path):
            if included in own_headers:
                assert Path(included).parts[0] in LAYERS[layer], f"{path} includes {included}"


@pytest.mark.parametrize("root", [CSRC, PACKAGE], ids=lambda root: root.name)
def test_no_folder_holds_too_many_sources(root):
    folders = Counter(path.parent for path in files(root, SOURCE_SUFFIXES | HEADER_SUFFIXES | {".py"}))
    assert folders
    assert {folder: count for folder, count in folders.items() if count > MOST_SOURCES} == {}


def modules_imported(path: Path) -> Iterator[Path]:
    """The package's own, also where a function imports them; its root is what others import."""
    for statement in ast.walk(ast.parse(path.read_text())):
        if isinstance(statement, ast.ImportFrom) and statement.level:
            package = path.parents[statement.level - 1].joinpath(*(statement.module or "").split("."))
            for alias in statement.names:
                places = (package / f"{alias.name}.py", package / alias.name / "__init__.py")
                places += (package.with_suffix(".py"), package / "__init__.py")
                found = next((place for place in places if place.exists()), None)
                if found not in (None, PACKAGE / "__init__.py"):
                    yield found


def test_python_modules_import_in_no_circle():
    modules, folders = {}, defaultdict(set)
    for path in files(PACKAGE, {".py"}):
        modules[path] = {*modules_imported(path)} - {path}
        for imported in modules[path]:
            own, other = (each.relative_to(PACKAGE).parts[:-1][:1] for each in (path, imported))
            if own and other:  # what lies beside the folders is below or above all of them
                folders[own] |= {other} - {own}
    assert sum(map(len, modules.values())) > 100
    for graph in (modules, folders):
        TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize("layer", LAYERS)
def test_no_template_takes_many_arguments(layer):
    """More go into a constexpr struct, whose fields have names."""
    a_function_s, a_lambda_s = r"^\s*template <([^<>]+)>", r"\]<([^<>]+)>\("
    for path in files(CSRC / layer, SOURCE_SUFFIXES | HEADER_SUFFIXES):
        text = path.read_text()
        for parameters in re.findall(a_function_s, text, flags=re.MULTILINE) + re.findall(a_lambda_s, text):
            assert parameters.count(",") < MOST_TEMPLATE_ARGUMENTS, f"{path}: {parameters}"
            assert "..." not in parameters, f"{path}: {parameters}"


def test_only_the_torch_layer_includes_torch():
    found = {
        layer_of(path)
        for path in files(CSRC, SOURCE_SUFFIXES | HEADER_SUFFIXES)
        if any(re.match(r"(torch|ATen|c10)/", included) for included in includes(path))
        and layer_of(path) != "torch"
    }
    assert not found


def test_the_torch_layer_keeps_to_the_stable_abi():
    for path in files(CSRC / "torch", SOURCE_SUFFIXES | HEADER_SUFFIXES):
        for included in includes(path):
            if re.match(r"(torch|ATen|c10)/", included) and not (CSRC / included).exists():
                assert included.startswith(("torch/csrc/stable/", "torch/headeronly/")), included


def test_only_the_python_layer_includes_python():
    for path in files(CSRC, SOURCE_SUFFIXES | HEADER_SUFFIXES):
        if layer_of(path) != "python":
            assert not [name for name in includes(path) if re.match(r"pybind11/|Python\.h", name)], path


@pytest.mark.parametrize("path", BUILD_FILES, ids=lambda path: path.name)
def test_only_cmakelists_names_sources(path):
    text = path.read_text()
    assert not re.search(r"\bfile\(\s*GLOB", text)
    if path.name != "CMakeLists.txt":
        assert not re.findall(r"[\w-]+\.(?:cpp|cuh?)\b", text.replace("'*.", ""))


def test_cmakelists_names_every_source():
    named = set(re.findall(r"[\w/.-]+\.(?:cpp|cu)\b", (ROOT / "CMakeLists.txt").read_text()))
    folders = (CSRC, ROOT / "tests" / "cpp", ROOT / "tests" / "emulator", ROOT / "benchmarks")
    existing = {str(path.relative_to(ROOT)) for folder in folders for path in files(folder, SOURCE_SUFFIXES)}
    assert named == existing


@pytest.mark.parametrize("path", BUILD_FILES, ids=lambda path: path.name)
def test_no_flag_of_the_build_machine(path):
    assert not re.search(
        r"-m(arch=(?!armv8)|tune=|cpu=)|-ffast-math|-Ofast", re.sub(r"#.*", "", path.read_text())
    )


CUDA_KERNELS = sorted(path.parent for path in CSRC.glob("cuda/*/launch.cu"))


@pytest.mark.parametrize("folder", CUDA_KERNELS, ids=lambda folder: folder.name)
def test_cuda_kernels_have_the_same_files(folder):
    names = {path.name for path in folder.iterdir()}
    assert names >= {"config.h", "kernel.cuh", "launch.cu"}
    assert len(names) <= 16
    assert ("plan.h" in names) == ("plan.cpp" in names)
    assert "pack.cuh" in names or folder.name == "cluster_block"  # takes tile_block's packed weights


def test_cuda_plans_are_host_code():
    for plan in CSRC.glob("cuda/*/plan.cpp"):
        waiting, seen = [plan], set()
        while waiting:
            path = waiting.pop()
            assert path.suffix != ".cuh", f"{plan} includes {path}"
            seen.add(path)
            own = {CSRC / name for name in includes(path) if (CSRC / name).exists()}
            waiting += own - seen


def test_the_stub_of_native_names_what_the_module_has():
    stub = ast.parse((PACKAGE / "_native.pyi").read_text()).body
    named = [each.name for each in stub if hasattr(each, "name")]
    assert sorted(named) == [name for name in dir(_native) if not name.startswith("_")]


@pytest.mark.parametrize("folder", ["csrc", "mnv2_kernels", "cmake", "benchmarks", "tests"])
def test_comments_are_sentences_by_themselves(folder):
    paths = files(ROOT / folder, SOURCE_SUFFIXES | HEADER_SUFFIXES | {".py", ".cmake"})
    assert paths
    for path in paths:
        assert not re.search(r"^ *(//|#) Of ", path.read_text(), flags=re.MULTILINE), path
