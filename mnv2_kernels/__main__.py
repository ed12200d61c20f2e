"""python -m mnv2_kernels."""

import sys

from .cli import main

sys.exit(main())
