"""``verify`` and ``explain``: from the numbers of a finished run to all that made them, compared or shown."""

from __future__ import annotations

import json
import math
import re
import shlex
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

from distilbench.plugins import load_registry
from distilbench.workflows.finished_run import FinishedRun, load
from harness.contracts.benchmark import ConfiguredBenchmark
from harness.contracts.registry import Registry
from harness.contracts.stage import Ref, Stage
from harness.errors import UserError, unknown_choice
from harness.recipe.recipe import load_recipe
from harness.records import read_records, write_records
from harness.stages import STAGES
from harness.stages.kind import StageContext
from harness.stages.kinds.judge import judged_benchmark, read_judgment
from harness.text import format_count
from harness.thinking import separate_replies
from harness.types import Answer, Judgment, Question, Reply, Request, Score
from judges.ledger.ledger import Ledger, request_content
from reports.formats.files import TEXT_FORMATS, table_texts
from reports.tables.summary import least_coverage
from reports.targets import find_target
from reports.write import FIGURE_FORMATS
from results.run.lineage import CellKey, Lineage, ScoreSource
from results.run.record import Run, read_scores, recorded_targets
from results.store.store import ArtifactStore

TOLERANCE = 1e-9


@dataclass
class Verification:
    """What was compared, and every difference as a sentence that names the file or cell."""

    artifacts: int = 0
    judgments: int = 0
    """Read again from their reply, or graded again by rule."""
    without_reply: int = 0
    """Judgments that no stored reply is behind: failed calls, and all where the ledger is not there."""
    without_request: int = 0
    """Of the judgments read again: the ledger, which was damaged, does not say what the judge was sent."""
    scores: int = 0
    equal: int = 0
    files: list[str] = field(default_factory=list)
    """Of the report, those that were made again in memory and compared."""
    not_compared: list[str] = field(default_factory=list)
    """Of the report, the others, with the reason."""
    remarks: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Artifacts that were cleared away; nothing can be said of them."""
    problems: list[str] = field(default_factory=list)


def verify(folder: str | Path, *, plugins: Sequence[str] = ()) -> Verification:
    """Compare all checksums behind the cells of a run (``runs/NAME``, or one target of it), read every reply again,
    score every judgment again through the code of the stages, and compare with the report. Nothing is written."""
    finished, verification = load(folder), Verification()
    evidence = RunEvidence(finished, load_registry(plugins), EvidenceStore(finished.store.root))
    for target in finished.score_tables:
        check_files(evidence, target, verification)
        sources = evidence.lineage.sources(finished.records[target])
        by_score: dict[Ref, dict[CellKey, ScoreSource]] = {}
        for key, source in sources.items():
            by_score.setdefault(source.score, {})[key] = source
        for score, keys in by_score.items():
            try:
                check_score(evidence, target, score, keys, verification)
            except (UserError, OSError) as error:
                verification.scores += len(keys)
                verification.problems.append(f"{cell_names(keys)}: cannot be recomputed: {error}")
    check_report(finished, verification)
    if verification.without_reply and not evidence.ledger.is_file():
        count = format_count(verification.without_reply, "judgment")
        verification.problems.append(f"{evidence.ledger} is not there: the replies of {count} cannot be read again")
    return verification


class EvidenceStore(ArtifactStore):
    """Artifacts as they are: what fails its checksum is named once, and can still be compared with the ledger."""

    def __init__(self, root: Path, replaced: Mapping[Ref, Path] | None = None) -> None:
        """``replaced``: folders in the place of some artifacts."""
        super().__init__(root, sweep=False)
        self.replaced = replaced or {}

    def path(self, kind: str, key: str, part: str = "") -> Path:
        if folder := self.replaced.get(Ref(kind, key)):
            return folder / part
        try:
            return super().path(kind, key, part)
        except UserError:
            return super().path(kind, key) / part


@dataclass(frozen=True, eq=False)
class RunEvidence:
    """A finished run with what its judgments can be made from again."""

    finished: FinishedRun
    registry: Registry
    store: ArtifactStore

    @cached_property
    def lineage(self) -> Lineage:
        return Lineage(self.store)

    @property
    def ledger(self) -> Path:
        return self.finished.ledger

    def context(self, folder: Path, store: ArtifactStore | None = None) -> StageContext:
        return StageContext(self.registry, store or self.store, self.ledger, folder, lambda done, total, info: None)

    def stage(self, ref: Ref) -> Stage:
        return Stage.of(self.store.meta(*ref))

    def benchmark(self, score: Ref) -> ConfiguredBenchmark:
        """As the stage scored it. Raises UserError where its questions are not those that were judged."""
        stage = self.stage(score)
        name = stage.params["benchmark"]
        context = self.context(Path())
        configured = context.benchmark(name, stage.params["config"])
        if configured.judged_hash != stage.params["questions"]:
            raise UserError(f"the questions of {name} at hand are not those that were judged.")
        return judged_benchmark(stage, context, stage.params["config"])

    def scores(self, ref: Ref, judgments: Mapping[Ref, Sequence[Judgment]]) -> dict[str, dict[str, Score]]:
        """Made again, with these judgments in the place of those in the store."""
        with TemporaryDirectory() as folder:
            replaced = {artifact: Path(folder) / artifact.key for artifact in judgments}
            for artifact, records in judgments.items():
                replaced[artifact].mkdir()
                write_records(replaced[artifact] / "judgments.jsonl", records)
            context = self.context(Path(folder), EvidenceStore(self.store.root, replaced))
            STAGES[ref.kind].run(self.stage(ref), context)
            return read_scores(Path(folder) / "scores.json")

    def calls(self, judgments: Sequence[Judgment]) -> tuple[dict[str, dict[str, Any]], dict[str, Reply]]:
        """Requests and replies by key, as the ledger holds them."""
        if not self.ledger.is_file():
            return {}, {}
        keys = {judgment.request for judgment in judgments if judgment.request}
        with Ledger(self.ledger, create=False) as ledger:
            requests, replies = ledger.requests(keys), ledger.get(keys)
        return requests, dict(zip(replies, separate_replies(list(replies.values())), strict=True))


def cell_names(keys: Iterable[CellKey]) -> str:
    return listed((f"{row}, {metric}, seed {seed}" for row, metric, seed in keys), joint="; ")


@dataclass(frozen=True)
class CellOrigin:
    """Where a cell comes from, for one training seed: sentences by heading, in the order of making backwards."""

    seed: int
    lines: tuple[tuple[str, str], ...]


def explain(
    folder: Path,
    target: str,
    row: str,
    metric: str,
    *,
    seed: int | None = None,
    question: str | None = None,
    plugins: Sequence[str] = (),
) -> tuple[list[CellOrigin], str]:
    """From a cell of a finished run to the artifacts behind it, for each seed or one; with a question, to its answer,
    the judge's replies and the exact requests, else to the questions that move it most. Then the command that makes the
    table again. Raises UserError for a cell, seed or question that is not there."""
    finished = load(folder, (target,))
    results = finished.results(target)
    evidence = RunEvidence(finished, load_registry(plugins), finished.store)
    for noun, name, choices in (
        ("row", row, [spec.id for spec in results.run.rows]),
        ("metric", metric, [column.id for column in results.run.columns]),
        ("seed", str(seed), ["None", *map(str, results.run.seeds)]),
    ):
        if name not in choices:
            raise unknown_choice(noun, name, (choice for choice in choices if choice != "None"))
    origins = []
    for number in results.run.seeds if seed is None else [seed]:
        if reason := results.missing_scores.get((row, metric, number)):
            origins.append(CellOrigin(number, (("no score", reason),)))
        elif source := results.sources.get((row, metric, number)):
            score = results.scores[row, metric, number]
            lines = [*cell_origin(evidence, score, source)]
            lines += verdicts(evidence, source, question) if question else extreme_questions(score)
            origins.append(CellOrigin(number, tuple(lines)))
    return origins, command(results.run, target, folder, plugins)


def extreme_questions(score: Score, most: int = 5) -> Iterator[tuple[str, str]]:
    """The ids of the questions whose shares lift the score most, and lower it most: what ``--question`` takes."""
    by_share = sorted(score.per_question.items(), key=lambda item: item[1])
    for name, items in (("highest", by_share[::-1]), ("lowest", by_share)):
        if items:
            yield name, ", ".join(f"{question} ({share:.4g})" for question, share in items[:most])


def cell_origin(evidence: RunEvidence, score: Score, source: ScoreSource) -> Iterator[tuple[str, str]]:
    store, lineage = evidence.store, evidence.lineage
    interval = "" if score.low is None or score.high is None else f" [{score.low:.4f}, {score.high:.4f}]"
    value = "not scored" if score.value is None else f"{score.value:.4f}"
    yield "value", f"{value}{interval}, n = {score.n}, unscored {score.unscored}. {score.note}".rstrip(" .")
    yield "score", str(store.path(*source.score, "scores.json"))
    yield "judgments", str(lineage.file(source.judgments, "judgments.jsonl"))
    yield "answers", str(lineage.file(source.answers, "answers.jsonl"))
    params = store.meta(*source.answers)["params"]
    yield "checkpoint", str(lineage.file(source.student) / "model") if source.student else f"not trained here: {params}"
    marker = store.meta(*source.score)
    commit = (marker["git"] or {}).get("commit", "without git")
    yield "made", f"{marker['started']} on {marker['host']}, source {commit}"


def command(run: Run, target: str, folder: Path, plugins: Sequence[str]) -> str:
    """What makes the whole table again. Options of the command that made it are not kept: they may hold a key."""
    record, rows = folder / target / "run.json", ",".join(row.id for row in run.rows)
    if "methods" not in run.recipe:
        return f"distilbench eval with the models of its rows, and the options in {record} (`recipe`)"
    further = [word for plugin in plugins for word in ("--plugin", plugin)]
    recipe, before = run.name, ""
    try:
        shipped = load_recipe(run.name, [], load_registry(plugins), find_target(target)).to_tree()
        further += [word for change in differences(shipped, run.recipe) for word in ("--set", change)]
    except UserError:  # a file of the user's, which may be another by now
        recipe = f"{run.name}-again.yaml"  # the user's own may lie here
        code = f"import json; print(json.dumps(json.load(open({str(record)!r}))['recipe']))"
        before = f"{shlex.join(['python', '-c', code])} > {shlex.quote(recipe)} && "
    return before + shlex.join(["distilbench", "reproduce", target, "--recipe", recipe, "--methods", rows, *further])


def differences(before: Mapping[str, Any], after: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """``train.batch_size=8`` for every value that ``after`` has and ``before`` does not."""
    for name, value in after.items():
        key, old = path + (f'"{name}"' if "." in name else name), before.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            yield from differences(old, value, f"{key}.")
        elif old != value or name not in before:
            yield f"{key}={json.dumps(value)}"


def verdicts(evidence: RunEvidence, source: ScoreSource, name: str) -> Iterator[tuple[str, str]]:
    benchmark = evidence.benchmark(source.score)
    entry, config = benchmark.benchmark, benchmark.config
    questions = {question.id: question for question in benchmark.questions}
    if name not in questions:
        raise unknown_choice("question", name, questions)
    question, answer = questions[name], evidence.lineage.answers(source.answers)[name]
    for number, text in enumerate(zip(question.turns, answer.turns, strict=True), 1):
        yield f"question, turn {number}", text[0]
        yield f"answer, turn {number}", text[1]
    if not entry.needs_judge:
        yield from (("reference", text) for text in question.reference)
    requests = {item_of(request): request for request in entry.requests(question, answer, config)}
    judgments = evidence.lineage.judgments(source.judgments).get(name, [])
    sent_requests, _ = evidence.calls(judgments)
    for judgment in judgments:
        verdict = "none" if judgment.verdict is None else f"{judgment.verdict:g}"
        reason = f" ({', '.join(filter(None, (judgment.reason, *judgment.flags)))})"
        yield f"verdict {judgment.part}", verdict + (reason if judgment.reason or judgment.flags else "")
        if not judgment.request:
            yield from ((name, f"{fact}") for name, fact in judgment.meta.items())
        if request := requests.get(item_of(judgment)):
            sent = sent_requests.get(judgment.request)
            remark = "rebuilt from the answer; the ledger does not hold it"
            if sent:
                remark = f"exactly as it was sent to {sent['model']} at {sent['endpoint']}"
                remark += f": key {judgment.request} in {evidence.ledger}"
            yield "request", f"{remark}\n{request_text(sent or json.loads(request_content('', '', request)))}"
            yield f"reply of {judgment.judge_model}", judgment.reply


def request_text(content: Mapping[str, Any]) -> str:
    sampling = ", ".join(f"{name} {content[name]}" for name in ("max_tokens", "temperature", "top_logprobs"))
    return "\n".join([sampling, *(f"{message['role']}: {message['content']}" for message in content["messages"])])


def check_files(evidence: RunEvidence, target: str, verification: Verification) -> None:
    run, lineage, store = evidence.finished.records[target], evidence.lineage, evidence.finished.store
    sources = lineage.sources(run)
    cells: dict[Ref, list[CellKey]] = {}
    for cell in run.cells:
        key = (cell.row, cell.metric, cell.seed)
        if cell.unavailable is None and key not in sources:
            verification.problems.append(
                f"{cell_names([key])}: score/{cell.score} is not in the store, or its marker is damaged"
            )
    for key, source in sources.items():
        roots = [source.judgments, source.answers, *([source.baseline] if source.baseline else [])]
        for ref in (source.score, *(ref for ref, _ in lineage.artifacts_behind(*roots))):
            cells.setdefault(ref, []).append(key)
    for ref, keys in cells.items():
        try:
            problems = store.damage(ref)
        except KeyError:
            verification.missing.append(str(ref))
            continue
        except (UserError, OSError) as error:
            problems = [str(error)]
        verification.artifacts += 1
        verification.problems += [f"{problem}; used by {cell_names(keys)}" for problem in problems]


def check_score(
    evidence: RunEvidence, target: str, score: Ref, keys: Mapping[CellKey, ScoreSource], verification: Verification
) -> None:
    benchmark, file = evidence.benchmark(score), evidence.store.path(*score) / "scores.json"
    changed: dict[Ref, list[Judgment]] = {}
    for source in {source.judgments: source for source in keys.values()}.values():
        if judgments := check_judgments(evidence, benchmark, source, verification):
            changed[source.judgments] = judgments
    by_ledger, stored_scores = evidence.scores(score, changed), read_scores(file)
    for (row, metric, seed), source in keys.items():
        verification.scores += 1
        old, new = stored_scores.get(source.entrant, {}).get(metric), by_ledger[source.entrant][metric]
        if old is not None and equal_scores(old, new):
            verification.equal += 1
        else:
            text = f"{file} says {old.value} [{old.low}, {old.high}]" if old is not None else f"{file} has none"
            cell = cell_names([(row, metric, seed)])
            verification.problems.append(f"{cell}: {text}, its judgments give {new.value} [{new.low}, {new.high}]")
    if changed:
        by_file = evidence.scores(score, {})
        verification.problems += printed_numbers(evidence.finished, target, keys, set(changed), by_ledger, by_file)


def printed_numbers(
    finished: FinishedRun,
    target: str,
    keys: Mapping[CellKey, ScoreSource],
    changed: set[Ref],
    by_ledger: Mapping[str, Mapping[str, Score]],
    by_file: Mapping[str, Mapping[str, Score]],
) -> Iterator[str]:
    """Of the cells that changed judgments concern: the number in the table, and what it is by the ledger's replies and
    by the files as they are."""
    cells: dict[tuple[str, str], list[ScoreSource]] = {}
    for (row, metric, _), source in keys.items():
        cells.setdefault((row, metric), []).append(source)
    digits = {metric.id: metric.digits for metric in finished.records[target].columns}
    table = finished.folder / "report" / f"{target}.json"
    printed = cells_of(table.read_text(encoding="utf-8", errors="replace")) if table.is_file() else {}
    for (row, metric), sources in cells.items():
        values = [
            [value for source in sources if (value := scores[source.entrant][metric].value) is not None]
            for scores in (by_ledger, by_file)
        ]
        # Entrants share terms of a model (length control): a verdict on one may move another.
        if values[0] != values[1] or not changed.isdisjoint(source.judgments for source in sources):
            ledger, file = (f"{fmean(one):.{digits[metric]}f}" if one else "none" for one in values)
            number = printed.get((row, metric), {}).get("value")
            shown = f"printed {number:.{digits[metric]}f}, " if isinstance(number, int | float) else ""
            yield f"{row} {metric}: {shown}from the ledger {ledger}, from the file {file}"


def equal_scores(first: Score, second: Score) -> bool:
    """Whether value, interval, counts and replicates are equal, to 1e-9."""
    numbers = [[score.value, score.low, score.high, *score.replicates] for score in (first, second)]
    counts = [(score.n, score.unscored, len(score.replicates)) for score in (first, second)]
    return counts[0] == counts[1] and all(
        a == b or (a is not None and b is not None and math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE))
        for a, b in zip(*numbers, strict=True)
    )


def check_judgments(
    evidence: RunEvidence, benchmark: ConfiguredBenchmark, source: ScoreSource, verification: Verification
) -> list[Judgment]:
    """Where some are not what the ledger's replies give, all of them as these give them; else none."""
    file = evidence.lineage.file(source.judgments) / "judgments.jsonl"
    judgments = read_records(file, Judgment)
    rebuilt = new_judgments(evidence, benchmark, source, judgments)
    verification.without_reply += len(judgments) - len(rebuilt)
    verification.judgments += len(rebuilt)
    sent_requests, _ = evidence.calls(judgments)
    verification.without_request += sum(judgments[number].request not in {"", *sent_requests} for number in rebuilt)
    is_equal = True
    for number, new in rebuilt.items():
        old = judgments[number]
        if (old.verdict, old.reason, old.flags, old.reply) != (new.verdict, new.reason, new.flags, new.reply):
            is_equal = False
            origin = "ledger" if benchmark.benchmark.needs_judge else "graded again"
            place = f"{source.entrant}, question {old.question}, {old.part}"
            said, again = verdict_text(old, new, stored=True), verdict_text(new, old, stored=False)
            verification.problems.append(f"{file}, line {number + 1} ({place}): file: {said}; {origin}: {again}")
    return [] if is_equal else [rebuilt.get(number, old) for number, old in enumerate(judgments)]


