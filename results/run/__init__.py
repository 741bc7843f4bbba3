"""A run read back: its record, scores, trainings and judgments."""
