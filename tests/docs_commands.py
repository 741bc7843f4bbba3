"""Every command and snippet of README and ``docs``, and where it is run: the table behind ``test_docs_commands.py``.

A new command on a page goes into one of these, whatever its page:

- nowhere, if it only looks around (``LOOKS``) or is the bare name of a command that is run here (`distilbench eval`);
- ``SCENES``: run as it stands on the page, in a folder with what the page presupposes, with ``more`` words at its end
  that make it small;
- ``ELSEWHERE``: ``file::function`` of the test that runs it (a snippet: ``ELSEWHERE_SNIPPETS``);
- ``SAME``: a command of these that it equals when names are filled in, or but for options that are tested elsewhere;
- ``NOT_RUN``: the plain reason why no test can run it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.command import SMALL, settings

LOOKS = ("plan", "list", "recipe", "doctor", "assets status", "judge list", "--version", "--help")
"""Begins of commands that only look around."""
SERVER = "http://SERVER/v1"
"""Stands for the address of a server on this machine that judges, or answers, as OpenAI's API does."""


@dataclass(frozen=True)
class Step:
    """A line of a page, and how it is run here."""

    line: str
    more: Sequence[str] = ()
    """Words at its end: they make it small."""
    instead: Mapping[str, str] = field(default_factory=dict)
    """What stands on the page, and what stands here: names of a reader's own runs, servers and models."""
    shows: Sequence[str] = ()
    """Texts in its output: what the page says of it."""
    files: Sequence[str] = ()
    """What is there after it."""
    code: int = 0
    variables: Mapping[str, str] = field(default_factory=dict)
    """Of the environment, for this line alone."""


SMALL_RUN = (*settings(*SMALL), "--methods", "dpo,seqkd")
"""The run that every copy holds already: rows dpo and seqkd, seed 0."""
ONE = settings(*(text for text in SMALL if not text.startswith(("benchmarks", "seeds"))), "benchmarks=[mt_bench]")
ONE += settings("benchmarks.mt_bench.limit=8")
"""MT-Bench alone: where a command trains further rows."""
UNTESTED = "No difference of two rows could be tested: too few questions or verdicts."
"""What ``compare-judges`` says first at this size, where the pages have a sentence on the conclusions."""
SMALL_EVAL = ("--limit", "4", *settings("statistics.replicates=100", "compute.workers=1"))
POCKET_QUESTIONS = ("--questions", "pocket", *SMALL_EVAL)
IMPORTED = settings("questions=pocket", "limit=8")
TRAINING = "python studies/training.py --model HuggingFaceTB/SmolLM2-135M-Instruct --threads 1"
MODEL, STUDENT = "HuggingFaceTB/SmolLM2-135M-Instruct", "models/smollm2"
TINY = ("--prompt", "8", "--response", "4", "--prompts", "2", "--repeats", "1")
HOSTED = f"\"{{kind: openai, model: gpt-4.1-2025-04-14, base_url: '{SERVER}', price_in: 2, price_out: 8}}\""
"""OpenAI's model, asked at our own address."""
HOSTED_AFTER_MAIN = f'"main,gpt={HOSTED.strip(chr(34))}"'
FEWER = [f"targets.{name}={{skip: small}}" for name in ("table2", "table3", "table6", "figure4", "figure5", "figure6")]

