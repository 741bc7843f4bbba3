"""The accelerate configurations that start a training stage in several processes: ``compute.launch``.

A name in ``harness/hardware/launch``, or the path of your own file (``accelerate config`` writes one).
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "launch"


def launch_configurations() -> dict[str, Path]:
    """Name to file of the configurations that ship with distilbench."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def launch_configuration(name: str) -> Path:
    """The accelerate configuration of this name, or at this path. Raises ValueError naming the choices."""
    shipped = launch_configurations()
    path = shipped.get(name, Path(name).expanduser())
    if not path.is_file():
        raise ValueError(f"{name!r} is neither a file nor one of {', '.join(shipped)}")
    return path
