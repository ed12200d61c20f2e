"""Instructions that a kernel issues, of its machine code's loops and what the emulator counted while it ran.

A loop's trips are those with which the loops' mma, shared loads and global stores add up to the counted ones.
A trip takes at least the shortest way through the loop that passes most of these.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

# By which trips are known: what the emulator counts, too. Loads of a word are not among them, since the
# compiler loads only once what two windows share.
COUNTED = re.compile(r"(HMMA\.16816|HMMA\.1688|LDS\.64|LDS\.128|STG)\b")
AGREEMENT = 0.02  # of the trips' instructions with the counted ones
STORE_WORDS = {"64": 2, "128": 4}  # as the compiler splits a store now and then, words are compared
NEVER = "@!PT "  # guards instructions that do nothing but take time

INSTRUCTION = re.compile(r"^\s+/\*([0-9a-f]{4,})\*/\s+(@!?U?P\w+ )?([A-Z][\w.]*)([^;]*);", re.M)
JUMP = re.compile(r"(BRA|EXIT|RET|BRX|JMP)\b")


def counted_of(opcode: str, times: float = 1) -> dict[str, float]:
    """An instruction's kind and how much of it there is; nothing if trips are not known by it."""
    match = COUNTED.match(opcode)
    if match is None:
        return {}
    kind = match.group(1)
    words = STORE_WORDS.get(opcode.rpartition(".")[2], 1) if kind == "STG" else 1
    return {kind: words * times}


