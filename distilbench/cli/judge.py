"""``judge list | status | canary`` and ``pocket-judge``: which judges there are, what they did, if they changed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distilbench.cli.options import Overrides, Plugins, Runs
from harness.text import counted
from results.store.store import ArtifactStore

if TYPE_CHECKING:
    from judges.kinds.openai.catalogue import JudgeModel
    from judges.ledger.ledger import Ledger

judges = typer.Typer(help="Judges: models known by name, what the ledger holds of them, whether they changed.")
LedgerFile = Annotated[
    Path | None, typer.Option("--ledger", metavar="FILE", help="The ledger; default: ledger.sqlite under --runs.")
]


def register(app: typer.Typer) -> None:
    app.add_typer(judges, name="judge")
    app.command("pocket-judge")(pocket_judge)


@judges.command("list")
def list_models() -> None:
    """List the judge models known by name: price, context, quirks, retirement and substitute."""
    from distilbench.cli.screen import show_rows
    from judges.kinds.openai.catalogue import BATCH_DISCOUNT, MODELS, RETIREMENTS

    rows = [model_row(model) for model in MODELS.values()]
    show_rows("models at OpenAI (dollars per million prompt / completion tokens)", rows)
    typer.echo(f"batch jobs cost {BATCH_DISCOUNT:.0%} of that; retirements: {RETIREMENTS[0]}")
    for source in sorted({model.price.source for model in MODELS.values() if model.price}):
        typer.echo(f"price read at {source}")
    typer.echo(
        "any other model or server: --judge NAME@http://HOST/v1, with price_in and price_out where --max-cost is used"
    )


def model_row(model: JudgeModel) -> tuple[str, ...]:
    from judges.kinds.openai.catalogue import today

    price, quirks = model.price, model.quirks
    cost = f"{price.prompt:g} / {price.completion:g} (as of {price.as_of})" if price else "price unknown"
    texts = {
        "no log-probabilities": not quirks.logprobs,
        quirks.max_tokens_field: quirks.max_tokens_field != "max_tokens",
        f"temperature {quirks.temperature} only": quirks.temperature is not None,
        f"{quirks.thinking_tokens} tokens for thinking": quirks.thinking_tokens,
    }
    verb = "retired" if model.retired and model.retired < today() else "until"
    end = f"{verb} {model.retired}" if model.retired else ""
    end += f", then {model.substitute}" if model.substitute else ""
    special = ", ".join(text for text, applies in texts.items() if applies)
    return model.id, cost, f"{model.context:,} tokens", special, end, model.note


@judges.command()
def status(ledger: LedgerFile = None, runs: Runs = Path("runs")) -> None:
    """What a ledger holds: replies, cost, coverage, failures, batch jobs; and which judgments have no verdict."""
    from judges.ledger.ledger import Ledger

    with Ledger(ledger or runs / "ledger.sqlite", create=False) as opened:
        show_replies(opened)
        show_requests(opened)
    show_judgments(runs)


def show_replies(ledger: Ledger) -> None:
    from distilbench.cli.screen import show_rows

    rows, total, unpriced = [], 0.0, 0
    for line in ledger.served():
        served = "as asked" if line.served == line.model else f"served by {line.served or 'an unnamed model'}"
        cost = f"${line.dollars:.4f}" + (f" + {line.unpriced} of unknown price" if line.unpriced else "")
        cost += f" ({line.estimated} estimated: the endpoint counts no tokens)" if line.estimated else ""
        tokens = f"{line.prompt_tokens:,} + {line.completion_tokens:,} tokens"
        when = " to ".join(datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%d %H:%M") for t in (line.first, line.last))
        rows.append((line.model, line.endpoint, served, counted(line.replies, "reply"), tokens, cost, when))
        total, unpriced = total + line.dollars, unpriced + line.unpriced
    show_rows("replies", rows or [("none",)])
    dollars, calls = ledger.lost()
    without_reply = f", of it ${dollars:.4f} for {counted(calls, 'call')} without a reply" if calls else ""
    unknown = f", and {counted(unpriced, 'reply')} of unknown price" if unpriced else ""
    typer.echo(f"cost so far: ${total + dollars:.4f}{without_reply}{unknown}\n")


def show_requests(ledger: Ledger) -> None:
    from distilbench.cli.screen import show_rows

    covered = [
        # Rounded down: what is not complete is never 100%.
        (model, endpoint, f"{have:,} of {wanted:,} requests have a reply ({100 * have // wanted}%)")
        for (endpoint, model), (have, wanted) in ledger.coverage().items()
    ]
    show_rows("coverage", covered or [("nothing asked yet",)])
    failed = [(kind, counted(count, "request")) for kind, count in ledger.failures().items()]
    show_rows("failures (the last call of each request without a reply)", failed or [("none",)])
    jobs = [(job.id or "not known yet", job.model, counted(len(job.keys), "request")) for job in ledger.batches()]
    if jobs:
        show_rows("open batch jobs", jobs)


def show_judgments(runs: Path) -> None:
    """Finished judge stages: how many judgments, and why some have no verdict."""
    from distilbench.cli.screen import show_rows

    store = ArtifactStore(runs / "store")
    rows = []
    for artifact in store.list("judge"):
        meta = store.meta("judge", artifact.key)
        measured = meta.get("measurements", {})
        missing: dict[str, int] = measured.get("unscored", {})
        why = ", ".join(f"{count} {reason}" for reason, count in sorted(missing.items())[:5])
        count = int(measured.get("judgments", 0))
        rows.append((str(meta["label"]), f"{count - sum(missing.values()):,} of {count:,} with a verdict", why))
    show_rows("finished stages", sorted(rows) or [("none",)])


@judges.command(epilog="Example: distilbench judge canary --judge judge@http://127.0.0.1:8000/v1")
def canary(
    judge: Annotated[str, typer.Option(help="As for `eval`: NAME@URL, a known model's id, pocket, {kind: ...}.")],
    ledger: LedgerFile = None,
    runs: Runs = Path("runs"),
    timeout: Annotated[float, typer.Option(min=1.0, help="Seconds per call.")] = 120.0,
    plugins: Plugins = None,
) -> None:
    """Put 16 fixed questions to a judge once more, and compare with its earlier replies and served model ids.

    Exit code 1 when calls failed.
    """
    from distilbench.workflows.check import ask_canary
    from judges.client.canary import agreement

    report = ask_canary(judge, ledger or runs / "ledger.sqlite", timeout=timeout, plugins=plugins or [])
    now = report.now
    answered = sum(value is not None for value in now.verdicts)
    logprobs = "with" if now.logprobs else "without"
    typer.echo(
        f"round {now.number + 1} of {report.model} at {report.endpoint}: {answered} of {len(now.verdicts)} verdicts, "
        f"{logprobs} log-probabilities, served by {', '.join(now.served) or 'no model'}"
    )
    for name, old in {"the first round": report.before[:1], "the round before": report.before[1:][-1:]}.items():
        for earlier in old:
            changed = "" if earlier.served == now.served else f"; then served by {', '.join(earlier.served)}"
            typer.echo(f"against {name} ({earlier.number + 1}): {agreement(earlier, now)}{changed}")
    if report.errors:
        first = report.errors[0]
        typer.echo(f"{counted(len(report.errors), 'call')} failed, the first: {first.kind}, {first}", err=True)
        raise typer.Exit(1)


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
    from distilbench.workflows.specs import parse_options
    from judges.kinds.pocket import MODEL, PocketConfig, PocketJudge
    from judges.kinds.pocket_server import serve

    judge = PocketJudge(parse_options(PocketConfig, overrides or []))
    typer.echo(f"serving {MODEL} on http://{host}:{port}/v1 (Ctrl-C stops it)", err=True)
    serve(judge, host, port)
