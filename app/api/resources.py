"""What the endpoints share; one object on the application's state."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from app.api.metrics import Metrics
from app.core.admission import Admission
from app.core.constraints import Constraint
from app.core.engine_view import EngineView
from app.core.errors import InternalError, RequestError
from app.core.keys import KeyRing
from app.core.quality import Recovery
from app.core.state import ServiceState
from app.core.usage import UsageRecord


@dataclass
class Resources:
    """`engine` is None until it is connected; `plan` is what the start said about memory;
    `recovery` is what the report beside the checkpoint proves; `keep_usage` takes usage records;
    `admission` holds the limits, `describe_limits` says where they are counted."""

    state: ServiceState
    keys: KeyRing
    metrics: Metrics
    version: str
    model_name: str
    plan: Mapping[str, Any] = field(default_factory=dict)
    engine: EngineView | None = None
    recovery: Recovery | None = None
    keep_usage: Callable[[UsageRecord], None] | None = None
    admission: Admission | None = None
    describe_limits: Callable[[], Mapping[str, Any]] = lambda: {"store": "memory"}

    async def try_constraints(self, constraints: Sequence[Constraint], tenant: str | None) -> None:
        """Raises InvalidRequest for what the engine could not compile in time, and Unavailable
        where too many are waiting."""
        if self.engine is not None:
            await self.engine.check_constraints(constraints, tenant)

    def translate(self, error: Exception) -> RequestError:
        if self.engine is not None:
            return self.engine.translate(error)
        return InternalError("The server failed to answer this request.")


def resources_of(request: Request) -> Resources:
    resources: Resources = request.app.state.resources
    return resources
