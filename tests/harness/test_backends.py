"""Backends say what their models can do, and the models can."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distilbench.plugins import load_registry
from harness.contracts.backend import Backend, Services
from harness.contracts.model import PROTOCOLS, Sampling
from harness.contracts.options import RecipeError
from harness.errors import UserError
from harness.models.backends import BACKENDS, LoadOptions
from harness.models.checkpoint import resolve
from harness.models.fake import FakeModel
from harness.models.server_model import ServerOptions
from harness.plan.plan import Plan, make_plan
from harness.plan.preflight import backend_issues
from harness.recipe.recipe import load_recipe
from tests.tiny import student_with_heads_of_24, tiny_checkpoint


def offered(model: Any) -> set[str]:
    return {capability for capability, protocol in PROTOCOLS.items() if isinstance(model, protocol)}


def test_models_offer_exactly_the_capabilities_that_their_backend_declares(tmp_path: Path) -> None:
    def ask(*arguments: Any) -> list[Any]:
        return []

    made = {
        "transformers": (resolve(str(tiny_checkpoint(tmp_path))), LoadOptions(device="cpu"), Services()),
        "vllm": (resolve(str(tiny_checkpoint(tmp_path / "vllm"))), BACKENDS["vllm"].config(), Services()),
        "sglang": (resolve(str(tiny_checkpoint(tmp_path / "sglang"))), BACKENDS["sglang"].config(), Services()),
        "openai": (None, ServerOptions(config={"model": "m"}), Services(ask=ask)),
    }
    assert made.keys() == BACKENDS.keys()
    for name, arguments in made.items():
        assert offered(BACKENDS[name].load(*arguments)) == BACKENDS[name].capabilities
    assert BACKENDS["openai"].lacking_capabilities(["generate", "choices", "logps"]) == ["choices", "logps"]
    assert offered(FakeModel()) == set(PROTOCOLS)


def test_a_backend_says_what_it_lacks() -> None:
    with pytest.raises(UserError, match="name a folder or a hub id"):
        BACKENDS["transformers"].load(None, LoadOptions(), Services())
    with pytest.raises(UserError, match="through a run's ledger"):
        BACKENDS["openai"].load(None, ServerOptions(), Services())


def test_prompts_and_responses_can_be_token_ids(tmp_path: Path) -> None:
    """``generate`` is ``generate_tokens`` on encoded prompts, decoded."""
    model: Any = BACKENDS["transformers"].load(resolve(str(tiny_checkpoint(tmp_path))), LoadOptions(), Services())
    talks = [[{"role": "user", "content": "ba be"}], [{"role": "user", "content": "bi"}]]
    sampling = Sampling(6, 1.0)
    for subject in (model, FakeModel()):
        texts = subject.generate(talks, sampling, seed=3, n=2)
        tokens = subject.generate_tokens(subject.encode_prompts(talks), sampling, seed=3, n=2)
        finished = [[response.finish_reason == "stop" for response in row] for row in tokens]
        assert finished == [[response.finished for response in row] for row in texts]
    tokens = model.generate_tokens(model.encode_prompts(talks), sampling, seed=3, n=2)
    decoded = [[model.tokenizer.decode(response.ids, skip_special_tokens=True) for response in row] for row in tokens]
    assert decoded == [[response.text for response in row] for row in model.generate(talks, sampling, seed=3, n=2)]


WRITER = Backend("writer", "writes, reads nothing", frozenset({"generate"}), LoadOptions, lambda *_: FakeModel())


def plan_with(*changes: str, rows: Sequence[str] = ("student", "dpo")) -> Plan:
    registry = load_registry()
    registry = replace(registry, backends={**registry.backends, "writer": WRITER})
    recipe = load_recipe("pocket", ["seeds=[0]", "prompts.n=8", *changes], registry)
    return make_plan(recipe, registry, rows)


def backends_of(plan: Plan) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for stage in plan.stages:
        if "backend" in stage.params:
            found.setdefault(stage.kind, set()).add(stage.params["backend"]["name"])
    return found


def test_what_a_backend_cannot_do_is_done_by_transformers_and_the_plan_says_so() -> None:
    plan = plan_with("family.backend=writer")
    issues = backend_issues(plan, plan.stages, this_machine=True)
    assert not any(issue.problem for issue in issues)
    lacks = {"reward": "choices, logps, tokens", "reference_logps": "token_logps"}
    assert [issue.text for issue in issues] == [
        f"stage {kind} runs with transformers: the backend writer does not offer {lack}" for kind, lack in lacks.items()
    ]
    assert backends_of(plan) == {"sample": {"writer"}, "reward": {"transformers"}, "answer": {"writer"}}
    for text, part in (("vlm", "Did you mean 'vllm'"), ("openai", "must load checkpoints")):
        with pytest.raises(RecipeError, match=part):
            plan_with(f"family.backend={text}")


def test_a_model_or_a_kind_of_stage_may_have_another_backend() -> None:
    """Its kind has the last word; what does not change numbers is not in the key, and defaults are not either."""
    common = ["family.backend=vllm", "family.backend_options={flags: [--a], memory_share: 0.5, command: [sh]}"]
    plan = plan_with(*common, "family.backends={teacher: {tensor_parallel: 2}, answer: {backend: transformers}}")
    served = {"sample": {"vllm"}, "reward": {"vllm"}, "reference_logps": {"vllm"}}
    assert backends_of(plan) == served | {"answer": {"transformers"}}
    stages = {stage.kind: stage for stage in plan.stages}
    assert stages["reward"].params["backend"] == {"name": "vllm", "options": {"flags": ["--a"]}}
    rest = {"memory_share": 0.5, "command": ["sh"], "tensor_parallel": 2}
    assert stages["reward"].local["backend_options"] == rest
    assert [stages[kind].local.get("gpus") for kind in ("sample", "reward", "answer")] == [1, 2, None]
    assert stages["answer"].params["backend"] == {"name": "transformers", "options": {}}
    keys = {stage.key for stage in plan_with(*common).stages if stage.kind == "sample"}
    for change, is_other in (("memory_share: 0.9, flags: [--a]", False), ("flags: [--b]", True), ("window: 600", True)):
        other = plan_with("family.backend=vllm", f"family.backend_options={{{change}, command: [sh]}}")
        assert ({stage.key for stage in other.stages if stage.kind == "sample"} != keys) is is_other, change


@pytest.mark.parametrize(
    ("backends", "message"),
    [
        ("{teachr: {}}", "family.backends.teachr.*Did you mean 'teacher'"),
        ("{judge: {}}", "not the name of a model or kind of stage"),
        ("{reward: {backend: openai}}", "family.backends.reward.backend.*must load checkpoints"),
        (
            "{reward: {backend: vllm, tensor_parallel: 0}}",
            "backends.reward.tensor_parallel = 0: must be",
        ),
        ("{teacher: {backend: vllm, sever: x}}", "sever.*Did you mean 'server'"),
        ("{teacher: {backend: vllm, server: localhost}}", "family.backends.teacher.server"),
        ("{teacher: {dtype: float16}}", "family.backends.teacher.dtype = 'float16': stands in family.dtype"),
        ("{reward: {backend: vllm, trust_remote_code: true}}", "reward.trust_remote_code.*in family.trust_remote_code"),
        ("{answer: {batch_tokens: 9}}", "answer.batch_tokens = 9: stands in compute.batch_tokens"),
        ("{teacher: {backend: vllm, server: 'http://x', flags: [--a]}}", "flags are for a server that is started here"),
    ],
)
def test_mistakes_in_the_choice_of_backends(backends: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        plan_with(f"family.backends={backends}")


def test_backends_of_a_model_and_a_kind_must_go_together() -> None:
    """The teacher's rewards would be given by transformers, which has no such option."""
    both = "{teacher: {backend: transformers}, reward: {memory_share: 0.5}}"
    with pytest.raises(RecipeError, match=r"family\.backends\.reward\.memory_share") as error:
        plan_with("family.backend=vllm", f"family.backends={both}")
    assert str(error.value).count("memory_share") == 1
    with pytest.raises(RecipeError, match=r"family\.backend_options\.dtype = 'bfloat16': stands in family\.dtype"):
        plan_with("family.backend_options={dtype: bfloat16}")
    plan_with("family.backends={teacher: {backend: vllm}, student: {backend: vllm}, reward: {memory_share: 0.5}}")


