"""GPUs, memory, and the accelerate configurations of training over several processes."""
