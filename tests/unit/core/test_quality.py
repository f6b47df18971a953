import json
from pathlib import Path
from typing import Any

import pytest

from app.core.checkpoint import digest_checkpoint
from app.core.errors import CheckpointError, StartError
from app.core.quality import FILE, VERSION, find_recovery, prove, refuse_unproved
from tests.unit.core.checkpoint_files import Tensors, model_tensors, write_checkpoint

DIGEST = "ab" * 32


def write(directory: Path, **changes: Any) -> Path:
    report = {
        "version": VERSION,
        "candidate": {"digest": DIGEST},
        "recovery": {"percent": 99.4, "interval": [98.9, 100.0]},
    }
    (directory / FILE).write_text(json.dumps(report | changes))
    return directory


def test_a_proved_checkpoint_is_let_through(tmp_path: Path) -> None:
    refuse_unproved(write(tmp_path), DIGEST, 99.4)
    recovery = find_recovery(tmp_path, DIGEST)
    assert str(recovery) == "99.40 % (98.90 to 100.00)"


def test_a_checkpoint_without_a_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"has no quality\.json: run `python -m app evaluate"):
        refuse_unproved(tmp_path, DIGEST, 99.0)
    assert find_recovery(tmp_path, DIGEST) is None


def test_a_report_of_other_weights_proves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="belongs to another checkpoint"):
        refuse_unproved(write(tmp_path), "cd" * 32, 99.0)
    assert find_recovery(tmp_path, "cd" * 32) is None


def test_a_recovery_below_the_bound_is_refused_with_both_numbers(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"99\.40 % .* less than quality\.min_recovery, 99\.5 %"):
        refuse_unproved(write(tmp_path), DIGEST, 99.5)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 0},
        {"candidate": None},
        {"candidate": {}},
        {"recovery": {"percent": "99", "interval": [98, 100]}},
        {"recovery": {"percent": float("nan"), "interval": [98, 100]}},
        {"recovery": {"percent": True, "interval": [98, 100]}},
        {"recovery": {"percent": 99, "interval": [98]}},
        {"recovery": {"percent": 99, "interval": None}},
    ],
)
def test_a_malformed_report_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="evaluate again"):
        refuse_unproved(write(tmp_path, **changes), DIGEST, 99.0)


def test_a_checkpoint_is_proved_by_what_is_on_the_disk_now(tmp_path: Path) -> None:
    model = str(write_checkpoint(tmp_path))
    assert prove(model, None) is None
    with pytest.raises(StartError, match=r"has no quality\.json"):
        prove(model, 99)
    write(tmp_path, candidate={"digest": digest_checkpoint(tmp_path)})
    for asked in (None, 99):
        recovery = prove(model, asked)
        assert recovery is not None
        assert recovery.as_json() == {"recovery_percent": 99.4, "interval_95": [98.9, 100.0]}
    shard = tmp_path / "model.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    assert prove(model, None) is None
    with pytest.raises(StartError, match="another checkpoint"):
        prove(model, 99)


def test_a_model_on_the_hub_is_served_only_where_no_proof_is_asked() -> None:
    assert prove("owner/name", None) is None
    with pytest.raises(StartError, match="no local directory"):
        prove("owner/name", 99)


def test_a_report_that_cannot_be_read_stops_nothing_unless_it_is_asked_for(tmp_path: Path) -> None:
    write(write_checkpoint(tmp_path), version=0)
    assert prove(str(tmp_path), None) is None
    with pytest.raises(CheckpointError):
        prove(str(tmp_path), 99)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (
            {"lm_head.weight": ("I8", (96, 64)), "lm_head.weight_scale": ("BF16", (96, 1))},
            "output layer is quantized",
        ),
        ({"model.layers.1.mlp.up_proj.weight_scale": ("BF16", (1, 128))}, "wrong shape"),
    ],
)
def test_what_inspect_calls_an_error_is_refused_however_well_it_answers(
    tmp_path: Path, damage: Tensors, reason: str
) -> None:
    write_checkpoint(tmp_path, model_tensors() | damage)
    write(tmp_path, candidate={"digest": digest_checkpoint(tmp_path)})
    with pytest.raises(StartError, match=f"is damaged: .*{reason}"):
        prove(str(tmp_path), 99)
    assert prove(str(tmp_path), None) is not None