SCENES: Mapping[str, Sequence[Sequence[Step]]] = {
    # What reads a finished run; the steps of one group run at once.
    "a finished run": [
        [
            Step("distilbench report table1 --html", shows=["DPO"], files=["runs/pocket/report/report.html"]),
            Step("distilbench verify pocket", shows=["artifacts compared", "recomputed, equal to 1e-9"]),
        ],
        [
            Step("distilbench report table1 --run pocket --html", files=["runs/pocket/report/report.html"]),
            Step(
                "distilbench explain table1 dpo mt_bench.score --run pocket",
                shows=["answers", "judgments", "distilbench reproduce table1"],
            ),
        ],
        [
            Step("distilbench report table1", shows=["DPO", "SeqKD"]),
            Step("distilbench report table1 --against dpo", shows=["every row against DPO", "SeqKD"]),
            Step("distilbench judge status", shows=["replies", "coverage", "cost so far: $0.0000", "with a verdict"]),
        ],
        [
            Step("distilbench export pocket --row dpo --benchmark gsm8k --out official", shows=["samples_gsm8k"]),
            Step(
                "distilbench export-model dpo my-student --seed 0",
                files=["my-student/README.md", "my-student/config.json", "my-student/recipe.yaml"],
            ),
        ],
        [
            Step(
                "distilbench push dpo my-name/my-student",
                shows=["my-name/my-student", "private"],
                variables={"HF_HUB_OFFLINE": "0"},  # the hub is one of this machine
            ),
            Step(
                'distilbench compare-judges --run pocket --judges "main,noisy={kind: pocket, noise: 3.0, seed: 1}"',
                shows=["Judges compared: run pocket", "Recommended: main", "Agreement of every two judges"],
                files=["runs/pocket/table1/judges/judges.md"],
            ),
        ],
        [
            Step(
                "distilbench compare-judges --run pocket "
                '--judges "main,noisy={kind: pocket, noise: 3.0, grade_noise: 2, seed: 1}"',
                shows=["agrees with the truth", "Cohen's kappa", UNTESTED],
            ),
            Step(
                "distilbench compare-judges --run smollm2 --judges main,gpt-4.1-2025-04-14 --plan",
                instead={"smollm2": "pocket", "main,gpt-4.1-2025-04-14": HOSTED_AFTER_MAIN},
                shows=["judge calls", "$"],
            ),
        ],
        [
            Step(
                "distilbench compare-judges --run smollm2 --judges main,gpt-4.1-2025-04-14 --max-cost 20",
                instead={"smollm2": "pocket", "main,gpt-4.1-2025-04-14": HOSTED_AFTER_MAIN},
                shows=["gpt"],
            ),
            Step(
                "distilbench compare-judges --annotations annotations.json "
                "--judges weighted_alpaca_eval_gpt4_turbo,alpaca_eval_gpt4_turbo_fn",
                shows=["weighted_alpaca_eval_gpt4_turbo"],
                files=["runs/judges-annotations/judges.md"],
            ),
        ],
        [
            Step(
                "distilbench compare-judges --run smollm2 --humans people.json",
                instead={"smollm2": "pocket"},
                shows=["Humans: people.json"],
                files=["runs/pocket/table1/judges/human-votes.csv"],
            ),
            Step(
                "distilbench explain table1 dpo mt_bench.score --question ID",
                instead={"ID": "mt_bench-test-3"},
                shows=["reply of pocket-judge-1: "],
            ),
            Step("distilbench report table1 --run pocket/noisy", shows=["Table 1"]),
        ],
    ],
    # What trains or judges further.
    "a run goes on": [
        [
            Step(
                "distilbench reproduce table1 --set methods.dpo.beta=0.05 --set name=beta",
                SMALL_RUN,
                shows=["Run beta", "44 stages: 31 were done already"],
            ),
            Step("distilbench reproduce table1 --baseline student", SMALL_RUN, shows=["not official"]),
        ],
        [
            Step("distilbench reproduce table1 --set methods.dpo.beta=0.05", SMALL_RUN, shows=["0 ran now"]),
            Step(
                "distilbench reproduce table1 --methods dpo,ipo",
                [*ONE, "--seeds", "0", "--set", "name=ipo"],
                shows=["IPO"],
            ),
        ],
        # the tour, whose rows are trained already but for PAD w/ PPD
        [
            Step(
                "distilbench reproduce table1 --methods dpo,pad-ppd --set name=tour",
                settings(*SMALL),
                shows=["PAD w/ PPD", "Run tour"],
            ),
            Step("distilbench reproduce table5", SMALL_RUN, shows=["noise-8"]),
        ],
        [
            Step("distilbench report table1 --run tour --html", files=["runs/tour/report/report.html"]),
            Step(
                "distilbench explain table1 dpo alpaca_eval.lc --run tour --question alpaca_eval-test-5",
                instead={"alpaca_eval-test-5": "alpaca_eval-test-7"},
                shows=["question, turn 1:", "answer, turn 1:", "verdict preference:", "request: exactly as it was sent to",
                       "reply of pocket-judge-1: "],
            ),
            Step("distilbench verify tour", shows=["artifacts compared", "recomputed, equal to 1e-9"]),
            Step("distilbench report table5", shows=["noise-8"]),
        ],
        [
            Step(
                "distilbench reproduce table1 --methods dpo,pad-ppd --set name=tour --set methods.dpo.beta=0.05",
                settings(*SMALL),
                shows=["39 were done already, 4 ran now"],
            ),
        ],
        [
            Step(
                "distilbench compare-judges --run tour "
                '--judges "main,noisy={kind: pocket, noise: 3.0, grade_noise: 2, seed: 1}"',
                shows=["by judge", UNTESTED],
            ),
        ],
        [
            Step(
                "distilbench reproduce all",
                [*SMALL_RUN, *settings(*FEWER)],
                shows=["Table 1", "Table 5"],
                files=["runs/pocket/report/table4.csv"],
            )
        ],
        [
            Step(
                "distilbench reproduce all --seeds 0,1,2,3,4",
                [*SMALL_RUN[:-1], "dpo", "--seeds", "0,1", *settings(*FEWER)],
                shows=["seeds 0, 1"],
            )
        ],
        [
            Step(
                "distilbench export-model pad-ppd out --run gemma2 --seed 1",
                instead={"pad-ppd": "dpo", "gemma2": "pocket"},
                files=["out/model.safetensors"],
            )
        ],
    ],
    "a method of one's own": [
        [
            Step("distilbench check-method my_method.py --set sft_weight=0.1", shows=["ok", "micro-batches", "resume"]),
            Step("distilbench check-method pad-ppd", shows=["ok", "micro-batches", "resume"]),
        ],
        [
            Step(
                "distilbench reproduce table1 --plugin my_method.py --methods dpo,rrhf",
                [*ONE, "--seeds", "0"],
                shows=["RRHF", "DPO"],
            )
        ],
        [
            Step(
                "distilbench reproduce table1 --plugin my_method.py --methods dpo,rrhf --set methods.rrhf.sft_weight=0.1",
                [*ONE, "--seeds", "0"],
                shows=["RRHF"],
            ),
            Step("distilbench check-benchmark compare.yaml --set 'benchmarks=[helpful]'", shows=["ok", "replies"]),
        ],
        [
            Step(
                "distilbench reproduce table1 --recipe mine.yaml --plugin my_method.py",
                ["--methods", "dpo,rrhf", "--seeds", "0", *ONE],
                shows=["RRHF"],
            ),
        ],
    ],
    "a recipe of one's own": [
        [
            Step(
                "distilbench init mine.yaml",
                ["--yes"],
                shows=["its plan has no problem", "Next: distilbench plan table1 --recipe mine.yaml"],
                files=["mine.yaml", "recipe.schema.json"],
            ),
            Step("python scripts/install_size.py", shows=["packages", "MB", "torch", "distilbench --help:"]),
        ],
        [
            Step(
                "distilbench init pocket-mine.yaml --models pocket --benchmarks alpaca_eval,gsm8k --yes",
                shows=["its plan has no problem"],
                files=["pocket-mine.yaml"],
            ),
            Step("python -X importtime -m distilbench --help", shows=["import time:", "Usage: "]),
        ],
        [
            Step(
                "distilbench reproduce table1 --recipe mine.yaml --set prompts.n=64 --set name=trial",
                [*ONE, "--methods", "dpo", "--seeds", "0"],
                shows=["Run trial", "DPO"],
            ),
        ],
        [
            Step(
                "distilbench reproduce table1 --recipe mine.yaml",
                [*ONE, "--methods", "dpo", "--seeds", "0"],
                shows=["Run mine", "0 ran now"],
            ),
        ],
    ],
    "files of the official tools": [
        [
            Step(
                "distilbench import my-model/annotations.json --benchmark alpaca_eval --out my-model",
                IMPORTED,
                shows=["8 answers", "alpaca_eval.wr = "],
            ),
            Step(
                "distilbench import model_answer/m.jsonl model_judgment/gpt-4-1106-preview/m.jsonl -b arena_hard --out m",
                IMPORTED,
                shows=["8 answers", "arena_hard.wr = "],
            ),
        ],
        [
            Step(
                "distilbench import samples_gsm8k_2026.jsonl -b gsm8k --out mine", IMPORTED, shows=["gsm8k.acc = "]
            ),
        ],
        [
            Step("distilbench export my-model --out official", files=["official/m/model_outputs.json"]),
            Step(
                "distilbench eval --model mine=answers:m --baseline theirs=answers:other --judge ...",
                ["--benchmarks", "arena_hard", "--questions", "pocket", "--limit", "8", *settings(*SMALL[-2:])],
                instead={"--judge ...": "--judge pocket"},
                shows=["mine", "theirs"],
            ),
        ],
    ],
    "judges and models behind servers": [
        [
            Step(
                "distilbench eval --model pocket:student --judge pocket --limit 50",
                SMALL_EVAL,
                shows=["AlpacaEval 2", "GSM8K"],
            ),
            Step(
                "distilbench eval --model ./my-student --judge gpt-4.1-2025-04-14 --plan",
                POCKET_QUESTIONS,
                instead={"gpt-4.1-2025-04-14": HOSTED},
                shows=["judge calls", "$"],
            ),
        ],
        [
            Step("distilbench eval --model pocket:student --judge pocket --limit 20", SMALL_EVAL, shows=["0 ran now"]),
            Step(
                "distilbench eval --model ./my-student --judge gpt-4.1-2025-04-14 --max-cost 20",
                POCKET_QUESTIONS,
                instead={"gpt-4.1-2025-04-14": HOSTED},
                shows=["gpt-4.1-2025-04-14"],
            ),
        ],
        [
            Step(
                "distilbench eval --model mine=my-model@http://127.0.0.1:8000/v1 --judge judge@http://127.0.0.1:8001/v1 "
                "--benchmarks alpaca_eval,mt_bench",
                [*POCKET_QUESTIONS, "--name", "served"],
                instead={"http://127.0.0.1:8000/v1": SERVER, "http://127.0.0.1:8001/v1": SERVER},
                shows=["mine"],
            ),
            Step(
                "distilbench eval --model ./mine --baseline ./theirs --judge gpt-4.1-2025-04-14 "
                "--benchmarks alpaca_eval,arena_hard",
                [*POCKET_QUESTIONS, "--name", "against"],
                instead={"gpt-4.1-2025-04-14": HOSTED},
                shows=["mine", "theirs", "not official"],
            ),
        ],
        [
            Step(
                'distilbench eval --model ./mine --judge "{kind: openai, model: gpt-4.1-2025-04-14, batch: true}" '
                "--max-cost 10",
                [*POCKET_QUESTIONS, "--benchmarks", "mt_bench", "--name", "batch"],
                instead={"batch: true": f"batch: true, base_url: '{SERVER}', price_in: 2, price_out: 8"},
                shows=["batch"],
                code=1,
            ),
            Step(
                "distilbench eval --model ./mine --judge "
                '"my-gpt@https://NAME.openai.azure.com/openai/deployments/my-gpt?api-version=2024-06-01"',
                [*POCKET_QUESTIONS, "--benchmarks", "mt_bench", "--name", "azure"],
                instead={"https://NAME.openai.azure.com": SERVER.removesuffix("/v1")},
                shows=["mine"],
            ),
        ],
        [
            Step(  # the jobs are done: the same command collects the replies
                'distilbench eval --model ./mine --judge "{kind: openai, model: gpt-4.1-2025-04-14, batch: true}" '
                "--max-cost 10",
                [*POCKET_QUESTIONS, "--benchmarks", "mt_bench", "--name", "batch"],
                instead={"batch: true": f"batch: true, base_url: '{SERVER}', price_in: 2, price_out: 8"},
                shows=["MT-Bench"],
            ),
            Step(
                "distilbench eval --model smollm2=judge@http://127.0.0.1:8765/v1 --judge judge@http://127.0.0.1:8765/v1 "
                "--limit 10 --min-coverage 0 --set ask.concurrency=1 --set ask.max_concurrency=1 --set ask.timeout=600 "
                "--set compute.workers=1 --name real10 --set benchmarks.alpaca_eval.max_new_tokens=32 "
                "--set benchmarks.arena_hard.max_new_tokens=32 --set benchmarks.mt_bench.max_new_tokens=32 "
                "--set benchmarks.gsm8k.max_new_tokens=96 --set benchmarks.gsm8k.fewshot=0 "
                "--set benchmarks.arena_hard.judge_max_tokens=64 --set benchmarks.mt_bench.judge_max_tokens=64",
                POCKET_QUESTIONS,
                instead={"http://127.0.0.1:8765/v1": SERVER},
                shows=["smollm2"],
            ),
        ],
        [
            Step("distilbench report eval --run NAME", instead={"NAME": "served"}, shows=["mine"]),
        ],
    ],
    "a real model": [
        [
            Step(
                "distilbench reproduce table1 --recipe smollm2 --methods seqkd,dpo,pad-ppd --min-coverage 0 "
                "--set family.teacher=models/smollm2 --set family.student=models/smollm2 "
                "--set prompts.source=gsm8k-train --set prompts.fallback=null --set prompts.n=8 "
                "--set sampling.max_new_tokens=48 --set methods.seqkd.keep_unfinished=true "
                "--set train.batch_size=4 --set compute.threads=1 "
                "--set benchmarks.alpaca_eval.limit=3 --set benchmarks.alpaca_eval.max_new_tokens=48 "
                "--set benchmarks.arena_hard.limit=3 --set benchmarks.arena_hard.max_new_tokens=48 "
                "--set benchmarks.arena_hard.judge_max_tokens=64 "
                "--set benchmarks.mt_bench.limit=3 --set benchmarks.mt_bench.max_new_tokens=48 "
                "--set benchmarks.mt_bench.judge_max_tokens=64 "
                "--set benchmarks.gsm8k.limit=3 --set benchmarks.gsm8k.max_new_tokens=48 "
                "--set benchmarks.gsm8k.fewshot=0",
                settings(
                    "prompts.source=pocket",
                    *(f"benchmarks.{name}.questions=pocket" for name in ("alpaca_eval", "arena_hard", "mt_bench")),
                    "benchmarks.gsm8k.questions=pocket",
                    f"judges.main.base_url={SERVER}",
                    "prompts.max_prompt_tokens=512",  # pocket's student, which stands in for SmolLM2, reads 1,024
                    "train.max_length=512",
                ),
                shows=["SeqKD", "DPO", "PAD w/ PPD"],
            )
        ],
    ],
    "claims": [
        [
            Step(
                "distilbench reproduce table1,figure5 --recipe studies/pocket_paper.yaml --seeds 0,1,2,3,4",
                ["--seeds", "0", *settings(*SMALL, "targets.figure5.rows=[pad-ppd-alpha0.8]"), "--methods", "pad-ppd"],
                shows=["pocket-paper", "PAD w/ PPD"],
            ),
            Step(
                "python -m studies.pocket_claims --recipe studies/pocket_paper.yaml "
                "--out studies/pocket_claims_paper.json",
                ["--seeds", "1", "--held-out", "11", "--points", "2",
                 *settings("prompts.n=16", "sampling.n=2")],
                shows=["pad-ppd less dpo, end"],
            ),
        ],
        [
            Step("python -m studies.pocket_verdicts --page docs/claims.md", shows=["PAD w/ PPD less Teacher, MT-Bench Score", "| not run |"]),
        ],
    ],
    "speed": [
        [
            Step(f"{TRAINING} --only training", TINY, {MODEL: STUDENT}, ["dpo: ours over TRL's"]),
            Step(
                f"{TRAINING} --only products profile live --prompts 8 --repeats 1", TINY, {MODEL: STUDENT}, ["rollouts"]
            ),
        ],
    ],
    "search": [
        [
            Step("distilbench search dpo,simpo --trials 16 --seeds 0,1 --plan", ONE, shows=["search of 2 rows"]),
            Step(
                "distilbench search all --seeds 0,1 --sampler tpe",
                [*ONE, "--trials", "2", "--plan"],
                shows=["2 trials", "tpe"],
            ),
        ],
        [
            Step(
                "distilbench search dpo,simpo --trials 16 --seeds 0,1",
                [*ONE, "--trials", "2", "--seeds", "0"],
                shows=["Best: ", "DPO", "SimPO"],
                files=["runs/pocket/search/dpo-simpo.yaml", "runs/pocket/search/search.csv"],
            ),
            Step(
                'distilbench search pad-ppd --space "train.learning_rate=log(1e-5, 1e-3); beta=log(0.1, 30)"',
                [*ONE, "--trials", "2", "--seeds", "0", "--set", "name=ppd"],
                shows=["2 trials x 1 seed (0) on dev, random"],
            ),
        ],
        [
            Step("distilbench search dpo,simpo --trials 8", [*ONE, "--trials", "2", "--seeds", "0"], shows=["Best: "]),
            Step(
                "distilbench search all --recipe studies/pocket_search.yaml --trials 16 --seeds 0,1 --sampler tpe",
                [*ONE, "--trials", "2", "--plan"],
                shows=["tpe"],
            ),
        ],
        [
            Step(
                "distilbench reproduce table1 --recipe runs/pocket/search/dpo-simpo.yaml",
                [*ONE, "--methods", "dpo", "--seeds", "0"],
                shows=["Options searched: 2 trials each on dev, 1 seed"],
            ),
        ],
    ],
}  # fmt: skip

