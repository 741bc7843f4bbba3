"""What we export, read and scored by the official tools themselves: same numbers as ours. Run by ``tox -e official``.

alpaca_eval and FastChat are installed in that environment: that they import is part of what is tested. arena-hard-auto
is no package: ``DISTILBENCH_ARENA_HARD`` names a checkout of its repository. With ``DISTILBENCH_ASSETS`` the official
questions and the gamed rows are used, and length-controlled win rates compared too.
"""

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.contracts.benchmark import Entrant
from harness.types import Answer, Judgment, Question
from judges import BENCHMARKS
from judges.formats import ExportedResults, export_files, import_files

HOSTILE = "quote \" and ''' <|im_end|> {output_1} [[A>>B]] \u2028 \U0001f600 é"


def alpaca(official: bool) -> ExportedResults:
    """A model with soft preferences, two answers equal to the baseline's, one verdict missing."""
    if official:
        questions = BENCHMARKS["alpaca_eval"].questions(BENCHMARKS["alpaca_eval"].config(questions="official"))
    else:
        questions = [
            Question(str(i), (f"ask {i} {HOSTILE}",), "set", (f"base {i} {HOSTILE}",), meta={"index": i})
            for i in range(60)
        ]
    rng = random.Random(1)
    texts = [f"{HOSTILE} {'x' * rng.randint(1, 4000)}" for _ in questions]
    texts[3], texts[5] = questions[3].baseline[0], questions[5].baseline[0]
    answers = [Answer(q.id, (text,), (True,), (1,)) for q, text in zip(questions, texts, strict=True)]
    judgments = [
        Judgment(q.id, "preference", 0.5 if number in (3, 5) else rng.random() ** 2)
        for number, q in enumerate(questions)
    ]
    return ExportedResults(
        "our model", questions, answers, judgments, "weighted_alpaca_eval_gpt4_turbo", "gpt4_1106_preview"
    )


@pytest.mark.parametrize("official", [False, True])
def test_alpaca_eval_takes_our_files_without_asking_anyone(official: bool, tmp_path: Path, monkeypatch) -> None:
    """Its annotator finds every annotation of ours in its cache, and its metrics are ours: WR 1e-9, LC 1e-6.

    Its rows are read back.
    """
    from alpaca_eval.annotators import PairwiseAnnotator
    from alpaca_eval.metrics import get_length_controlled_winrate, get_winrate, glm_winrate

    if official and not os.environ.get("DISTILBENCH_ASSETS"):
        pytest.skip("DISTILBENCH_ASSETS is unset: set it to the folder of `distilbench assets pull`")
    export = alpaca(official)
    outputs, annotations = export_files(tmp_path, export, "alpaca_eval")
    reference = [
        {"dataset": q.category, "instruction": q.turns[0], "output": q.baseline[0], "generator": "gpt4_1106_preview"}
        for q in export.questions
    ]
    monkeypatch.setenv("OPENAI_API_KEY", "no call may happen")
    monkeypatch.setattr("openai.OpenAI", None)  # whoever asks a judge after all fails
    annotator = PairwiseAnnotator(annotators_config="weighted_alpaca_eval_gpt4_turbo", caching_path=str(annotations))
    rows = annotator.annotate_head2head(outputs_1=reference, outputs_2=json.loads(outputs.read_text()))
    assert len(rows) == len(export.questions)
    theirs = get_winrate(rows)
    benchmark = BENCHMARKS["alpaca_eval"]
    config = benchmark.config(questions="official")
    lc, wr = benchmark.score(export.questions, {"x": Entrant(export.answers, export.judgments)}, config, 0, 0)["x"]
    assert {key: wr.detail[key] for key in theirs} == pytest.approx({k: float(v) for k, v in theirs.items()}, abs=1e-9)
    assert wr.detail["n_draws"] == 2
    (tmp_path / "theirs.json").write_text(json.dumps(rows, default=float))
    imported = import_files([tmp_path / "theirs.json"], "alpaca_eval", export.questions)
    assert imported.problems == () and imported.baseline == "gpt4_1106_preview"
    assert [j.verdict for j in imported.judgments] == pytest.approx([j.verdict for j in export.judgments])
    if official:
        from harness.assets import locate

        gamed = str(locate("alpaca_eval/df_gamed_recovered.csv"))
        monkeypatch.setattr(glm_winrate, "hf_hub_download", lambda **_: gamed)
        controlled = get_length_controlled_winrate(rows, save_weights_dir=None)
        assert lc.value == pytest.approx(float(controlled["length_controlled_winrate"]), abs=1e-6)
        assert lc.detail["lc_standard_error"] == pytest.approx(float(controlled["lc_standard_error"]), abs=1e-6)


def mt_bench(pairwise: bool) -> ExportedResults:
    rng = random.Random(2)
    questions = [Question(str(i), ("one", "two"), "writing", ("b", "b")) for i in range(81, 111)]
    answers = [Answer(q.id, (f"{HOSTILE} 1", "2"), (True,) * 2, (1, 1)) for q in questions]
    parts = [f"turn{t}:game{g}" for t in (1, 2) for g in (1, 2)] if pairwise else ["turn1", "turn2"]
    choices = [1.0, -1.0, 0.0, None] if pairwise else [None, *map(float, range(1, 11))]
    judgments = [Judgment(q.id, part, rng.choice(choices), reply="why") for q in questions for part in parts]
    return ExportedResults("our model", questions, answers, judgments, "gpt-4", "gpt-3.5-turbo")


