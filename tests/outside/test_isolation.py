"""A stream whose store is away, until its log is full, is nobody else's trouble.

Stream a's store goes and comes back several times; stream b is asked all the while. How long b
waits with a down is told beside how long it waits without, from alternating stretches of the same
run; what is asserted is that b is never refused, that memory does not follow the backlog, and
that everything lands once.
"""

import shutil

import pytest

from load import check_undamaged
from service import until
from steady import Steady, check

OUTAGES = 3
ASKED = 250  # requests of b in each stretch
RSS_GROWTH_MAX_BYTES = 24 << 20  # more than a full log's 2 MiB cost in every buffer they pass
CONFIG = """
partitions = 2
[load]
age_max = "100ms"
[ingest]
event_bytes_max = "32 KiB"
[wal]
segment_bytes = "256 KiB"
bytes_max = "2 MiB"
"""


class Store:
    """Stream a's part of the lake, which can be taken away: root may write anywhere, but not in a
    directory that is a file."""

    def __init__(self, service):
        self.place = service.lake / "stream=a"
        self.aside = service.home / "aside"

    def leave(self):
        shutil.move(self.place, self.aside)
        self.place.write_text("in the way")

    def come_back(self):
        self.place.unlink()
        shutil.move(self.aside, self.place)


def p99_ms(answers):
    waited = sorted(answer.ended - answer.began for answer in answers)
    return waited[len(waited) * 99 // 100] * 1000


def stretch(client):
    """The answers to the next requests."""
    start = len(client.answers)
    until("b is answered", lambda: len(client.answers) >= start + ASKED)
    return client.answers[start:start + ASKED]


@pytest.fixture
def store(service):
    """A service with something in both streams."""
    service.configure(CONFIG)
    service.start()
    for stream in "ab":
        service.collect({"userId": "u", "messageId": f"first of {stream}"}, stream)
    service.flush()
    return Store(service)


def test_a_stream_with_a_full_log_costs_the_others_nothing_and_lands_afterwards(
        service, store, tell):
    with_it, without, grown = [], [], []
    with Steady(service, "a", filler=6000) as a, Steady(service, "b") as b:
        for _ in range(OUTAGES):
            with_it += stretch(b)
            store.leave()
            refused, before = len(a.having(503)), service.rss_bytes()
            until("a is refused", lambda n=refused: len(a.having(503)) > n + 10)
            without += stretch(b)
            grown.append(service.rss_bytes() - before)
            store.come_back()
            promised = len(a.having(202))
            until("a is promised again", lambda n=promised: len(a.having(202)) > n + 10)
    assert {answer.status for answer in b.answers} == {202}, "b was refused"
    assert {answer.status for answer in a.answers} == {202, 503}
    assert all(answer.retry_after for answer in a.having(503))
    assert max(grown) < RSS_GROWTH_MAX_BYTES, f"memory follows the backlog: {grown}"
    service.flush()
    rows = [row for row in service.rows() if not row["message_id"].startswith("first")]
    check(rows, a, b)
    check_undamaged(service)
    assert service.letters() == [], "an outage is nobody's dead letter"
    tell(f"b's p99 with a {p99_ms(with_it):.1f} ms, with a's store away {p99_ms(without):.1f} ms "
         f"({p99_ms(without) / p99_ms(with_it):.2f}x); memory grew by "
         f"{max(grown) / (1 << 20):.1f} MiB in an outage")
