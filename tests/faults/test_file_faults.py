"""Files that go away, fill up or turn to garbage under a running server."""

import time
from pathlib import Path

from app.core.keys import digest_of, make_key
from app.settings.key_file import write_keys
from tests.faults.fault_table import FaultTable
from tests.faults.stand_in import running_server
from tests.faults.waiting import wait_for

LONGER_THAN_THE_WATCH_LOOKS_S = 2


def test_a_log_on_a_full_disk_stops_no_request(tmp_path: Path, table: FaultTable) -> None:
    with running_server(tmp_path, log=Path("/dev/full")) as server:
        begun = time.monotonic()
        assert [server.ask() for _ in range(50)] == [200] * 50
        over_s = time.monotonic() - begun
    table.add(
        "disk full for the log (`/dev/full`)",
        clients="50 requests, all answered",
        lost="the log lines",
        service="goes on",
        over_s=over_s,
    )


def test_a_key_file_that_is_gone_or_garbage_leaves_the_keys_in_force(
    tmp_path: Path, table: FaultTable
) -> None:
    with running_server(tmp_path) as server:
        good = server.keys.read_bytes()
        server.keys.unlink()
        time.sleep(LONGER_THAN_THE_WATCH_LOOKS_S)
        assert server.ask() == 200
        for garbage in (b"", b"keys: [", b"\xff\x00" * 1000, b"[" * 100_000):
            server.keys.write_bytes(garbage)
            time.sleep(LONGER_THAN_THE_WATCH_LOOKS_S)
            assert server.ask() == 200
        server.keys.unlink()
        server.keys.mkdir()
        time.sleep(LONGER_THAN_THE_WATCH_LOOKS_S)
        assert server.ask() == 200
        server.keys.rmdir()
        server.keys.write_bytes(good)
        begun = time.monotonic()
        write_keys(server.keys, [make_key("other", digest_of("sk-other"), ["infer"])])
        wait_for(lambda: server.ask() == 401, "the new keys are not taken")
        over_s = time.monotonic() - begun
    table.add(
        "key file removed, emptied, garbage, a directory; then a good one",
        clients="known keys stay good; the good file is followed",
        service="`gateway_key_file_valid` 0 meanwhile",
        over_s=over_s,
    )
