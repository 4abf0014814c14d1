"""Code blocks of a page in docs."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def code_below(page: str, heading: str, language: str = "python") -> list[str]:
    """Return the blocks in a language between a heading of ``docs/PAGE`` and the next one."""
    _, _, rest = (DOCS / page).read_text().partition(f"\n## {heading}\n")
    assert rest, f"{page} has no heading {heading!r}"
    section, _, _ = rest.partition("\n## ")
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
