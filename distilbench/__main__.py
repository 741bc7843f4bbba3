"""``python -m distilbench`` is the command ``distilbench``."""

from distilbench.cli import main

main()
