"""The trainer on tiny random checkpoints: whole optimiser steps, live responses, what stops a run."""

from __future__ import annotations

import gc
import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from harness.contracts.method import Batch, Loss, Row, Term, log_probabilities
from harness.errors import UserError
from harness.models import load as loading
from harness.models.chat import encode, pad_id, tokenizer_difference
from harness.models.load import load_tokenizer, load_weights, logits_of
from harness.models.prefix_cache import supports_stepping
from harness.training import TrainOptions, forward, shortcuts
from harness.training import trainer as trainer_module
from harness.training.batches import ShuffledBatches, micro_batch, prepare, tokenise
from harness.training.fit import fit, load_training, make_trainer
from harness.training.forward import host, response_terms
from harness.training.rollouts import Speakers, answer, draw, pick
from methods import METHODS, kd, seqkd
from tests.tiny import WORDS, tiny_checkpoint, tiny_groups, tiny_tokenizer
from tests.tiny import tiny_training as training

GROUPS = tiny_groups(16)


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    """One thread, and no walk over torch's objects each time a trainer collects garbage."""
    torch.set_num_threads(1)
    gc.freeze()
    yield
    gc.unfreeze()


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def curve(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]


def test_the_report_and_the_curve_say_what_was_done(student: Path, teacher: Path, tmp_path: Path) -> None:
    """That every method trains, alike in all micro-batches, is swept in ``tests/contracts/test_tables.py``."""
    seen: list[tuple[int, int]] = []
    run = training(METHODS["pad-ppd"], student, teacher)
    report = fit(run, tmp_path, progress=lambda done, total, logs: seen.append((done, total)))
    assert report.steps == 2 and report.prompts == 16 and report.dropped == {}
    assert seen == [(1, 2), (2, 2)]
    lines = curve(tmp_path)
    assert [line["step"] for line in lines] == [1, 2]
    assert lines[0]["loss"] == report.first_loss and lines[1]["loss"] == report.final_loss
    assert math.isfinite(report.final_loss) and report.tokens > report.response_tokens > 0
    assert load_tokenizer(tmp_path).chat_template == load_tokenizer(student).chat_template


def test_kd_from_itself_loses_nothing(student: Path, tmp_path: Path) -> None:
    report = fit(training(METHODS["kd"], student, student, config=kd.KdOptions(weight=1.0)), tmp_path)
    assert abs(report.first_loss) < 1e-6


def test_padding_changes_nothing(student: Path) -> None:
    """Log-probabilities of a row alone, beside longer rows, and on a tokenizer-wide slice of a wider embedding."""
    tokenizer = load_tokenizer(student)
    model = host(load_weights(student, tokenizer, torch.float32)).train(False)
    examples, _ = prepare(training(METHODS["pad-vpd"], student, student), tokenizer)

    def logps(part: list[Any]) -> torch.Tensor:
        micro = micro_batch(part, pad_id(tokenizer), torch.device("cpu"))
        return response_terms(model, model, None, micro, log_probabilities, None, len(tokenizer))["logp"].detach()

    together = logps(list(examples))
    apart = torch.cat([logps([replace(e, rows=(row,))]) for e in examples for row in e.rows])
    torch.testing.assert_close(together, apart, atol=1e-6, rtol=1e-6)
    whole = [(list(e.prompt), list(row.response)) for e in examples for row in e.rows]
    plain = []
    for prompt, response in whole:
        logits = model(input_ids=torch.tensor([prompt + response])).logits[0].detach().log_softmax(-1)
        plain += [logits[len(prompt) + t - 1, token].item() for t, token in enumerate(response)]
    torch.testing.assert_close(together, torch.tensor(plain), atol=1e-5, rtol=1e-5)


