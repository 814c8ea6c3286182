"""The power goes, on a real file system: nothing acknowledged is missing, nothing is there twice.

The service runs on an ext4 image, which lies on an xfs that can copy it in an instant, without the
system's caches: what ext4 had not been told to sync is not in the copy. The service goes on from
the copy, and the next cut comes. With its syncs made into nothing the same must lose events, or
the test would prove nothing.
"""

import os
import time

import pytest

import disks
from load import MIXED, Load, check, check_once, check_order, check_undamaged
from service import until

CUTS = int(os.environ.get("EVENTKIT_CUTS") or 25)
IMAGE_MIB = 2048
CONFIG = """
partitions = 4
[load]
events_max = 200
age_max = "100ms"
[ingest]
event_bytes_max = "32 KiB"
[wal]
segment_bytes = "256 KiB"
"""
# No journal commit of the system's own brings to the disk what the service did not sync.
OPTIONS = ("commit=300",)

pytestmark = pytest.mark.needs("ext4", "xfs", "gcc")


class Machine:
    """An ext4 image that can lose its power, and the service on it."""

    def __init__(self, workshop, make_service):
        self.base = disks.mount(disks.image(workshop / "base.img", "xfs", 4 * IMAGE_MIB),
                                workshop / "base")
        self.number = 0
        disks.image(self.image(), "ext4", IMAGE_MIB)
        self.disk = disks.mount(self.image(), workshop / "disk", *OPTIONS)
        self.service = make_service(workshop / "s", data=self.disk / "data")
        self.service.configure(CONFIG)

    def image(self):
        return self.base / f"{self.number}.img"

    def cut(self, load):
        """The disk is what it was at this instant; the service is dead, and not yet back."""
        load.turn()
        old = self.image()
        self.number += 1
        disks.command("cp", "--reflink=always", old, self.image())
        self.service.kill()
        load.turn()
        disks.unmount(self.disk)
        old.unlink()
        disks.mount(self.image(), self.disk, *OPTIONS)


@pytest.fixture
def machine(workshop, make_service):
    return Machine(workshop, make_service)


def under_load(service, load, dice):
    """Runs for a while, not without an answer."""
    wanted = len(load.acknowledged()) + 1
    until("something is acknowledged", lambda: len(load.acknowledged()) >= wanted, every=0.002)
    time.sleep(dice.randrange(5, 501) / 1000)
    code = service.process.poll()
    assert code is None, f"it ended by itself with {code}:\n{service.log()[-3000:]}"


def test_what_was_acknowledged_before_a_power_cut_is_there_exactly_once(machine, dice, tell):
    service = machine.service
    with Load(service, dice, forms=MIXED) as load:
        for _ in range(CUTS):
            service.start()
            under_load(service, load, dice)
            machine.cut(load)
    service.start().flush()
    rows, letters = service.rows(), service.letters()
    landed, dead = check(load, rows, letters)
    check_once(landed, dead)
    check_order(rows)
    check_undamaged(service, load)
    tell(f"{CUTS} cuts: {len(load.acknowledged())} acknowledged, {len(landed)} landed, "
         f"{len(dead)} dead letters; slowest start {max(service.starts_s):.2f} s")


@pytest.mark.parametrize("path", ["/", "/seg-"], ids=["all syncs", "the log's syncs"])
def test_a_service_whose_syncs_do_nothing_loses_events(machine, dice, shim, path):
    service = machine.service
    service.environment = shim | {"SHIM_NO_SYNC": path}
    with Load(service, dice) as load:
        service.start()
        until("much is acknowledged", lambda: len(load.acknowledged()) > 500)
        machine.cut(load)
    service.environment = {}
    service.start().flush()
    found = {row["message_id"] for row in service.rows()}
    found |= {letter["message_id"] for letter in service.letters()}
    assert load.acknowledged() - found, "nothing is lost: a cut of this kind proves nothing"
