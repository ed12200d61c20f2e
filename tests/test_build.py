"""The build: what the products depend on, which flags reach which file, what is said where one lacks."""

import ctypes
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
import torch

import mnv2_kernels
from mnv2_kernels import _native
from mnv2_kernels.ops import gpu

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(mnv2_kernels.__file__).parent
OPS = PACKAGE / "libmnv2_ops.so"
CUDA = PACKAGE / "libmnv2_cuda.so"
TORCH_LIBRARIES = Path(torch.__file__).parent / "lib"
AVX2 = {"-mavx2", "-mfma", "-mf16c"}
AVX512 = AVX2 | {"-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"}
ISA_FLAGS = {
    "isa_avx2.cpp": AVX2,
    "isa_avx_vnni.cpp": {"-mavx2", "-mfma", "-mavxvnni"},
    "isa_avx512.cpp": AVX512,
    "isa_avx512_bf16.cpp": AVX512 | {"-mavx512bf16"},
    "isa_avx512_vnni.cpp": AVX512 | {"-mavx512vnni"},
    "int8_amx_emulated.cpp": AVX512 | {"-mavx512vnni"},
    "int8_avx_vnni_evex.cpp": AVX512 | {"-mavx512vnni"},
    "isa_amx_int8.cpp": AVX512 | {"-mavx512vnni", "-mamx-tile", "-mamx-int8"},
    "isa_amx_bf16.cpp": AVX512 | {"-mavx512bf16", "-mamx-tile", "-mamx-bf16"},
    "isa_neon_dotprod.cpp": {"-march=armv8.2-a+dotprod"},
    "isa_neon_i8mm.cpp": {"-march=armv8.2-a+i8mm"},
    "isa_neon_fp16.cpp": {"-march=armv8.2-a+fp16"},
    "isa_neon_bf16.cpp": {"-march=armv8.2-a+bf16"},
}
SOURCE_FOLDERS = ("csrc", "cmake", "mnv2_kernels")
SOURCE_SUFFIXES = {".cpp", ".h", ".cu", ".cuh", ".cmake", ".in", ".py", ".pyi", ".typed", ".html", ".css"}
# What needs neither torch nor any Python.
CORE_ONLY = ("-DMNV2_BUILD_OPS=OFF", "-DMNV2_BUILD_NATIVE=OFF", "-DMNV2_BUILD_TESTS=ON")

needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not on PATH")
needs_cuda_build = pytest.mark.skipif(
    not _native.build_info()["cuda"], reason="this build has no libmnv2_cuda"
)


def run(*command: str | Path, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=600, **options
    )