def test_columns_that_pad_the_vocabulary_change_nothing(student: Path, tmp_path: Path) -> None:
    wide = tiny_checkpoint(tmp_path / "wide", seed=0, extra_columns=7)
    narrow, own = weights(student), weights(wide)
    model = load_weights(wide, load_tokenizer(wide), torch.float32)
    with torch.no_grad():
        for key, value in model.named_parameters():
            value.copy_(own[key])
            value[: len(narrow[key])].copy_(narrow[key])
    model.save_pretrained(wide)
    for name in ("kd", "minillm"):
        base = training(METHODS[name], student, student)
        reports = [fit(replace(base, student=path), tmp_path / path.name / name) for path in (student, wide)]
        assert reports[0].final_loss == pytest.approx(reports[1].final_loss, abs=1e-6)


@pytest.mark.parametrize("name", ["kd", "minillm", "pad-vpd"])
def test_chunks_equal_the_whole(
    name: str, student: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = training(METHODS[name], student, teacher, groups=GROUPS[:8])
    fit(run, tmp_path / "whole")
    monkeypatch.setattr(forward, "FEW_LOGITS", 0)  # log-probabilities alone: through the fused head
    for module in (forward, shortcuts):
        monkeypatch.setattr(module, "CHUNK_NUMBERS", 5 * len(tiny_tokenizer()))
    fit(run, tmp_path / "chunks")
    for first, second in zip(curve(tmp_path / "whole"), curve(tmp_path / "chunks"), strict=True):
        assert (second["loss"], second["grad_norm"]) == pytest.approx((first["loss"], first["grad_norm"]), rel=1e-5)


def test_no_more_logits_at_once_than_a_chunk(student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    monkeypatch.setattr(forward, "CHUNK_NUMBERS", 5 * len(tiny_tokenizer()))

    def spy(logits: Any, labels: Any, teacher: Any, config: Any) -> dict[str, torch.Tensor]:
        sizes.append(len(logits))
        return log_probabilities(logits, labels, teacher, config)

    run = training(replace(seqkd.METHOD, token_terms=spy), student, student)
    report = fit(run, tmp_path)
    assert max(sizes) == 5
    assert sum(sizes) == 2 * report.response_tokens, "each chunk once forward, once again in the backward pass"


def test_a_term_per_unknown_unit_is_named(student: Path, tmp_path: Path) -> None:
    def loss(batch: Batch, terms: Any, config: Any) -> Loss:
        return Loss((Term("ce", -terms["logp"].sum(), per="token:golden"),))

    run = training(replace(seqkd.METHOD, loss=loss), student, student)
    with pytest.raises(ValueError, match="seqkd: term 'ce' is per 'token:golden'; this step has prompt, row, token"):
        fit(run, tmp_path)


def test_checkpointing_and_bfloat16_run(student: Path, teacher: Path, tmp_path: Path) -> None:
    run = training(METHODS["kd"], student, teacher)
    plain = fit(run, tmp_path / "plain")
    for change in ({"gradient_checkpointing": True}, {"dtype": "bfloat16"}, {"schedule": "linear"}):
        report = fit(replace(run, options=replace(run.options, **change)), tmp_path / next(iter(change)))  # type: ignore[arg-type]
        assert report.first_loss == pytest.approx(plain.first_loss, abs=0.05 if "dtype" in change else 1e-6)
    assert weights(tmp_path / "dtype")["lm_head.weight"].dtype == torch.float32


def test_dropout_is_off_and_the_config_is_kept(teacher: Path, tmp_path: Path) -> None:
    wet = tiny_checkpoint(tmp_path / "wet", seed=0, dropout=0.5)
    dry = tiny_checkpoint(tmp_path / "dry", seed=0)
    for path in (wet, dry):
        fit(training(METHODS["seqkd"], path, teacher), tmp_path / ("out-" + path.name))
    assert digest(tmp_path / "out-wet") == digest(tmp_path / "out-dry")
    config = json.loads((tmp_path / "out-wet" / "config.json").read_text())
    assert config["attention_dropout"] == 0.5 and config.get("use_cache", True)


@pytest.mark.parametrize("family", ["Gemma2", "GPT2"])
def test_heads_of_other_families(family: str, tmp_path: Path) -> None:
    """Final soft-capping, eager attention where scores are capped, tied heads: the same logits as the model's own."""
    import transformers

    tokenizer = tiny_tokenizer()
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes["num_key_value_heads"] = 1
    more = {"head_dim": 8, "final_logit_softcapping": 0.5, "attn_logit_softcapping": 1.0}
    own = {"Gemma2": sizes | more, "GPT2": {"n_embd": 16, "n_layer": 2, "n_head": 2}}[family]
    ids = {"bos_token_id": None, "eos_token_id": 4, "pad_token_id": 0}
    config = getattr(transformers, family + "Config")(vocab_size=60, **own, **ids)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = host(load_weights(tmp_path, tokenizer, torch.float32)).train(False)
    assert (model.config._attn_implementation == "eager") == (family == "Gemma2")
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        found = model(input_ids=ids, read_states=lambda hidden: logits_of(model, hidden[0], len(tokenizer)))
        torch.testing.assert_close(found, model(input_ids=ids).logits[0, :, : len(tokenizer)])
    run = training(METHODS["pad-ppd"], tmp_path, tmp_path)
    assert fit(run, tmp_path / "out").steps == 2


def test_a_head_that_is_too_narrow_is_refused(tmp_path: Path) -> None:
    import transformers

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"bos_token_id": 1, "eos_token_id": 4, "pad_token_id": 0}
    config = transformers.CohereConfig(vocab_size=53, logit_scale=0.1, **sizes, **ids)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    load_weights(tmp_path, tiny_tokenizer(), torch.float32)
    with pytest.raises(UserError, match="has 53 output embeddings for 54 tokens"):
        load_weights(tmp_path, tiny_tokenizer((*WORDS, "za")), torch.float32)


def nan_loss(batch: Batch, terms: Any, config: Any) -> Loss:
    return Loss((Term("bad", terms["logp"].sum() * math.nan, per="prompt"),))


def nan_gradient(batch: Batch, terms: Any, config: Any) -> Loss:
    zero = (terms["logp"] * 0).sum()
    return Loss((Term("bad", zero.sqrt(), per="prompt"),))


@pytest.mark.parametrize(("loss", "what"), [(nan_loss, "loss"), (nan_gradient, "gradient")])
def test_not_finite_stops_and_names_the_prompts(loss: Any, what: str, student: Path, tmp_path: Path) -> None:
    run = training(replace(seqkd.METHOD, loss=loss), student, student, groups=GROUPS[:3])
    with pytest.raises(UserError, match=f"seqkd: the {what} is not finite at step 1; prompts of the batch: p"):
        fit(run, tmp_path)
    assert not (tmp_path / "model.safetensors").exists()


def test_unusable_prompts_are_counted_and_none_left_is_an_error(student: Path, tmp_path: Path) -> None:
    groups = [*GROUPS[:4], replace(GROUPS[4], prompt=replace(GROUPS[4].prompt, golden=None))]
    long = replace(GROUPS[5], prompt=replace(GROUPS[5].prompt, golden=" ".join(WORDS * 2)))
    report = fit(training(METHODS["kd"], student, student, groups=[*groups, long]), tmp_path)
    assert report.prompts == 4 and report.dropped == {"no golden answer": 1, "longer than 64 tokens": 1}
    with pytest.raises(UserError, match=r"kd: none of 1 prompts can be trained on \(no golden answer: 1\)"):
        fit(training(METHODS["kd"], student, student, groups=groups[4:]), tmp_path)


def test_different_numbers_of_rows_are_an_error(student: Path, tmp_path: Path) -> None:
    groups = [*tiny_groups(2, n=3), *tiny_groups(2, n=4)]
    with pytest.raises(UserError, match=r"differ in their number of responses \(\[3, 4\]\)"):
        fit(training(METHODS["pro"], student, student, groups=groups), tmp_path)


def test_references_belong_to_groups(student: Path) -> None:
    """A dropped group keeps its place; the sums are those of the model itself."""
    same = replace(GROUPS[1], samples=(GROUPS[1].samples[0],) * 3)
    run = training(METHODS["dpo"], student, student, groups=[GROUPS[0], same, GROUPS[2]])
    logps = run.reference
    assert [len(rows) for rows in logps] == [2, 0, 2]
    tokenizer = load_tokenizer(student)
    model = load_weights(student, tokenizer, torch.float32).train(False)
    rows = METHODS["dpo"].rows(GROUPS[2], run.config)
    assert isinstance(rows, tuple)
    for row, logp in zip(rows, logps[2], strict=True):
        ids = encode(tokenizer, GROUPS[2].prompt.messages, row.text, row.finished)
        logits = model(input_ids=torch.tensor([ids.prompt + ids.response])).logits[0].detach().log_softmax(-1)
        parts = [logits[len(ids.prompt) + t - 1, token].item() for t, token in enumerate(ids.response)]
        assert logp == pytest.approx(sum(parts), abs=1e-4)


def test_token_ids_are_those_of_the_chat_module() -> None:
    tokenizer = tiny_tokenizer()
    rows = [Row("ba <|end|> be"), Row("bi", finished=False)]
    (example,) = tokenise(tokenizer, GROUPS[:1], [(0, rows)])
    for row, made in zip(rows, example.rows, strict=True):
        ids = encode(tokenizer, GROUPS[0].prompt.messages, row.text, row.finished)
        assert (list(example.prompt), list(made.response)) == (ids.prompt, ids.response)


def test_vocabularies_must_agree_for_a_live_teacher(student: Path, tmp_path: Path) -> None:
    foreign = tiny_checkpoint(tmp_path / "foreign", words=WORDS[::-1])
    with pytest.raises(UserError, match=r"kd needs a shared vocabulary: .*48 tokens have other ids"):
        fit(training(METHODS["kd"], student, foreign), tmp_path / "out")
    assert tokenizer_difference(tiny_tokenizer(), tiny_tokenizer()) is None
    assert "exist in one only" in str(tokenizer_difference(tiny_tokenizer(), tiny_tokenizer(WORDS[1:])))


@pytest.mark.parametrize("trust", [True, False])
def test_foreign_code_is_trusted_only_where_the_options_say_so(
    trust: bool, student: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokenizers, configs and weights of student, teacher and reference: one answer for all of them."""
    seen: list[bool] = []
    for kind in (loading.AutoTokenizer, loading.AutoConfig, loading.AutoModelForCausalLM):

        def spy(*args: Any, original: Any = kind.from_pretrained, **kwargs: Any) -> Any:
            seen.append(kwargs["trust_remote_code"])
            return original(*args, **kwargs)

        monkeypatch.setattr(kind, "from_pretrained", spy)
    for name in ("kd", "dpo"):
        fit(training(METHODS[name], student, teacher, trust_remote_code=trust), tmp_path / name)
    assert len(seen) >= 12 and set(seen) == {trust}


def test_the_report_says_how_rows_were_laid_out(student: Path, tmp_path: Path) -> None:
    groups = tiny_groups(4, n=4)
    long = [replace(g, prompt=replace(g.prompt, messages=({"role": "user", "content": "ba " * 30},))) for g in groups]
    packed = fit(training(METHODS["pad-vpd"], student, student, groups=long), tmp_path / "a")
    apart = fit(training(METHODS["pad-vpd"], student, student, groups=long, packing="never"), tmp_path / "b")
    assert packed.packing.startswith("packed: about ") and apart.packing == "separate rows: train.packing = never"
    assert packed.tokens < 0.6 * apart.tokens and packed.response_tokens == apart.response_tokens
    assert packed.final_loss == pytest.approx(apart.final_loss, abs=1e-5)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_processes_share_every_prompt_once(world: int) -> None:
    options = TrainOptions(batch_size=8, micro_batch=3)
    shares = [list(ShuffledBatches(21, options, seed=0, world=world, rank=rank)) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1
    assert all(len(share) == len(ShuffledBatches(21, options, 0, world)) for share in shares)
    real = [index for share in shares for part in share for index in part if index < 21]  # 21 and on: fillers
    assert sorted(real) == list(range(21))
    again = ShuffledBatches(21, options, seed=0)
    again.set_epoch(1)
    assert list(again.order) != list(ShuffledBatches(21, options, seed=0).order)


def test_fillers_count_for_nothing(student: Path, teacher: Path, tmp_path: Path) -> None:
    """Two prompts of four rows, and a third as a filler: 2 prompts, 8 rows and their tokens divide the step's terms."""
    loaded = load_training(training(METHODS["pad-ppd"], student, teacher))
    trainer = make_trainer(loaded, tmp_path)
    real, filler = [(example, False) for example in loaded.examples[:2]], [(loaded.examples[2], True)]
    rows = [row for example, _ in real for row in example.rows]
    micros, counts = trainer.get_batch_samples(iter([real, filler]), 2, torch.device("cpu"))
    tokens = sum(len(row.response) for row in rows)
    assert counts == {"prompt": 2, "row": len(rows), "token": tokens, "token:response": tokens}
    assert [each["micro"].filler for each in micros] == [False, True]
    assert trainer.prompts == [example.id for example, _ in real]
    assert trainer.tokens["response"] == tokens and trainer.tokens["all"] == micros[0]["micro"].fed
    alone = trainer.compute_loss(loaded.student, micros[1], num_items_in_batch=counts)
    assert float(alone.detach()) == 0 and not trainer.terms


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [("linear", [0.0, 1.0, 2 / 3, 1 / 3]), ("cosine", [0.0, 1.0, 0.75, 0.25]), ("constant", [0.0, 1.0, 1.0, 1.0])],
)
def test_one_schedule_goes_on_through_two_parts(
    schedule: str, rates: list[float], student: Path, teacher: Path, tmp_path: Path
) -> None:
    """Two parts of two steps; a quarter of all four steps is warm-up, three are left.

    Linear: 3/3, 2/3, 1/3. Cosine: (1 + cos(k pi / 3)) / 2 for k = 0, 1, 2. As two schedules each has its warm-up.
    """

    def run(part: tuple[int, int]) -> list[float]:
        change: Any = {"schedule_segment": part, "schedule": schedule, "warmup_ratio": 0.25}
        trainer = make_trainer(load_training(training(METHODS["simpo"], student, teacher, **change)), tmp_path)
        trainer.train()
        return [record["learning_rate"] * 1e3 for record in trainer.curve]

    assert run((0, 2)) + run((1, 2)) == pytest.approx(rates)
    assert run((0, 1)) == pytest.approx([0.0, 1.0])


@pytest.mark.parametrize("change", [{"schedule_segment": (2, 2)}, {"schedule_segment": (-1, 1)}, {"max_new_tokens": 0}])
def test_a_segment_or_length_that_cannot_be_is_refused(
    change: dict[str, Any], student: Path, teacher: Path, tmp_path: Path
) -> None:
    run = replace(training(METHODS["gkd"], student, teacher), **change)
    with pytest.raises(ValueError, match=f"^{next(iter(change))} = "):
        fit(run, tmp_path)


def speakers(student: Path, teacher: Path, mix: float, temperature: float = 1.0) -> Speakers:
    tokenizer = load_tokenizer(student)
    models = [host(load_weights(path, tokenizer, torch.float32)) for path in (student, teacher)]
    return Speakers(models[0], models[1], tokenizer, temperature, mix, 6)


@pytest.mark.parametrize("mix", [0.3, 0.0])
def test_rollouts_report_the_models_own_log_probabilities(mix: float, student: Path, teacher: Path) -> None:
    """Left padding and the cache against one plain forward per response; behaviour is the mixture of the two."""
    who = speakers(student, teacher, mix)
    prompts = [[2, 7, 4, 3], [2, 9, 10, 11, 12, 4, 3], [2, 30, 4, 3]]
    for prompt, rollout in zip(prompts, draw(prompts, who, [1, 2, 3]), strict=True):
        assert 1 <= len(rollout.tokens) <= 6
        ids = torch.tensor([prompt + rollout.tokens])
        found = {}
        for name, model in (("student", who.student), ("teacher", who.teacher)):
            logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].detach().log_softmax(-1)
            found[name] = logits.gather(1, torch.tensor(rollout.tokens)[:, None])[:, 0]
            torch.testing.assert_close(torch.tensor(rollout.logps[name]), found[name], atol=1e-5, rtol=1e-5)
        mixture = ((1 - mix) * found["student"].exp() + mix * found["teacher"].exp()).log()
        torch.testing.assert_close(torch.tensor(rollout.logps["behaviour"]), mixture, atol=1e-5, rtol=1e-5)


