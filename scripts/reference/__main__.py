"""Write the blocks of all pages anew; the difference is reviewed like code."""

from __future__ import annotations

import sys

from scripts.reference.pages import PAGES, gaps, renewed


def main() -> int:
    """Write the pages that have changed; 1 if a page has a cell that a person must fill."""
    empty: list[str] = []
    for path, blocks in PAGES.items():
        known = path.read_text(encoding="utf-8")
        fresh = renewed(known, blocks)
        if fresh != known:
            path.write_text(fresh, encoding="utf-8")
            sys.stdout.write(f"{path.name} written\n")
        empty += [f"{path.name}: {row}" for row in gaps(fresh)]
    for row in empty:
        sys.stdout.write(f"to be filled by hand: {row}\n")
    return 1 if empty else 0


if __name__ == "__main__":
    sys.exit(main())
