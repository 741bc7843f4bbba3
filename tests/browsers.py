"""Debian's chromium (``apt-get install chromium``), driven by playwright.

Where there is none the tests are skipped with the reason, unless DISTILBENCH_BROWSER=1 says that there must be one
(``.ci/run`` does).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SECONDS = 60_000
"""Milliseconds that a step may take: a test machine may be busy."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        reason = "no chromium on the path (apt-get install chromium)"
        if os.environ.get("DISTILBENCH_BROWSER") == "1":
            pytest.fail(f"{reason}, but DISTILBENCH_BROWSER=1 says that there must be one")
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=SECONDS)
        yield chromium
        chromium.close()
