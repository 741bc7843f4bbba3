"""Writes pocket's test questions anew after its rules changed (other numbers in every table): ``python -m``."""

import json

from harness.pocket.world import QUESTIONS, make_questions

if __name__ == "__main__":
    texts = []
    for name, questions in make_questions("test").items():
        rows = ([q.id, q.category, q.turns, q.baseline, q.reference, q.meta.get("number")] for q in questions)
        texts.append(f'"{name}": [\n' + ",\n".join(map(json.dumps, rows)) + "\n]")
    QUESTIONS.write_text("{\n" + ",\n".join(texts) + "\n}\n", encoding="utf-8")
