import io
import socket
import threading

import pytest

from app.bench.arrivals import ClosedLoop, OpenLoop
from app.bench.generator import GeneratorLoad, measure
from app.bench.lengths import Lengths
from app.bench.outcome import Outcome
from app.bench.progress import Progress
from app.bench.target import Target
from app.bench.workload import Ask, Workload, draw_workload
from tests.unit.bench.scripted_server import KEY, scripted_server

WORKLOAD = draw_workload(12, Lengths(3), Lengths(3))


def run(url: str, workload: Workload, arrivals: ClosedLoop | OpenLoop) -> list[Outcome]:
    progress = Progress("test", len(workload.asks), io.StringIO())
    return measure(Target("t", url, KEY), "m", workload, arrivals, progress).outcomes


def test_chunks_are_timed_as_they_come() -> None:
    with scripted_server("a", "b", "c", pause_s=0.3) as server:
        outcomes = run(server.url, WORKLOAD, ClosedLoop(12))
    for outcome in outcomes:
        assert outcome.error is None
        assert len(outcome.chunk_times) == 3
        assert outcome.chunk_times[2] - outcome.chunk_times[0] > 0.02
        assert outcome.num_output_tokens == 3


def test_an_open_loop_does_not_wait_for_answers() -> None:
    with scripted_server("a", pause_s=0.5) as server:
        run(server.url, WORKLOAD, OpenLoop(200, 200))
        assert server.most_in_flight == 12


def test_requests_are_due_when_the_trace_says() -> None:
    asks = tuple(Ask(number, 2, 2, at_s) for number, at_s in enumerate([0.3, 0.0, 0.15]))
    with scripted_server("a") as server:
        outcomes = run(server.url, Workload(asks), ClosedLoop(1))
    due = sorted(outcome.due_s for outcome in outcomes)
    assert [at_s - due[0] for at_s in due] == pytest.approx([0, 0.15, 0.3])


def test_connections_are_kept() -> None:
    with scripted_server("a") as server:
        run(server.url, WORKLOAD, ClosedLoop(2))
        assert server.num_connections == 2


def test_a_server_that_is_not_there_is_an_error_of_each_request() -> None:
    outcomes = run("http://127.0.0.1:9", WORKLOAD, ClosedLoop(2))
    assert [outcome.error for outcome in outcomes] == ["no connection"] * 12


@pytest.mark.parametrize(
    ("answer", "kind"), [(b"", "connection lost"), (b"SSH-2.0-x\r\n", "bad response")]
)
def test_a_server_that_breaks_off_is_an_error(answer: bytes, kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        workload = draw_workload(1)

        def answer_once() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=answer_once)
        thread.start()
        outcomes = run(f"http://127.0.0.1:{listener.getsockname()[1]}", workload, ClosedLoop(1))
        thread.join()
    assert [outcome.error for outcome in outcomes] == [kind]


def test_a_generator_without_cpu_to_spare_or_late_timers_was_the_limit() -> None:
    assert not GeneratorLoad(cpu_s=5, wall_s=10, lag_s=0.01).was_limit
    assert GeneratorLoad(cpu_s=9, wall_s=10, lag_s=0.01).was_limit
    assert GeneratorLoad(cpu_s=1, wall_s=10, lag_s=0.2).was_limit
