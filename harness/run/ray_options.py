"""The options of executor ``ray``."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from harness.contracts.options import PathText, options, require

SECRET: Final = re.compile(r"KEY|TOKEN|SECRET|PASS|AUTH|CREDENTIAL|CONNECTION_STRING", re.IGNORECASE)
SECRET_VALUE: Final = re.compile(r"\s*[{\[]|[\w+.-]+://[^/]*@")
"""JSON, as in ``FSSPEC_S3``, or a URL with a password: what is in them is not said by their names."""
HANDED: Final = re.compile(r"(DISTILBENCH|HF|TRANSFORMERS|AWS|FSSPEC)_|PYTHONPATH$")


def _url(text: str) -> str:
    require(
        "://" in text, "must be a URL of a file system that fsspec knows: s3://bucket/folder, gs://..., file:///..."
    )
    return text


def _not_secret(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        require(not SECRET.search(name), f"{name} looks like a secret, and all users of a cluster can read these")
    return names


def handed(environment: Mapping[str, str], further: Collection[str]) -> dict[str, str]:
    """Variables of the driver that workers get: those that ``further`` names, and ours without secrets."""
    return {
        name: value
        for name, value in environment.items()
        if name in further or (HANDED.match(name) and not SECRET.search(name) and not SECRET_VALUE.match(value))
    }


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
    ``AWS_*``, ``FSSPEC_*`` and ``PYTHONPATH`` (except JSON and URLs with a password). Never secrets."""
    autoscale: bool = False
    """Whether the cluster grows on demand: a stage that no machine can hold then waits instead of failing."""
    engine_minutes: Annotated[float, Field(gt=0, le=100_000)] = 10.0
    """How long an engine's server stays without a request; it ends sooner if its GPUs are needed."""
