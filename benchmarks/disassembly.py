"""Kernels in built object code: their instructions, as objdump prints them, and the loops among them.

What a compiler made of a kernel shows here on any machine, a busy one or one without the instruction set.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar, NamedTuple, TypeVar

# A function of csrc/cpu: a template of numbers in an anonymous namespace in the namespace of its ISA.
KERNEL = re.compile(
    r"3cpu(4int8)?\d+(\w+?)12_GLOBAL__N_1\d+(pointwise_tiles|two_depth_tiles|panel_tiles|depthwise_rows)"
    r"I((?:L[a-z]\d+E)+)EE\w*$"
)


class Kernel(NamedTuple):
    """One instance of a kernel's template."""

    isa: str  # with int8 in front of those that compute with bytes
    name: str
    arguments: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.isa} {self.name}<{', '.join(map(str, self.arguments))}>"


@dataclass(frozen=True)
class Instruction:
    """One line of objdump; subclasses say how an architecture writes it."""

    address: int
    name: str
    operands: str

    MULTIPLY_ADD: ClassVar[re.Pattern[str]]  # all of a name
    VECTOR: ClassVar[re.Pattern[str]]  # in operands: a vector register
    STACK: ClassVar[re.Pattern[str]]  # in operands: an address on the stack
    BRANCH: ClassVar[re.Pattern[str]]  # all of the name of a branch within a function

    @property
    def is_multiply_add(self) -> bool:
        return self.MULTIPLY_ADD.fullmatch(self.name) is not None

    @property
    def is_spill(self) -> bool:
        """Moves a vector to or from the stack."""
        return all(pattern.search(self.operands) for pattern in (self.STACK, self.VECTOR))

    @property
    def is_branch(self) -> bool:
        return self.BRANCH.fullmatch(self.name) is not None

    @property
    def target(self) -> int | None:
        """Where a branch goes."""
        found = re.search(r"\b([0-9a-f]+) <", self.operands) if self.is_branch else None
        return int(found[1], 16) if found else None

    @classmethod
    def objdump(cls) -> str | None:
        """The command that reads this architecture, if it is installed."""
        return shutil.which("objdump")


class X86(Instruction):
    MULTIPLY_ADD = re.compile(r"vfmadd\w+")
    VECTOR = re.compile(r"%[xyz]mm\d")
    STACK = re.compile(r"\(%rsp")
    BRANCH = re.compile(r"j\w+")


class Aarch64(Instruction):
    # bfloat16's and bytes', too; not the scalar fmadd.
    MULTIPLY_ADD = re.compile(r"fmlal?2?|bfmmla|bfdot|u?sdot|usmmla|smull2?|smlsl2?")
    VECTOR = re.compile(r"\b[vqds]\d")
    STACK = re.compile(r"\[(sp|x29)\b")
    BRANCH = re.compile(r"b(\.\w+)?|cbn?z|tbn?z")

    @property
    def is_load(self) -> bool:
        return re.match(r"ldu?r|ldp|ld1", self.name) is not None

    @property
    def is_store(self) -> bool:
        return re.match(r"stu?r|stp|st1", self.name) is not None

    @property
    def is_vector_move(self) -> bool:
        """Copies a vector, or a lane of one, to another register."""
        return re.fullmatch(r"f?mov|orr|dup|ins", self.name) is not None and self.operands.startswith("v")

    @property
    def vectors(self) -> int:
        """How many a load or a store moves."""
        return 2 if self.name.endswith("p") else 1

    @classmethod
    def objdump(cls) -> str | None:
        return shutil.which("aarch64-linux-gnu-objdump" if platform.machine() != "aarch64" else "objdump")


AnyInstruction = TypeVar("AnyInstruction", bound=Instruction)
Code = tuple[AnyInstruction, ...]


@cache
def kernel_symbols(library: Path) -> dict[Kernel, str]:
    """Mangled names of a library's kernels; none where it is stripped."""
    output = subprocess.run(["nm", str(library)], check=True, capture_output=True, text=True).stdout
    found = [KERNEL.search(line) for line in output.splitlines()]
    return {
        Kernel(
            f"int8 {m[2]}" if m[1] else m[2], m[3], tuple(map(int, re.findall(r"\d+", m[4])))
        ): m.string.split()[-1]
        for m in found
        if m
    }


@cache
def disassemble(library: Path, kernel: Kernel, kind: type[AnyInstruction]) -> Code[AnyInstruction]:
    symbol = kernel_symbols(library)[kernel]
    command = [kind.objdump(), f"--disassemble={symbol}", "--no-show-raw-insn", str(library)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    line = r"^\s*([0-9a-f]+):\s+(\S+)[ \t]*(.*?)\s*(?://.*)?$"
    return tuple(
        kind(int(address, 16), name, operands)
        for address, name, operands in re.findall(line, output, flags=re.MULTILINE)
    )


def innermost_loops(code: Code[AnyInstruction]) -> list[Code[AnyInstruction]]:
    """From a backward branch's target to the branch, where no other such loop lies within."""
    index_of = {instruction.address: index for index, instruction in enumerate(code)}
    ranges = [
        (index_of[instruction.target], index)
        for index, instruction in enumerate(code)
        if instruction.target in index_of and index_of[instruction.target] <= index
    ]
    return [
        code[begin : end + 1]
        for begin, end in ranges
        if not any(other != (begin, end) and begin <= other[0] and other[1] <= end for other in ranges)
    ]


def basic_blocks(code: Code[AnyInstruction]) -> list[Code[AnyInstruction]]:
    """What runs from its first instruction to its last: nothing branches into it, or out before its end."""
    targets = {instruction.target for instruction in code}
    ends = [
        index + 1
        for index, instruction in enumerate(code)
        if index + 1 == len(code) or instruction.is_branch or code[index + 1].address in targets
    ]
    return [code[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


def multiply_adds(code: Code[AnyInstruction]) -> int:
    return sum(instruction.is_multiply_add for instruction in code)


def is_dense(code: Code[AnyInstruction]) -> bool:
    """More than a third are multiply-adds; an epilogue has some too, among loads, clamps and stores."""
    return 3 * multiply_adds(code) > len(code)


def depth_loops(library: Path, kernel: Kernel, kind: type[AnyInstruction]) -> list[Code[AnyInstruction]]:
    """A pointwise tile's loops over the depth."""
    rows, vectors, _ = kernel.arguments
    loops = innermost_loops(disassemble(library, kernel, kind))
    return [loop for loop in loops if multiply_adds(loop) >= rows * vectors and is_dense(loop)]


def tallest_tile(
    library: Path, isa: str, vectors: int, is_long: bool, name: str = "pointwise_tiles"
) -> Kernel:
    """The pointwise tile of this width with the most rows; ValueError where there is none."""
    return max(
        kernel
        for kernel in kernel_symbols(library)
        if (kernel.isa, kernel.name, kernel.arguments[1:]) == (isa, name, (vectors, is_long))
    )
