"""``python -m fovea``: the command line, where the program itself is not on the path (torchrun, say)."""

from __future__ import annotations

import sys

from fovea.cli import main

sys.exit(main())
