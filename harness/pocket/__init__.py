"""The pocket family: a tiny world with known truth, and four small real checkpoints that live in it.

``world`` draws prompts and questions, ``scorer`` scores answers by rule (standard library only). The checkpoints are
ordinary ``transformers`` folders (Llama, safetensors, float32, under 16 MB together), which recipes call
``pocket:NAME``: ``teacher`` and ``teacher-large`` answer well and judge by ``harness.multiple_choice``; ``student``
shares their vocabulary and can do better than it does; ``student-other`` has a vocabulary of its own. Rebuild them with
``python -m scripts.pocket.build``; what they measured is in ``measured.json``. See ``docs/pocket.md``.
"""
