"""One evaluation from its plan to its stored run: everything is checked first, then the questions are asked."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mesh.errors import DeadlineExceeded, FailedPrecondition, Internal, InvalidInput
from orchestrator.clients.ingest import IngestClient
from orchestrator.evaluation.answers import AnswerMeasure, failed_answer, known_names
from orchestrator.evaluation.clients.answers import Asker
from orchestrator.evaluation.clients.collections import (
    DEFAULT_SETTINGS,
    CollectionSettings,
    Searchable,
    live_documents,
    model_version,
    searchable,
)
from orchestrator.evaluation.clients.corpus import own_collection, take_in
from orchestrator.evaluation.clients.mesh import LiveMesh, live_mesh
from orchestrator.evaluation.clients.searches import Searches, SplittingSearches
from orchestrator.evaluation.comparison import Comparison, compare
from orchestrator.evaluation.gates import Gate, Judged, judge, parse_gate
from orchestrator.evaluation.pacing import for_each
from orchestrator.evaluation.reading import read_set
from orchestrator.evaluation.records import COMPARED, Kind, Record, curves, figures, measurable
from orchestrator.evaluation.retrieval import RetrievalMeasure, failed_ranking
from orchestrator.evaluation.runs import Header, OpenRun, RunStore, StoredRun
from orchestrator.evaluation.sets import EvaluationSet, Part, Question, chosen
from orchestrator.splitting import Split

VERIFY_TIMEOUT_S = 30.0
RELEVANCE_PASSAGES = 8
"""Searched beside each answer, as many as the orchestrator's default, to know how relevant the best one is."""

MISSING_SHARE = 0.05
"""Of the judged documents: a collection that lacks more of them is not the set's. Some texts are empty."""

Measure = Callable[[Question], Awaitable[tuple[Record, dict[str, str]]]]


class Shows(Protocol):
    """Where an evaluation tells how far it is."""

    def stage(self, name: str, total: int) -> None:
        """A stage of so many steps begins."""
        ...

    def advance(self, done: int) -> None:
        """So many steps of the stage are done."""
        ...

    def note(self, text: str) -> None:
        """Something that a person should know."""
        ...


@dataclass(frozen=True)
class Plan:
    """What to evaluate. `collection` None takes the set's corpus into a collection of its own.

    `mode`, `limit`, `split` and `reranker` (None: nothing is reranked) are for retrieval; `model`, `passage_limit` and
    `asked_split` for answers.
    """

    kind: Kind
    path: Path
    data: Path
    target: str | None = None
    collection: str | None = None
    own: CollectionSettings = DEFAULT_SETTINGS
    part: Part = Part.ALL
    count: int | None = None
    at_once: int = 4
    mode: str = "hybrid"
    limit: int = 200
    split: Split = Split.NEVER
    reranker: str | None = None
    model: str = ""
    passage_limit: int | None = None
    asked_split: bool | None = None
    gold_documents: bool = False
    compare_with: str | None = None
    gates: tuple[str, ...] = ()
    fresh: bool = False

    def settings(self) -> dict[str, Any]:
        """What makes this measurement another one than that of the same set under other settings."""
        common = {"part": str(self.part), "count": self.count, "gold_documents": self.gold_documents}
        if self.kind is Kind.RETRIEVAL:
            reranked = {} if self.reranker is None else {"reranker": self.reranker or "the default one"}
            return common | {"mode": self.mode, "limit": self.limit, "split": str(self.split)} | reranked
        return common | {"model": self.model, "passage_limit": self.passage_limit, "split": self.asked_split}


@dataclass(frozen=True)
class Prepared:
    """A plan whose set, gates and run to compare with have been read and found right."""

    plan: Plan
    set: EvaluationSet
    questions: tuple[Question, ...]
    gates: tuple[Gate, ...]
    before: StoredRun | None


@dataclass(frozen=True)
class Evaluated:
    """A finished run, its gates, and how it compares."""

    run: StoredRun
    gates: list[Judged] = field(default_factory=list)
    before: StoredRun | None = None
    comparisons: list[Comparison] = field(default_factory=list)


def prepare(plan: Plan) -> Prepared:
    """Reads and checks what needs no mesh. InvalidInput or NotFound."""
    data_set = read_set(plan.path)
    if plan.collection is None and data_set.corpus is None:
        raise InvalidInput(f"{plan.path} holds no documents of its own: name the collection to ask by --collection.")
    fitting = [question for question in data_set.questions if _fits(question, plan)]
    questions = chosen(fitting, plan.part, plan.count)
    if not questions:
        missing = "judgements" if plan.kind is Kind.RETRIEVAL or plan.gold_documents else "questions"
        raise InvalidInput(f"{plan.path} holds no {missing} for this evaluation.")
    known = measurable(plan.kind, questions)
    gates = tuple(parse_gate(text, known) for text in plan.gates)
    before = _comparable(plan, data_set, questions) if plan.compare_with else None
    return Prepared(plan, data_set, tuple(questions), gates, before)


async def evaluate(prepared: Prepared, shows: Shows) -> Evaluated:
    """Asks what has not been asked yet, and finishes the run. What is broken off can be taken up again."""
    plan, store = prepared.plan, RunStore(prepared.plan.data)
    async with live_mesh(plan.data, plan.target) as mesh:
        model = await model_version(mesh, plan.model) if plan.kind is Kind.ANSWERS else ""
        collection, notes = await ready_collection(mesh, prepared, shows)
        names = await _names(mesh, collection.id, prepared, shows)
        measure = _measure(mesh, plan, collection.id, names)
        with store.open(_header(prepared, collection, model, notes), fresh=plan.fresh) as run:
            await _ask_all(run, prepared, measure, shows)
            ended = run.finish(figures(plan.kind, run.records), curves(plan.kind, run.records))
    comparisons = compared(prepared.before, ended) if prepared.before else []
    return Evaluated(ended, judge(prepared.gates, ended.header.figures), prepared.before, comparisons)


