"""What an installation takes: `python scripts/install_size.py`.

Megabytes of the packages that distilbench needs, as they lie in this environment, extras left out; and the time of
`distilbench --help`, the median of five starts.
"""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

SHOWN = 12


def needed(name: str, found: dict[str, int]) -> None:
    """Add the bytes of a distribution and of all that it requires, extras left out."""
    key = name.lower().replace("_", "-")
    if key in found:
        return
    try:
        installed = distribution(name)
    except PackageNotFoundError:
        return
    files = (installed.locate_file(file) for file in installed.files or () if ".pyc" not in str(file))
    found[key] = sum(path.stat().st_size for path in (Path(str(file)) for file in files) if path.is_file())
    for text in installed.requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            needed(requirement.name, found)


def start_seconds() -> float:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "distilbench", "--help"], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    found: dict[str, int] = {}
    needed("distilbench", found)
    print(f"{len(found)} packages, {sum(found.values()) / 1e6:,.0f} MB")
    for name, size in sorted(found.items(), key=lambda item: -item[1])[:SHOWN]:
        print(f"{size / 1e6:8,.0f}  {name}")
    print(f"distilbench --help: {start_seconds():.2f} s ({platform.processor() or platform.machine()})")


if __name__ == "__main__":
    main()