AROUND: Mapping[str, str] = {
    "distilbench --help": "Usage: ",
    "distilbench --version": "distilbench ",
    "distilbench plan table1": "to do:",
    "distilbench plan table1 --recipe grade.yaml": "at OpenAI needs a key",
    "distilbench plan table1 --recipe strict.yaml": "the pocket judge reads distilbench's own judge prompts alone",
    "distilbench plan table1 --recipe gemma2": "GPU-hours",
    "distilbench plan table1 --plugin my_method.py --methods dpo,rrhf": "rrhf",
    "distilbench plan table1 --recipe reasoning.yaml": "ifeval",
    "distilbench list methods": "pad-ppd",
    "distilbench list methods -v": "log(",
    "distilbench list methods --plugin my_method.py": "rrhf",
    "distilbench list backends --plugin my_backend.py": "canned",
    "distilbench list benchmarks": "lm_eval",
    "distilbench list targets": "figure6",
    "distilbench judge list": "gpt-4.1-2025-04-14",
    "distilbench recipe reference --plugin my_method.py": "sft_weight",
    "distilbench recipe show gemma2 --explain": "gemma2",
    "distilbench plan table1 --simulate workers=1,2": "bottleneck",
    "distilbench plan table1 --recipe gemma2 --simulate gpus=1,8,64": "64 GPUs",
}
"""What those that look around must say."""

