"""The figures that go with a table. Nothing is drawn on import: matplotlib is loaded by what draws."""
