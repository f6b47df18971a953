"""Who may come in: only listed routes, only with a key that has the scope, only when ready."""

from datetime import UTC, datetime

from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.context import RequestContext, context_of, header_of
from app.api.metrics import KeyMetrics
from app.core.errors import Forbidden, NotFound, RequestError, Unauthenticated, Unavailable
from app.core.keys import KeyRing
from app.core.request_rules import strip_headers
from app.core.routes import Route, RouteTable
from app.core.state import Phase, ServiceState

RETRY_AFTER_S = {
    **{Phase.STARTING: 10, Phase.LOADING: 10, Phase.DRAINING: 2},
    **{Phase.ENGINE_DEAD: 30, Phase.HUNG: 30},
}


class Door:
    def __init__(
        self,
        app: ASGIApp,
        table: RouteTable,
        keys: KeyRing,
        state: ServiceState,
        metrics: KeyMetrics,
    ) -> None:
        self.app, self.table, self.keys = app, table, keys
        self.state, self.metrics = state, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})
        if scope["type"] == "http":
            context = context_of(scope)
            context.route = route = self.find_route(scope)
            context.family = route.family
            self.authenticate(scope, context, route)
            self.refuse_when_not_ready(route)
            id_header = (b"x-request-id", context.id.encode())
            headers = [*strip_headers(scope["headers"]), id_header, *context.trace_headers]
            scope = {**scope, "headers": headers}
            if route.needs_engine:
                return await self.count_running(scope, receive, send)
        return await self.app(scope, receive, send)

    async def count_running(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.state.num_running += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.state.num_running -= 1

    def find_route(self, scope: Scope) -> Route:
        by_method = self.table.find(scope["path"])
        if not by_method:
            raise NotFound(f"There is no route {scope['path'][:100]}.", code="unknown_route")
        route = by_method.get(scope["method"])
        if route is None:
            allowed = ", ".join(sorted(by_method))
            raise RequestError(
                f"This route takes {allowed}.",
                status=405,
                code="method_not_allowed",
                headers={"allow": allowed},
            )
        return route

    def authenticate(self, scope: Scope, context: RequestContext, route: Route) -> None:
        """Raises Unauthenticated or Forbidden unless the route is open or the key has its scope."""
        if route.scope is None:
            return
        secret = presented_secret(scope)
        if not secret:
            self.metrics.refused("missing")
            raise Unauthenticated(
                "No API key: send it as `Authorization: Bearer KEY` or as `x-api-key: KEY`.",
                code="missing_api_key",
            )
        context.key = self.keys.find(secret)
        if context.key is None:
            self.metrics.refused("unknown")
            raise Unauthenticated("The API key is not known here.")
        if context.key.is_expired(datetime.now(UTC)):
            self.metrics.refused("expired")
            raise Unauthenticated("The API key has expired.", code="expired_api_key")
        if not context.key.allows(route.scope):
            self.metrics.refused("scope")
            raise Forbidden(f"The API key lacks the scope {route.scope}.")

    def refuse_when_not_ready(self, route: Route) -> None:
        if route.needs_engine and not self.state.takes_requests:
            raise Unavailable(
                f"Not now: {self.state.reason}.",
                code=str(self.state.phase),
                retry_after_s=RETRY_AFTER_S[self.state.phase],
                headers={"connection": "close"} if self.state.phase is Phase.DRAINING else None,
            )


def presented_secret(scope: Scope) -> str:
    """The key that the client sent, either way; empty where there is none."""
    if given := header_of(scope, b"authorization"):
        scheme, _, secret = given.decode("latin-1").partition(" ")
        return secret.strip() if scheme.lower() == "bearer" else ""
    return (header_of(scope, b"x-api-key") or b"").decode("latin-1").strip()
