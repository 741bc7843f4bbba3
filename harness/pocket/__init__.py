"""The pocket family: a tiny world with known truth, and four small real checkpoints (``pocket:NAME``) of it.

Rebuild them with ``python -m scripts.pocket.build``; what they measured is in ``measured.json``. See docs/pocket.md.
"""
