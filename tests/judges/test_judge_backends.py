"""A checkpoint judges behind an engine as it does in process: same replies, same first tokens, another key."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the judges are models")

from harness.contracts.backend import LoadsModel, Services
from harness.contracts.options import options_from
from harness.errors import UserError
from harness.models.engines.local import LocalEngines
from harness.types import Reply, Request
from judges.kinds.transformers import JUDGE, TransformersJudge
from tests.tiny import student_with_heads_of_24

ENGINE = {"command": [sys.executable, str(Path(__file__).parents[1] / "fakes" / "engine.py")], "gpus": 0}
OPTIONS = {"path": "pocket:teacher", "device": "cpu"}
BEHIND = {**OPTIONS, "backend": "vllm", "backend_options": ENGINE}


def requests() -> list[Request]:
    """AlpacaEval's form (one token, five log-probabilities), a longer greedy reply, and a drawn one."""
    ask = [({"role": "user", "content": f"which is better, the {word} or the cat?"},) for word in ("dog", "red bird")]
    texts = [Request(str(number), "pair", talk, 1, 0.0, top_logprobs=5) for number, talk in enumerate(ask)]
    return [*texts, *(Request(f"long{n}", "pair", talk, 12, 0.0) for n, talk in enumerate(ask)),
            Request("drawn", "pair", ask[0], 6, 1.0)]  # fmt: skip


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[TransformersJudge]:
    engines, judge = LocalEngines(), JUDGE.make(options_from(JUDGE.config, BEHIND))
    assert isinstance(judge, LoadsModel)
    judge.services = Services(serve=lambda spec: engines.address(spec, tmp_path / "engine.log"))
    yield judge
    engines.close()


def test_replies_are_those_of_the_model_in_process(behind: TransformersJudge) -> None:
    here = JUDGE.make(options_from(JUDGE.config, OPTIONS))
    pairs = list(zip(replies(here, requests()), replies(behind, requests()), strict=True))
    for ours, theirs in pairs[:4]:
        assert (ours.text, ours.finish_reason, ours.completion_tokens) == (
            theirs.text, theirs.finish_reason, theirs.completion_tokens
        )  # fmt: skip
    for ours, theirs in pairs[:2]:
        assert ours.first_token is not None and theirs.first_token is not None
        assert len(theirs.first_token) == 5
        assert dict(theirs.first_token) == pytest.approx(dict(ours.first_token), abs=1e-3)
    # Drawn replies are an engine's own, and the same again.
    assert replies(behind, requests()[-1:]) == [pairs[-1][1]]
    assert behind.services.notes["engine"].endswith("0.0.fake")


def replies(judge: TransformersJudge, asked: Sequence[Request]) -> list[Reply]:
    outcomes = judge.complete_many(asked)
    assert all(isinstance(outcome, Reply) for outcome in outcomes), outcomes
    return [outcome for outcome in outcomes if isinstance(outcome, Reply)]


def test_an_engine_is_in_the_key_and_its_server_is_not() -> None:
    def identity(**options: Any) -> dict[str, object]:
        values = {**BEHIND, "backend_options": {**ENGINE, **options}}
        return JUDGE.identity(options_from(JUDGE.config, values))

    here = JUDGE.identity(options_from(JUDGE.config, OPTIONS))
    assert set(here) == {"fingerprint", "dtype"}
    assert identity() == {**here, "backend": {"name": "vllm"}}
    assert identity(concurrency=3, start_minutes=2.0, environment={"A": "b"}) == identity()
    assert identity(flags=["--enforce-eager"]) != identity()
    first, second = (
        JUDGE.make(options_from(JUDGE.config, values)).endpoint for values in (OPTIONS, BEHIND)
    )  # what tells replies apart in the ledger
    assert first != second and second.startswith(first)


def test_a_backend_that_cannot_judge_is_refused(tmp_path: Path) -> None:
    for name in ("openai", "vlm"):
        with pytest.raises(UserError, match=f"backend = '{name}'; choose one of sglang, transformers, vllm"):
            options_from(JUDGE.config, {**OPTIONS, "backend": name})
    with pytest.raises(UserError, match=r"backend_options: .*gpu"):
        options_from(JUDGE.config, {**BEHIND, "backend_options": {"gpu": 1}})
    for option in ({"dtype": "float16"}, {"trust_remote_code": True}):  # decides numbers outside of the identity
        with pytest.raises(UserError, match=f"backend_options: {next(iter(option))} must stand beside backend"):
            options_from(JUDGE.config, {**BEHIND, "backend_options": {**ENGINE, **option}})
    judge = JUDGE.make(options_from(JUDGE.config, {**BEHIND, "backend_options": {"command": ["no-such-vllm"]}}))
    assert "no command 'no-such-vllm'" in str(judge.check())
    student = str(student_with_heads_of_24(tmp_path / "student"))
    judge = JUDGE.make(options_from(JUDGE.config, {**BEHIND, "path": student}))
    assert f"{student} has attention heads of 24" in str(judge.check()), "vLLM on a CPU has 32 and more"
