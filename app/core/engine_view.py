"""What the HTTP side may know of an engine: its shape, not its library."""

from collections.abc import Sequence
from typing import Any, Protocol

from app.core.errors import RequestError
from app.core.loaded_model import LoadedModel


class EngineView(Protocol):
    """Implemented by app.engine.serving.Engine, and by stand-ins of tests."""

    loaded: LoadedModel

    @property
    def routers(self) -> Sequence[Any]: ...
    @property
    def version(self) -> str: ...
    @property
    def is_dead(self) -> bool: ...
    @property
    def num_unfinished(self) -> int: ...
    async def list_models(self) -> list[dict[str, Any]]: ...
    def translate(self, error: Exception) -> RequestError: ...
    def stop(self, timeout_s: float) -> None: ...
