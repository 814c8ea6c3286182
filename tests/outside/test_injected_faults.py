"""Single system calls fail: a failed sync ends the service, and nothing is promised falsely.

strace makes the calls fail, of the log's files alone. `when` counts each thread's calls, and the
log's writer is one thread: with one request at a time, each acknowledgement has cost a sync.
"""

import os
import re
import subprocess
from contextlib import contextmanager

import pytest

from load import MIXED, Load, check_undamaged
from load import check as check_load
from service import until
from steady import Steady, check

WHEN = range(1, int(os.environ.get("EVENTKIT_INJECTIONS") or 25) + 1)
STREAM = "steady"
CONFIG = """
partitions = 2
[load]
age_max = "100ms"
[ingest]
event_bytes_max = "32 KiB"
[wal]
segment_bytes = "256 KiB"
"""
SYNCS = "fsync,fdatasync"

pytestmark = pytest.mark.needs("strace")


def log_files(service, stream="*"):
    """Segments that are there, and those that may follow them."""
    found = sorted(service.data.glob(f"wal/{stream}/seg-*"))
    later = [directory / f"seg-{n:05}.wal" for directory in {f.parent for f in found}
             for n in range(64)]
    return [str(file) for file in {*found, *later}]


@contextmanager
def injected(service, fault, paths):
    """From here on the running service's calls on these paths go wrong; yields the trace."""
    trace = service.home / "strace.log"
    calls = fault.split(":")[0]
    limits = [option for path in paths for option in ("-P", path)]
    words = service.home / "strace.err"
    with words.open("w") as told:
        tracer = subprocess.Popen(
            ["strace", "-f", "-ttt", "-o", trace, "-e", f"trace={calls}", "-e", f"inject={fault}",
             *limits, "-p", str(service.process.pid)], stderr=told)
        try:
            until("strace is attached", lambda: "attached" in words.read_text())
            yield trace
        finally:
            tracer.terminate()
            tracer.wait(60)


def injected_at(trace):
    """When the first call was made to fail, by the wall clock."""
    lines = trace.read_text().splitlines()
    line = next(line for line in lines if "INJECTED" in line or "killed by" in line)
    return float(re.match(r"(?:\d+ +)?(\d+\.\d+) ", line)[1])


@pytest.fixture
def used(service):
    """A service that runs, and whose log has been written."""
    service.configure(CONFIG)
    service.start()
    service.collect({"userId": "u", "messageId": "first"}, STREAM)
    return service


def settled(service, client):
    """Everything acknowledged has landed once, after a start without faults."""
    if service.process is None:
        service.start()
    service.flush()
    rows = [row for row in service.rows() if row["message_id"] != "first"]
    check(rows, client)
    check_undamaged(service)


def ends(service, client, fault, when):
    """Requests until a fault has ended the service; returns its exit code and the promises."""
    if service.process is None:
        service.start()
    before = len(client.having(202))
    with injected(service, f"{fault}:when={when}", log_files(service, STREAM)) as trace:
        until("it has ended", lambda: client.send() and service.process.poll() is not None, every=0)
    code = service.end()
    failed_at = injected_at(trace)
    # By its begin: a mark's sync may fail while the client has yet to look at its last answer.
    late = [a for a in client.having(202) if a.began > failed_at]
    assert late == [], f"promised after the fault of {failed_at}: {late[:3]}"
    return code, len(client.having(202)) - before


@pytest.mark.parametrize("fault", [
    f"{SYNCS}:error=EIO", f"{SYNCS}:error=ENOSPC", "pwrite64:error=EIO",
])
def test_a_failed_sync_ends_it_with_74_and_nothing_is_promised_after_it(used, fault):
    client = Steady(used, STREAM)
    for when in WHEN:
        code, promised = ends(used, client, fault, when)
        assert code == 74, f"{fault}, call {when}: exit {code}\n{used.log()[-2000:]}"
        assert promised < when, f"{promised} promises of {when - 1} syncs"
    assert len(client.having(202)) > len(WHEN), "too little was promised to say anything"
    settled(used, client)


