"""A failure is told at once, wherever the tests run."""

from __future__ import annotations

import os
from pathlib import Path

from tests.conftest import BUILD_SERVER_VARIABLES
from tests.pytest_server import PytestServer

ROOT = Path(__file__).parents[1]

#: Four pages that have many lines nearly in common when they are printed: minutes, for the whole difference.
DIFFERENT_PAGES = """
def test_pages():
    assert b"".join(n.to_bytes(8, "big") for n in range(2048)) == b"".join(
        n.to_bytes(8, "big") for n in range(1, 2049)
    )
"""


def test_pages_that_differ_are_told_at_once_also_on_a_build_server(tmp_path: Path) -> None:
    (tmp_path / "test_pages.py").write_text(DIFFERENT_PAGES, encoding="utf-8")
    build_server = dict.fromkeys(BUILD_SERVER_VARIABLES, "true")
    server = PytestServer(tmp_path, {**os.environ, "PYTHONPATH": str(ROOT), **build_server}, longest=30)
    try:
        done = server.run(["-p", "tests.conftest", "-p", "no:cacheprovider", "test_pages.py"])
    finally:
        server.close()
    assert done.returncode == 1, done.stdout
    assert "At index 7 diff" in done.stdout
