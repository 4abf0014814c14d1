"""The images that tables of the tests name."""

from pathlib import Path

import pytest

from tests.support.photo_tables import make_photos


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_photos(tmp_path)