def verdict_text(judgment: Judgment, other: Judgment, *, stored: bool) -> str:
    """``9 ([[9]])``: the verdict, and the word with which the reply begins to differ from the other's, else its last;
    reason and flags where they differ. ``stored``: it is that of the file."""
    is_same = stored and judgment.reply == other.reply
    shown = ["same reply" if is_same else differing_word(judgment.reply, other.reply)]
    shown += [judgment.reason or ""] if judgment.reason != other.reason else []
    shown += [f"flags {', '.join(judgment.flags) or 'none'}"] if judgment.flags != other.flags else []
    texts = "; ".join(filter(None, shown))
    return ("none" if judgment.verdict is None else f"{judgment.verdict:g}") + (f" ({texts})" if texts else "")


def differing_word(text: str, other: str) -> str:
    place = next((n for n, pair in enumerate(zip(text, other, strict=False)) if pair[0] != pair[1]), len(text.rstrip()))
    start = max(text.rfind(space, 0, place) for space in " \n") + 1
    return textwrap.shorten(next(iter(text[start:].split()), ""), 40)


def new_judgments(
    evidence: RunEvidence, benchmark: ConfiguredBenchmark, source: ScoreSource, judgments: Sequence[Judgment]
) -> dict[int, Judgment]:
    """By number of the judgment, those that can be made again: by rule, or from the reply in the ledger."""
    entry, config = benchmark.benchmark, benchmark.config
    if not entry.needs_judge:
        grades = [grade for pair in answer_pairs(evidence, benchmark, source) for grade in entry.grade(*pair, config)]
        check_complete(grades, judgments, source)
        # an answer that is none was not graded
        absences = {answer.question for _, answer in answer_pairs(evidence, benchmark, source) if answer.absence}
        return {number: grade for number, grade in enumerate(grades) if grade.question not in absences}
    requests = [
        request for pair in answer_pairs(evidence, benchmark, source) for request in entry.requests(*pair, config)
    ]
    check_complete(requests, judgments, source)
    by_item, (sent_requests, replies) = {item_of(request): request for request in requests}, evidence.calls(judgments)
    gone = [judgment.request for judgment in judgments if judgment.request and judgment.request not in replies]
    if gone and evidence.ledger.is_file():
        raise UserError(f"{evidence.ledger} has no reply under {gone[0]} ({len(gone)} of {len(judgments)} are gone).")
    check_requests([(judgment, by_item[item_of(judgment)]) for judgment in judgments], sent_requests, source)
    return {
        number: read_judgment(
            entry, by_item[item_of(judgment)], complete_reply(replies[judgment.request], judgment), config
        )
        for number, judgment in enumerate(judgments)
        if judgment.request in replies
    }


