"""``pocket-judge``: the embedded judge behind a local OpenAI-compatible server."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.options import Overrides


def pocket_judge(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8000,
    host: Annotated[
        str, typer.Option(help="Address to listen on; it asks for no key, so keep it local.")
    ] = "127.0.0.1",
    overrides: Overrides = None,
) -> None:
    """Serve the pocket judge over the OpenAI protocol, to try the real client without a key. Stop it with Ctrl-C.

    In a recipe: judges: {main: {kind: openai, base_url: "http://127.0.0.1:8000/v1", model: pocket-judge}}.
    Its biases can be set: --set position_bias=1.0.
    """
    from harness.configs import read_config
    from harness.recipe_errors import RecipeError
    from harness.recipe_file import read_overrides
    from harness.stages.work import build
    from judges.pocket_judge import MODEL, PocketConfig, PocketJudge
    from judges.pocket_server import serve

    values, problems = read_overrides(overrides or [])
    plain, more = read_config(PocketConfig, values, ())
    if problems + more:
        raise RecipeError(problems + more, "--set")
    typer.echo(f"serving {MODEL} on http://{host}:{port}/v1 (Ctrl-C stops it)", err=True)
    serve(PocketJudge(build(PocketConfig, plain)), host, port)
