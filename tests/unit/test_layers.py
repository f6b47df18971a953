"""Who may import whom. The table in docs/architecture.md is this test's source."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "app").rglob("*.py"))

# A foreign package, and the parts of `app` that may import it.
OWNERS = {
    "vllm": {"engine"},
    "torch": {"engine", "bundled", "quantize"},
    "transformers": {"engine", "bundled", "quantize"},
    "llmcompressor": {"quantize"},
    "fastapi": {"api"},
    "starlette": {"api"},
    "opentelemetry": {"api"},
    "redis": {"shared_limits"},
    "uvicorn": {"server", "http_edge", "http_exchange"},
}

# A part of `app`, and the parts it may import. `main`, `service` and `__main__` compose: any.
PARTS = {
    "core": {"core"},
    "settings": {"core", "settings"},
    "engine": {"core", "engine"},
    "api": {"core", "api"},
    "plan": {"core", "plan", "quantize"},
    "quantize": {"core", "quantize"},
    "bundled": {"core", "bundled", "bench"},
    "evaluate": {"core", "bench", "bundled", "evaluate"},
    "bench": {"core", "bench"},
    "usage": {"core", "usage"},
    "shared_limits": {"core", "shared_limits"},
    "soak": {"core", "bench", "usage", "soak"},
    "lifecycle": {"core"},
    "server": {"core", "http_edge"},
    "http_edge": {"core", "http_exchange"},
    "http_exchange": {"core"},
}


def part_of(path: Path) -> str:
    relative = path.relative_to(ROOT / "app")
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports_of(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: absolute imports only"
            module = node.module or ""
            names |= (
                {f"{module}.{alias.name}" for alias in node.names} if module == "app" else {module}
            )
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_its_layer_may(path: Path) -> None:
    part = part_of(path)
    for name in imports_of(path):
        top, *rest = name.split(".")
        assert top not in OWNERS or part in OWNERS[top], f"{part} imports {name}"
        if part == "core":
            assert top == "app" or top in sys.stdlib_module_names, f"core imports {name}"
        if top == "app" and part in PARTS:
            assert rest and rest[0] in PARTS[part], f"{part} imports {name}"
