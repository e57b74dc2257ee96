"""Where is what decided? Prints the table of questions, read from the docstrings in `src/penstock/decide`."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

DECIDE = Path(__file__).parents[1] / "src" / "penstock" / "decide"


def questions(folder: Path = DECIDE) -> list[tuple[str, str]]:
    """Question and file of every decision, by file name."""
    found = []
    for path in sorted(folder.glob("*.py")):
        text = path.read_text()
        if path.name == "__init__.py" and not text.strip():
            continue
        docstring = ast.get_docstring(ast.parse(text)) or ""
        found.append((docstring.split("\n")[0], f"decide/{path.name}"))
    return found


def main() -> None:
    """With words as arguments, only rows that contain all of them."""
    words = [word.lower() for word in sys.argv[1:]]
    rows = [row for row in questions() if all(word in " ".join(row).lower() for word in words)]
    width = max((len(question) for question, _ in rows), default=0)
    for question, path in rows:
        print(f"{question:{width}}  {path}")


if __name__ == "__main__":
    main()