def test_rollouts_do_not_depend_on_their_neighbours(student: Path, teacher: Path) -> None:
    who = speakers(student, teacher, mix=0.2)
    run = training(METHODS["minillm"], student, teacher)
    examples, _ = prepare(run, who.tokenizer)
    together = [example.rows[0].response for example, _ in answer(examples, who, seed=0, step=5)]
    apart = [answer([example], who, seed=0, step=5)[0][0].rows[0].response for example in examples]
    assert together == apart
    assert together != [example.rows[0].response for example, _ in answer(examples, who, seed=0, step=6)]


def forwards(model: Any) -> list[int]:
    """Grows by the number of tokens per row whenever the model's body runs."""
    seen: list[int] = []
    model.base_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    return seen


def test_a_teacher_that_does_not_draw_along_does_not_run_along(student: Path, teacher: Path) -> None:
    """With a mixture one forward a token; without, one over whole responses, or none where the loss does not ask."""
    prompts = [[2, 7, 4, 3], [2, 9, 10, 11, 12, 4, 3]]
    for mix, teacher_logps in ((0.3, True), (0.0, True), (0.0, False)):
        who = replace(speakers(student, teacher, mix), teacher_logps=teacher_logps)
        supports_stepping(who.teacher)  # before the count: its trial runs the model
        seen = forwards(who.teacher)
        drawn = draw(prompts, who, [1, 2])
        longest = max(len(rollout.tokens) for rollout in drawn)
        whole = max(len(prompt) + len(rollout.tokens) for prompt, rollout in zip(prompts, drawn, strict=True))
        assert seen == ([7, *[1] * (longest - 1)] if mix else [whole] if teacher_logps else [])
        assert ("teacher" in drawn[0].logps) == (mix > 0 or teacher_logps)


