"""Whether the packages that Python finds are distilbench's own. It imports none of them."""

from __future__ import annotations

import importlib.util
from importlib.metadata import packages_distributions
from pathlib import Path

from harness.errors import UserError

FOLDERS = ("methods", "judges", "results", "reports", "recipes")


def check_folders() -> None:
    """These top-level names are generic. Raises UserError when one of them is another distribution's, or missing."""
    home = Path(__file__).resolve().parents[1]
    for name in FOLDERS:
        # Found, not imported: a stranger's package must not run.
        spec = importlib.util.find_spec(name)
        places = [Path(location).resolve() for location in spec.submodule_search_locations or ()] if spec else []
        if spec is not None and home / name in places:
            continue
        if spec is None:
            raise UserError(f"the package {name!r} of distilbench is missing beside {home}: install distilbench again.")
        owners = [owner for owner in packages_distributions().get(name, []) if owner != "distilbench"]
        owner = f"the distribution {' and '.join(map(repr, owners))}" if owners else "something that is no distribution"
        origin = spec.origin or ", ".join(map(str, places))
        raise UserError(
            f"the top-level package {name!r} is not distilbench's: Python finds {origin}, of {owner}. distilbench's is "
            f"{home / name}. Install distilbench into a virtual environment of its own, or run it from another folder."
        )
