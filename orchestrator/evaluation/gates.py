"""Gates: conditions on a run's figures, such as `ndcg@10>=0.46`, that a build may depend on."""

import math
import operator
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from mesh.errors import InvalidInput

_COMPARISONS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_GATE = re.compile(r"\s*([^\s<>=]+)\s*(>=|<=|>|<)\s*([^\s<>=]+)\s*")


@dataclass(frozen=True)
class Gate:
    """One condition. `text` is how it was written."""

    text: str
    metric: str
    comparison: str
    bound: float


@dataclass(frozen=True)
class Judged:
    """A gate and the figure it was held against, None where the run has none."""

    gate: Gate
    value: float | None

    @property
    def passed(self) -> bool:
        """A figure that the run does not have passes nothing."""
        return self.value is not None and _COMPARISONS[self.gate.comparison](self.value, self.gate.bound)


def parse_gate(text: str, known: Collection[str]) -> Gate:
    """A gate on one of the `known` metrics. InvalidInput says what is wrong."""
    match = _GATE.fullmatch(text)
    if not match:
        raise InvalidInput(f"The gate {text!r} cannot be read. Write METRIC>=NUMBER, such as 'ndcg@10>=0.46'.")
    metric, comparison, number = match.groups()
    if metric not in known:
        raise InvalidInput(f"The gate {text!r} names no metric of this evaluation. They are: {', '.join(known)}.")
    try:
        bound = float(number)
    except ValueError:
        bound = math.nan
    if not math.isfinite(bound):
        raise InvalidInput(f"The gate {text!r} compares with {number!r}, which is not a number.")
    return Gate(text.strip(), metric, comparison, bound)


def judge(gates: Sequence[Gate], figures: Mapping[str, float | None]) -> list[Judged]:
    """Each gate with its figure."""
    return [Judged(gate, figures.get(gate.metric)) for gate in gates]
