"""The tables of docs/performance.md from what `fovea bench --json FILE` wrote.

    fovea bench --json results.json && python bench/table.py results.json

Several files (one for each run of a part) become one set of tables, in their order.
"""

from __future__ import annotations

import sys
from pathlib import Path

import fovea
from fovea.bench.rows import markdown, read_rows


def main() -> None:
    """The command line."""
    if len(sys.argv) < 2:
        sys.exit("[table] expected files that `fovea bench --json` wrote, got none; name at least one")
    print(markdown([row for name in sys.argv[1:] for row in read_rows(Path(name))]))


if __name__ == "__main__":
    try:
        main()
    except fovea.FoveaError as error:
        sys.exit(str(error))
