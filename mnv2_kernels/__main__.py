"""python -m mnv2_kernels."""

import sys

from .cli.app import main

sys.exit(main())
