"""The options of executor ``ray``."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from harness.contracts.options import PathText, options, require

SECRET: Final = re.compile(r"KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)


def _url(text: str) -> str:
    require(
        "://" in text, "must be a URL of a file system that fsspec knows: s3://bucket/folder, gs://..., file:///..."
    )
    return text


def _not_secret(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        require(not SECRET.search(name), f"{name} looks like a secret, and all users of a cluster can read these")
    return names


@options
class RayOptions:
    """Where the cluster is, and how artifacts travel."""

    address: str = "auto"
    """``auto``: the cluster of this machine or of ``RAY_ADDRESS``, else as ``local``; ``local``: one that is started
    here and ends with the command; or ``HOST:PORT`` of a cluster, whose driver machine is a part of it."""
    storage: Annotated[PathText, AfterValidator(_url)] | None = None
    """Copy artifacts through this URL (``s3://bucket/folder``), for machines that share no file system."""
    scratch: PathText | None = None
    """With ``storage``: where a machine keeps its copies; ``null``: in its folder for temporary files."""
    environment: Annotated[tuple[str, ...], AfterValidator(_not_secret)] = ()
    """Further variables that workers get from the driver, besides ``DISTILBENCH_*``, ``HF_*``, ``TRANSFORMERS_*``,
    ``AWS_*``, ``FSSPEC_*`` and ``PYTHONPATH``. Never secrets."""
    autoscale: bool = False
    """Whether the cluster grows on demand: a stage that no machine can hold then waits instead of failing."""
    engine_minutes: Annotated[float, Field(gt=0, le=1e5)] = 10.0
    """How long an engine's server stays without a question; it ends sooner where its GPUs are needed."""
