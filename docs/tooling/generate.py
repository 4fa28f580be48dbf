"""Pages of the documentation that are made from the code: ``python docs/tooling/generate.py [--check]``.

With ``--check`` nothing is written, and the exit code is 1 where a page is out of date.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from code_map import code_map
from settings_page import settings_page

DOCS = Path(__file__).parents[1]
PAGES = {"code_map.md": code_map, "settings.md": settings_page}


def main() -> int:
    """Write every page, or say which are out of date."""
    stale = []
    for name, make in PAGES.items():
        text, path = make(), DOCS / name
        if not path.is_file() or path.read_text() != text:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(text)
                print(path.relative_to(DOCS.parent))
    if stale and "--check" in sys.argv:
        print(f"out of date: {', '.join(stale)}; make them anew with: python docs/tooling/generate.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
