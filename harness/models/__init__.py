"""Language models: checkpoints, chat templates, generation and log-probabilities."""
