"""Keeps the tests off the network and on one thread, and holds the fixtures of several folders.

The Hub's client knows one server, on loopback, down unless a test starts it. The client and OpenMP read their
environment when they are imported, so this comes first.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Generator
from importlib.metadata import version

# Tensors this small cost more to share out between threads than to compute. pytest-xdist runs a worker on each core
# instead, and processes that tests start inherit this.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import HealthCheck, settings
from packaging.version import Version


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


PORT = free_port()
os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{PORT}"
os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

# HYPOTHESIS_PROFILE=long: the properties on many random cases; unless set, on the same few each time.
SLOW = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("short", max_examples=15, derandomize=True, **SLOW)
settings.register_profile("long", max_examples=300, database=None, print_blob=True, **SLOW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "short"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that need newer packages: `@pytest.mark.needs("peft", "0.15", "the reason")`.

    Older versions of torch do not read context variables while they compile. They break the graph.
    """
    for item in items:
        needs = [mark.args for mark in item.iter_markers("needs")]
        needs += [("torch", "2.14", "one graph")] * (item.get_closest_marker("one_graph") is not None)
        for package, lowest, reason in needs:
            if Version(version(package)) < Version(lowest):
                item.add_marker(pytest.mark.skip(reason=f"{reason} needs {package} {lowest}"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test printed may hold names of files in no encoding, which pytest-xdist's workers cannot send."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode("utf-8")) for name, text in report.sections
    ]
    return report


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A running Hub, an empty cache, no stored token, and no long waits."""
    import time

    from huggingface_hub import constants

    from tests.support.hub_server import HubServer

    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.01)))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    server = HubServer(PORT)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """The models and files of all refused calls, see `tests/support/refusals.py`."""
    from tests.support.refusals import World

    return World(tmp_path_factory.mktemp("refusals"))


@pytest.fixture
def refuses(world):
    """Asserts that a call raises an error of this type and text, and that nothing of any model changes."""
    return world.refuse


@pytest.fixture
def stand_in_gpu(monkeypatch):
    """A `StandInGpu` instead of the parts of CUDA that the library calls."""
    from tests.support.stand_in_gpu import StandInGpu

    gpu = StandInGpu()
    monkeypatch.setattr(torch.cuda, "Event", gpu.event)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: gpu.capturing)
    return gpu


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tensors this small cost more to share out between threads than to compute.

    Threads that a test starts must set it again: until then, MKL takes all cores in them, and rounds otherwise.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
