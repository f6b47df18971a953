"""One real redis-server for these tests; each test has a prefix of its own."""

from collections.abc import Iterator

import pytest

from tests.shared_limits.redis_server import RedisServer, running_redis


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server