def succeed(*command: str | Path, **options) -> str:
    done = run(*command, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def needed(library: Path) -> set[str]:
    return set(re.findall(r"\(NEEDED\).*\[(.+?)\]", succeed("readelf", "--dynamic", "--wide", library)))


def configure(build: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["cmake", "-S", ROOT, "-B", build, "-G", "Ninja", *CORE_ONLY, *options]
    return run(*command, env={**os.environ, **environment})


def said(build: Path) -> str:
    """What a build of this directory ends with."""
    return re.search(r"mnv2_kernels [\d.]+: [^\n]*?(?=\s*$)", (build / "build.ninja").read_text(), re.M)[0]


@pytest.fixture
def bare(tmp_path) -> dict[str, str]:
    """An environment with a compiler and build tools, but no nvcc."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("cmake", "ninja", "c++", "as", "ld", "ar", "ranlib", "nm"):
        (tools / tool).symlink_to(shutil.which(tool))
    return {"PATH": str(tools), "CUDA_HOME": ""}


@pytest.fixture
def empty_python(tmp_path) -> Path:
    """The root of a virtual environment without packages."""
    venv.create(tmp_path / "venv", symlinks=True)
    return tmp_path / "venv"


def packages_of(python: Path) -> Path:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(succeed(python / "bin" / "python", "-c", code).strip())


def python_option(python: Path) -> str:
    return f"-DPython_EXECUTABLE={python}/bin/python"


def cuda_architectures(requested: str, folder: Path) -> subprocess.CompletedProcess[str]:
    script = folder / "archs.cmake"
    script.write_text(
        f'include("{ROOT}/cmake/cuda_archs.cmake")\n'
        f'mnv2_cuda_architectures("{requested}" archs names)\nmessage("${{archs}} | ${{names}}")\n'
    )
    return run("cmake", "-P", script)


def run_setup(
    *hidden: str, prelude: str = "", arguments: tuple[str, ...] = ("build_ext", "--inplace")
) -> subprocess.CompletedProcess[str]:
    code = (
        f"import runpy, sys\n{prelude}\n"
        f"sys.modules.update(dict.fromkeys({hidden!r}))\n"
        f"sys.argv = ['setup.py', *{arguments!r}]\n"
        "runpy.run_path('setup.py', run_name='__main__')\n"
    )
    return run(sys.executable, "-c", code, cwd=ROOT)


class TestProducts:
    def test_operators_need_torch_but_neither_python_nor_cuda(self):
        torch_libraries = {name for name in needed(OPS) if re.search("torch|c10|python|cu", name)}
        assert torch_libraries == {"libtorch_cpu.so"}

    def test_native_module_needs_no_torch(self):
        (native,) = [Path(_native.__file__)]
        assert not {name for name in needed(native) if re.search("torch|c10|cu", name)}

    def test_operators_use_only_the_stable_abi(self):
        undefined = succeed("nm", "--dynamic", "--undefined-only", "--demangle", OPS)
        assert "aoti_torch_" in undefined
        assert not re.findall(r"\b(?:at|c10|torch)::.*", undefined)

    def test_operators_export_nothing_of_their_own(self):
        exported = succeed("nm", "--dynamic", "--defined-only", "--demangle", OPS)
        assert not re.findall(r".*\b(?:mnv2|torch)::.*", exported)

    def test_operators_load_into_a_process_without_python(self):
        environment = {"LD_PRELOAD": str(OPS), "LD_LIBRARY_PATH": str(TORCH_LIBRARIES), "LD_BIND_NOW": "1"}
        done = run(shutil.which("true"), env=environment)
        assert (done.returncode, done.stderr) == (0, "")

    @needs_cuda_build
    def test_cuda_library_holds_the_architectures_of_build_info(self):
        library = ctypes.CDLL(str(CUDA))
        archs = (ctypes.c_int32 * 16)()
        count = library.mnv2_cuda_compiled_archs(archs, len(archs))
        expected = [re.match(r"[\d.]+", name)[0] for name in _native.build_info()["cuda_archs"]]
        assert [f"{arch // 10}.{arch % 10}" for arch in archs[:count]] == sorted(expected, key=float)

    @needs_cuda_build
    def test_cuda_library_needs_no_torch_with_cuda_and_no_driver(self):
        libraries = {name for name in needed(CUDA) if re.search("torch|c10|python|cu", name)}
        assert libraries == {"libtorch_cpu.so"}

    @needs_cuda_build
    @pytest.mark.skipif(torch.version.cuda is None, reason="this torch is built without CUDA")
    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_cuda_library_is_loaded_where_torch_has_cuda_but_no_driver(self):
        assert gpu.SELECTED == "cuda"
        assert torch._C._dispatch_has_kernel_for_dispatch_key("mnv2::fused_block", "CUDA")
        assert str(CUDA) in Path("/proc/self/maps").read_text()

    def test_cuda_library_is_there_only_where_build_info_says_so(self):
        assert CUDA.exists() == _native.build_info()["cuda"]


class TestBuildInfo:
    def test_version_is_the_distribution_s(self):
        versions = {_native.build_info()["version"], mnv2_kernels.__version__}
        assert versions == {importlib.metadata.version("mnv2-kernels")}


LAYER = "block in_channels=8 expanded_channels=48 out_channels=8"
SHAPE = {"layer": LAYER, "batch": 1, "height": 7, "width": 7}


class TestNative:
    def test_plan_depends_on_the_forced_isa(self, monkeypatch):
        for isa in [isa["name"] for isa in _native.isas() if isa["compiled"] and isa["supported"]]:
            monkeypatch.setenv("MNV2_FORCE_ISA", isa)
            # One for 16-bit numbers leaves float32 to the next of the list.
            weights = {"fp16": "float16", "bf16": "bfloat16"}.get(isa[-4:], "float32")
            assert _native.selected_isa(weights) == isa
            assert _native.plan(**SHAPE)["isa"] == _native.selected_isa()


@pytest.mark.slow
class TestConfigure:
    def test_core_needs_no_python_and_isa_flags_stay_on_their_files(self, tmp_path):
        done = configure(tmp_path, "-DMNV2_CUDA=off", f"-DPython_EXECUTABLE={tmp_path}/none")
        assert done.returncode == 0, done.stderr
        commands = json.loads((tmp_path / "compile_commands.json").read_text())
        assert "isa_scalar.cpp" in {Path(entry["file"]).name for entry in commands}
        for entry in commands:
            flags = {flag for flag in entry["command"].split() if flag.startswith("-m")}
            assert flags == ISA_FLAGS.get(Path(entry["file"]).name, set()), entry["file"]

    def test_cuda_on_without_nvcc_is_an_error(self, tmp_path, bare, empty_python):
        done = configure(tmp_path / "build", "-DMNV2_CUDA=on", python_option(empty_python), **bare)
        assert done.returncode != 0
        assert "MNV2_CUDA=on, but nvcc is neither" in done.stderr

    def test_without_nvcc_there_is_no_cuda_and_the_build_says_so(self, tmp_path, bare, empty_python):
        done = configure(tmp_path / "build", python_option(empty_python), **bare)
        assert done.returncode == 0, done.stderr
        assert "; no CUDA; no operators; " in said(tmp_path / "build")

    @needs_nvcc
    def test_cuda_off_leaves_nvcc_alone_and_the_build_says_so(self, tmp_path):
        done = configure(tmp_path, "-DMNV2_CUDA=off")
        assert done.returncode == 0, done.stderr
        assert "; no CUDA; no operators; " in said(tmp_path)

    @needs_nvcc
    def test_nvcc_of_pip_s_packages_is_found(self, tmp_path, bare, empty_python):
        folder = packages_of(empty_python) / "nvidia" / "cu13" / "bin"
        folder.mkdir(parents=True)
        nvcc = folder / "nvcc"
        nvcc.write_text(f'#!/bin/sh\nPATH={os.environ["PATH"]} exec {shutil.which("nvcc")} "$@"\n')
        nvcc.chmod(0o755)
        done = configure(tmp_path / "build", python_option(empty_python), **bare)
        assert done.returncode == 0, done.stderr
        assert re.search(r"; CUDA \(8\.0, 9\.0\+PTX; nvcc [\d.]+\); ", said(tmp_path / "build"))
        assert str(nvcc) in (tmp_path / "build" / "compile_commands.json").read_text()

    @needs_nvcc
    def test_cuda_is_built_beside_a_torch_without_it(self, tmp_path, empty_python):
        torch_folder = packages_of(empty_python) / "torch"
        (torch_folder / "lib").mkdir(parents=True)
        (torch_folder / "__init__.py").touch()
        (torch_folder / "include").symlink_to(TORCH_LIBRARIES.parent / "include")
        (torch_folder / "lib" / "libtorch_cpu.so").symlink_to(TORCH_LIBRARIES / "libtorch_cpu.so")
        done = configure(tmp_path / "build", "-DMNV2_BUILD_OPS=ON", python_option(empty_python))
        assert done.returncode == 0, done.stderr
        assert re.search(r"; CUDA \(8\.0.*\); operators for torch >= ", said(tmp_path / "build"))

    def test_cuda_must_be_on_or_off(self, tmp_path):
        done = configure(tmp_path, "-DMNV2_CUDA=maybe")
        assert done.returncode != 0
        assert "must be on, off or empty, got 'maybe'" in done.stderr

    @pytest.mark.parametrize(
        ("requested", "expected"),
        [
            ("", "80-real;90 | 8.0;9.0+PTX"),
            ("8.6", "86-real | 8.6"),
            ("8.0 9.0a+PTX", "80-real;90a | 8.0;9.0a+PTX"),
            ("8.0,10.0", "80-real;100-real | 8.0;10.0"),
        ],
    )
    def test_torch_cuda_arch_list(self, tmp_path, requested, expected):
        assert cuda_architectures(requested, tmp_path).stderr.strip() == expected

    def test_torch_cuda_arch_list_refuses_what_it_does_not_know(self, tmp_path):
        done = cuda_architectures("8.0 Hopper", tmp_path)
        assert done.returncode != 0
        assert "got 'Hopper'" in " ".join(done.stderr.split())


@pytest.mark.slow
class TestInstall:
    @pytest.mark.parametrize("module", ["torch", "pybind11"])
    def test_without_a_requirement_one_line_says_what_to_run(self, module):
        done = run_setup(module)
        assert done.returncode != 0
        assert re.fullmatch(
            rf"mnv2_kernels needs {module} to build; .* isolated environment, .* unless it is told"
            r" --no-build-isolation\. Run: pip install torch .*\n",
            done.stderr,
        )

    def test_with_an_old_setuptools_one_line_says_what_to_run(self):
        done = run_setup(prelude="import setuptools; setuptools.__version__ = '65.5.0'")
        assert done.returncode != 0
        assert re.fullmatch(
            r"mnv2_kernels needs a newer setuptools than 65\.5\.0\. Run: pip install torch .*\n", done.stderr
        )

    def test_metadata_can_be_read_by_an_old_setuptools(self):
        # Before 77 an SPDX expression here is an error with a traceback, which setup.py cannot forestall.
        project = re.search(r"^\[project\]\n(.*?)^\[", (ROOT / "pyproject.toml").read_text(), re.M | re.S)[1]
        assert not re.search(r"^license", project, re.M)

    def test_source_distribution_holds_what_a_build_needs_and_no_tests(self, tmp_path):
        checkout, made = tmp_path / "checkout", tmp_path / "made"
        leave_out = shutil.ignore_patterns("*.so", "__pycache__")
        for folder in (*SOURCE_FOLDERS, "tests"):
            shutil.copytree(ROOT / folder, checkout / folder, ignore=leave_out)
        for path in ROOT.iterdir():
            if path.is_file():
                shutil.copy(path, checkout)
        code = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
        succeed(sys.executable, "-c", code, made, cwd=checkout)
        (archive,) = made.iterdir()
        shutil.unpack_archive(archive, made)
        (source,) = [path for path in made.iterdir() if path.is_dir()]
        held = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
        assert not {name for name in held if name.startswith("tests/")}
        for folder in SOURCE_FOLDERS:
            sources = (ROOT / folder).rglob("*")
            wanted = {str(path.relative_to(ROOT)) for path in sources if path.suffix in SOURCE_SUFFIXES}
            assert wanted <= held, folder
        options = [option for option in CORE_ONLY if "TESTS" not in option]
        succeed("cmake", "-S", source, "-B", tmp_path / "build", "-G", "Ninja", "-DMNV2_CUDA=off", *options)

    def test_wheel_holds_the_package_and_runs_elsewhere(self, tmp_path):
        succeed(
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps"),
            *("--wheel-dir", tmp_path, ROOT),
        )
        (wheel,) = tmp_path.glob("*.whl")
        site = tmp_path / "site"
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
        suffixes = ("py", "pyi", "typed", "html", "css")
        sources = [path for suffix in suffixes for path in (ROOT / "mnv2_kernels").rglob(f"*.{suffix}")]
        modules = {str(path.relative_to(ROOT)) for path in sources}
        products = {f"mnv2_kernels/{path.name}" for path in (OPS, Path(_native.__file__))}
        products |= {"mnv2_kernels/libmnv2_cuda.so"} if _native.build_info()["cuda"] else set()
        held = {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()}
        assert {name for name in held if ".dist-info/" not in name} == modules | products

        code = (
            "import sys; sys.path.insert(0, sys.argv[1])\n"
            "import torch, mnv2_kernels; print(mnv2_kernels.__file__)\n"
            "x, weight = torch.randn(1, 3, 8, 8), torch.randn(8, 3, 3, 3)\n"
            "print(torch.ops.mnv2.stem(x, weight, None, None).shape)\n"
        )
        printed = succeed(sys.executable, "-c", code, site, cwd=tmp_path).splitlines()
        assert printed == [str(site / "mnv2_kernels" / "__init__.py"), "torch.Size([1, 8, 4, 4])"]
