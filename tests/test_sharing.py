"""A trained student leaves the run: as a folder with a model card, on a hub, and by name beside the run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, constants

from distilbench.sharing.card import (
    CardOptions,
    base_place,
    licence_of,
    model_card,
    public_address,
    public_name,
    published_recipe,
    without_places,
)
from distilbench.sharing.export import ExportedModel, export_model
from distilbench.sharing.hub import push
from distilbench.sharing.student import find_student
from distilbench.workflows.finished_run import FinishedRun, load
from distilbench.workflows.verify import verify
from harness.errors import UserError
from harness.models.checkpoint import POCKET
from tests.command import SMALL, distilbench, settings
from tests.fakes.hub import TOKEN, FakeHub, fake_hub
from tests.test_reproduce import Place, base, copy  # noqa: F401, fixtures

WEIGHTS = {"config.json", "model.safetensors", "tokenizer.json"}


@pytest.fixture
def finished(base: Place) -> FinishedRun:  # noqa: F811
    return load(base.runs / "pocket")


@pytest.fixture
def exported(base: Place, tmp_path: Path) -> ExportedModel:  # noqa: F811
    return export_model(base.runs / "pocket", "dpo", tmp_path / "my student")


def test_an_exported_student_loads_and_is_the_trained_one(exported: ExportedModel) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert WEIGHTS | {"README.md", "recipe.yaml"} <= set(exported.files)
    stored = exported.student.finished.lineage.file(exported.student.stage, "model")
    tokenizer = AutoTokenizer.from_pretrained(exported.folder)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "ba"}], add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    ours, theirs = (AutoModelForCausalLM.from_pretrained(place)(**ids).logits for place in (exported.folder, stored))
    assert bool((ours == theirs).all())
    assert not list(exported.folder.parent.glob(".my*")), "no draft is left"


def test_the_front_matter_has_the_scores_of_this_seed(exported: ExportedModel, finished: FinishedRun) -> None:
    data = ModelCard.load(exported.folder / "README.md").data
    results = {result.metric_type: result for result in data.eval_results or []}
    frame = finished.frame()
    own = frame[(frame["row"] == "dpo") & (frame["seed"] == 0)].set_index("metric")
    assert set(results) == set(own[own["value"].notna()].index) and len(results) >= 4, "no value, no entry"
    for metric, result in results.items():
        assert result.metric_value == pytest.approx(own.loc[metric, "value"], abs=1e-4)
        assert result.metric_args["n"] == own.loc[metric, "n"] == 8
    assert (data.license, data.library_name, data.base_model) == ("apache-2.0", "transformers", None), (
        "pocket is no hub id"
    )
    assert data.tags == ["distilbench", "preference-distillation", "dpo"]


def test_the_card_says_what_it_is_and_names_nothing_of_this_machine(exported: ExportedModel) -> None:
    text = (exported.folder / "README.md").read_text(encoding="utf-8")
    for part in ("arXiv 2305.18290", "Not official:", "judge: pocket", "official: gpt-4-1106-preview", "16 prompts",
                 "distilbench reproduce table1 --recipe recipe.yaml --methods teacher,student,dpo,seqkd",
                 'from_pretrained("my student")', "vllm serve 'my student'", "llama.cpp", "It is a toy"):  # fmt: skip
        assert part in text, part
    everything = text + (exported.folder / "recipe.yaml").read_text(encoding="utf-8")
    marker = exported.student.marker
    for secret in (str(exported.folder.parent), str(Path.home()), marker["host"]):
        assert len(secret) < 3 or secret not in everything, secret


def test_names_of_all_kinds_stay_names_in_the_card(base: Place) -> None:  # noqa: F811
    """A title, a judge and a model that try to end the front matter, to be HTML, or to begin a block of code."""
    evil = 'x"\n---\nlicense: evil\n```sh\nrm\n<script>alert(1)</script> | y'
    finished = load(base.runs / "pocket")
    record = finished.records["table1"]
    columns = tuple(replace(metric, group=evil, title=evil) for metric in record.columns)
    family = replace(record.family, student=evil, teacher=evil)
    judges = dict.fromkeys(record.judges, evil)
    hostile = replace(record, columns=columns, family=family, judges=judges, notes=(evil,))
    named = FinishedRun(finished.folder, finished.store, {"table1": hostile})
    text = model_card(find_student(named, "dpo", 0), CardOptions(evil))
    card = ModelCard(text)
    assert card.data.license is None and {result.dataset_name for result in card.data.eval_results or []} == {
        'x" --- license: evil ```sh rm <script>alert(1)</script> | y'
    }
    assert "<script>" not in card.text.partition("## Use")[0]
    assert not any(line.startswith(("---", "license", "rm")) for line in card.text.splitlines())


def test_the_recipe_beside_it_plans_the_same_training(exported: ExportedModel, finished: FinishedRun) -> None:
    from distilbench.workflows.plan import plan

    work = plan("table1", str(exported.folder / "recipe.yaml"), methods=["dpo"], runs=exported.folder.parent / "runs")
    assert exported.student.stage.key in {stage.key for stage in work.stages}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")  # peft's reading of transformers
def test_a_lora_student_merged_and_its_adapter_alone(tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    words = ["run", "--methods", "student,dpo", *settings(*SMALL, "train.lora={r: 2}", "train.learning_rate=0.01")]
    done = distilbench(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    merged = export_model(tmp_path / "runs" / "pocket", "dpo", tmp_path / "merged")
    alone = export_model(tmp_path / "runs" / "pocket", "dpo", tmp_path / "alone", adapter=True)
    assert "adapter/adapter_model.safetensors" in merged.files and "model.safetensors" not in alone.files
    config = json.loads((alone.folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == "pocket:student"
    assert "library_name: peft" in (alone.folder / "README.md").read_text(encoding="utf-8")
    ids = torch.arange(3, 13)[None]
    base_model = AutoModelForCausalLM.from_pretrained(POCKET / "student")
    untrained = base_model(ids).logits
    adapted = PeftModel.from_pretrained(base_model, alone.folder)(ids).logits
    assert torch.allclose(AutoModelForCausalLM.from_pretrained(merged.folder)(ids).logits, adapted, atol=1e-4)
    assert not torch.allclose(untrained, adapted, atol=1e-2)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ({"row": "dop"}, "Did you mean 'dpo'"),
        ({"row": "student"}, "was not trained by this run: it is pocket:student"),
        ({"row": "dpo", "seed": 3}, "choose --seed of 0"),
        ({"row": "dpo", "adapter": True}, "has no adapter"),
        ({"row": "dpo", "out": "."}, "is not empty"),
    ],
)
def test_what_cannot_be_exported(base: Place, tmp_path: Path, words: dict[str, object], part: str) -> None:  # noqa: F811
    (tmp_path / "mine.txt").touch()
    out = tmp_path / str(words.pop("out", "out"))
    with pytest.raises(UserError, match=part):
        export_model(base.runs / "pocket", out=out, **words)  # type: ignore[arg-type]
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_a_damaged_checkpoint_is_not_exported(copy: Place, tmp_path: Path) -> None:  # noqa: F811
    file = next(copy.runs.glob("store/train/*/*/model/model.safetensors"))
    row = json.loads((file.parents[1] / "meta.json").read_text(encoding="utf-8"))["row"]
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(UserError, match="is not what its stage wrote"):
        export_model(copy.runs / "pocket", row, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_and_addresses_that_others_may_see(tmp_path: Path) -> None:
    assert [public_name(name) for name in ("a/b@main", "pocket:student", "/data/models/x", "./y")] == [
        "a/b@main", "pocket:student", "x", "y",
    ]  # fmt: skip
    assert public_address("https://me:secret@api.openai.com/v1") == "https://api.openai.com/v1"
    for host in ("10.0.0.7:8000", "127.0.0.1", "localhost:9", "judge.internal", "[::1]:8000"):
        assert public_address(f"http://{host}/v1") == "http://HOST/v1"
    recipe = {"family": {"student": "/data/x"}, "judges": {"j": {"base_url": "http://10.1.1.1/v1"}}, "compute": {}}
    assert published_recipe(recipe) == {"family": {"student": "./x"}, "judges": {"j": {"base_url": "http://HOST/v1"}}}
    # in the middle of a text too, and nothing else of it: a judge's prompt must stay what it was
    texts = {
        "See https://example.org/rules, then http://10.0.0.1/x.": "See https://example.org/rules, then http://HOST/x.",
        "--model-dir /data/me/models/x --lora=~/adapters/a": "--model-dir ./x --lora=./a",
        "/no_think Answer yes and/or no, 3/4 or </answer>": "/no_think Answer yes and/or no, 3/4 or </answer>",
    }
    assert [without_places(text) for text in texts] == list(texts.values())
    assert without_places({"/data/me/x": 1}) == {"./x": 1}
    for prompt in (f"/no_think {'Answer briefly. ' * 20}", "~~~ is no user", "~nobody-there: a rule"):
        assert without_places(prompt) == prompt
    place = tmp_path / "with a space"
    place.mkdir()
    assert without_places(str(place)) == "./with a space"
    assert base_place("a/b@main") == ('"a/b", revision="main"', "a/b --revision main")
    assert base_place('/data/my "x"') == ('"my \\"x\\""', "'my \"x\"'")
    assert (licence_of("google/gemma-2-2b-it@main"), licence_of("nobody/knows")) == ("gemma", None)
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    assert licence_of(str(tmp_path)) == "mit"
    for broken in ("[mit", "2001-99-99", "!!timestamp x", "\xe9"):
        (tmp_path / "README.md").write_bytes(f"---\nlicense: {broken}\n---\n".encode("latin-1"))
        assert licence_of(str(tmp_path)) is None


def test_a_run_names_its_students_and_can_still_be_verified(base: Place) -> None:  # noqa: F811
    folder = base.runs / "pocket" / "students"
    assert sorted(path.name for path in folder.iterdir()) == ["dpo-seed0", "seqkd-seed0"]
    stored = {path.stat().st_ino for path in base.runs.glob("store/train/*/*/model/model.safetensors")}
    assert {(folder / name / "model.safetensors").stat().st_ino for name in ("dpo-seed0", "seqkd-seed0")} == stored
    assert verify(base.runs / "pocket").problems == []


# The hub

LIBRARY = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")  # huggingface_hub's own upload


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the fake one takes large files over plain HTTP
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with fake_hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        yield server


@LIBRARY
def test_push_makes_a_private_repository_with_the_whole_folder(base: Place, hub: FakeHub) -> None:  # noqa: F811
    pushed = push(base.runs / "pocket", "dpo", "me/toy")
    assert (pushed.url, pushed.private, hub.repos) == (f"{hub.address}/me/toy", True, {"me/toy": True})
    assert WEIGHTS | {"README.md", "recipe.yaml"} <= set(hub.files["me/toy"])
    card = hub.files["me/toy"]["README.md"].decode()
    assert 'from_pretrained("me/toy")' in card
    assert all(TOKEN.encode() not in data for data in hub.files["me/toy"].values())
    # another student in the same place: weights of the first do not stay beside its own
    hub.files["me/toy"] |= {"model-00001-of-00002.safetensors": b"old", "notes.txt": b"mine"}
    push(base.runs / "pocket", "seqkd", "me/toy")
    assert "model-00001-of-00002.safetensors" not in hub.files["me/toy"] and "notes.txt" in hub.files["me/toy"]
    assert hub.commits == [f"{row}-seed0 of the run pocket, by distilbench" for row in ("dpo", "seqkd")]


@LIBRARY
def test_push_to_a_public_repository_must_be_meant(base: Place, hub: FakeHub) -> None:  # noqa: F811
    assert not push(base.runs / "pocket", "dpo", "me/open", public=True).private
    with pytest.raises(UserError, match="there and public: say --public"):
        push(base.runs / "pocket", "dpo", "me/open")
    assert len(hub.commits) == 1


def test_what_the_hub_refuses_names_no_token(
    base: Place, hub: FakeHub, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    monkeypatch.setenv("HF_TOKEN", "hf_wrong9876543210")
    with pytest.raises(UserError, match="refused me/toy") as refused:
        push(base.runs / "pocket", "dpo", "me/toy")
    assert "hf_wrong" not in str(refused.value) and refused.value.__cause__ is None
    monkeypatch.setenv("HF_TOKEN", "hf_two words")
    with pytest.raises(UserError, match="holds a character that no key has"):
        push(base.runs / "pocket", "dpo", "me/toy")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UserError, match="needs a token"):
        push(base.runs / "pocket", "dpo", "me/toy")
    with pytest.raises(UserError, match="write owner/name"):
        push(base.runs / "pocket", "dpo", "toy")
    assert not hub.repos
