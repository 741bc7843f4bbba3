"""``judge list | status | canary`` and ``pocket-judge``: known judges, what a ledger holds, whether a judge changed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distilbench.cli.help import HelpGroup
from distilbench.cli.options import EntryOptions, Plugins, Runs
from distilbench.cli.screen import say, show_rows
from harness.text import format_count
from results.store.store import ArtifactStore

if TYPE_CHECKING:
    from datetime import date

    from judges.kinds.openai.catalogue import JudgeModel
    from judges.ledger.ledger import Ledger

app = typer.Typer()
_HELP = "Judges: models known by name, what the ledger holds of them, whether they changed."
judges = typer.Typer(cls=HelpGroup, help=_HELP)
app.add_typer(judges, name="judge")
_LEDGER = "The ledger; default: ledger.sqlite under --runs."
_HOST = "Address to listen on; it asks for no key, so keep it local."
LedgerFile = Annotated[Path | None, typer.Option("--ledger", metavar="FILE", help=_LEDGER)]
SHOWN_REASONS, SHOWN_STAGES = 5, 100


@judges.command("list")
def list_models() -> None:
    """List the judge models known by name: price, context, quirks, retirement and substitute."""
    from judges.kinds.openai.catalogue import BATCH_DISCOUNT, MODELS, RETIREMENTS, today

    title = "models at OpenAI (dollars per million prompt / completion tokens)"
    show_rows(title, [model_row(model, today()) for model in MODELS.values()])
    say(f"batch jobs cost {BATCH_DISCOUNT:.0%} of that; retirements: {RETIREMENTS}")
    for source in sorted({model.price.source for model in MODELS.values() if model.price}):
        say(f"price read at {source}")
    remedy = "--judge NAME@http://HOST/v1, with price_in and price_out where --max-cost is used"
    say(f"any other model or server: {remedy}")


def model_row(model: JudgeModel, day: date) -> tuple[str, ...]:
    price, quirks = model.price, model.quirks
    # What a model shares with the plain protocol is left out.
    cost = f"{price.prompt:g} / {price.completion:g} (as of {price.as_of})" if price else "price unknown"
    texts = {
        "no log-probabilities": not quirks.logprobs,
        quirks.max_tokens_field: quirks.max_tokens_field != "max_tokens",
        f"temperature {quirks.temperature} only": quirks.temperature is not None,
        f"{quirks.thinking_tokens} tokens for thinking": quirks.thinking_tokens,
    }
    end = f"{'retired' if model.retired < day else 'until'} {model.retired}" if model.retired else ""
    end += f", then {model.substitute}" if model.substitute else ""
    special = ", ".join(text for text, applies in texts.items() if applies)
    return model.id, cost, f"{model.context:,} tokens", special, end, model.note


@judges.command()
def status(ledger: LedgerFile = None, runs: Runs = Path("runs")) -> None:
    """Show what a ledger holds: replies, cost, coverage, failures, batch jobs; and which judgments have no verdict."""
    from judges.ledger.ledger import Ledger

    with Ledger(ledger or runs / "ledger.sqlite", create=False) as open_ledger:
        show_replies(open_ledger)
        coverage = [
            # Rounded down: an incomplete coverage is never shown as 100%.
            (model, endpoint, f"{replies:,} of {requests:,} requests have a reply ({100 * replies // requests}%)")
            for (endpoint, model), (replies, requests) in open_ledger.coverage().items()
        ]
        show_rows("coverage", coverage or [("nothing asked yet",)])
        failures = [(kind, format_count(count, "request")) for kind, count in open_ledger.failures().items()]
        show_rows("failures (the last call of each request without a reply)", failures or [("none",)])
        jobs = [
            (job.id or "not known yet", job.model, format_count(len(job.keys), "request"))
            for job in open_ledger.batches()
        ]
        if jobs:
            show_rows("open batch jobs", jobs)
    store = runs / "store"
    show_rows(f"finished judging of all runs in {store}", stage_rows(ArtifactStore(store)) or [("none",)])


def show_replies(ledger: Ledger) -> None:
    rows, lines = [], ledger.served_models()
    for line in lines:
        # Another id than the requested one is how a hosted judge changes without a notice.
        server_note = "as asked" if line.served == line.model else f"served by {line.served or 'an unnamed model'}"
        unpriced_count, estimated_count = line.unpriced_replies, line.estimated_replies
        cost = f"${line.dollars:.4f}" + (f" + {unpriced_count} of unknown price" if unpriced_count else "")
        cost += f" ({estimated_count} estimated: the endpoint counts no tokens)" if estimated_count else ""
        tokens = f"{line.prompt_tokens:,} + {line.completion_tokens:,} tokens"
        period = " to ".join(datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%d %H:%M") for t in (line.first, line.last))
        rows.append((line.model, line.endpoint, server_note, format_count(line.replies, "reply"), tokens, cost, period))
    show_rows("replies", rows or [("none",)])
    total, unpriced_count = sum(line.dollars for line in lines), sum(line.unpriced_replies for line in lines)
    dollars, calls = ledger.failed_cost()
    without_reply = f", of it ${dollars:.4f} for {format_count(calls, 'call')} without a reply" if calls else ""
    unknown_note = f", and {format_count(unpriced_count, 'reply')} of unknown price" if unpriced_count else ""
    say(f"cost so far: ${total + dollars:.4f}{without_reply}{unknown_note}\n")


def stage_rows(store: ArtifactStore) -> list[tuple[str, str, str]]:
    """Label, verdicts, and why others are missing. Of many stages, those that lack most."""
    stages = []
    for artifact in store.list("judge"):
        meta = store.meta("judge", artifact.key)
        measurements = meta.get("measurements", {})
        reason_counts, count = measurements.get("unscored", {}), int(measurements.get("judgments", 0))
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(reason_counts.items())[:SHOWN_REASONS])
        missing = sum(reason_counts.values())
        verdicts = count - missing
        stages.append((-missing, str(meta["label"]), f"{verdicts:,} of {count:,} with a verdict", reasons))
    rows = sorted(stage[1:] for stage in sorted(stages)[:SHOWN_STAGES])
    others = len(stages) - len(rows)
    return [*rows, (f"and {others:,} more", "that lack no more", "")] if others else rows


@judges.command(epilog="Example: distilbench judge canary --judge judge@http://127.0.0.1:8000/v1")
def canary(
    judge: Annotated[str, typer.Option(help="As for `eval`: NAME@URL, a known model's id, pocket, {kind: ...}.")],
    ledger: LedgerFile = None,
    runs: Runs = Path("runs"),
    timeout: Annotated[float, typer.Option(min=1.0, help="Seconds per call.")] = 120.0,
    plugins: Plugins = None,
) -> None:
    """Ask a judge 16 fixed questions again, and compare with its earlier replies and served model ids.

    Exit code 1 when calls failed.
    """
    from distilbench.workflows.check import ask_canary
    from judges.client.canary import agreement

    client, rounds, errors = ask_canary(judge, ledger or runs / "ledger.sqlite", timeout=timeout, plugins=plugins or [])
    *previous_rounds, new_round = rounds
    verdict_count = sum(value is not None for value in new_round.verdicts)
    verdicts = (
        f"{verdict_count} of {len(new_round.verdicts)} verdicts, "
        f"{'with' if new_round.logprobs else 'without'} log-probabilities"
    )
    models = ", ".join(new_round.served) or "no model"
    say(f"round {new_round.number + 1} of {client.model} at {client.endpoint}: {verdicts}, served by {models}")
    comparisons = {"the first round": previous_rounds[:1], "the round before": previous_rounds[1:][-1:]}
    for name, earlier_rounds in comparisons.items():
        for earlier in earlier_rounds:
            model_note = "" if earlier.served == new_round.served else f"; then served by {', '.join(earlier.served)}"
            say(f"against {name} ({earlier.number + 1}): {agreement(earlier, new_round)}{model_note}")
    if errors:
        say(f"{format_count(len(errors), 'call')} failed, the first: {errors[0].kind}, {errors[0]}", err=True)
        raise typer.Exit(1)


@app.command("pocket-judge")
def pocket_judge(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8000,
    host: Annotated[str, typer.Option(help=_HOST)] = "127.0.0.1",
    overrides: EntryOptions = None,
) -> None:
    """Serve the pocket judge over the OpenAI protocol, to try the real client without a key. Stop it with Ctrl-C.

    In a recipe: judges: {main: {kind: openai, base_url: "http://127.0.0.1:8000/v1", model: pocket-judge-1}}.
    Its biases can be set: --set position_bias=1.0.
    """
    from distilbench.workflows.specs import parse_options
    from judges.kinds.pocket import MODEL, PocketConfig, PocketJudge
    from judges.kinds.pocket_server import serve

    judge = PocketJudge(parse_options(PocketConfig, overrides or []))
    say(f"serving {MODEL} on http://{host}:{port}/v1 (Ctrl-C stops it)", err=True)
    serve(judge, host, port)
