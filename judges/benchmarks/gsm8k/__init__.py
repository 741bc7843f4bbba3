"""GSM8K: lm-eval's task on our models, and a JSON protocol."""
