"""Run under callgrind: counts blocks one after another, and prints how each was cut.

    python count_blocks.py _NATIVE CACHE_BYTES BLOCKS

_NATIVE is the path of the extension module, loaded by itself, since the package would bring torch, which
takes minutes under valgrind. BLOCKS is a JSON list of ``_native.BlockRun``'s arguments.
"""

import importlib.util
import json
import sys


def main(native_path: str, cache_bytes: str, blocks: str) -> None:
    spec = importlib.util.spec_from_file_location("_native", native_path)
    native = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(native)
    plans = []
    for arguments in json.loads(blocks):
        run = native.BlockRun(**arguments)
        run.count(int(cache_bytes))
        plans.append(run.plan)
    print(json.dumps(plans))


if __name__ == "__main__":
    main(*sys.argv[1:])
