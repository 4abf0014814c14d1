"""The house stays small: few modules in a folder, short modules, short chains of imports.

That no import goes upwards, and which rooms the launcher may enter, is import-linter's part (pyproject.toml).
"""

from collections import Counter
from functools import cache
from pathlib import Path

import grimp

ROOT = Path(__file__).parent.parent
MOST_MODULES, MOST_LINES, LONGEST_CHAIN = 12, 300, 10
"""Modules in a folder, without ``__init__.py``; lines in a module; modules in a chain of imports."""


def test_no_folder_holds_many_modules() -> None:
    modules = [path for package in ("dist_train", "launch") for path in (ROOT / package).rglob("*.py")]
    counts = Counter(str(path.parent.relative_to(ROOT)) for path in modules if path.name != "__init__.py")
    assert {folder: count for folder, count in counts.items() if count > MOST_MODULES} == {}


def test_no_module_is_long() -> None:
    modules = [path for package in ("dist_train", "launch") for path in (ROOT / package).rglob("*.py")]
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in modules}
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}


def test_no_chain_of_imports_is_long() -> None:
    """Imports inside of functions count, those for type checkers do not: nothing is imported there.

    There are no circles, which import-linter's layers would show.
    """
    graph = grimp.build_graph("dist_train", "launch", exclude_type_checking_imports=True, cache_dir=None)
    packages = {"dist_train", "launch"}

    @cache
    def chain(module: str) -> tuple[str, ...]:
        below = graph.find_modules_directly_imported_by(module) - packages
        return (module, *max(map(chain, sorted(below)), key=len, default=()))

    longest = max(map(chain, sorted(graph.modules)), key=len)
    assert len(longest) <= LONGEST_CHAIN, " > ".join(longest)
