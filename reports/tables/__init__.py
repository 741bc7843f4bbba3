"""The table model: estimates, tests and published values, composed into cells."""
