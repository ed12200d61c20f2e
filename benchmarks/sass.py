"""What ptxas made of the CUDA kernels: prints every one of a built library, its registers and instructions.

    python benchmarks/sass.py [--check] [FILE]

Needs no GPU, but nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm from PyPI. FILE is libmnv2_cuda.so of this
checkout, or any other library or program that holds device code. With --check the exit code is 1 where a
kernel is not what EXPECTATIONS ask of it.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

MISSED = 1
CANNOT = 2
WIDTH = 170  # A pipe has none.

LIBRARY = Path(__file__).resolve().parent.parent / "mnv2_kernels" / "libmnv2_cuda.so"
TOOLS = ("cuobjdump", "nvdisasm")

# Columns of the table; what belongs to none is "other".
KINDS = {
    "mma": re.compile(r"[A-Z]*MMA\b"),
    "half2": re.compile(r"H(FMA2|MUL2|ADD2|MNMX2|SET2|SETP2)\b"),
    "float": re.compile(r"F(FMA|MUL|ADD|MNMX|SEL|SETP|SET)\b"),
    "shared": re.compile(r"(LDS|STS|LDSM|STSM|ATOMS)\b"),
    "global": re.compile(r"(LDG|STG|LDGSTS|RED|ATOMG?|UTMALDG|UTMASTG|UBLKCP)\b"),
    "barrier": re.compile(r"(BAR|UCGABAR_\w+|SYNCS|WARPSYNC)\b"),
    "move": re.compile(r"(MOV|IMAD\.MOV|IMAD\.U32|CS2R|PRMT|SEL|SHFL)\b"),
}
LOCAL = re.compile(r"(LDL|STL)\b")
MATRIX = KINDS["mma"]
# 16 bytes a thread, or a bulk copy's many.
WIDE_LOAD = re.compile(r"(LDG|LDGSTS)\b.*\.128\b|(UTMALDG|UBLKCP)\b")

SIXTEEN_BIT = re.compile(r"\b(__half|__nv_bfloat16)\b")


class SassError(Exception):
    """There is no disassembler, or it cannot read the file."""


@dataclass(frozen=True)
class Kernel:
    """A kernel as compiled for one architecture; ``opcodes`` counts its instructions by their full names."""

    name: str
    arch: str
    registers: int
    shared: int  # bytes without what a launch adds; 1024 on sm_90 are the system's
    opcodes: Mapping[str, int]

    def count(self, pattern: re.Pattern[str]) -> int:
        return sum(count for opcode, count in self.opcodes.items() if pattern.match(opcode))

    @property
    def spills(self) -> int:
        """Instructions that access local memory."""
        return self.count(LOCAL)

    @property
    def arch_number(self) -> int:
        """90 for sm_90 and sm_90a."""
        return int(re.sub(r"\D", "", self.arch))

    @property
    def is_sixteen_bit(self) -> bool:
        return SIXTEEN_BIT.search(self.name) is not None

    @property
    def kinds(self) -> dict[str, int]:
        """Instructions by kind."""
        counts = dict.fromkeys((*KINDS, "other"), 0)
        for opcode, count in self.opcodes.items():
            counts[next((kind for kind, names in KINDS.items() if names.match(opcode)), "other")] += count
        return counts

    def __str__(self) -> str:
        return f"{self.name} for {self.arch}"


# --- what kernels are meant to be ---


@dataclass(frozen=True)
class Expectation:
    """What kernels whose names match are meant to have; None leaves it open."""

    names: re.Pattern[str]
    mma: bool | None  # of 16-bit kernels; float32 kernels have none, unless a name says TF32
    wide_loads: bool | None
    reason: str
    least_arch: int = 80  # older ones have no code


# The first that matches holds.
EXPECTATIONS = (
    Expectation(re.compile("^pack|^probe"), None, None, "packing runs once, on weights of any alignment"),
    Expectation(re.compile("^stem_scalar"), False, None, "takes what mma does not, of any strides"),
    Expectation(
        re.compile("^gate_"), False, None, "a gate multiplies one pixel, by weights that are read once"
    ),
    Expectation(re.compile("^general|^gated|_scalar_"), False, True, "takes what mma does not, in float32"),
    Expectation(
        re.compile("^cluster_"), True, True, "as a fast kernel; clusters came with sm_90", least_arch=90
    ),
    Expectation(re.compile(""), True, True, "a fast kernel multiplies by mma and loads 16 bytes at a time"),
)
TF32 = re.compile(r"tf32", re.I)


def expectation(kernel: Kernel) -> Expectation:
    return next(each for each in EXPECTATIONS if each.names.search(kernel.name))


def misses(kernel: Kernel) -> Iterator[str]:
    """What the kernel lacks, or has and should not, with the reason."""
    expected = expectation(kernel)
    mma, wide_loads = kernel.count(MATRIX), kernel.count(WIDE_LOAD)
    if kernel.spills:
        yield f"{kernel}: {kernel.spills} accesses of local memory: registers were spilled or indexed"
    if kernel.arch_number < expected.least_arch:
        return
    if kernel.is_sixteen_bit and expected.mma is not None and bool(mma) != expected.mma:
        yield f"{kernel}: {mma} mma: {expected.reason}"
    if not kernel.is_sixteen_bit and mma and not TF32.search(kernel.name):
        yield f"{kernel}: {mma} mma: float32 is exact, or its name says TF32"
    if expected.wide_loads is not None and bool(wide_loads) != expected.wide_loads:
        yield f"{kernel}: {wide_loads} global loads of 16 bytes: {expected.reason}"


# --- disassembly ---


def tool(name: str) -> Path | None:
    """A program of the Python package of its name, if that is installed."""
    try:
        files = importlib.metadata.files(f"nvidia-cuda-{name}") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = (Path(file.locate()) for file in files if file.stem == name and file.parent.name == "bin")
    return next(found, None)


def missing_tools() -> list[str]:
    """Names of the packages to install."""
    return [f"nvidia-cuda-{name}" for name in TOOLS if tool(name) is None]


def read_kernels(library: Path) -> list[Kernel]:
    """Every kernel of a library, for every architecture. Raises SassError where that cannot be done."""
    if missing := missing_tools():
        raise SassError(f"not installed: {', '.join(missing)}")
    if not library.exists():
        raise SassError(f"{library}: there is no such file")
    resources = parse_resources(_cuobjdump("--dump-resource-usage", library).communicate()[0])
    archs = sorted({arch for arch, _ in resources})
    dumps = [_cuobjdump("--dump-sass", library, "--gpu-architecture", arch) for arch in archs]
    kernels = {}
    for arch, dump in zip(archs, dumps, strict=True):
        text, errors = dump.communicate()
        if dump.returncode:
            raise SassError(f"{library}: {errors.strip()}")
        kernels |= {(arch, symbol): opcodes for symbol, opcodes in parse_sass(text).items()}
    names = demangle({symbol for _, symbol in kernels})
    return [
        Kernel(short_name(names[symbol]), arch, *resources[arch, symbol], opcodes)
        for (arch, symbol), opcodes in kernels.items()
    ]


def read_functions(library: Path, arch: str) -> dict[str, str]:
    """Code of every kernel by its short name. Raises SassError where there is none for the architecture."""
    if missing := missing_tools():
        raise SassError(f"not installed: {', '.join(missing)}")
    dump = _cuobjdump("--dump-sass", library, "--gpu-architecture", arch)
    text, errors = dump.communicate()
    codes = split_functions(text)
    if dump.returncode or not codes:
        raise SassError(f"{library}: {errors.strip() or f'no code for {arch}'}")
    names = demangle(codes)
    return {short_name(names[symbol]): code for symbol, code in codes.items()}


def parse_resources(text: str) -> dict[tuple[str, str], tuple[int, int]]:
    """Registers and shared memory by architecture and symbol, of ``cuobjdump --dump-resource-usage``."""
    found = {}
    arch = ""
    line = r"^arch = (\w+)$|^\s*Function (\S+):\n\s*REG:(\d+) .*?SHARED:(\d+)"
    for named_arch, symbol, registers, shared in re.findall(line, text, re.M):
        arch = named_arch or arch
        if symbol:
            found[arch, symbol] = (int(registers), int(shared))
    return found


def parse_sass(text: str) -> dict[str, dict[str, int]]:
    """Opcodes by symbol, of ``cuobjdump --dump-sass``."""
    instruction = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?([A-Z][\w.]*)", re.M)
    return {
        symbol: dict(Counter(instruction.findall(code))) for symbol, code in split_functions(text).items()
    }


def split_functions(text: str) -> dict[str, str]:
    """Code by symbol, of ``cuobjdump --dump-sass``."""
    _, *functions = re.split(r"^\s*Function : (\S+)$", text, flags=re.M)
    return dict(zip(functions[::2], functions[1::2], strict=True))


def demangle(symbols: Iterable[str]) -> dict[str, str]:
    symbols = sorted(symbols)
    done = subprocess.run(["c++filt"], input="\n".join(symbols), capture_output=True, text=True, check=True)
    return dict(zip(symbols, done.stdout.splitlines(), strict=True))


def short_name(demangled: str) -> str:
    """Without result, parameters and this project's namespaces."""
    name = re.sub(r"mnv2::(cuda::)?|\(anonymous namespace\)::|_GLOBAL__N_\w+?::", "", demangled)
    name = name.removeprefix("void ").replace("> >", ">>").replace("> >", ">>")
    depth = 0
    for index in range(len(name) - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(name[index], 0)
        if name[index] == "(" and depth == 0:
            return name[:index]
    return name


def _cuobjdump(option: str, library: Path, *others: str) -> subprocess.Popen[str]:
    path = os.pathsep.join((str(tool("nvdisasm").parent), os.environ.get("PATH", "")))
    return subprocess.Popen(
        [str(tool("cuobjdump")), option, *others, str(library)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PATH": path},
    )


# --- a table ---


def table_of(kernels: Iterable[Kernel]) -> Table:
    table = Table(title="Kernels, instructions by kind", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("kernel", overflow="fold")
    table.add_column("arch")
    for column in ("registers", "spills", "shared", "wide loads", "all", *KINDS, "other"):
        table.add_column(column, justify="right")
    for kernel in kernels:
        counts = (kernel.registers, kernel.spills, kernel.shared, kernel.count(WIDE_LOAD))
        counts += (sum(kernel.opcodes.values()), *kernel.kinds.values())
        table.add_row(kernel.name, kernel.arch, *map(str, counts))
    return table


def main(
    file: Annotated[Path, typer.Argument(help="A library or program with device code.")] = LIBRARY,
    check: Annotated[bool, typer.Option("--check", help="Fail where a kernel is not as meant.")] = False,
) -> None:
    """Prints the kernels of a file."""
    try:
        kernels = read_kernels(file)
    except SassError as error:
        typer.echo(f"sass: {error}", err=True)
        raise typer.Exit(CANNOT) from None
    Console(width=WIDTH).print(table_of(kernels))
    if missed := [miss for kernel in kernels for miss in misses(kernel) if check]:
        typer.echo("\n".join(missed), err=True)
        raise typer.Exit(MISSED)


if __name__ == "__main__":
    typer.run(main)
