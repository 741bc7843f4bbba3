"""A local S3 server (moto), and the environment in which s3fs finds it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def local_s3() -> Iterator[dict[str, str]]:
    """Variables for those who are to find it."""
    s3fs = pytest.importorskip("s3fs", reason="needs s3fs: tox -e ray")
    s3fs.S3FileSystem.clear_instance_cache()  # those of a server before this one
    moto = pytest.importorskip("moto.server", reason="needs moto and flask: tox -e ray")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    server = moto.ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}
    try:
        yield {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", **keys}
    finally:
        server.stop()
