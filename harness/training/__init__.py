"""Training a student by any method: our trainer on transformers' ``Trainer``, and TRL's as a second backend.

``options`` is plain data; ``fit``, ``reference`` and ``trl_backend`` import torch, so import them where they are used.
"""

from harness.training.options import Lora, Training, TrainOptions, TrainReport

__all__ = ["Lora", "TrainOptions", "TrainReport", "Training"]
