"""Run under callgrind: counts blocks one after another, and prints how each was cut.

    python count_blocks.py _NATIVE KIND CACHE_BYTES BLOCKS

_NATIVE is the path of the extension module, loaded by itself, since the package would bring torch, which
takes minutes under valgrind. KIND is its BlockRun or Int8BlockRun, BLOCKS a JSON list of the arguments.
"""

import json
import sys
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from importlib.util import module_from_spec


def main(native_path: str, kind: str, cache_bytes: str, blocks: str) -> None:
    loader = ExtensionFileLoader("_native", native_path)
    native = module_from_spec(ModuleSpec("_native", loader, origin=native_path))
    loader.exec_module(native)
    plans = []
    for arguments in json.loads(blocks):
        run = getattr(native, kind)(**arguments)
        run.count(int(cache_bytes))
        plans.append(run.plan)
    print(json.dumps(plans))


if __name__ == "__main__":
    main(*sys.argv[1:])