def answer_pairs(
    evidence: RunEvidence, benchmark: ConfiguredBenchmark, source: ScoreSource
) -> list[tuple[Question, Answer]]:
    answers = evidence.lineage.answers(source.answers)
    if lost := [question.id for question in benchmark.questions if question.id not in answers]:
        raise UserError(f"{source.answers} has no answer to {lost[0]!r} ({format_count(len(lost), 'question')}).")
    return [(question, answers[question.id]) for question in benchmark.questions]


def item_of(record: Request | Judgment) -> tuple[str, str, int]:
    return record.question, record.part, record.repeat


def check_complete(records: Sequence[Request | Judgment], judgments: Sequence[Judgment], source: ScoreSource) -> None:
    if sorted(map(item_of, records)) != sorted(map(item_of, judgments)):
        raise UserError(
            f"{source.judgments} of {source.entrant} does not hold one judgment for everything that is asked about "
            f"these answers ({len(records)} are, {len(judgments)} are there)."
        )


def check_requests(
    pairs: Sequence[tuple[Judgment, Request]], sent_requests: Mapping[str, Mapping[str, Any]], source: ScoreSource
) -> None:
    """Whether what was sent is what these answers give; a ``Benchmark.second_request`` goes on from there."""
    for judgment, request in pairs:
        if sent := sent_requests.get(judgment.request):
            first = {**sent, "messages": sent["messages"][: len(request.messages)]}
            if json.loads(request_content(sent["endpoint"], sent["model"], request)) != first:
                raise UserError(
                    f"the judge of {source.entrant}, question {judgment.question}, {judgment.part}, was sent another "
                    f"text (key {judgment.request}) than these answers and questions give."
                )


