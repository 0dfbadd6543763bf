"""An RPC that is added to the contract must be tried across tenants too."""

from tests.tenants.attempts import ATTEMPTS
from tests.tenants.mesh import METHODS


def test_every_rpc_is_tried_across_tenants() -> None:
    assert METHODS.keys() == ATTEMPTS.keys()
    assert len(ATTEMPTS) > 40
