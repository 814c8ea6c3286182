"""A full disk refuses events and loses none: the service stays, and goes on once there is room."""

import pytest
import requests

import disks
from load import check_undamaged
from service import until
from steady import Steady, check

STREAM = "steady"
SIZE_MIB = 300  # the smallest xfs
CONFIG = """
max_streams = 6
partitions = 2
[load]
age_max = "{age}"
[ingest]
event_bytes_max = "32 KiB"
[wal]
segment_bytes = "256 KiB"
bytes_max = "8 MiB"
"""


@pytest.fixture
def on_image(workshop, make_service):
    """Makes a service, not started, whose data directory is on a small file system."""
    def make(kind, age="100ms", lake=None):
        disk = disks.mount(disks.image(workshop / "disk.img", kind, SIZE_MIB), workshop / "disk")
        service = make_service(workshop / "s", data=disk / "data", lake=lake)
        service.configure(CONFIG.format(age=age))
        return disk, service
    return make


KINDS = [pytest.param(kind, marks=pytest.mark.needs(kind)) for kind in ("ext4", "xfs")]


def refuses(service, client, disk):
    """It says 503 to everybody who sends or asks, and lives."""
    refused = len(client.having(503))

    def refused_often():
        # What the service gives up or leaves is taken as well: there is nothing left at all.
        disks.fill(disk)
        assert service.process.poll() is None, f"it has ended: {service.log()[-2000:]}"
        return len(client.having(503)) > refused + 20

    until("it refuses", refused_often)
    assert all(answer.retry_after for answer in client.having(503)), "no Retry-After"
    until("not ready", lambda: status(service, "/ready") == 503)
    assert status(service, "/health") == 200


def status(service, path):
    return requests.get(f"{service.url}{path}", timeout=10).status_code


def resumes(service, client):
    """It takes events again."""
    promised = len(client.having(202))
    until("it promises again", lambda: len(client.having(202)) > promised + 50)
    until("it is ready", service.is_ready)


def settled(service, client):
    service.flush()
    check(service.rows(), client)
    check_undamaged(service)
    assert service.letters() == [], "a full disk is nobody's dead letter"


@pytest.mark.parametrize("kind", KINDS)
def test_it_refuses_while_the_disk_is_full_and_goes_on_without_a_restart(on_image, kind):
    disk, service = on_image(kind)
    service.start()
    with Steady(service, STREAM, pause_s=0.001) as client:
        for _ in range(2):
            resumes(service, client)
            refuses(service, client, disk)
            (disk / "ballast").unlink()
        resumes(service, client)
    assert set(answer.status for answer in client.answers) == {202, 503}, "it restarted"
    settled(service, client)


@pytest.mark.parametrize("kind", KINDS)
def test_it_starts_on_a_full_disk_refuses_and_goes_on_when_there_is_room(on_image, kind):
    disk, service = on_image(kind)
    service.start()
    with Steady(service, STREAM, pause_s=0.001) as client:
        resumes(service, client)
        for _ in range(2):
            service.kill()
            disks.fill(disk)
            service.spawn()
            refuses(service, client, disk)
        (disk / "ballast").unlink()
        resumes(service, client)
    settled(service, client)


@pytest.mark.needs("btrfs")
def test_where_even_room_that_was_set_aside_is_none_it_may_end_and_loses_nothing(on_image):
    # btrfs writes anew what is overwritten: a full one fails whatever was prefilled.
    disk, service = on_image("btrfs")
    service.start()
    with Steady(service, STREAM, pause_s=0.001) as client:
        resumes(service, client)
        disks.fill(disk)
        refused = len(client.having(503))
        until("it refuses, or has ended", lambda: service.process.poll() is not None
              or len(client.having(503)) > refused + 20)
        (disk / "ballast").unlink()
        if service.process.poll() is not None:
            assert service.end() == 74, service.log()[-2000:]
            service.start()
        resumes(service, client)
    settled(service, client)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_taken_is_stored_although_not_a_byte_is_free(on_image, workshop, kind):
    lake = workshop / "lake"
    disk, service = on_image(kind, age="10m", lake=lake)
    service.start()
    client = Steady(service, STREAM)
    for _ in range(300):
        assert client.send().status == 202
    assert service.rows() == [], "stored too early to say anything"
    disks.fill(disk)
    service.flush()
    check(service.rows(), client)
    until("the ledger knows", lambda: service.stream(STREAM)["wal"]["lag_events"] == 0)
    service.kill()
    (disk / "ballast").unlink()
    service.start()
    settled(service, client)
