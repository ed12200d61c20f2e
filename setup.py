"""Hands the build over to CMake and Ninja; pyproject.toml and CMakeLists.txt hold everything else."""

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import setuptools
from setuptools import Extension, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext
from setuptools.command.dist_info import dist_info

ROOT = Path(__file__).resolve().parent
OLDEST_SETUPTOOLS = (70, 1)  # the first that makes wheels without the wheel package
COMMAND = (
    f"pip install torch 'setuptools>={'.'.join(map(str, OLDEST_SETUPTOOLS))}' 'pybind11>=2.13' 'cmake>=3.26'"
    " ninja && pip install --no-build-isolation ."
)


def tool(name: str) -> str:
    """Path of a build tool: this environment's (pip's cmake and ninja), else the one on PATH."""
    path = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    return path or sys.exit(f"mnv2_kernels needs {name} to build. Run: {COMMAND}")


def require_modules() -> None:
    """Stops with the command to run where this environment cannot build."""
    if tuple(map(int, setuptools.__version__.split(".")[:2])) < OLDEST_SETUPTOOLS:
        sys.exit(f"mnv2_kernels needs a newer setuptools than {setuptools.__version__}. Run: {COMMAND}")
    for module in ("torch", "pybind11"):
        if importlib.util.find_spec(module) is None:
            sys.exit(
                f"mnv2_kernels needs {module} to build; {sys.executable} finds none here. pip builds in an"
                " isolated environment, without what yours has, unless it is told --no-build-isolation. Run:"
                f" {COMMAND}"
            )


class CheckedMetadata(dist_info):
    """The first step of an installation: fails before pip downloads what the package would need."""

    def run(self) -> None:
        require_modules()
        super().run()


class FreshBuild(build):
    """Starts from an empty build_lib, so that a wheel never holds a file that left the package."""

    def run(self) -> None:
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


class CMakeBuild(build_ext):
    """Builds incrementally in build/<python>-<build type>, then installs the libraries into the package."""

    def run(self) -> None:
        require_modules()
        cmake = tool("cmake")
        build_type = os.environ.get("MNV2_BUILD_TYPE", "Release")
        directory = ROOT / "build" / f"{sys.implementation.cache_tag}-{build_type.lower()}"
        prefix = ROOT if self.inplace else Path(self.build_lib).resolve()
        options = {
            "CMAKE_BUILD_TYPE": build_type,
            "CMAKE_MAKE_PROGRAM": tool("ninja"),
            "MNV2_CUDA": os.environ.get("MNV2_CUDA", ""),
            "MNV2_BUILD_TESTS": os.environ.get("MNV2_BUILD_TESTS", "OFF"),
            "Python_EXECUTABLE": sys.executable,
        }
        configure = [cmake, "-S", str(ROOT), "-B", str(directory), "-G", "Ninja"]
        configure += [f"-D{name}={value}" for name, value in options.items()]
        configure += shlex.split(os.environ.get("CMAKE_ARGS", ""))
        for command in (
            configure,
            [cmake, "--build", str(directory)],
            [cmake, "--install", str(directory), "--prefix", str(prefix)],
        ):
            if subprocess.run(command).returncode != 0:
                sys.exit(f"failed: {shlex.join(command)}")


setup(
    license="MIT",
    ext_modules=[Extension("mnv2_kernels._native", sources=[])],
    cmdclass={"build": FreshBuild, "build_ext": CMakeBuild, "dist_info": CheckedMetadata},
)
