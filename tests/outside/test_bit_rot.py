"""A bit flips in what the service keeps: it starts, goes on, and names whatever is lost by it.

One bit a restart, anywhere in a log, the ledger or the dead letters, while much of what was
acknowledged is in the log alone. Every acknowledged id is in the lake, or a dead letter, or in a
range that a report names; what did land is what was sent.
"""

import json
import os
import struct
from collections import Counter

import pytest

from load import Load
from service import until
from steady import Steady, check

FLIPS = int(os.environ.get("EVENTKIT_FLIPS") or 25)
STREAM = "steady"
# Batches that stay open for long: a kill leaves them in the log.
CONFIG = """
partitions = 2
[load]
age_max = "{age}"
events_max = 300
[wal]
segment_bytes = "64 KiB"
[ingest]
event_bytes_max = "32 KiB"
"""
KINDS = {
    "the logs": ("wal/*/seg-*",),
    "the ledger": ("ledger.db", "ledger.db-wal"),
    "the dead letters": ("errors.db", "errors.db-wal"),
    "anything": ("wal/*/seg-*", "ledger.db*", "errors.db*", "IDENTITY"),
}


def on_disk(path):
    """A file's bytes. The log writes past the page cache, which may keep what another reader has
    seen there before."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return file.read()


def segments(service, stream):
    """What the log's segments hold; listed anew if one is renamed, as a new one is, meanwhile."""
    while True:
        try:
            return [on_disk(file) for file in service.data.glob(f"wal/{stream}/seg-*.wal")]
        except FileNotFoundError:
            continue


def is_marked(service, stream):
    """Whether the log's newest frame holds no events: only then is its last event's damage known
    from a torn tail (a frame in the format: magic, type at 4, generation at 8, position at 16)."""
    frames = []
    for content in segments(service, stream):
        for at in range(8192, len(content), 4096):
            magic, kind, generation, seq = struct.unpack_from("<4sB3xQQ", content, at)
            if magic == b"FRM1":
                frames.append((generation, seq, at, kind))
    return bool(frames) and max(frames)[3] != 1


def is_used(service, stream):
    """Whether the log has a frame."""
    return any(content[8192:8196] == b"FRM1" for content in segments(service, stream))


def kill_in_quiet(service, *streams):
    """kill -9 once each log has told that nothing follows."""
    for stream in streams:
        until(f"the log of {stream} is marked", lambda name=stream: is_marked(service, name))
    service.kill()


def flip(service, dice, patterns):
    """Changes one bit that is not in an untouched stretch of zeros; says where."""
    files = [f for pattern in patterns for f in service.data.glob(pattern) if f.stat().st_size]
    file = dice.choice(files)
    content = bytearray(on_disk(file))
    # A prefilled file is mostly zeros, in which there is nothing to be lost.
    used = len(bytes(content).rstrip(b"\0")) + 4096
    at = dice.randrange(min(used, len(content)))
    content[at] ^= 1 << dice.randrange(8)
    file.write_bytes(content)
    return f"{file.relative_to(service.data)} at {at}"


def lost_positions(service):
    """How many positions of each stream's log the reports name; their ranges may overlap."""
    lost = {}
    for report in service.reports():
        for first, end in report["ranges"]:
            lost.setdefault(report["stream"], set()).update(range(first, end))
    return Counter({stream: len(positions) for stream, positions in lost.items()})


@pytest.mark.parametrize("kind", ["the logs", "the ledger"])
def test_every_loss_by_a_flipped_bit_is_reported_with_its_range(service, dice, kind, tell):
    service.configure(CONFIG.format(age="10m"))
    client = Steady(service, STREAM, filler=300)
    flipped = []
    for _ in range(FLIPS):
        service.start()
        for _ in range(dice.randrange(1, 80)):
            assert client.send().status == 202, service.log()[-2000:]
        kill_in_quiet(service, STREAM)
        flipped.append(flip(service, dice, KINDS[kind]))
    service.start().flush()
    lost = lost_positions(service)
    missing = check(service.rows(), client, lost_max=len(client.sent))
    assert len(missing) <= lost[STREAM], (
        f"{len(missing)} are missing, such as {sorted(missing)[:10]}; {lost[STREAM]} are reported; "
        f"flipped: {flipped}")
    if kind != "the logs":
        assert missing == set(), "the log had everything"
    assert sum(lost.values()) <= len(client.sent), "the reports name more than there was"
    tell(f"{FLIPS} flips in {kind}: {len(missing)} missing, {lost[STREAM]} reported")


def test_flips_in_the_dead_letters_lose_none_that_is_not_reported(service, dice, tell):
    service.configure(CONFIG.format(age="50ms"))
    acknowledged, number = set(), 0
    for _ in range(FLIPS):
        service.start()
        bad = [{"messageId": f"bad-{number + n}", "type": "track", "event": "Clicked"}
               for n in range(dice.randrange(1, 60))]
        number += len(bad)
        assert service.post("/v1/batch", {"batch": bad}).status_code == 200
        acknowledged.update(event["messageId"] for event in bad)
        service.flush()
        service.kill()
        flip(service, dice, KINDS["the dead letters"])
    service.start().flush()
    found = Counter(letter["message_id"] for letter in service.letters())
    assert not set(found) - acknowledged, "a letter that nobody sent"
    assert max(found.values()) == 1, "a letter twice"
    missing = acknowledged - set(found)
    lost = sum(report["lost"] for report in service.reports())
    assert len(missing) <= lost, f"{len(missing)} letters are missing, {lost} are reported"
    tell(f"{FLIPS} flips: {len(missing)} of {len(acknowledged)} letters missing, {lost} reported")


def test_flips_anywhere_under_mixed_load_lose_nothing_in_silence(service, dice, tell):
    service.configure(CONFIG.format(age="100ms"))
    flipped = []
    with Load(service, dice) as load:
        for _ in range(FLIPS):
            service.start()
            wanted = len(load.acknowledged()) + 50
            until("it acknowledges", lambda n=wanted: len(load.acknowledged()) > n)
            with load.pause():
                used = [path.name for path in (service.data / "wal").iterdir()
                        if is_used(service, path.name)]
                kill_in_quiet(service, *used)
            flipped.append(flip(service, dice, KINDS["anything"]))
    service.start().flush()
    rows, sent, properties = service.rows(), load.sent(), load.properties()
    for row in rows:
        assert json.loads(row["properties"]) == properties[row["message_id"]], row
    landed = Counter(row["message_id"] for row in rows)
    found = set(landed) | {letter["message_id"] for letter in service.letters()}
    assert not found - set(sent), "something was never sent"
    twice = [i for i, count in landed.items() if count > 1]
    assert twice == [], f"{len(twice)} are there twice, such as {twice[:10]}; flipped: {flipped}"
    missing = load.acknowledged() - found
    lost = sum(report["lost"] for report in service.reports())
    assert len(missing) <= lost, (
        f"{len(missing)} are missing, {len(missing & load.bad())} of them bad; {lost} are reported; "
        f"flipped: {flipped}")
    tell(f"{FLIPS} flips: {len(missing)} of {len(load.acknowledged())} missing, {lost} reported")