def add_up(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for part in parts:
        for kind, amount in part.items():
            total[kind] = total.get(kind, 0) + amount
    return total


@dataclass
class Block:
    """Instructions that are executed one after the other."""

    size: int = 0
    kinds: dict[str, float] = field(default_factory=dict)
    next: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Loop:
    """A loop without those inside it, or what is outside of all."""

    kinds: Mapping[str, float]
    trip: int  # instructions, at least


def loops_of(code: str) -> list[Loop]:
    """The loops of a function in cuobjdump's text that have instructions by which trips are known."""
    blocks = basic_blocks(code)
    bodies = {min(blocks): set(blocks)} | natural_loops(blocks)
    found = []
    for header, body in bodies.items():
        inner = set().union(*(other for other in bodies.values() if other < body))
        loop = _trip(blocks, header, body, body - inner)
        if loop.kinds:
            found.append(loop)
    return found


def basic_blocks(code: str) -> dict[int, Block]:
    """By their addresses; the first has the kernel's."""
    instructions = [
        (int(at, 16), guard, opcode, operands) for at, guard, opcode, operands in INSTRUCTION.findall(code)
    ]
    starts = {instructions[0][0]}
    for (_, _, opcode, operands), following in itertools.pairwise(instructions):
        if JUMP.match(opcode):
            starts.add(following[0])
            starts.update(_targets(operands))
    blocks: dict[int, Block] = {}
    begin = 0
    for index, (at, guard, opcode, operands) in enumerate(instructions):
        if at in starts:
            begin = at
            blocks[begin] = Block()
        block = blocks[begin]
        block.size += 1
        if guard != NEVER:
            block.kinds = add_up((block.kinds, counted_of(opcode)))
        following = instructions[index + 1][0] if index + 1 < len(instructions) else None
        is_last = following is None or following in starts
        if opcode.startswith("BRA"):
            block.next += _targets(operands)
        is_conditional = bool(guard) or not JUMP.match(opcode) or re.search(r"\bU?P\d", operands)
        if is_last and following is not None and is_conditional:
            block.next.append(following)
    return blocks


def _targets(operands: str) -> list[int]:
    return [int(at, 16) for at in re.findall(r"0x([0-9a-f]+)", operands)]


def natural_loops(blocks: Mapping[int, Block]) -> dict[int, set[int]]:
    """Blocks by the first block of their loop."""
    dominators = _dominators(blocks)
    previous: dict[int, list[int]] = {at: [] for at in blocks}
    for at, block in blocks.items():
        for after in block.next:
            previous[after].append(at)
    loops: dict[int, set[int]] = {}
    for at, block in blocks.items():
        for header in block.next:
            if header not in dominators[at]:
                continue
            body = loops.setdefault(header, {header})
            waiting = [at]
            while waiting:
                if (one := waiting.pop()) not in body:
                    body.add(one)
                    waiting += previous[one]
    return loops


def _dominators(blocks: Mapping[int, Block]) -> dict[int, set[int]]:
    """The blocks that every way to a block passes, for each block that some way leads to."""
    entry = min(blocks)
    dominators = {entry: {entry}}
    changed = True
    while changed:
        changed = False
        for at in sorted(dominators):
            for after in blocks[at].next:
                ways = dominators[at] | {after}
                new = ways & dominators[after] if after in dominators else ways
                if dominators.get(after) != new and after != entry:
                    dominators[after] = new
                    changed = True
    return {at: dominators.get(at, set()) for at in blocks}


def _trip(blocks: Mapping[int, Block], header: int, body: set[int], own: set[int]) -> Loop:
    """The shortest of the ways from a loop's header to its end that pass most instructions of known trips.

    Its own blocks have these instructions; where the compiler has written code twice, one copy is passed.
    """
    order = _in_order(blocks, header, body)
    place = {at: index for index, at in enumerate(order)}
    nothing = Loop({}, 0)
    ways = {header: nothing}
    ends = []
    for at in order:
        way, block = ways[at], blocks[at]
        if at in own:
            way = Loop(add_up((way.kinds, block.kinds)), way.trip + block.size)
        for to in block.next:
            if place.get(to, 0) > place[at]:
                ways[to] = min(way, ways.get(to, way), key=_preference)
        if header in block.next or not block.next:
            ends.append(way)
    return min(ends, key=_preference, default=nothing)


def _preference(way: Loop) -> tuple[float, int]:
    return -sum(way.kinds.values()), way.trip


def _in_order(blocks: Mapping[int, Block], header: int, body: set[int]) -> list[int]:
    """Blocks that the header leads to within a loop, each before those behind it."""
    done: list[int] = []
    seen: set[int] = set()
    waiting = [(header, iter(blocks[header].next))]
    seen.add(header)
    while waiting:
        at, following = waiting[-1]
        after = next((to for to in following if to in body and to not in seen), None)
        if after is None:
            done.append(at)
            waiting.pop()
        else:
            seen.add(after)
            waiting.append((after, iter(blocks[after].next)))
    return done[::-1]


def trips_of(loops: Sequence[Loop], counts: Mapping[str, float]) -> list[float] | None:
    """Each loop's trips, or None where no numbers of them give the counts."""
    counts = add_up(counted_of(name, times) for name, times in counts.items())
    kinds = sorted({kind for loop in loops for kind in loop.kinds if counts.get(kind)})
    if not kinds:
        return None
    shares = torch.tensor(
        [[loop.kinds.get(kind, 0) / counts[kind] for loop in loops] for kind in kinds], dtype=torch.float64
    )
    scale = shares.max(dim=0).values.clamp_min(1e-300)  # as loops differ much in their trips
    solution = torch.linalg.lstsq(
        shares / scale, torch.ones(len(kinds), 1, dtype=torch.float64), driver="gelsd"
    )
    trips = (solution.solution[:, 0] / scale).clamp_min(0.0)
    agree = (shares @ trips - 1.0).abs() <= AGREEMENT
    return trips.tolist() if bool(agree.all()) else None


def instructions_issued(loops: Sequence[Loop], counts: Mapping[str, float]) -> float | None:
    """By all warps, at least; None where trips are not known."""
    trips = trips_of(loops, counts)
    return None if trips is None else sum(n * loop.trip for n, loop in zip(trips, loops, strict=True))
