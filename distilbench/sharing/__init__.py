"""A trained student leaves the store: as a folder that any loader reads, with a model card, and on to a model hub."""
