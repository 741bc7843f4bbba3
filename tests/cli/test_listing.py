"""What ``list methods`` says: needs in words, and with ``-v`` every option with its default and its sentence."""

from __future__ import annotations

import dataclasses

import pytest
from typer.testing import CliRunner

from distilbench.cli.app import app
from distilbench.cli.tables import details, row
from methods import METHODS


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("kd", ("reference answers", "live distributions of the teacher", "shared vocabulary", "no")),
        ("seqkd", ("the teacher's answers", "its answers", "nothing", "no")),
        (
            "minillm",
            ("answers it samples while training", "live distributions of the teacher", "shared vocabulary", "no"),
        ),
        ("dpo", ("own samples", "a reward per response", "reference", "yes")),
        (
            "dckd",
            (
                "reference answers and rejected answers",
                "top 50 of the tuned teacher, stored",
                "shared vocabulary",
                "no",
            ),
        ),
        (
            "adpa+",
            (
                "reference answers and own samples",
                "top 50 of the tuned teacher and the teacher, stored",
                "shared vocabulary, starts from dckd, sampling.n = 1, sampling.temperature = 0",
                "no",
            ),
        ),
    ],
)
def test_needs_in_words(name: str, words: tuple[str, ...]) -> None:
    assert row(METHODS[name])[2:] == words


def test_every_method_has_a_row_and_every_option_its_sentence() -> None:
    for name, method in METHODS.items():
        assert row(method)[:2] == (name, method.title) and all(row(method))
        lines = dict(details(method))
        assert lines["paper"] == method.paper and all(lines.values())
        assert len(lines) == 6 + len(dataclasses.fields(method.config))
    assert dict(details(METHODS["best-of-n"]))["a search varies"] == "train.learning_rate=log(0.1x, 10x)"
    assert "lambda, the share of the divergence" in dict(details(METHODS["kd"]))["weight = 0.5"]
    assert "top_k = null" in dict(details(METHODS["kd"])) and "long_term = true" in dict(details(METHODS["minillm"]))


def test_the_command() -> None:
    plain = CliRunner().invoke(app, ["list", "methods"])
    heads, *lines = plain.stdout.splitlines()[1:]
    assert heads.split()[:2] == ["method", "title"] and heads.split()[-1] == "rounds"
    assert len([line for line in lines if line.strip()]) == len(METHODS)
    assert "arXiv" not in plain.stdout
    every = CliRunner().invoke(app, ["list", "methods", "-v"])
    assert every.exit_code == 0 and "2502.14272" in every.stdout and "beta = 10.0" in every.stdout
