"""kill -9 at any instant: nothing acknowledged is missing, nothing is there twice."""

import os
import time
from collections import Counter

from load import MIXED, Load, check, check_once, check_order, check_undamaged

KILLS = int(os.environ.get("EVENTKIT_KILLS") or 50)
# Small batches and segments, so that a kill meets every step from append to reclaim.
CONFIG = """
partitions = 4
[load]
events_max = 60
age_max = "100ms"
[ingest]
event_bytes_max = "32 KiB"
[wal]
segment_bytes = "64 KiB"
"""


def crash_again_and_again(service, dice, load):
    """Kills the service at random instants, some of them before it is ready."""
    for _ in range(KILLS):
        delay_s = dice.randrange(5, 501) / 1000
        if dice.random() < 0.5:
            service.start()
        else:
            service.spawn()
        time.sleep(delay_s)
        code = service.process.poll()
        assert code is None, f"it ended by itself with {code}:\n{service.log()[-3000:]}"
        service.kill()
    # The oracle has to see answers as well, whatever the instants were.
    service.start()
    wanted = len(load.acknowledged()) + 200
    end = time.monotonic() + 60
    while len(load.acknowledged()) < wanted:
        assert time.monotonic() < end, "the service acknowledges nothing any more"
        time.sleep(0.05)
    service.kill()


def recovery(service):
    """How long starts took until ready, as a sentence."""
    starts = sorted(service.starts_s)
    p50, p99 = starts[len(starts) // 2], starts[len(starts) * 99 // 100]
    return (f"{KILLS} kills; from start to ready, {len(starts)} times: "
            f"p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms")


def test_every_acknowledged_event_is_there_exactly_once_whatever_was_killed(service, dice, tell):
    service.configure(CONFIG)
    with Load(service, dice, forms=MIXED) as load:
        crash_again_and_again(service, dice, load)
    service.start().flush()
    rows, letters = service.rows(), service.letters()
    landed, dead = check(load, rows, letters)
    check_once(landed, dead)
    check_order(rows)
    check_undamaged(service, load)
    assert any(sender.cut for sender in load.senders), "no body was malformed"
    tell(f"{recovery(service)}; {len(load.acknowledged())} acknowledged, {len(landed)} landed, "
         f"{len(dead)} dead letters")


def test_a_client_that_repeats_what_was_not_answered_has_every_event_once(service, dice, tell):
    service.configure(CONFIG)
    with Load(service, dice, retries=True, forms=MIXED) as load:
        crash_again_and_again(service, dice, load)
    service.start().flush()
    rows, letters = service.rows(), service.letters()
    landed, dead = check(load, rows, letters)
    repeated = sum(attempts > 1 for attempts in load.sent().values())
    assert repeated > 0, "no client had anything to repeat"
    check_once(landed)
    check_order(rows)
    check_undamaged(service)
    tell(recovery(service))
    sent = load.sent()
    for message_id, count in Counter(dead).items():
        assert count <= sent[message_id]


def test_a_kill_between_two_quiet_moments_changes_nothing_in_the_lake(service, dice):
    service.configure(CONFIG)
    service.start()
    with Load(service, dice) as load:
        end = time.monotonic() + 60
        while len(load.acknowledged()) < 500:
            assert time.monotonic() < end, "too slow"
            time.sleep(0.02)
    service.flush()
    before = sorted((row["stream"], row["log_seq"]) for row in service.rows())
    for _ in range(3):
        service.kill()
        service.start().flush()
    assert sorted((row["stream"], row["log_seq"]) for row in service.rows()) == before
    check(load, service.rows(), service.letters())
