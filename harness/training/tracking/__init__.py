"""``train.report_to``: training curves in TensorBoard, Weights & Biases or Trackio, through transformers' callbacks.

Where to, and under which name. Keys of services stay in the environment, where the services' own libraries read them.
"""

from __future__ import annotations

import importlib.util
import netrc
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Tracker = Literal["tensorboard", "wandb", "trackio"]
WANDB_KEY, WANDB_HOST = "WANDB_API_KEY", "api.wandb.ai"


@dataclass(frozen=True)
class Tracking:
    trackers: tuple[Tracker, ...]
    project: str
    """The run's name: ``runs/PROJECT``."""
    run: str
    """``dpo-seed0-51bdd27d``: row, seed, round, and the beginning of the stage's key, as other options are another
    training."""
    folder: Path
    """``runs/PROJECT``: what is kept on this machine goes into ``tensorboard/RUN``, ``wandb`` and ``trackio``."""


def tracking_problem(trackers: Sequence[Tracker]) -> str | None:
    """Why these cannot be reported to from here."""
    for name in trackers:
        if importlib.util.find_spec(name) is None:
            return f"the package {name} is not installed: pip install 'distilbench[{name}]', or leave {name} out"
    if "wandb" in trackers and not wandb_can_start():
        remedy = f"set {WANDB_KEY}, or WANDB_MODE=offline to keep the curves here (`wandb sync` sends them later)"
        return f"wandb has no key: {remedy}"
    return None


def wandb_can_start() -> bool:
    if os.environ.get("WANDB_MODE", "online") in ("offline", "disabled", "dryrun") or os.environ.get(WANDB_KEY):
        return True
    host = os.environ.get("WANDB_BASE_URL", f"https://{WANDB_HOST}").partition("://")[2].partition("/")[0]
    with suppress(OSError, netrc.NetrcParseError):
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    return False


@contextmanager
def tracked(tracking: Tracking | None) -> Iterator[None]:
    """Name places and projects for the callbacks, which read the environment, unless the user has named others; and end
    their runs: a worker trains several students, each of which is a run of its own."""
    if tracking is None:
        yield
        return
    places = {
        "TENSORBOARD_LOGGING_DIR": str(tracking.folder / "tensorboard" / tracking.run),
        "WANDB_PROJECT": tracking.project,
        "WANDB_DIR": str(tracking.folder),
        "WANDB_SILENT": "true",
        "TRACKIO_DIR": str(tracking.folder / "trackio"),
    }
    added = {name: value for name, value in places.items() if name not in os.environ}
    os.environ.update(added)
    if "wandb" in tracking.trackers:
        tracking.folder.mkdir(parents=True, exist_ok=True)  # wandb writes elsewhere where its folder is not there
    try:
        yield
    finally:
        if "wandb" in tracking.trackers and (wandb := sys.modules.get("wandb")) is not None:
            wandb.finish()
        for name in added:
            os.environ.pop(name, None)
