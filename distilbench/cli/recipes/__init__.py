"""Commands about recipe files: ``recipe show`` and its like, ``init``."""