def test_a_plan_names_the_models_that_an_engine_on_a_cpu_cannot_compute(tmp_path: Path) -> None:
    student = student_with_heads_of_24(tmp_path / "student")

    def misfits(options: str) -> list[str]:
        engine = ("family.backend=vllm", f"family.backend_options={{command: [sh], {options}}}")
        plan = plan_with(*engine, f"family.student={student}")
        issues = backend_issues(plan, plan.stages, this_machine=True)
        assert all(issue.forceable for issue in issues), "another version may have more"
        return [issue.text for issue in issues if issue.problem]

    (text,) = misfits("gpus: 0")
    assert text.startswith(f"backend vllm: {student} has attention heads of 24") and "computes 32, 64" in text
    assert misfits("gpus: 1") == []


def test_a_model_that_is_read_for_its_tokenizer_is_not_asked_of_a_server() -> None:
    """KD's distributions are the teacher's; of the student a stage reads the tokenizer alone."""
    url = "http://127.0.0.1:9"
    rows = ["methods.kd={temperature: 1, top_k: 7}"]
    served = plan_with(*rows, f"family.backends={{teacher: {{backend: vllm, server: '{url}'}}}}", rows=["kd"])
    (issue,) = backend_issues(served, served.stages, this_machine=True)
    assert f"{url}/v1/models cannot be asked" in issue.text
    cpu = "family.backends={teacher_distributions: {backend: vllm, gpus: 0, command: [sh]}}"
    started = plan_with(*rows, cpu, rows=["kd"])
    assert [issue.text for issue in backend_issues(started, started.stages, this_machine=True)] == []
    (stage,) = (stage for stage in started.stages if stage.kind == "teacher_distributions")
    assert stage.params["backend"]["name"] == "vllm" and set(stage.local["models"]) == {"teacher", "student"}


