"""HTML pages, read as a browser would, and drawn by one."""

import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """The elements of a page with their attributes, and its text. It raises AssertionError if an element is closed wrongly."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str) -> int:
        """How many elements of this name there are."""
        return sum(name == tag for name, _ in self.elements)

    def outside(self) -> Iterator[str]:
        """Yield what would load or run something: scripts, handlers of events, addresses that are not in the page."""
        for tag, attributes in self.elements:
            if tag in ("script", "iframe", "object", "embed", "link", "base", "form"):
                yield tag
            for name, value in attributes.items():
                inside = str(value).startswith(("#", "data:image/jpeg;base64,"))
                if name.startswith("on") or (name in ("src", "href", "xlink:href") and not inside):
                    yield f"{tag} {name}={value}"


def fits_a_window(page: Path, width: int, folder: Path) -> bool:
    """Whether a page stays inside a window: the columns of pixels at its right edge have one colour.

    Skip the test if there is no browser.
    """
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no browser")
    options = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={folder / 'browser'}",
    ]
    options += [f"--window-size={width},6000", f"--screenshot={folder / 'page.png'}", page.resolve().as_uri()]
    subprocess.run([browser, *options], capture_output=True, timeout=120, check=True)
    with Image.open(folder / "page.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[1] == width
    assert len(np.unique(pixels[:2000].reshape(-1, 3), axis=0)) > 50, "the page is drawn"
    return len(np.unique(pixels[:, -6:].reshape(-1, 3), axis=0)) == 1
