"""Training a student by any method: our trainer on transformers' ``Trainer``, and TRL's as a second backend."""

from harness.training.options import Lora, Training, TrainOptions, TrainReport

__all__ = ["Lora", "TrainOptions", "TrainReport", "Training"]
