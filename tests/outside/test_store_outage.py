"""A stream whose store fails piles up in its own log; the others do not notice."""

import shutil

import pytest

from service import until

CONFIG = '[load]\nage_max = "100ms"\n'


def send(service, stream, numbers):
    service.collect([{"userId": "u", "messageId": f"{stream}{n}"} for n in numbers], stream)


def landed(service, stream):
    return sorted(row["message_id"] for row in service.rows() if row["stream"] == stream)


def ids(stream, count):
    return sorted(f"{stream}{n}" for n in range(count))


@pytest.fixture
def broken(service):
    """A service with something in both streams, where the lake takes nothing more of `a`."""
    service.configure(CONFIG)
    service.start()
    for stream in "ab":
        send(service, stream, range(10))
    service.flush()
    # Root may write anywhere: a file where the directory should be stops even root.
    directory = service.lake / "stream=a"
    shutil.move(directory, service.home / "aside")
    directory.write_text("in the way")
    return service


def mend(service):
    (service.lake / "stream=a").unlink()
    shutil.move(service.home / "aside", service.lake / "stream=a")


def fails(service):
    # A snapshot is a second old at most: the stream may be younger.
    stream = service.stream("a")
    return stream and stream["store_error"] and stream["store_failures"] >= 2 and stream


def test_other_streams_land_while_one_stream_s_store_fails_and_then_all_lands(broken):
    send(broken, "a", range(10, 300))
    failing = until("the failure shows", lambda: fails(broken))
    assert failing["wal"]["lag_events"] == 290
    send(broken, "b", range(10, 300))
    until("b lands although a fails", lambda: landed(broken, "b") == ids("b", 300))
    assert fails(broken), "a still fails: b did not wait for it"
    send(broken, "a", range(300, 400))
    assert landed(broken, "a") == []
    findings = broken.status()["findings"]
    assert any(f["stream"] == "a" and f["severity"] == "critical" for f in findings), findings
    assert broken.metrics()["eventkit_store_failing"]['{stream="a"}'] == 1

    mend(broken)
    until("all of a lands", lambda: landed(broken, "a") == ids("a", 400))
    until("the failure is over", lambda: broken.stream("a")["store_error"] is None)
    until("its log is empty", lambda: broken.stream("a")["wal"]["lag_events"] == 0)
    assert landed(broken, "b") == ids("b", 300)
    assert broken.letters() == [], "an outage is nobody's dead letter"


def test_a_kill_in_the_middle_of_an_outage_loses_and_doubles_nothing(broken):
    send(broken, "a", range(10, 300))
    until("the failure shows", lambda: fails(broken))
    broken.kill()
    broken.start()
    send(broken, "a", range(300, 310))
    send(broken, "b", range(10, 20))
    until("b lands", lambda: landed(broken, "b") == ids("b", 20))
    mend(broken)
    until("all of a lands", lambda: landed(broken, "a") == ids("a", 310))
    broken.flush()
    assert landed(broken, "a") == ids("a", 310)


def test_a_stop_in_an_outage_keeps_what_it_could_not_store(broken):
    broken.configure('shutdown_timeout = "1s"\n' + CONFIG)
    broken.kill()
    broken.start()
    send(broken, "a", range(10, 50))
    until("the failure shows", lambda: fails(broken))
    assert broken.terminate() == 0
    mend(broken)
    broken.start().flush()
    assert landed(broken, "a") == ids("a", 50)
