"""``examples/read_a_run.ipynb``: what is committed, and its cells, run as a reader runs them, on a small run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

import distilbench
from tests.command import ROOT, SMALL, environment
from tests.test_architecture import MACHINE
from tests.test_docs import parse

NOTEBOOK = ROOT / "examples" / "read_a_run.ipynb"
SETTINGS = [*SMALL, "benchmarks.alpaca_eval.limit=32", "seeds=[0, 1]"]
"""At least 30 questions, so that the difference is tested, and two seeds, so that there is something to average."""
SAY = """
import json
from pathlib import Path

said = {"scores": scores.to_dict("list"), "tested": tested, "gap": gap.to_dict(), "question": question}
said |= {"judgment": judgment.to_dict(), "request": request, "reply": reply.text}
Path("said.json").write_text(json.dumps(said, default=float), encoding="utf-8")
"""


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def cells(notebook: Any) -> dict[str, Any]:
    return {cell.id: cell for cell in notebook.cells}


def test_it_is_committed_as_it_was_written() -> None:
    """Without outputs: scores change with pocket's world pictures with matplotlib, and a test makes both."""
    notebook = read()
    nbformat.validate(notebook)
    assert set(notebook.metadata) == {"kernelspec", "language_info"} and notebook.metadata.language_info == {
        "name": "python"
    }
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        compile(cell.source, f"{NOTEBOOK.name}, {cell.id}", "exec")
        assert (cell.outputs, cell.execution_count) == ([], None), cell.id
        assert not set(cell.metadata) - {"tags"}, cell.id
    assert not MACHINE.findall(NOTEBOOK.read_text(encoding="utf-8"))


def test_what_it_names_is_there() -> None:
    """Files of the repository, commands, and what it takes from distilbench and a run."""
    texts = {kind: [cell.source for cell in read().cells if cell.cell_type == kind] for kind in ("markdown", "code")}
    links = re.findall(r"\]\((\.\./[^)]+)\)", "\n".join(texts["markdown"]))
    assert links and all((NOTEBOOK.parent / link).is_file() for link in links), links
    for command in re.findall(r"`(distilbench [^`]+)`", "\n".join(texts["markdown"])):
        parse(command)
    code = "\n".join(texts["code"])
    assert set(re.findall(r"distilbench\.(\w+)", code)) <= set(distilbench.__all__)
    assert {name for name in re.findall(r"\brun\.(\w+)", code) if not hasattr(distilbench.FinishedRun, name)} == set()


@pytest.mark.slow
def test_its_cells_run_and_give_what_the_run_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nbclient import NotebookClient

    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    notebook = read()
    cells(notebook)["settings"].source += f"\nsettings = {SETTINGS!r}"
    notebook.cells.append(nbformat.v4.new_code_cell(SAY, id="say"))
    client = NotebookClient(notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": tmp_path}})
    client.execute(env=environment())  # raises where a cell does

    outputs = {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    assert [name for name, found in outputs.items() if any(one.output_type == "error" for one in found)] == []
    run = distilbench.load(tmp_path / "runs" / "pocket")
    said = json.loads((tmp_path / "said.json").read_text(encoding="utf-8"))
    scores, tested = run.frame(), run.difference("pad-ppd", "dpo", "alpaca_eval.wr")

    # The table and the frame: as Python gives them outside of a notebook
    assert outputs["table"][0].text == run.text(width=100) + "\n"
    for name in ("row", "metric", "seed", "n"):
        assert said["scores"][name] == scores[name].tolist()
    assert said["scores"]["value"] == pytest.approx(scores["value"].tolist(), nan_ok=True)
    shown = outputs["frame"][0].data["text/html"]
    assert all(f"<td>{value:.2f}</td>" in shown for value in scores["value"].dropna())
    assert "image/png" in outputs["plot"][-1].data

    # The test: of 32 questions, the mean of the paired differences
    assert said["tested"] == list(tested) and tested.n == 32 and tested.p is not None
    assert len(said["gap"]) == 32 and said["question"] == min(said["gap"], key=said["gap"].get)
    assert 100 * sum(said["gap"].values()) / 32 == pytest.approx(tested.change)
    values = scores[scores["metric"] == "alpaca_eval.wr"].groupby("row")["value"].mean()
    assert tested.change == pytest.approx(values["pad-ppd"] - values["dpo"])

    # One number: the seed's score is the mean of its verdicts; the request has the answer that was judged
    seed_0 = scores.set_index(["row", "metric", "seed"])["value"]["pad-ppd", "alpaca_eval.wr", 0]
    assert outputs["judgments"][0].text == f"{seed_0:.2f} is 100 times the mean verdict of 32 judgments\n"
    answers = run.answers().set_index(["row", "seed", "question"])["answer"]
    answer = answers["pad-ppd", 0, said["question"]]
    assert f"pad-ppd: {answer}\n" in outputs["answers"][0].text
    assert any(answer in message["content"] for message in said["request"]["messages"])
    assert said["judgment"]["reply"] == said["reply"] and said["reply"] in ("m", "M")
    printed = "".join(one.text for one in outputs["request"])
    assert all(message["content"] in printed for message in said["request"]["messages"])
