"""Domain states carry the contract's names and numbers."""

from enum import IntEnum
from typing import Any

import pytest

from ingest.documents import DocumentState
from ingest.jobs import JobKind, JobOutcome, JobStage, JobState
from ingest.orphans import OrphanKind
from murphey.ingest.v1 import ingest_pb2 as pb


@pytest.mark.parametrize(
    ("states", "enum", "prefix"),
    [
        (DocumentState, pb.DocumentState, "DOCUMENT_STATE_"),
        (JobState, pb.JobState, "JOB_STATE_"),
        (JobStage, pb.JobStage, "JOB_STAGE_"),
        (JobKind, pb.JobKind, "JOB_KIND_"),
        (JobOutcome, pb.JobOutcome, "JOB_OUTCOME_"),
        (OrphanKind, pb.OrphanKind, "ORPHAN_KIND_"),
    ],
)
def test_states_are_the_contracts(states: type[IntEnum], enum: Any, prefix: str) -> None:
    contract = {name.removeprefix(prefix): number for name, number in enum.items()}
    domain = {state.name: int(state) for state in states}

    assert {"UNSPECIFIED": 0} | domain == contract
