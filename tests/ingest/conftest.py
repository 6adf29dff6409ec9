import shutil
from pathlib import Path

import pytest

from caretrace.ingest import source_mapping


@pytest.fixture
def raw(tmp_path: Path):
    """A copy of a source's sample that a test may damage."""

    def copy(source: str) -> Path:
        target = tmp_path / f"raw-{source}"
        shutil.copytree(source_mapping(source).folder / "sample" / "raw", target)
        return target

    return copy