@pytest.mark.parametrize("call", [SYNCS, "pwrite64"])
def test_a_kill_at_the_very_call_loses_and_doubles_nothing(used, call):
    client = Steady(used, STREAM)
    for when in WHEN:
        code, promised = ends(used, client, f"{call}:signal=KILL", when)
        assert code == -9
        assert promised < when, f"{promised} promises of {when - 1} syncs"
    settled(used, client)


def test_a_failed_sync_of_one_log_ends_it_for_all_of_them(used, dice):
    with Load(used, dice, forms=MIXED) as load:
        for when in (3, 30):
            if used.process is None:
                used.start()
            wanted = len(load.acknowledged()) + 50
            until("there is load", lambda n=wanted: len(load.acknowledged()) > n)
            paths = log_files(used, "clicks")
            with injected(used, f"{SYNCS}:error=EIO:when={when}", paths):
                assert used.end(120) == 74
    used.start().flush()
    rows = [row for row in used.rows() if row["message_id"] != "first"]
    check_load(load, rows, used.letters())
    check_undamaged(used, load)


def test_a_sync_that_fails_at_the_start_ends_it_and_the_next_start_has_everything(used):
    with Steady(used, STREAM) as client:
        until("something is acknowledged", lambda: len(client.having(202)) > 20)
        used.kill()
        paths = [option for path in log_files(used) for option in ("-P", path)]
        used.wrap = ["strace", "-f", "-D", "--seccomp-bpf", "-o", str(used.home / "strace.log"),
                     "-e", f"trace={SYNCS}", "-e", f"inject={SYNCS}:error=EIO:when=1", *paths]
        before = len(client.having(202))
        assert used.spawn().end(120) == 74, used.log()[-2000:]
        assert len(client.having(202)) == before, "promised without a sync"
        used.wrap = []
        used.start()
    settled(used, client)


def test_a_ledger_that_can_not_be_synced_ends_it_with_74(used):
    paths = [str(used.data / name) for name in ("ledger.db", "ledger.db-wal")]
    with Steady(used, STREAM) as client:
        with injected(used, f"{SYNCS}:error=EIO:when=2", paths):
            assert used.end(120) == 74
        used.start()
    settled(used, client)


def test_a_log_that_may_not_grow_refuses_and_goes_on_without_a_restart(used):
    with Steady(used, STREAM) as client:
        until("something is acknowledged", lambda: client.having(202))
        with injected(used, "pwrite64:error=ENOSPC:when=3..4", log_files(used, STREAM)) as trace:
            until("it was told to fail twice", lambda: trace.read_text().count("INJECTED") >= 2)
            promised = len(client.having(202))
            until("it promises again", lambda: len(client.having(202)) > promised + 20)
        assert used.process.poll() is None
    refused = client.having(503)
    assert refused and all(answer.retry_after for answer in refused)
    assert {a.status for a in client.answers} == {202, 503}
    settled(used, client)


def test_a_slow_sync_is_waited_for(used):
    with Steady(used, STREAM) as client:
        fault = f"{SYNCS}:delay_enter=2s:when=2..3"
        with injected(used, fault, log_files(used, STREAM)) as trace:
            until("two were slow", lambda: trace.read_text().count("DELAYED") >= 2)
            promised = len(client.having(202))
            until("it goes on", lambda: len(client.having(202)) > promised + 20)
    assert {answer.status for answer in client.answers} == {202}
    settled(used, client)


@pytest.mark.needs("gcc")
def test_a_write_that_takes_half_of_its_bytes_is_gone_on_with(service, shim):
    # strace can only pretend that bytes were written; the preloaded one writes them.
    service.configure(CONFIG)
    service.environment = shim | {"SHIM_SHORT": "1"}
    service.start()
    with Steady(service, STREAM, filler=9000) as client:
        until("much is acknowledged", lambda: len(client.having(202)) > 100)
        service.kill()
        service.start()
        until("and more", lambda: len(client.having(202)) > 200)
    assert 503 not in {answer.status for answer in client.answers}
    settled(service, client)
