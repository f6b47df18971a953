"""/openapi.json: what is said of a route's answers."""

from typing import Any

import pytest

from app.api.openapi import describe_answers
from app.core.routes import ROUTES, Route


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.template)
def test_a_route_whose_work_can_be_late_says_so(route: Route) -> None:
    operation: dict[str, Any] = {"responses": {}}
    describe_answers(operation, route)
    assert ("504" in operation["responses"]) == (route.method == "POST" and route.needs_engine)