PLUGINS = "tests/test_plugin_examples.py::test_an_example_passes_the_check_command"
OWN_BENCHMARKS = "tests/test_own_benchmark_examples.py::test_the_examples_run_and_can_be_verified"
SIMULATIONS = "tests/cli/test_simulation.py::test_the_page_shows_what_its_commands_print"
TARGETS = "tests/test_reproduce.py::test_several_targets_share_their_stages_and_have_runs_of_their_own"
THIS = "tests/test_docs_commands.py::"
GRID = (
    'distilbench plan table1 --recipe gemma2,llama3 --seeds 0,1,2 --judges llama,gpt,mini --set "judges.mini={kind: '
    'openai, model: gpt-4.1-mini-2025-04-14}" --set family.backend=vllm --set compute.workers=16 '
)

ELSEWHERE: Mapping[str, str] = {
    "distilbench reproduce table1": "tests/test_reproduce.py::test_every_stage_is_in_the_store_and_every_format_is_written",
    "distilbench reproduce table2,figure6": TARGETS,
    "distilbench report all": TARGETS,
    "distilbench check-backend my_backend.py": PLUGINS,
    "distilbench check-benchmark my_benchmark.py": PLUGINS,
    "distilbench check-executor my_executor.py": PLUGINS,
    "distilbench check-judge my_judge.py": PLUGINS,
    "distilbench check-method my_method.py": PLUGINS,
    "distilbench check-source my_source.py --set path=prompts.csv": PLUGINS,
    "distilbench reproduce table1 --recipe compare.yaml": OWN_BENCHMARKS,
    "distilbench reproduce table1 --recipe sums.yaml": OWN_BENCHMARKS,
    GRID + "--simulate gpus=1,8,64": SIMULATIONS,
    GRID + '--set "family.backends={sample: {tensor_parallel: 4}, reward: {tensor_parallel: 8}}" '
    '--set "compute.stages={train: {gpus: 4}}" --set compute.launch=ddp --simulate gpus=64': SIMULATIONS,
    "distilbench run": "tests/test_sharing.py::test_a_lora_student_merged_and_its_adapter_alone",
    # FastChat's files have numbers for questions, which pocket's do not
    "distilbench import gpt-4_single.jsonl -b mt_bench --model vicuna-7b-v1.5 --out vicuna": "tests/judges/test_formats.py::test_what_is_written_is_read_back",
    "distilbench pocket premises": "tests/test_premises.py::test_the_command_measures_all_seven_and_runs_nothing_twice",
    "distilbench export-model dpo-lora out --run mine --adapter": "tests/test_sharing.py::test_a_lora_student_merged_and_its_adapter_alone",
    "distilbench view": THIS + "test_view_shows_the_run",
    "distilbench view pocket": THIS + "test_view_shows_the_run",
    "distilbench view pocket mine": THIS + "test_view_shows_the_run",
    "distilbench pocket-judge --port 8000": THIS + "test_the_pocket_judge_serves_and_has_its_canary",
    "distilbench judge canary --judge judge@http://127.0.0.1:8000/v1": THIS
    + "test_the_pocket_judge_serves_and_has_its_canary",
    "distilbench assets pull": "tests/harness/test_assets.py::test_pull_checks_and_moves_in_whole",
    "python -m studies.pocket_claims --figures docs --page docs/methods.md": "tests/test_pocket_claims.py::test_a_small_run",
    "tox -e docs": "tests/test_site.py::test_the_reference_has_all_commands_and_functions",
    "python -m studies.gpu --out gpu.json": "tests/test_gpu_study.py::test_a_part_runs_small",
    "python -m studies.second_world --student models/smollm2": "tests/test_second_world.py::test_the_whole_study_with_a_tiny_student",
    "python -m scripts.pocket.build": "tests/harness/test_pocket_build.py::test_the_script_builds_a_checkpoint_that_loads",
    "python scripts/prepare_smollm2.py models/smollm2": "tests/test_prepare_smollm2.py::test_what_is_missing_is_made_and_what_is_there_is_not_made_again",
    "python scripts/prepare_smollm2.py models/smollm2 --gguf models/smollm2.gguf": "tests/test_prepare_smollm2.py::test_what_is_missing_is_made_and_what_is_there_is_not_made_again",
    "python studies/parity.py --out studies/parity.json": "tests/methods/test_parity.py::test_parity",
    "distilbench reproduce table1 --recipe smollm2 --set compute.launch=ddp --set compute.processes=4": "tests/harness/test_launching.py::test_two_processes_follow_one",
}

