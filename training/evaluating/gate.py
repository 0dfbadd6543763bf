"""The gate before a new model goes into service: the same questions through the mesh, to it and to the model in service.

`murphey eval` asks, scores and compares; here is only the rule by which the new model passes.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from mesh.errors import InvalidInput
from orchestrator.evaluation.comparison import Comparison
from orchestrator.evaluation.running import Plan, Shows, evaluate, prepare


@dataclass(frozen=True)
class Passage:
    """Whether the candidate passed, why not, and what was compared."""

    passed: bool
    reasons: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    in_service_run: str
    candidate_run: str


async def pass_through(plan: Plan, in_service: str, better_in: Collection[str], shows: Shows) -> Passage:
    """Evaluates the model in service, then the plan's model, on the plan's questions. Both must be served.

    InvalidInput when both are one model, or `better_in` names no score that is compared.
    """
    if plan.model == in_service:
        raise InvalidInput(f"{plan.model or 'The default model'} cannot be held against itself.", field="against")
    before = await evaluate(prepare(replace(plan, model=in_service, compare_with=None, gates=())), shows)
    after = await evaluate(prepare(replace(plan, compare_with=before.run.header.id)), shows)
    failed = [f"{judged.gate.text} does not hold" for judged in after.gates if not judged.passed]
    reasons = (*failed, *reasons_against(after.comparisons, better_in))
    return Passage(not reasons, reasons, tuple(after.comparisons), before.run.header.id, after.run.header.id)


def reasons_against(comparisons: Sequence[Comparison], better_in: Collection[str]) -> list[str]:
    """Nothing may be worse, with 95 % confidence, and what is named must be better. InvalidInput for a name of no score."""
    known = [each.metric for each in comparisons]
    if unknown := [name for name in better_in if name not in known]:
        raise InvalidInput(
            f"{unknown[0]} is not compared; compared are {', '.join(known) or 'none'}.", field="better_in"
        )
    reasons: list[str] = []
    for each in comparisons:
        told = (
            f"{each.metric} {each.before:.3f} → {each.now:.3f} (95 % of the gain: {each.low:+.3f} to {each.high:+.3f})"
        )
        if each.verdict == "worse":
            reasons.append(f"worse: {told}")
        elif each.metric in better_in and each.verdict != "better":
            reasons.append(f"not better: {told}")
    return reasons
