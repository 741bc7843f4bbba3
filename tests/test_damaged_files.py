"""Files of users and of other tools that are damaged, or foreign: whoever reads them says so in a message of ours; what
json, pandas or pyarrow raise never comes through."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distilbench.workflows.page import searches_of
from distilbench.workflows.specs import read_note
from harness.errors import UserError
from harness.models.checkpoint import read_object
from harness.models.contents import weight_shapes
from harness.plan.throughput import read_throughputs
from harness.records import read_records
from harness.rows import read_rows
from harness.text import DEEPEST, parse_json
from harness.types import Answer
from judges.benchmarks.answer_files import locate_rows
from reports.judge_comparison.annotations import read_annotations
from reports.judge_comparison.tables import read_comparison
from reports.page.live import read_losses
from results.run.progress import ProgressReader
from results.run.record import read_run, read_scores

Reader = Callable[[Path], object]
READERS: dict[str, Reader] = {
    "questions.jsonl": lambda path: read_rows(str(path), "prompts.path"),
    "questions.csv": lambda path: read_rows(str(path), "prompts.path"),
    "questions.parquet": lambda path: read_rows(str(path), "prompts.path"),
    "annotations.json": lambda path: read_annotations(path, "b"),
    "annotations.csv": lambda path: read_annotations(path, "b"),
    "annotations.parquet": lambda path: read_annotations(path, "b"),
    "model_answer.jsonl": lambda path: locate_rows([path]),
    "import.json": lambda path: read_note(path.parent),
    "rates.json": read_throughputs,
    "config.json": read_object,
    "answers.jsonl": lambda path: read_records(path, Answer),
    "run.json": read_run,
    "scores.json": read_scores,
    "judges.json": lambda path: read_comparison(path.parent),
    "search/search-dpo.json": lambda path: searches_of(path.parents[1]),
    "training.jsonl": read_losses,
    "progress.jsonl": lambda path: ProgressReader(path).read(),
}
LENIENT = {
    "questions.jsonl",
    "questions.csv",
    "questions.parquet",
    "search/search-dpo.json",
    "training.jsonl",
    "progress.jsonl",
}
"""These name bad lines in what they return, or pass over them: a file may be written while it is read."""


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


CONTENTS: dict[str, bytes] = {
    "nested without end": nested(100_000).encode(),
    "an object that is nested without end": b'{"prompt": %s}\n' % nested(100_000).encode(),
    "deeper than code walks": b'[{"prompt": "cut \\ud83d", "x": %s}]\n' % nested(700).encode(),
    "not UTF-8": b'{"prompt": "caf\xe9"}\n',
    "UTF-16": '{"prompt": "a"}\n'.encode("utf-16"),
    "zeros": b"\0" * 64,
    "nothing": b"",
    "cut short": b'{"prompt": "a',
    "another kind of value": b"null\n",
    "a number of 5,000 digits": b"9" * 5000,
    "a number beyond reason": b'{"step": Infinity, "loss": 1e999, "time": 1, "event": "progress"}\n',
    "Parquet by its first bytes": b"PAR1" + b"\xff" * 64 + b"PAR1",
}


FINE = {
    ("config.json", "a number beyond reason"),
    ("model_answer.jsonl", "a number beyond reason"),
    ("answers.jsonl", "nothing"),
}
"""An object of keys that mean nothing to who reads any object, and a file of no records."""


def refusal(reader: Reader, file: Path) -> str | None:
    try:
        reader(file)
    except UserError as error:
        return str(error)
    return None


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_refused_with_a_message(name: str, content: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(CONTENTS[content])
    message = refusal(READERS[name], file)
    if message is None:
        assert name in LENIENT or (name, content) in FINE
    else:
        assert file.stem in message or str(file.parent) in message


def test_json_is_read_down_to_a_hundred_levels() -> None:
    """A list is one level, the objects around and in it too."""
    assert parse_json(nested(DEEPEST)) is not None and parse_json('{"a": [{"b": null}]}') == {"a": [{"b": None}]}
    assert parse_json(b'"a"') == "a" and parse_json("[]") == []
    for text in (nested(DEEPEST + 1), '{"a": ' + nested(DEEPEST) + "}", nested(100_000)):
        with pytest.raises(ValueError, match="nested too deep, more than 100 levels"):
            parse_json(text)
    with pytest.raises(json.JSONDecodeError):
        parse_json("{")


def parquet(file: Path, **options: Any) -> bytes:
    rows = {"prompt": ["grün", "zwei", "drei"] * 5, "preference": [1.0, 2.0, None] * 5, "n": [1, 2, 3] * 5}
    pq.write_table(pa.table(rows), file, **options)
    return file.read_bytes()


def test_a_parquet_file_whose_text_is_damaged(tmp_path: Path) -> None:
    """pyarrow notices it only where the text is taken out, and then raises Python's own UnicodeDecodeError."""
    file = tmp_path / "a.parquet"
    content = parquet(file, compression="none", use_dictionary=False, write_statistics=False)
    assert content.count("grün".encode()) == 5
    file.write_bytes(content.replace("grün".encode(), b"gr\xff\xfen"))
    with pytest.raises(UserError, match=r"prompts\.path = '.*a\.parquet' is a Parquet file that cannot be read"):
        read_rows(str(file), "prompts.path")
    with pytest.raises(UserError, match=r"annotations .*a\.parquet cannot be read"):
        read_annotations(file, "b")