SAME: Mapping[str, str] = {
    "distilbench report TARGET --html": "distilbench report table1 --html",
    "distilbench search all --trials 16": "distilbench search all --seeds 0,1 --sampler tpe",
    f"{TRAINING} --only training --dtype float32 --repeats 2": f"{TRAINING} --only training",
    "distilbench reproduce table2": "distilbench reproduce table2,figure6",
    "distilbench reproduce table1 --recipe smollm2": SCENES["a real model"][0][0].line,
}

INSTALLS = "it installs from a package index; what it names is checked by test_what_is_installed_exists"
CONTAINER = "it needs Docker; the steps of the image are followed by tests/test_distribution.py"
CLUSTER = "it needs a cluster of several machines; `tox -e ray` and tests/harness/test_slurm.py have stand-ins"
TESTS = "it runs the tests themselves"
MINUTES = "it measures this machine for minutes; tests/cli/test_simulation.py and tests/test_scale.py test what it uses"
LLAMA = "it needs llama.cpp, which is compiled for minutes, and SmolLM2"

NOT_RUN: Mapping[str, str] = {
    "pip install tox && tox -e reproduce": INSTALLS,
    "pip install tox && tox": INSTALLS,
    "pip install -c constraints.txt -e .": INSTALLS,
    'pip install -c constraints.txt -e ".[docs]"': INSTALLS,
    'pip install -c constraints.txt -e ".[view,search]"': INSTALLS,
    "pip install 'distilbench[ray]'": INSTALLS,
    "pip install 'distilbench[slurm]'": INSTALLS,
    "pip install 'distilbench[tensorboard]'": INSTALLS,
    "pip install 'distilbench[tiktoken]'": INSTALLS,
    "pip install 'distilbench[view]'": INSTALLS,
    "pip install --no-build-isolation 'distilbench[deepspeed]'": INSTALLS,
    'pip install "llama-cpp-python[server]==0.3.36"': INSTALLS,
    "pip install gguf": INSTALLS,
    "pip install setuptools wheel": INSTALLS,
    "python -m venv .venv && . .venv/bin/activate": "it makes the environment for the installation below it",
    "python -m venv ~/vllm && ~/vllm/bin/pip install vllm": INSTALLS,
    "uv venv --python 3.11 && uv pip install -c constraints.txt -e .": INSTALLS,
    "conda env create -f environment.yml && conda activate distilbench": INSTALLS,
    "docker build -t distilbench .": CONTAINER,
    'docker run --rm -v "$PWD:/work" distilbench reproduce table1': CONTAINER,
    "ray start --head --disable-usage-stats": CLUSTER,
    "ray start --address=HEAD:6379": CLUSTER,
    "distilbench reproduce table1 --recipe gemma2 --executor ray --runs /shared/runs": CLUSTER,
    "distilbench reproduce table1 --recipe examples/clusters/slurm.yaml --runs /shared/runs": CLUSTER,
    "squeue --me --format '%j %N'": CLUSTER,
    "sbatch --gres=gpu:1 --wrap '~/vllm/bin/vllm serve my/judge --host 0.0.0.0 --port 8000 --api-key \"$JUDGE_KEY\"'": CLUSTER,
    "tox -e chaos": TESTS,
    "tox -e engines": TESTS,
    "tox -e official": TESTS,
    "tox -e ray": TESTS,
    "tox -e slow": TESTS,
    "python scripts/llama_judge.py models/smollm2.gguf --port 8000": LLAMA,
    "python scripts/llama_judge.py models/smollm2.gguf --port 8765": LLAMA,
    f"{TRAINING} --only memory": "a minute at the smallest size: each number is the peak of a process of its own",
    "python -m studies.scale": MINUTES,
    "python studies/simulate.py measure --out rates.json": MINUTES,
    "python studies/simulate.py check --rates rates.json": MINUTES,
    "python -m scripts.recover_length_difficulties --fetch": "it downloads 110 MB",
    "export DISTILBENCH_ASSETS=/path/to/the/mirror": "it sets a variable for the line below it, which is run",
}

