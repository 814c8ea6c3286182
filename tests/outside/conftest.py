"""Every test has a service of its own, which is ended whatever happens."""

import os
import random

import pytest

from service import Service


@pytest.fixture
def service(tmp_path):
    """A service on an empty directory, not started."""
    service = Service(tmp_path / "s")
    service.home.mkdir()
    yield service
    if service.process:
        service.kill()


@pytest.fixture
def running(service):
    """The same, started with defaults."""
    return service.start()


@pytest.fixture
def dice():
    """Random numbers that a failure can be repeated with: EVENTKIT_SEED."""
    seed = int(os.environ.get("EVENTKIT_SEED") or random.SystemRandom().randrange(2**32))
    print(f"EVENTKIT_SEED={seed}")
    return random.Random(seed)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure shows the service's own log; a skip is never a pass."""
    report = yield
    service = item.funcargs.get("service") if hasattr(item, "funcargs") else None
    if report.when == "call" and report.failed and service:
        report.sections.append(("service log, its end", service.log()[-4000:]))
    if report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, which is no pass: {report.longrepr}"
    return report