def test_a_plan_checks_the_command_and_the_servers_of_engines() -> None:
    absent = plan_with("family.backend=vllm", "family.backend_options={command: [/nowhere/vllm, serve]}")
    (issue,) = backend_issues(absent, absent.stages, this_machine=True)
    assert issue.problem and "[/path/to/venv/bin/vllm, serve]" in issue.text and "server: URL" in issue.text
    assert issue.text.startswith("backend vllm: there is no command '/nowhere/vllm'")
    assert backend_issues(absent, absent.stages, this_machine=False) == [], "it runs elsewhere"
    sglang = plan_with("family.backend=sglang")  # whose program is a Python, and there is always one
    (issue,) = backend_issues(sglang, sglang.stages, this_machine=True)
    assert (
        issue.text.startswith("backend sglang: no command is named") and "[/path/to/venv/bin/python, -m, " in issue.text
    )
    url = "http://127.0.0.1:9"
    shared = plan_with("family.backend=vllm", f"family.backend_options={{server: '{url}'}}")
    texts = [issue.text for issue in backend_issues(shared, shared.stages, this_machine=True)]
    assert f"{url}/v1/models cannot be asked" in texts[0]
    assert f"{url} serves one checkpoint, and 3 would be asked there" in texts[1]
    one = plan_with("family.backends={teacher: {backend: vllm, server: 'http://127.0.0.1:9'}}")
    assert len(backend_issues(one, one.stages, this_machine=True)) == 1
