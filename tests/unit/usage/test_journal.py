import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.core.errors import StartError
from app.core.usage import Head
from app.usage.files import find_chains
from app.usage.journal import UsageJournal
from app.usage.verification import Chain
from tests.unit.usage.records import journal, record, written

ROOT = Path(__file__).parents[3]
WRITER = """
import sys
from pathlib import Path
from app.usage.journal import UsageJournal
from tests.unit.usage.records import record
journal = UsageJournal(Path(sys.argv[1]), "r", 1 << 20, lambda state: None)
for number in range(1, 1_000_000):
    journal.append(record(number))
    if number % 7 == 0:
        journal.flush()
"""


def chain_of(directory: Path) -> Chain:
    return Chain("r", find_chains(directory)["r"]).read()


def test_records_are_chained_across_files_and_restarts(tmp_path: Path) -> None:
    written(tmp_path, 1, 2, 3, max_file_bytes=500)
    written(tmp_path, 4, 5, max_file_bytes=500)
    chain = chain_of(tmp_path)
    assert len(chain.files) >= 2
    assert chain.faults == []
    assert chain.num_records == chain.head.number == 5
    numbers = [fields["completion_tokens"] for fields in Chain("r", chain.files)]
    assert numbers == [1, 2, 3, 4, 5]


def test_the_head_that_is_shown_is_the_head_on_disk(tmp_path: Path) -> None:
    made, heard = journal(tmp_path)
    assert heard[-1].head == Head()
    made.append(record(1))
    assert heard[-1].num_waiting == 0
    made.flush()
    made.close()
    assert heard[-1].head == chain_of(tmp_path).head


def test_the_thread_writes_without_being_asked(tmp_path: Path) -> None:
    made, _ = journal(tmp_path)
    made.start()
    made.append(record(1))
    deadline = time.monotonic() + 60
    while not next(tmp_path.glob("r-*.jsonl")).stat().st_size and time.monotonic() < deadline:
        time.sleep(0.02)
    assert chain_of(tmp_path).num_records == 1
    made.close()


def test_a_half_line_is_not_counted_and_is_cut_off_at_the_next_start(tmp_path: Path) -> None:
    written(tmp_path, 1, 2)
    path = find_chains(tmp_path)["r"][0]
    with path.open("ab") as file:
        file.write(b'{"number":3,"previous":"ab')
    torn = chain_of(tmp_path)
    assert (torn.num_records, torn.has_half_line, torn.faults) == (2, True, [])
    written(tmp_path, 3)
    mended = chain_of(tmp_path)
    assert (mended.num_records, mended.has_half_line, mended.faults) == (3, False, [])


def test_killed_in_the_middle_of_writing_the_chain_goes_on(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], env=environment
        ) as writer:
            before = sum(path.stat().st_size for path in tmp_path.glob("r-*.jsonl"))
            while sum(path.stat().st_size for path in tmp_path.glob("r-*.jsonl")) < before + 20_000:
                assert writer.poll() is None
                time.sleep(0.01)
            writer.send_signal(signal.SIGKILL)
    written(tmp_path, 0)
    chain = chain_of(tmp_path)
    assert chain.faults == []
    assert chain.num_records == chain.head.number > 100


def test_a_failed_write_keeps_the_records_and_leaves_no_half_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, heard = journal(tmp_path)
    write = os.write

    def fail_half_way(file: int, data: bytes) -> int:
        write(file, bytes(data)[:20])
        raise OSError(28, "No space left on device")

    made.append(record(1))
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail_half_way)
        made.flush()
    assert (heard[-1].num_waiting, heard[-1].num_failures) == (1, 1)
    made.append(record(2))
    made.flush()
    made.close()
    assert (heard[-1].num_waiting, heard[-1].num_failures) == (0, 0)
    chain = chain_of(tmp_path)
    assert (chain.faults, chain.num_records) == ([], 2)


def test_two_processes_cannot_write_one_chain(tmp_path: Path) -> None:
    made, _ = journal(tmp_path)
    with pytest.raises(StartError, match=r"usage\.replica"):
        journal(tmp_path)
    journal(tmp_path, "other")[0].close()
    made.close()
    journal(tmp_path)[0].close()


def test_a_directory_that_cannot_be_used_is_said_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match=r"usage\.directory"):
        UsageJournal(tmp_path / "file" / "x", "r", 1000, lambda _: None)
    path = tmp_path / "r-000001.jsonl"
    path.write_text("garbage\n")
    with pytest.raises(StartError, match="not a usage record"):
        journal(tmp_path)


def test_a_line_has_no_newline_whatever_is_in_it(tmp_path: Path) -> None:
    line, _ = Head().follow(record(1, tenant="a\n\u2028b"))
    assert b"\n" not in line
    assert json.loads(line)["tenant"] == "a\n\u2028b"
