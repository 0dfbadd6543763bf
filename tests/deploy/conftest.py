"""The chart, rendered once with each set of values."""

from typing import Any

import pytest
import yaml

from tests.deploy.charts import EXAMPLES, Rendered, render


@pytest.fixture(scope="session")
def defaults() -> Rendered:
    return render({})


@pytest.fixture(scope="session", params=[None, *EXAMPLES], ids=lambda path: path.stem if path else "defaults")
def rendered(request: pytest.FixtureRequest) -> Rendered:
    """The chart by itself, then with each of the example values."""
    values: dict[str, Any] = yaml.safe_load(request.param.read_text()) if request.param else {}
    return render(values)