def complete_reply(reply: Reply, judgment: Judgment) -> Reply:
    """The reply as it was read: after a ``Benchmark.second_request`` the first reply stands before it."""
    second = judgment.reply.endswith(f"\n{reply.text}")
    return replace(reply, text=judgment.reply if second else reply.text, request=judgment.request)


def check_report(finished: FinishedRun, verification: Verification) -> None:
    """Compare the files of the report with those that the scores in the store give."""
    folder = finished.folder / "report"
    left = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    for target in finished.targets:
        names = {f"{target}.{kind}" for kind in TEXT_FORMATS} & left
        left -= names
        if not names:
            continue
        file = folder / f"{target}.json"
        try:
            coverage = stored_coverage(file)
            table = finished.table(target, coverage)
        except (UserError, OSError) as error:
            verification.problems.append(f"{folder}: {', '.join(sorted(names))} cannot be made again: {error}")
            continue
        usual = least_coverage(finished.records[target])
        if coverage is not None and coverage != usual:
            verification.remarks.append(f"{file}: made with --min-coverage {coverage:g}; the recipe's is {usual:g}")
        for kind, text in table_texts(table).items():
            if f"{target}.{kind}" in names:
                verification.files.append(str(folder / f"{target}.{kind}"))
                verification.problems += differing_text(folder / f"{target}.{kind}", text)
    pictures = {name for name in left if name.endswith(tuple(f".{kind}" for kind in FIGURE_FORMATS))}
    page = left & {"report.html"}
    others = left & {f"{target}.{kind}" for target in recorded_targets(finished.folder) for kind in TEXT_FORMATS}
    for names, reason in (
        (pictures, "pictures, drawn from the same scores"),
        (page, "made from the same scores"),
        (others, "other tables of this run"),
        (left - pictures - page - others, "no table of this run"),
    ):
        if names:
            verification.not_compared.append(f"{listed(sorted(names))} ({reason})")


