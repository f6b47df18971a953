import multiprocessing
import os
from pathlib import Path

import pytest

from app.core.errors import AppError
from app.quantize.staging import staged


def test_the_output_appears_when_it_is_complete(tmp_path: Path) -> None:
    out = tmp_path / "models" / "w8a8"
    with staged(out) as directory:
        (directory / "config.json").write_text("{}")
        (directory / "config.json").chmod(0o600)
        assert not out.exists()
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["w8a8"]
    assert (out / "config.json").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError])
def test_a_failed_run_leaves_nothing(tmp_path: Path, failure: type[BaseException]) -> None:
    with pytest.raises(failure), staged(tmp_path / "w8a8") as directory:
        (directory / "config.json").write_text("{}")
        raise failure
    assert list(tmp_path.iterdir()) == []


def die_while_writing(out: Path) -> None:
    with staged(out) as directory:
        (directory / "old").mkdir()
        (directory / "old" / "model.safetensors").write_text("half")
        os._exit(9)


def test_what_a_killed_run_left_behind_is_removed_by_the_next(tmp_path: Path) -> None:
    out = tmp_path / "w8a8"
    child = multiprocessing.get_context("spawn").Process(target=die_while_writing, args=(out,))
    child.start()
    child.join()
    assert not out.exists()
    assert [path.name for path in tmp_path.iterdir()] == [".w8a8.partial"]
    with staged(out) as directory:
        (directory / "config.json").write_text("{}")
    assert [path.name for path in out.iterdir()] == ["config.json"]


def test_two_runs_do_not_write_the_same_output(tmp_path: Path) -> None:
    with staged(tmp_path / "w8a8") as directory:
        (directory / "config.json").write_text("{}")
        with pytest.raises(AppError, match="Another run"), staged(tmp_path / "w8a8"):
            pass
        assert (directory / "config.json").exists()


def test_an_output_that_appeared_meanwhile_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "w8a8"
    with pytest.raises(AppError, match="could not be put in place"), staged(out):
        out.mkdir()
        (out / "precious").write_text("1")
    assert (out / "precious").read_text() == "1"
