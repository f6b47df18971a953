"""Takes the engine's own routes past FastAPI's router: what they serve, they answer themselves."""

from collections.abc import Callable, Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.context import context_of

Wrapper = Callable[[ASGIApp], ASGIApp]


class FastLane:
    """Innermost of our middlewares. `wrappers`, by a POST route's template, may be filled later:
    each stands before the rest of the application, which takes whatever it does not serve.
    """

    def __init__(self, app: ASGIApp, wrappers: Mapping[str, Wrapper]) -> None:
        self.app, self.wrappers = app, wrappers
        self.routes: dict[str, ASGIApp] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and self.wrappers:
            await self.find(scope)(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def find(self, scope: Scope) -> ASGIApp:
        route = context_of(scope).route
        template = route.template if route else ""
        if template not in self.routes:
            wrap = self.wrappers.get(template)
            self.routes[template] = wrap(self.app) if wrap else self.app
        return self.routes[template]