def stored_coverage(file: Path) -> float | None:
    """With which ``--min-coverage`` a table was made, by its JSON; ``None`` where that does not say it."""
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    found = re.search(r'^ "min_coverage": ([01](?:\.\d+)?),?$', text, re.MULTILINE)
    return float(found[1]) if found and float(found[1]) <= 1 else None


def cells_of(text: str) -> dict[tuple[str, str], dict[str, Any]]:
    """By row and metric, the cells of a table's JSON; none where that cannot be read."""
    try:
        return {
            (row["id"], metric): dict(cell) for row in json.loads(text)["rows"] for metric, cell in row["cells"].items()
        }
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}


def differing_text(file: Path, text: str) -> Iterator[str]:
    """What a file of the report says else than the scores do: in a table's JSON the cells, then the first line."""
    old_text = file.read_text(encoding="utf-8", errors="replace")
    pairs = zip_longest(old_text.splitlines(), text.splitlines(), fillvalue="")
    differing = [(number, *pair) for number, pair in enumerate(pairs, 1) if not equal_lines(*pair)]
    if not differing:
        return
    old_cells, cells = cells_of(old_text), cells_of(text)
    pairs_of_cells = {key: (old_cells.get(key), cells.get(key)) for key in {**cells, **old_cells}}
    keys = [key for key, pair in pairs_of_cells.items() if not equal_lines(*map(json.dumps, pair))]
    where = f": {listed(f'{row} {metric}' for row, metric in keys)}" if old_cells and keys else ""
    number, old_line, new_line = differing[0]
    place = next((n for n, (one, other) in enumerate(zip(old_line, new_line, strict=False)) if one != other), 0)
    said, right = (repr(line[max(0, place - 20) : place + 40].strip()) for line in (old_line, new_line))
    more = f" ({len(differing)} lines differ)" if len(differing) > 1 else ""
    yield f"{file} is not what the scores give{where}{more}; line {number}: {said}, from the scores {right}"


def equal_lines(first: str, second: str) -> bool:
    """But for the last of six decimals."""
    if first == second:
        return True
    pattern = r"-?\d+\.\d+(?:e-?\d+)?"
    numbers = [[float(number) for number in re.findall(pattern, line)] for line in (first, second)]
    return re.sub(pattern, "\0", first) == re.sub(pattern, "\0", second) and all(
        math.isclose(*pair, rel_tol=1e-6, abs_tol=1e-6) for pair in zip(*numbers, strict=True)
    )


def listed(names: Iterable[str], most: int = 3, joint: str = ", ") -> str:
    """The first of them, and how many more there are."""
    all_names = list(names)
    more = f" and {len(all_names) - most} more" if len(all_names) > most else ""
    return joint.join(all_names[:most]) + more