EXAMPLES = "tests/test_plugin_examples.py::test_an_example_passes_the_check_command"
PYTHON_PAGE = "tests/test_python_api.py::test_the_snippets_of_the_page_run"

RECIPES = "tests/test_docs.py::test_recipes_on_the_pages_are_recipes"
"""Every ``yaml`` block of every page is read as a recipe."""
ELSEWHERE_SNIPPETS: Mapping[tuple[str, str], str] = {
    ("docs/add-a-backend.md", '"""Backend canned'): EXAMPLES,
    ("docs/add-a-benchmark.md", '{"id": "fruits"'): OWN_BENCHMARKS,
    ("docs/add-a-benchmark.md", "problem,right"): OWN_BENCHMARKS,
    ("docs/add-a-benchmark.md", '"""Benchmark capitals'): EXAMPLES,
    ("docs/add-a-judge.md", '"""Judge kind first'): EXAMPLES,
    ("docs/add-a-method.md", '"""RRHF'): EXAMPLES,
    ("docs/add-a-method.md", "def rows("): "tests/test_docs.py::test_the_pair_on_the_page",
    ("docs/add-a-method.md", "[project.entry-points"): "tests/test_docs.py::test_the_example_as_an_entry_point",
    ("docs/add-a-method.md", "import torch"): "tests/test_docs.py::test_the_test_on_the_page_passes",
    ("docs/add-a-source.md", '"""Source csv'): EXAMPLES,
    ("docs/add-an-executor.md", '"""Executor threads'): EXAMPLES,
    ("docs/own-models.md", '{"prompt": "Name two rivers'): THIS + "test_prompts_of_ones_own",
    ("docs/python.md", "import distilbench"): PYTHON_PAGE,
    ("docs/python.md", "scores = run.frame()"): PYTHON_PAGE,
    ("docs/python.md", 'tested = run.difference("dpo"'): PYTHON_PAGE,
    ("docs/python.md", "from statsmodels.stats.multitest"): PYTHON_PAGE,
    ("docs/python.md", 'judged = judgments[judgments["request"]'): PYTHON_PAGE,
    ("docs/python.md", 'run = distilbench.load("runs/pocket")'): PYTHON_PAGE,
    ("docs/python.md", 'work = distilbench.plan("table1"'): PYTHON_PAGE,
    ("docs/python.md", 'run = distilbench.evaluate(["pocket:student"]'): PYTHON_PAGE,
    ("README.md", 'run = distilbench.load("runs/pocket")'): THIS + "test_python_that_reads_a_run",
    ("docs/tables.md", "import distilbench"): THIS + "test_python_that_reads_a_run",
    ("docs/share-a-student.md", "from transformers import"): THIS + "test_python_that_reads_a_run",
    ("docs/tables.md", '"score": {"0"'): THIS + "test_a_cell_names_its_artifacts",
    ("docs/scale.md", '{"devices"'): THIS + "test_rates_of_ones_own",
}
"""(page, begin of the snippet) to the test that runs it."""