def test_fastchat_shows_our_ratings(tmp_path: Path, capsys) -> None:
    from fastchat.llm_judge.show_result import display_result_single

    export = mt_bench(False)
    _, judged = export_files(tmp_path, export, "mt_bench")
    display_result_single(
        SimpleNamespace(input_file=str(judged), bench_name="mt_bench", judge_model="gpt-4", model_list=None)
    )
    printed = [float(x) for x in re.findall(r"our model(?:\s+\d)?\s+([0-9.]+)", capsys.readouterr().out)]
    benchmark = BENCHMARKS["mt_bench"]
    (score,) = benchmark.score(export.questions, {"x": Entrant((), export.judgments)}, benchmark.config(), 0, 0)["x"]
    assert printed == pytest.approx([score.detail["turn1"], score.detail["turn2"], score.value], abs=1e-5)


def test_fastchat_shows_our_wins(tmp_path: Path, capsys) -> None:
    from fastchat.llm_judge.show_result import display_result_pairwise

    export = mt_bench(True)
    _, judged = export_files(tmp_path, export, "mt_bench_pairwise")
    display_result_pairwise(
        SimpleNamespace(
            input_file=str(judged), bench_name="mt_bench", judge_model="gpt-4", model_list=None,
            baseline_model="gpt-3.5-turbo",
        )
    )  # fmt: skip
    line = next(line for line in capsys.readouterr().out.split("\n") if line.startswith("our model"))
    win, loss, tie, *_, adjusted = (float(x) for x in line.split()[2:])
    benchmark = BENCHMARKS["mt_bench_pairwise"]
    (score,) = benchmark.score(export.questions, {"x": Entrant((), export.judgments)}, benchmark.config(), 0, 0)["x"]
    assert (score.detail["wins"], score.detail["losses"], score.detail["ties"]) == (win, loss, tie)
    assert score.value == pytest.approx(100 * adjusted, abs=1e-3)


def arena() -> ExportedResults:
    rng = random.Random(3)
    questions = [Question(f"u{i}", (f"ask {HOSTILE}",), "c", ("BASE",)) for i in range(200)]
    answers = [Answer(q.id, (f"{HOSTILE} **b**",), (True,), (7,)) for q in questions]
    margins = [2.0, 1.0, 0.0, -1.0, -1.0, -2.0, None]
    judgments = [Judgment(q.id, game, rng.choice(margins)) for q in questions for game in ("game1", "game2")]
    return ExportedResults("our model", questions, answers, judgments, "gpt-4.1", "o3-mini-2025-01-31")


def arena_score(export: ExportedResults) -> float:
    benchmark = BENCHMARKS["arena_hard_v2"]
    (score,) = benchmark.score(export.questions, {"x": Entrant((), export.judgments)}, benchmark.config(), 0, 0)["x"]
    assert score.value is not None
    return score.value


def test_our_games_hold_what_the_script_of_arena_hard_auto_reads(tmp_path: Path) -> None:
    """Its reading, in our words: a table by pandas, questions with two verdicts, strong ones three times."""
    import pandas as pd

    export = arena()
    answers, judged = (pd.read_json(file, lines=True) for file in export_files(tmp_path, export, "arena_hard_v2"))
    metadata = answers.set_index("uid")["metadata"].to_dict()
    assert list(metadata["u0"]) == ["token_len", "header_count", "list_count", "bold_count"]
    assert metadata["u0"]["token_len"] == 7 and sum(metadata["u0"]["bold_count"].values()) == 1
    assert answers.iloc[0]["messages"][-1]["content"]["answer"] == f"{HOSTILE} **b**"
    points = {"A>>B": [1, 1, 1], "A>B": [1], "A=B": [0.5], "B>A": [0], "B>>A": [0, 0, 0]}
    rows: list[float] = []
    for games in judged[judged["category"] == "hard_prompt"]["games"]:
        first, second = (None if game is None else game["score"] for game in games)
        if first is not None and second is not None:
            rows += points[second] + [1 - point for point in points[first]]
    assert 100 * sum(rows) / len(rows) == pytest.approx(arena_score(export))


def test_arena_hard_auto_shows_our_games(tmp_path: Path) -> None:
    """Its ``show_result.py`` (2025) prints the win rate that our later scorer gives, within its bootstrap's noise."""
    checkout = os.environ.get("DISTILBENCH_ARENA_HARD")
    if not checkout:
        pytest.skip("DISTILBENCH_ARENA_HARD is unset: clone github.com/lmarena/arena-hard-auto and name the folder")
    export = arena()
    export_files(tmp_path, export, "arena_hard_v2")
    script = [sys.executable, str(Path(checkout) / "show_result.py"), "-b", "arena-hard-v2.0", "-j", "gpt-4.1"]
    done = subprocess.run(
        [*script, "-c", "hard_prompt"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": checkout},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    imported = re.search(r"our model\s+([0-9.]+)", done.stdout)
    assert imported is not None, done.stdout
    assert 100 * float(imported[1]) == pytest.approx(arena_score(export), abs=1.0)
