"""The image is built beside the other tests, which leave a core free; its own tests come last."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.deploy.image_builder import Builder, Container, open_builder, why_not_here

BUILD_TESTS = "test_build.py"
BUILD = pytest.StashKey[Future[Builder]]()


def is_build_test(item: pytest.Item) -> bool:
    return item.path.name == BUILD_TESTS


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=is_build_test)


def pytest_collection_finish(session: pytest.Session) -> None:
    wanted = any(is_build_test(item) for item in session.items)
    if wanted and not session.config.option.collectonly and not why_not_here():
        session.config.stash[BUILD] = ThreadPoolExecutor(1).submit(build)


def build() -> Builder:
    builder = open_builder()
    builder.build()
    return builder


@pytest.fixture(scope="session")
def container(request: pytest.FixtureRequest) -> Iterator[Container]:
    builder = request.config.stash[BUILD].result()
    yield builder.start()
    builder.close()
