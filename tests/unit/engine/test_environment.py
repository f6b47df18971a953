from pathlib import Path

import pytest

from app.engine.environment import disable_compiling_without_compiler


def test_without_a_compiler_nothing_is_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    environ: dict[str, str] = {}
    assert disable_compiling_without_compiler(environ)
    assert environ == {"TORCH_COMPILE_DISABLE": "1"}
    compiler = tmp_path / "g++"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    environ = {}
    assert not disable_compiling_without_compiler(environ)
    assert not environ