@pytest.mark.parametrize(("name", "options"), [("gkd", {"on_policy": 1.0}), ("distillm", {"on_policy": 1.0})])
def test_live_steps_without_a_mixture_leave_the_teacher_alone_while_generating(
    name: str, options: dict[str, Any], student: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps: the teacher reads each micro-batch of answers once, in the loss, and nothing before."""
    method = METHODS[name]
    loaded = load_training(training(method, student, teacher, config=method.config(**options)))
    seen = forwards(loaded.teacher)
    during: list[int] = []

    def watched(*args: Any) -> Any:
        before = len(seen)
        drawn = answer(*args)
        during.append(len(seen) - before)
        return drawn

    monkeypatch.setattr(trainer_module, "answer", watched)
    make_trainer(loaded, tmp_path).train()
    assert during == [0, 0]
    assert len(seen) == 4  # 16 prompts in micro-batches of 4


def test_tokens_are_drawn_from_the_mixture() -> None:
    """Evenly spread uniforms hit each token as often as its probability says."""
    q, p = torch.tensor([[0.0, 1.0, -1.0]]), torch.tensor([[1.0, -2.0, 0.5]])
    uniform = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    token, _ = pick(q.expand(10_000, 3), p.expand(10_000, 3), uniform, temperature=0.7, mix=0.4)
    share = torch.bincount(token, minlength=3) / 10_000
    expected = 0.4 * (p[0] / 0.7).softmax(-1) + 0.6 * (q[0] / 0.7).softmax(-1)
    torch.testing.assert_close(share, expected, atol=2e-4, rtol=0)
