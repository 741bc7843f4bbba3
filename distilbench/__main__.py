"""``python -m harness``: the same door as the command ``distilbench``."""

from harness.cli import main

main()
