"""What the docs name exists: files, links, tests; and docs/architecture.md has every module."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "slurm" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
OURS = r"(?:dist_train|launch|tests|benchmarks|configs|slurm|docs)"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_paths_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    missing = [link for link in links if not (page.parent / link).exists()]
    paths = re.findall(rf"(?<![\w/.-]){OURS}(?:/[\w.-]+)+\.(?:py|md|yaml|json|sbatch|csv|html)\b", text)
    missing += [path for path in paths if not (ROOT / path).exists() and path not in EXAMPLES]
    assert missing == []


EXAMPLES = ("dist_train/distributed/strategies/ddp_bf16.py",)
"""Files that a page has the reader write."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tests_that_are_cited_exist(page: Path) -> None:
    cited = set(re.findall(r"(tests/[\w/]+\.py)::(\w+)", page.read_text()))
    assert [(path, name) for path, name in sorted(cited) if f"def {name}(" not in (ROOT / path).read_text()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_a_heading_find_it(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)\s#:]*)#([^)\s]+)\)", page.read_text()):
        headings = re.findall(r"^#+ (.*)$", (page.parent / target if target else page).read_text(), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_architecture_has_every_module() -> None:
    _, _, block = (ROOT / "docs" / "architecture.md").read_text().partition("## Every file")
    listed, folder = set(), ""
    for line in block.splitlines():
        if re.match(rf"{OURS}[\w/]* ", line):
            folder = line.split()[0]
        elif line.startswith("  "):
            names = re.split(r" {2,}", line.strip())[0].split()
            listed |= {f"{folder}/{name}.py" for name in names}
    files = [path for package in ("dist_train", "launch") for path in (ROOT / package).rglob("*.py")]
    there = {str(path.relative_to(ROOT)) for path in files if path.name != "__init__.py"}
    assert sorted(there - listed) == [], "add a line for each to the page"
    assert sorted(listed - there) == [], "these are gone"


def test_every_row_of_the_fault_table_says_what_to_type() -> None:
    rows = json.loads((ROOT / "benchmarks" / "results" / "slurm_faults.json").read_text())
    told = (ROOT / "docs" / "clusters.md").read_text()
    assert {row["case"] for row in rows if f"`{row['case'].partition(': the other')[0]}`" not in told} == set()
