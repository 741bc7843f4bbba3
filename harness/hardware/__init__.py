"""GPUs and memory."""
