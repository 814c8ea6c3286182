"""The wall clock jumps by years, both ways: nothing is lost, doubled or put out of order."""

import pytest

from load import MIXED, Load, check, check_once, check_order, check_undamaged
from service import until

LIBRARY = "/usr/$LIB/faketime/libfaketime.so.1"
CONFIG = '[load]\nage_max = "100ms"\nevents_max = 200\n'
JUMPS = ("+10y", "+0", "-10y", "+0", "+10y", "-10y", "-20y", "+0")

pytestmark = pytest.mark.needs("faketime")


class Clock:
    """The service's wall clock; its monotonic clock stays what it is."""

    def __init__(self, service):
        self.file = service.home / "clock"
        self.set("+0")
        service.environment = {
            "LD_PRELOAD": LIBRARY, "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
        }

    def set(self, offset):
        self.file.write_text(f"{offset}\n")


@pytest.fixture
def clock(service):
    service.configure(CONFIG)
    return Clock(service)


def settled(service, load):
    service.flush()
    rows, letters = service.rows(), service.letters()
    landed, dead = check(load, rows, letters)
    check_once(landed, dead)
    check_order(rows)
    check_undamaged(service, load)
    years = {row["received_at"].year for row in rows}
    assert max(years) - min(years) >= 19, f"the clock did not jump: {years}"


def more(load, count=300):
    wanted = len(load.acknowledged()) + count
    until("it acknowledges", lambda: len(load.acknowledged()) > wanted)


def test_jumps_while_it_runs_change_nothing(service, clock, dice):
    service.start()
    with Load(service, dice, forms=MIXED) as load:
        for offset in JUMPS:
            clock.set(offset)
            more(load)
    settled(service, load)


def test_jumps_across_kills_and_restarts_change_nothing(service, clock, dice):
    with Load(service, dice, forms=MIXED, retries=True) as load:
        for offset in JUMPS:
            clock.set(offset)
            service.start()
            more(load)
            service.kill()
    clock.set("+0")
    service.start().flush()
    rows = service.rows()
    landed, _ = check(load, rows, service.letters())
    check_once(landed)
    check_order(rows)
    check_undamaged(service)


def test_a_flush_by_age_does_not_wait_for_the_wall_clock(service, clock):
    service.start()
    for offset in ("-10y", "+10y", "-10y"):
        clock.set(offset)
        service.collect({"userId": "u"})
        count = len(service.rows()) + 1
        until("it lands by itself", lambda n=count: len(service.rows()) == n, 20)
