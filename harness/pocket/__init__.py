"""The pocket family: a tiny world with known truth, and four small real checkpoints that live in it.

``harness.pocket.world`` draws instructions and scores answers by rule (standard library only). ``CHECKPOINTS`` are
ordinary ``transformers`` folders (Llama, safetensors, float32, under 16 MB together): ``teacher`` and ``teacher-large``
answer well and judge by ``harness.multiple_choice``; ``student`` shares their vocabulary and can do better than it
does; ``student-other`` has a vocabulary of its own. Rebuild them with ``python -m scripts.pocket.build``; what they
measured is in ``measured.json`` beside this file. See ``docs/pocket.md``.
"""

from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
NAMES: Final = ("teacher", "teacher-large", "student", "student-other")
CHECKPOINTS: Final[dict[str, Path]] = {name: HERE / "checkpoints" / name for name in NAMES}


def checkpoint(name: str) -> Path:
    """The folder of a shipped checkpoint.

    Raises:
        ValueError: not one of ``CHECKPOINTS``.
        FileNotFoundError: its weights are not installed.
    """
    if name not in CHECKPOINTS:
        raise ValueError(f"unknown pocket checkpoint {name!r}; choose one of {', '.join(CHECKPOINTS)}")
    if not (CHECKPOINTS[name] / "model.safetensors").is_file():
        raise FileNotFoundError(f"{CHECKPOINTS[name]} has no weights; rebuild with: python -m scripts.pocket.build")
    return CHECKPOINTS[name]
