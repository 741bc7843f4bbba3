"""``view``: runs in a local browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from distilbench.cli.options import Plugins, Runs
from harness.errors import UserError

app = typer.Typer()
PORT = 8377
_RUN = "A run's folder, its name under --runs, or a recipe; default: all runs."
_PORT = f"Port on 127.0.0.1; default: {PORT}, or a free one; 0: a free one."


@app.command(epilog="Example: distilbench view pocket")
def view(
    words: Annotated[list[str] | None, typer.Argument(metavar="RUN...", help=_RUN)] = None,
    runs: Runs = Path("runs"),
    port: Annotated[int | None, typer.Option(min=0, max=65535, help=_PORT)] = None,
    plugins: Plugins = None,
) -> None:
    """Show runs in a browser, while they run and after: stages, loss curves, answers, verdicts, cost, tables; several
    runs side by side. For this machine only; nothing is written or run. Ctrl-C ends it."""
    try:
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError("view needs starlette and uvicorn: pip install 'distilbench[view]'.") from error
    from distilbench.viewing.library import Library
    from distilbench.viewing.server import open_socket, serve

    library = Library(runs, words or (), plugins or ())
    server = open_socket(port, PORT)
    names = ", ".join(library.all())
    typer.echo(f"{names}: http://127.0.0.1:{server.getsockname()[1]}/ (this machine only; Ctrl-C ends it)", err=True)
    serve(library, server)
