"""``export-model`` and ``push``: a trained student as a folder, and on a model hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distilbench.cli.options import Plugins, RunName, Runs
from distilbench.cli.screen import say
from harness.text import format_count

if TYPE_CHECKING:
    from distilbench.sharing.export import ExportedModel

app = typer.Typer()
Row = Annotated[str, typer.Argument(help="A trained row of the run, as its recipe names it.")]
Seed = Annotated[int, typer.Option(help="Training seed: each has a student of its own.")]
Adapter = Annotated[bool, typer.Option("--adapter", help="Of a LoRA student, the adapter alone, without the model.")]
_OUT = "A new folder for the model."
_REPO = "owner/name on the hub that HF_ENDPOINT names, or huggingface.co."
_PUBLIC = "Make it public. Without this, a new repository is private."


@app.command("export-model", epilog="Example: distilbench export-model dpo my-student --seed 0")
def export_model(
    row: Row,
    out: Annotated[Path, typer.Argument(help=_OUT)],
    run: RunName = "pocket",
    seed: Seed = 0,
    adapter: Adapter = False,
    runs: Runs = Path("runs"),
    plugins: Plugins = None,
) -> None:
    """Write a trained student as a folder that transformers and vLLM load, with a model card made from its run.

    A LoRA student is merged; its adapter lies beside it in adapter/.
    """
    from distilbench.sharing.export import export_model as export

    model = export(run, row, out, seed=seed, adapter=adapter, runs=runs, plugins=plugins or ())
    size = sum((model.folder / name).stat().st_size for name in model.files)
    say(f"{model.folder}: {format_count(len(model.files), 'file')}, {size / 1e6:,.1f} MB; the card is README.md")
    show_remarks(model)


@app.command(epilog="Example: HF_TOKEN=... distilbench push dpo my-name/my-student")
def push(
    row: Row,
    repo: Annotated[str, typer.Argument(help=_REPO)],
    run: RunName = "pocket",
    seed: Seed = 0,
    adapter: Adapter = False,
    public: Annotated[bool, typer.Option("--public", help=_PUBLIC)] = False,
    runs: Runs = Path("runs"),
    plugins: Plugins = None,
) -> None:
    """Upload a trained student with its model card to a model hub, private unless --public.

    The token is read from the environment variable HF_TOKEN alone. `export-model` writes the same files to look at.
    """
    from distilbench.sharing.hub import push as push_model

    pushed = push_model(run, row, repo, seed=seed, adapter=adapter, public=public, runs=runs, plugins=plugins or ())
    say(f"{pushed.url} ({'private' if pushed.private else 'public'})")
    show_remarks(pushed.model)


def show_remarks(model: ExportedModel) -> None:
    for remark in model.remarks:
        say(f"note: {remark}", err=True)