def compared(before: StoredRun, now: StoredRun) -> list[Comparison]:
    """All scores that both runs have. InvalidInput when they are not of the same kind and set."""
    _check_comparable(before, now.header.kind, now.header.set_fingerprint, {record.query for record in now.records})
    names = COMPARED[now.header.kind]
    found = (compare(name, before.scores(name), now.scores(name)) for name in names)
    return [comparison for comparison in found if comparison is not None]


def _fits(question: Question, plan: Plan) -> bool:
    return question.is_judged or (plan.kind is Kind.ANSWERS and not plan.gold_documents)


def _comparable(plan: Plan, data_set: EvaluationSet, questions: Sequence[Question]) -> StoredRun:
    before = RunStore(plan.data).load(plan.compare_with or "")
    _check_comparable(before, plan.kind, data_set.fingerprint, {question.id for question in questions})
    return before


def _check_comparable(before: StoredRun, kind: Kind, fingerprint: str, queries: set[str]) -> None:
    header = before.header
    if header.kind != kind:
        raise InvalidInput(f"The run {header.id} evaluated {header.kind}, not {kind}: the two cannot be compared.")
    if header.set_fingerprint != fingerprint:
        raise InvalidInput(
            f"The run {header.id} is of another set ({header.set_name}, {header.set_fingerprint}; this one is {fingerprint}): "
            "only runs of one set can be compared."
        )
    if not header.finished:
        raise InvalidInput(f"The run {header.id} was broken off. Finish it by the same command that began it.")
    if not queries & {record.query for record in before.records}:
        raise InvalidInput(f"The run {header.id} asked none of these questions: it is of another part of the set.")


async def ready_collection(mesh: LiveMesh, prepared: Prepared, shows: Shows) -> tuple[Searchable, tuple[str, ...]]:
    """The collection to ask, which is made first where none was named; and what to note of it."""
    plan, corpus = prepared.plan, prepared.set.corpus
    if plan.collection is not None or corpus is None:  # prepare() refused a plan with neither
        return await searchable(mesh, plan.collection or ""), ()
    name = own_collection(prepared.set.name, corpus, plan.own)
    shows.stage("documents", len(corpus.ids))
    unread = await take_in(mesh, name, corpus, plan.own, shows.advance)
    notes = tuple(f"The document {each.document!r} could not be taken in: {each.reason}" for each in unread)
    for text in notes:
        shows.note(text)
    return await searchable(mesh, name), notes


async def _names(mesh: LiveMesh, collection: str, prepared: Prepared, shows: Shows) -> dict[str, str]:
    """Display names by corpus id. FailedPrecondition when the collection lacks many of the judged documents."""
    judged = frozenset(prepared.set.narrowed(prepared.questions).judged_documents())
    known = judged | (prepared.set.corpus.ids if prepared.set.corpus else frozenset())
    names = known_names(await live_documents(mesh, collection), known)
    missing = sorted(judged - names.keys())
    if missing:
        said = f"{len(missing)} of {len(judged)} judged documents are not in the collection {collection}, such as "
        said += f"{missing[0]!r}. A document is known by its name, with or without its ending."
        if len(missing) > MISSING_SHARE * len(judged):
            raise FailedPrecondition(said)
        shows.note(said)
    return names


def _measure(mesh: LiveMesh, plan: Plan, collection: str, names: Mapping[str, str]) -> Measure:
    if plan.kind is Kind.RETRIEVAL:
        searches = Searches(mesh.retriever, collection, plan.mode, plan.limit, plan.reranker)
        splitting = SplittingSearches(searches, plan.split, plan.limit)
        return RetrievalMeasure(splitting, names, gold_documents=plan.gold_documents)
    return AnswerMeasure(
        Asker(mesh.orchestrator, collection, plan.model, plan.passage_limit, plan.asked_split),
        Searches(mesh.retriever, collection, "hybrid", RELEVANCE_PASSAGES),
        IngestClient(mesh.ingest, VERIFY_TIMEOUT_S),
        names,
        gold_documents=plan.gold_documents,
    )


def _header(prepared: Prepared, collection: Searchable, model: str, notes: tuple[str, ...]) -> Header:
    plan, data_set = prepared.plan, prepared.set
    return Header(
        kind=plan.kind,
        set_name=data_set.name,
        set_path=str(plan.path),
        set_fingerprint=data_set.fingerprint,
        questions=len(prepared.questions),
        collection=collection.id,
        settings=plan.settings() | {"chunks": collection.chunks},
        versions={"index": collection.index} | ({"model": model} if model else {}),
        notes=notes,
    )


async def _ask_all(run: OpenRun, prepared: Prepared, measure: Measure, shows: Shows) -> None:
    done = {record.query for record in run.records}
    if done:
        shows.note(f"The run {run.header.id} was broken off after {len(done)} questions and goes on.")
    shows.stage("questions", len(prepared.questions))
    shows.advance(len(done))

    async def ask(question: Question) -> None:
        try:
            record, versions = await measure(question)
        except (DeadlineExceeded, Internal) as error:
            failed = failed_ranking if prepared.plan.kind is Kind.RETRIEVAL else failed_answer
            record, versions = failed(question, error.message), {}
        run.add(record, versions)
        shows.advance(len(run.records))

    todo = [question for question in prepared.questions if question.id not in done]
    await for_each(todo, ask, prepared.plan.at_once)
