"""The store of artifacts: content-addressed folders with provenance."""