@pytest.mark.parametrize("seed", range(40))
def test_parquet_files_with_changed_bytes_are_read_or_refused(seed: int, tmp_path: Path) -> None:
    file, rng = tmp_path / "a.parquet", random.Random(seed)
    content = bytearray(parquet(file, compression=rng.choice(["none", "snappy", "zstd"])))
    for _ in range(rng.choice([1, 2, 8])):
        content[rng.randrange(4, len(content))] = rng.randrange(256)
    file.write_bytes(content)
    for reader in (READERS["questions.parquet"], READERS["annotations.parquet"]):
        assert "a.parquet" in (refusal(reader, file) or "a.parquet was read")


def test_annotations_with_half_an_emoji_are_read(tmp_path: Path) -> None:
    """As an answer that ended at its token limit leaves it; Arrow, below pandas, cannot hold it."""
    rows = [{"instruction": f"say {n}", "model": "m \ud83d", "annotator": "j", "preference": 2} for n in range(2)]
    file = tmp_path / "annotations.json"
    file.write_text(json.dumps(rows), encoding="utf-8")
    table, notes = read_annotations(file, "b")
    assert list(table["row"]) == ["m \ufffd"] * 2 and list(table["verdict"]) == [1.0, 1.0] and notes == []


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": ["a", 2**62], "data_offsets": [0, 4]},  # a text 2**62 times
        {"dtype": "F32", "shape": [1], "data_offsets": [0, float("inf")]},
        {"dtype": "9" * 5000, "shape": [1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": {"a": 1}, "data_offsets": "04"},
        [],
        None,
    ],
)
def test_a_header_of_weights_with_values_of_other_kinds(entry: object, tmp_path: Path) -> None:
    header = json.dumps({"w": entry}).encode()
    file = tmp_path / "model.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 4)
    with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
        weight_shapes([file])


def test_the_sound_ones_are_read(tmp_path: Path) -> None:
    """So that the refusals above are not those of files that nobody could read."""
    parquet(tmp_path / "a.parquet")
    assert len(read_rows(str(tmp_path / "a.parquet"), "prompts.path").rows) == 15
    (tmp_path / "training.jsonl").write_bytes(b'{"step": 1, "loss": 0.5}\n\xff\n{"step": 2, "loss": 0.25}\n{"st')
    assert read_losses(tmp_path / "training.jsonl") == [(1, 0.5), (2, 0.25)]
    frame = pd.DataFrame({"instruction": ["a"], "model": ["m"], "annotator": ["j"], "preference": [1.0]})
    frame.to_parquet(tmp_path / "b.parquet")
    assert list(read_annotations(tmp_path / "b.parquet", "b")[0]["verdict"]) == [0.0]
