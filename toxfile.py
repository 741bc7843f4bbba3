"""An inline plugin of tox: environments that share one folder (`runner = shared` and the same `env_dir` in tox.ini).

tox starts a folder over when it finds another environment's name in it. Lint, types, test and the rest install the same
things, and torch alone is gigabytes, so here that name is the same for all of them. What is installed (dependencies,
extras, constraints, Python) is still compared, and a change of it still starts the folder over.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tox.plugin import impl
from tox.tox_env.api import ToxEnv
from tox.tox_env.info import Info
from tox.tox_env.python.virtual_env.runner import VirtualEnvRunner
from tox.tox_env.register import ToxEnvRegister


class SharedInfo(Info):
    """tox's notes on a folder, without the name of the environment that made it."""

    @contextmanager
    def compare(self, value: Any, section: str, sub_section: str | None = None) -> Iterator[tuple[bool, Any | None]]:
        if section == ToxEnv.__name__:
            value = {**value, "name": "shared"}
        with super().compare(value, section, sub_section) as result:
            yield result


class Shared(VirtualEnvRunner):
    """A virtual environment that several tox environments use in turn."""

    @staticmethod
    def id() -> str:
        return "shared"

    @property
    def cache(self) -> Info:
        return SharedInfo(self.env_dir)


@impl
def tox_register_tox_env(register: ToxEnvRegister) -> None:
    """Called by tox when it starts."""
    register.add_run_env(Shared)
