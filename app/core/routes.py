"""Every route that can be reached, and what it asks for. What is not here answers 404.

vLLM's routers carry far more than we expose; this table is checked before anything else looks at
a request, so a route that a new version of vLLM brings stays closed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from app.core.envelopes import Family


class Scope(StrEnum):
    """What a key may do."""

    INFER = "infer"
    METRICS = "metrics"
    ADMIN = "admin"


@dataclass(frozen=True)
class Route:
    """`scope` None: open to everyone. `needs_engine`: answers 503 until the model is loaded."""

    method: str
    template: str
    scope: Scope | None
    needs_engine: bool = False
    family: Family = Family.OPENAI

    @property
    def is_open(self) -> bool:
        return self.scope is None


# The only routes without a key.
OPEN_ROUTES = (
    Route("GET", "/health", None),
    Route("GET", "/ready", None),
)

GUARDED_ROUTES = (
    Route("GET", "/metrics", Scope.METRICS),
    Route("GET", "/admin/status", Scope.ADMIN),
    Route("GET", "/openapi.json", Scope.INFER),
    Route("GET", "/v1/models", Scope.INFER, needs_engine=True),
    Route("GET", "/v1/models/{model_id}", Scope.INFER, needs_engine=True),
    Route("POST", "/v1/chat/completions", Scope.INFER, needs_engine=True),
    Route("POST", "/v1/completions", Scope.INFER, needs_engine=True),
    Route("POST", "/v1/responses", Scope.INFER, needs_engine=True),
    Route("GET", "/v1/responses/{response_id}", Scope.INFER),
    Route("POST", "/v1/responses/{response_id}/cancel", Scope.INFER),
    Route("POST", "/v1/messages", Scope.INFER, needs_engine=True, family=Family.ANTHROPIC),
    Route(
        "POST", "/v1/messages/count_tokens", Scope.INFER, needs_engine=True, family=Family.ANTHROPIC
    ),
    Route("POST", "/tokenize", Scope.INFER, needs_engine=True),
    Route("POST", "/detokenize", Scope.INFER, needs_engine=True),
)

ROUTES = OPEN_ROUTES + GUARDED_ROUTES

# On the management port nothing needs a key: it is bound to a private address or interface.
MANAGEMENT_ROUTES = (
    Route("GET", "/health", None),
    Route("GET", "/ready", None),
    Route("GET", "/metrics", None),
)


class RouteTable:
    """Finds the route of a path: a dictionary for fixed paths, a short walk for the others."""

    def __init__(self, routes: tuple[Route, ...]) -> None:
        self.routes = routes
        self._fixed: dict[str, dict[str, Route]] = {}
        self._open_ended: list[tuple[str, str, Route]] = []
        for route in routes:
            if "{" in route.template:
                start, _, rest = route.template.partition("{")
                self._open_ended.append((start, rest.partition("}")[2], route))
            else:
                self._fixed.setdefault(route.template, {})[route.method] = route

    def find(self, path: str) -> Mapping[str, Route]:
        """The routes of `path` by method; empty where there is none.

        A parameter takes the whole rest of a path, slashes too: hub ids have one.
        """
        if path in self._fixed:
            return self._fixed[path]
        found: dict[str, Route] = {}
        for start, end, route in self._open_ended:
            value = path[len(start) : len(path) - len(end)]
            if path.startswith(start) and path.endswith(end) and value.strip("/"):
                found.setdefault(route.method, route)
        return found
