"""These tests import the official tools, which need packages of their own: only ``tox -e official`` collects them."""

import os

collect_ignore_glob = [] if os.environ.get("DISTILBENCH_OFFICIAL") else ["test_*.py"]
