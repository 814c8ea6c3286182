"""Every test has a service of its own, which is ended whatever happens.

A test that this machine can't run is left out, and the run says so: `@pytest.mark.needs("ext4")`.
"""

import functools
import os
import random
import shutil
from pathlib import Path

import pytest

import disks
import emulators
from service import Service

FIGURES = pytest.StashKey[list]()
SERVICES = pytest.StashKey[list]()
NOT_RUN = pytest.StashKey[list]()


@functools.cache
def lacking(need):
    """Why this machine has not what a test needs; None where it has it."""
    if need in disks.MAKERS:
        return disks.unusable(need)
    if need in emulators.NEEDS:
        return emulators.lacking(need)
    return None if shutil.which(need) else f"there is no {need} here"


def needs(item):
    """What a test says it needs, and the emulators that it uses."""
    said = [need for mark in item.iter_markers("needs") for need in mark.args]
    return said + [name for name in emulators.NEEDS if name in item.fixturenames]


def pytest_configure(config):
    config.addinivalue_line("markers", "needs(*what): left out without these")
    config.stash[FIGURES], config.stash[NOT_RUN] = [], []


def pytest_collection_modifyitems(config, items):
    reasons = {item: [lacking(need) for need in needs(item)] for item in items}
    left_out = [item for item in items if any(reasons[item])]
    config.stash[NOT_RUN] = [
        f"NOT RUN: {item.nodeid} because {next(filter(None, reasons[item]))}" for item in left_out
    ]
    strict = os.environ.get("EVENTKIT_NOT_RUN") == "fail" or os.environ.get("CI") == "true"
    if left_out and strict:
        raise pytest.UsageError("\n".join(config.stash[NOT_RUN]))
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(terminalreporter, config):
    for title, key in (("figures", FIGURES), ("left out", NOT_RUN)):
        if config.stash[key]:
            terminalreporter.section(title)
            terminalreporter.write_line("\n".join(config.stash[key]))


@pytest.fixture
def tell(request):
    """Says a figure at the end of the run: measured, and never asserted."""
    figures = request.config.stash[FIGURES]
    return lambda text: figures.append(f"{request.node.name}: {text}")


def end_services(item):
    """Kills what a test has left running."""
    for service in item.stash.get(SERVICES, []):
        if service.process:
            service.kill()


@pytest.fixture
def make_service(request):
    """Makes services, not started, which are ended with the test."""
    services = request.node.stash.setdefault(SERVICES, [])

    def make(home, **where):
        services.append(Service(home, **where))
        home.mkdir(parents=True)
        return services[-1]

    yield make
    end_services(request.node)


@pytest.fixture
def service(make_service, tmp_path):
    """A service on an empty directory, not started."""
    return make_service(tmp_path / "s")


@pytest.fixture
def running(service):
    """The same, started with defaults."""
    return service.start()


@pytest.fixture
def workshop(request):
    """A directory for images of file systems, and for what is mounted from them."""
    with disks.workshop() as here:
        yield here
        # Nothing can be unmounted below a service.
        end_services(request.node)


@pytest.fixture(scope="session")
def shim(tmp_path_factory):
    """The environment that preloads shim.c; which of its faults, the test adds."""
    library = tmp_path_factory.mktemp("shim") / "shim.so"
    source = Path(__file__).with_name("shim.c")
    disks.command("gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", source, "-o", library)
    return {"LD_PRELOAD": str(library)}


@pytest.fixture(scope="module")
def gcs(tmp_path_factory):
    with emulators.gcs(tmp_path_factory.mktemp("gcs")) as service:
        yield service


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    with emulators.s3(tmp_path_factory.mktemp("s3")) as service:
        yield service


@pytest.fixture(scope="module")
def bigquery(tmp_path_factory, gcs):
    with emulators.bigquery(tmp_path_factory.mktemp("bigquery"), gcs.root) as service:
        yield service


@pytest.fixture(scope="module")
def firestore(tmp_path_factory):
    with emulators.firestore(tmp_path_factory.mktemp("firestore")) as service:
        yield service


@pytest.fixture(scope="module")
def pubsub(tmp_path_factory):
    with emulators.pubsub(tmp_path_factory.mktemp("pubsub")) as service:
        yield service


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
    if report.when == "call" and report.failed:
        for service in item.stash.get(SERVICES, []):
            report.sections.append(("service log, its end", service.log()[-4000:]))
    if report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, which is no pass: {report.longrepr}"
    return report
