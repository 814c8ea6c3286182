"""Several instances behind one topic: those that collect, those that process, and what becomes of
an event when one of them dies or the topic is away."""

import functools
import json
import os
import re
import threading
from collections import Counter

import pyarrow.parquet as pq
import pytest
import requests

import disks
from service import assert_readme_says, lake_files, until

EVENTS = int(os.environ.get("EVENTKIT_PUBSUB_EVENTS") or 40_000)
USERS = 20
LEASE_S = 15
PULL = "/google.pubsub.v1.Subscriber/StreamingPull"
ACKNOWLEDGE = "/google.pubsub.v1.Subscriber/Acknowledge"
SMALL_DISK = """
max_streams = 6
partitions = 2
[ingest]
event_bytes_max = "32 KiB"
[wal]
segment_bytes = "256 KiB"
bytes_max = "8 MiB"
"""
COLUMNS = ["message_id", "user_id", "log_seq", "extra"]


@pytest.fixture
def instance(make_service, pubsub, request, tmp_path):
    """Makes an instance of a role; all of a test share topic, subscription and lake."""
    topic = re.sub(r"\W+", "-", request.node.name)[:200]
    lake = tmp_path / "lake"

    def make(name, role, **settings):
        service = make_service(tmp_path / name, lake=lake)
        service.environment |= {
            "EVENTKIT_QUEUE_MODE": "pubsub",
            "EVENTKIT_ROLE": role,
            "EVENTKIT_QUEUE_TOPIC": topic,
            "EVENTKIT_QUEUE_SUBSCRIPTION": topic,
            "EVENTKIT_GOOGLE_PROJECT": pubsub.project,
            "PUBSUB_EMULATOR_HOST": pubsub.host,
            "EVENTKIT_LOAD_AGE_MAX": "1s",
        } | settings
        return service

    make.topic = topic
    yield make
    pubsub.connections("pass")
    pubsub.heal()


def events(collector, numbers):
    """Events of many users that say who collected them, and in which order."""
    return [
        {"type": "track", "event": "E", "userId": f"u{n % USERS}", "collector": collector, "n": n,
         "messageId": f"{collector}-{n}"}
        for n in numbers
    ]


def send(service, collector, numbers):
    answer = service.post("/v1/batch", {"batch": events(collector, numbers)})
    assert answer.status_code == 200, answer.text


def queue(service):
    return service.status()["queue"]


def ids(rows):
    return sorted(row["message_id"] for row in rows)


def dependency(service, name):
    """One line of /ready; None while nobody answers."""
    try:
        found = requests.get(f"{service.url}/ready", timeout=5).json()["dependencies"]
    except requests.RequestException:
        return None
    return next(line for line in found if line["name"] == name)


def stored(service, count):
    """The lake's rows, once it has so many different events."""
    def rows():
        files = lake_files(service.lake)
        if sum(pq.ParquetFile(file).metadata.num_rows for file in files) < count:
            return None
        found = service.rows() if files else []
        return found if len(set(ids(found))) >= count else None

    return until(f"{count} events are in the lake", rows, 120, every=0.2)


def by_log(lake):
    """What was stored from each log, as it stood there: one of each instance and stream."""
    files = {}
    for file in lake_files(lake):
        table = pq.ParquetFile(file)
        facts = table.metadata.metadata
        batch = (int(facts[b"eventkit.first_seq"]), table.read(COLUMNS).to_pylist())
        files.setdefault(facts[b"eventkit.log"], []).append(batch)
    sorts = lambda batches: sorted(batches, key=lambda batch: batch[0])  # noqa: E731
    return {log: [row for _, rows in sorts(batches) for row in rows]
            for log, batches in files.items()}


def assert_order(lake):
    """Of each collector and user, every instance stored the events in the order of sending."""
    for log, rows in by_log(lake).items():
        # A batch has its partitions one after the other; a user is in one of them.
        assert_rising(rows, log)
    assert_once_each(lake)


def assert_once_each(lake):
    """No instance stored an event twice, and whoever stored them, `log_seq` is their order."""
    logs = by_log(lake)
    for log, rows in logs.items():
        assert len(rows) == len(set(ids(rows))), f"an instance stored an event twice: {log}"
    each = {row["message_id"]: row for rows in logs.values() for row in rows}
    assert_rising(sorted(each.values(), key=lambda row: row["log_seq"]), "of a collector")


def assert_rising(rows, log):
    """The numbers of each collector and user rise."""
    last = {}
    for row in rows:
        extra = json.loads(row["extra"])
        key = (extra["collector"], row["user_id"])
        assert last.get(key, -1) < extra["n"], f"{row} stands behind {last[key]} in log {log}"
        last[key] = extra["n"]


def test_what_is_acknowledged_here_is_stored_there(instance):
    collector, processor = instance("c", "collect").start(), instance("p", "process").start()
    send(collector, "c", range(200))
    assert collector.flush()["unfinished"] == []
    seen = queue(collector)
    assert (seen["role"], seen["published_events"], seen["error"]) == ("collect", 200, None)
    assert collector.stream("events")["wal"]["lag_events"] == 0
    rows = stored(processor, 200)
    assert ids(rows) == sorted(f"c-{n}" for n in range(200))
    assert_order(processor.lake)
    until("all is acknowledged", lambda: queue(processor)["outstanding_messages"] == 0)
    assert queue(processor)["pulled_events"] == 200
    # Not held any more, it may still have to be confirmed.
    until("that is confirmed", lambda: processor.metrics()["eventkit_messages_acked_total"][""] >= 1)
    assert collector.post("/collect", {"n": 1}).status_code == 202
    refused = processor.post("/collect", {"n": 1})
    assert (refused.status_code, refused.json()["code"]) == (404, "not_collecting")


@pytest.mark.parametrize("direction", [1, -1], ids=["as published", "backwards"])
def test_messages_that_come_out_of_order_are_seen_where_they_are_stored(
        instance, pubsub, direction):
    collector = instance("c", "collect").start()
    url = f"http://{pubsub.host}/v1/projects/{pubsub.project}"
    # It has what the topic gets, whoever else pulls.
    copy = f"{url}/subscriptions/{instance.topic}-copy"
    topic = f"projects/{pubsub.project}/topics/{instance.topic}"
    requests.put(copy, json={"topic": topic}, timeout=30).raise_for_status()
    for start in range(0, 500, 100):
        send(collector, "c", range(start, start + 100))
        until("it is published", lambda n=start: queue(collector)["published_events"] == n + 100)
    messages = []
    while len(messages) < queue(collector)["published_messages"]:
        answer = requests.post(f"{copy}:pull", json={"maxMessages": 1000}, timeout=30).json()
        received = answer.get("receivedMessages", [])
        messages += [one["message"] for one in received]
        done = {"ackIds": [one["ackId"] for one in received]}
        requests.post(f"{copy}:acknowledge", json=done, timeout=30).raise_for_status()
    messages.sort(key=lambda message: int(message["messageId"]))
    other = f"{instance.topic}-other"
    processor = instance("p", "process", EVENTKIT_QUEUE_TOPIC=other,
                         EVENTKIT_QUEUE_SUBSCRIPTION=other).start()
    for message in messages[::direction]:
        again = {key: message[key] for key in ("data", "attributes", "orderingKey")}
        requests.post(f"{url}/topics/{other}:publish", json={"messages": [again]},
                      timeout=30).raise_for_status()
    rows = stored(processor, 500)
    assert ids(rows) == sorted(f"c-{n}" for n in range(500))
    if direction == 1:
        assert_order(processor.lake)
    else:
        with pytest.raises(AssertionError, match="stands behind"):
            assert_order(processor.lake)


def test_one_process_may_do_both(instance):
    service = instance("a", "all").start()
    send(service, "a", range(300))
    rows = stored(service, 300)
    assert ids(rows) == sorted(f"a-{n}" for n in range(300))
    assert_order(service.lake)


@pytest.mark.needs("strace")
def test_the_first_messages_of_a_new_stream_are_stored_however_late_its_worker_begins(instance):
    collector = instance("c", "collect").start()
    processor = instance("p", "process", EVENTKIT_LOAD_AGE_MAX="100ms")
    # Each worker asks the ledger first, which is busy: by then its log has records.
    syncs = "fsync,fdatasync"
    processor.wrap = ["strace", "-f", "-D", "-o", "/dev/null", "-P", processor.data / "ledger.db-wal",
                      "-e", f"trace={syncs}", "-e", f"inject={syncs}:delay_enter=300ms"]
    processor.start()
    expected = []
    for stream in (f"new{n}" for n in range(10)):
        collector.collect([{"messageId": f"{stream}-{n}", "userId": "u"} for n in range(5)], stream)
        expected += [f"{stream}-{n}" for n in range(5)]
    until("all is done with", lambda: sum(
        s["wal"]["head"] - 1 for s in processor.status()["streams"]) >= len(expected))
    processor.flush()
    assert ids(processor.rows()) == sorted(expected)


def test_while_the_topic_is_away_events_wait_in_the_log(instance, pubsub):
    collector, processor = instance("c", "collect").start(), instance("p", "process").start()
    send(collector, "c", range(50))
    stored(processor, 50)
    pubsub.connections("refuse")
    send(collector, "c", range(50, 500))
    line = until("it says so", lambda: next(
        (line for line in [dependency(collector, "pubsub")] if not line["ok"]), None))
    assert line["detail"].startswith("no answer from the Pub/Sub emulator at http://"), line
    collector.kill()
    collector.spawn()
    until("it goes on", lambda: dependency(collector, "log"))
    pubsub.connections("pass")
    rows = stored(processor, 500)
    assert len(rows) == 500, "one instance stores no event twice"
    assert_order(processor.lake)


def test_a_lost_answer_to_a_publish_is_no_second_row(instance, pubsub):
    collector, processor = instance("c", "collect").start(), instance("p", "process").start()
    pubsub.fault(method="Publish$", action="drop-reply", count=2)
    send(collector, "c", range(100))
    rows = stored(processor, 100)
    until("both copies were pulled", lambda: queue(processor)["pulled_events"] > 100)
    until("all is acknowledged", lambda: queue(processor)["outstanding_messages"] == 0)
    assert len(processor.rows()) == len(rows) == 100


@pytest.mark.parametrize(
    "code", ["RESOURCE_EXHAUSTED", "INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED"])
def test_what_a_topic_answers_in_bad_moments_loses_and_doubles_nothing(instance, pubsub, code):
    collector, processor = instance("c", "collect").start(), instance("p", "process").start()
    send(collector, "c", range(100))
    stored(processor, 100)
    until("nothing is on its way", lambda: queue(processor)["outstanding_messages"] == 0)
    for method in ("Publish$", "StreamingPull$"):
        pubsub.fault(method=method, action="status", code=code, count=3)
    pubsub.connections("cut")
    for start in range(100, 1000, 100):
        send(collector, "c", range(start, start + 100))
    assert len(stored(processor, 1000)) == 1000
    assert_order(processor.lake)
    assert [rule["hits"] for rule in pubsub.heal()] == [3, 3]
    until("/ready forgets it", lambda: all(
        dependency(service, "pubsub")["ok"] for service in (collector, processor)))


def test_connections_that_are_cut_again_and_again_are_made_anew(instance, pubsub):
    collector, processor = instance("c", "collect").start(), instance("p", "process").start()
    for start in range(0, 1000, 100):
        send(collector, "c", range(start, start + 100))
        until("a connection was cut", lambda: pubsub.connections("cut")["cut"])
    rows = stored(processor, 1000)
    assert len(rows) == 1000, "one instance stores no event twice"
    assert_once_each(processor.lake)


def test_a_topic_that_falls_silent_is_told_and_goes_on_when_it_speaks(instance, pubsub):
    collector, processor = instance("c", "collect").start(), instance("p", "process").start()
    send(collector, "c", range(50))
    stored(processor, 50)
    pubsub.connections("blackhole")
    send(collector, "c", range(50, 300))
    until("/ready says so", lambda: not dependency(collector, "pubsub")["ok"], 120)
    assert queue(processor)["pulled_events"] == 50
    pubsub.connections("pass")
    send(collector, "c", range(300, 400))
    rows = stored(processor, 400)
    assert len(rows) == 400, "one instance stores no event twice"
    assert_order(processor.lake)
    until("/ready forgets it", lambda: dependency(collector, "pubsub")["ok"], 120)


def test_a_refusal_in_the_middle_is_a_sentence_and_what_follows_keeps_its_order(instance, pubsub):
    collector, processor = instance("c", "collect").start(), instance("p", "process").start()
    send(collector, "c", range(100))
    stored(processor, 100)
    why = {"code": "PERMISSION_DENIED", "message": "not allowed"}
    pubsub.fault(method="Publish$", action="status", count=-1, skip=3, **why)
    for start in range(100, 1000, 100):
        send(collector, "c", range(start, start + 100))
    sentence = "the credentials have no permission for projects/"
    until("/ready says so", lambda: (dependency(collector, "pubsub") or {}).get(
        "detail", "").startswith(sentence))
    assert 0 < collector.stream("events")["wal"]["lag_events"] < 1000, "it stopped in the middle"
    pubsub.heal()
    rows = stored(processor, 1000)
    assert len(rows) == 1000
    assert_order(processor.lake)
    until("/ready forgets it", lambda: dependency(collector, "pubsub")["ok"])


def test_a_subscription_that_may_not_be_pulled_from_is_a_sentence_everywhere(instance, pubsub):
    why = {"code": "PERMISSION_DENIED", "message": "not allowed"}
    pubsub.fault(method="StreamingPull$", action="status", count=-1, **why)
    processor = instance("p", "process").spawn()
    name = f"projects/{pubsub.project}/subscriptions/{instance.topic}"
    sentence = f"the credentials have no permission for {name}: not allowed"
    until("/ready says so", lambda: (dependency(processor, "pubsub") or {}).get(
        "detail") == sentence)
    until("status says so", lambda: queue(processor)["error"] == sentence)
    assert sentence in processor.cli("status")
    pubsub.heal()
    collector = instance("c", "collect").start()
    send(collector, "c", range(10))
    stored(processor, 10)


def test_a_message_that_one_processor_can_not_take_leaves_it_ready_and_waits_for_another(
        instance, pubsub):
    collector = instance("c", "collect").start()
    processor = instance("p", "process", EVENTKIT_AUTO_CREATE="false").start()
    assert collector.post("/collect/strange", {"messageId": "s"}).status_code == 202
    why = "stream strange is not declared, and auto_create is off"
    until("it is told", lambda: queue(processor)["returned"] == why)
    send(collector, "c", range(100))
    stored(processor, 100)
    line = dependency(processor, "pubsub")
    assert line["ok"] and line["detail"] == f"reached; messages go back: {why}"
    assert requests.get(f"{processor.url}/ready", timeout=5).status_code == 200
    assert why in processor.cli("status")
    processor.terminate()
    other = instance("q", "process").start()
    until("another has it", lambda: queue(other)["pulled_events"] == 1)
    assert queue(other)["returned"] is None


STAGES = {
    "collect": ["ingest", "wal", "publish"],
    "process": ["pull", "wal", "validate", "partition", "batch", "load"],
    "all": ["ingest", "wal", "publish", "pull", "validate", "batch", "load"],
}
# What it says of each stream, and what the topic's absence stops.
COUNTED = {"collect": "received published", "process": "pulled stored",
           "all": "received published pulled stored"}
AWAY = {"collect": "the topic can't be used; events wait in the logs",
        "process": "what others collect can't be pulled",
        "all": "the topic or its subscription can't be used"}
STOPPED = {"collect": {"publish"}, "process": {"pull"}, "all": {"publish", "pull"}}


@pytest.mark.parametrize("role", ["collect", "process", "all"])
def test_each_role_shows_its_stages_and_which_of_them_a_topic_stops_that_is_away(
        instance, pubsub, role):
    service = instance("one", role).start()
    other = instance("other", "collect").start() if role == "process" else service
    send(other, "c", range(100))
    until("they went through", lambda: queue(service)[
        "pulled_events" if role == "process" else "published_events"] == 100)
    seen, text = service.status(), service.cli("status")
    assert [stage["name"] for stage in seen["stages"]] == STAGES[role]
    assert f", role {role}, up" in text
    heading = next(line for line in text.splitlines() if line.startswith("stream "))
    assert " ".join(heading.split()[2:-4]) == COUNTED[role]
    of = lambda state: {  # noqa: E731
        stage["name"] for stage in service.status()["stages"] if stage["state"] == state}
    changes = lambda: [change["text"] for change in service.status()["changes"]]  # noqa: E731
    pubsub.connections("refuse")
    until("the stages that miss it", lambda: of("stopped") == STOPPED[role], 90)
    away = AWAY[role]
    assert any(text.startswith(away) for text in changes())
    assert any(away in finding["text"] for finding in service.status()["findings"])
    assert service.metrics()["eventkit_queue_failing"][""] == 1
    until("the log says so", lambda: "pubsub can't be used; events wait" in service.log())
    assert "store can't" not in service.log() and "store fails" not in service.log()
    if role == "collect":
        send(service, "c", range(100, 200))
        until("its stream says so", lambda: any(
            "events can't be published" in text for text in changes()))
        assert "store fails" not in service.cli("status")
    pubsub.connections("pass")
    until("they go on", lambda: of("stopped") == set(), 90)
    until("that is told", lambda: "the topic and its subscription can be used again" in changes())


def test_a_check_says_whether_the_topic_can_be_used(instance, pubsub):
    processor = instance("p", "process")
    assert "can start" in processor.cli("check"), "what is missing is made"
    pubsub.connections("refuse")
    done = processor.run("check")
    assert done.returncode == 74 and "no answer from the Pub/Sub emulator at" in done.stdout


def test_a_processor_whose_store_is_away_holds_a_bounded_number_of_bytes(instance, tell):
    most = 1 << 20
    collector = instance("c", "collect").start()
    processor = instance("p", "process", EVENTKIT_QUEUE_OUTSTANDING_BYTES_MAX=f"{most}").start()
    processor.lake.mkdir(exist_ok=True)
    # Root may write anywhere: a file where the directory should be stops even root.
    (processor.lake / "stream=events").write_text("in the way")
    padding = "x" * 4000
    for start in range(0, 1000, 200):
        batch = [event | {"properties": {"p": padding}}
                 for event in events("c", range(start, start + 200))]
        assert collector.post("/v1/batch", {"batch": batch}).status_code == 200
    until("the store fails", lambda: (processor.stream("events") or {}).get("store_error"))
    until("all is in the topic", lambda: queue(collector)["published_events"] == 1000)
    until("it holds what it may", lambda: queue(processor)["outstanding_bytes"] >= most / 2)
    held = queue(processor)
    retries = processor.stream("events")["store_failures"] + 3
    until("it goes on trying", lambda: processor.stream("events")["store_failures"] >= retries)
    seen = queue(processor)
    assert seen["pulled_events"] == held["pulled_events"] < 1000
    # One message may come on top.
    assert seen["outstanding_bytes"] <= most / 2 + (256 << 10)
    assert seen["acked_messages"] == 0
    (processor.lake / "stream=events").unlink()
    rows = stored(processor, 1000)
    assert len(rows) == 1000
    assert_order(processor.lake)
    tell(f"{held['pulled_events']} of 1,000 events were held in {held['outstanding_bytes']} bytes")


def test_a_stream_whose_store_fails_leaves_room_for_the_others(instance, tell):
    most = 2 << 20
    collector = instance("c", "collect").start()
    processor = instance("p", "process", EVENTKIT_QUEUE_OUTSTANDING_BYTES_MAX=f"{most}").start()
    processor.lake.mkdir(exist_ok=True)
    (processor.lake / "stream=stuck").write_text("in the way")
    padding = {"properties": {"p": "x" * 4000}}

    def post(stream, numbers):
        batch = [event | padding for event in events(stream, numbers)]
        assert collector.post(f"/collect/{stream}", batch).status_code == 202

    for start in range(0, 1000, 200):
        post("stuck", range(start, start + 200))
    until("it holds what it may", lambda: queue(processor)["outstanding_bytes"] >= most / 2)
    sent = 0
    for start in range(0, 600, 200):
        post("works", range(start, start + 200))
        sent = start + 200
        until("the other is stored", lambda n=sent: (
            processor.stream("works") or {}).get("stored_events", 0) >= n)
    stuck = processor.stream("stuck")
    assert stuck["store_error"] and stuck["stored_events"] == 0
    assert queue(processor)["outstanding_bytes"] <= most + (256 << 10)
    (processor.lake / "stream=stuck").unlink()
    rows = stored(processor, 1600)
    assert len(rows) == 1600
    assert_order(processor.lake)


def test_a_stream_whose_batches_are_larger_than_its_share_holds_up_nobody(instance):
    most = 2 << 20
    collector = instance("c", "collect").start()
    processor = instance(
        "p", "process", EVENTKIT_QUEUE_OUTSTANDING_BYTES_MAX=f"{most}", EVENTKIT_LOAD_AGE_MAX="1h"
    ).start()
    padding = {"properties": {"p": "x" * 4000}}
    for start in range(0, 1000, 200):
        batch = [event | padding for event in events("busy", range(start, start + 200))]
        assert collector.post("/collect/busy", batch).status_code == 202
    assert collector.flush()["unfinished"] == []
    assert collector.post("/collect/other", events("other", range(1))).status_code == 202
    until("the other was pulled", lambda: (processor.stream("other") or {}).get("pulled_events"))
    # Its batch would be closed in an hour, were there room for all of it.
    assert processor.stream("busy")["stored_events"] > 0
    assert processor.flush()["unfinished"] == []
    rows = stored(processor, 1001)
    assert len(rows) == 1001
    assert_order(processor.lake)


def test_a_message_that_no_log_here_can_take_holds_up_nobody(instance):
    collector = instance("c", "collect").start()
    small = {"EVENTKIT_WAL_BYTES_MAX": "1MiB", "EVENTKIT_WAL_SEGMENT_BYTES": "1MiB"}
    processor = instance("p", "process", **small).start()
    large = {"type": "track", "event": "E", "userId": "u", "messageId": "large", "p": ""}
    large["p"] = "x" * ((1 << 20) - len(json.dumps(large)))
    assert collector.post("/collect/large", large).status_code == 202
    assert collector.flush()["unfinished"] == []
    why = until("it says why", lambda: queue(processor)["returned"])
    assert "bytes at once are more than the log's 1048576" in why
    assert processor.is_ready() and queue(processor)["error"] is None
    assert collector.post("/collect/other", events("c", range(50))).status_code == 202
    assert len(stored(processor, 50)) == 50
    assert processor.terminate() == 0
    # Whoever has room for it gets it.
    processor = instance("q", "process").start()
    rows = stored(processor, 51)
    assert ids(rows)[-1] == "large" and len(rows) == 51


def test_what_is_no_event_of_ours_is_kept_and_acknowledged(instance, pubsub):
    processor = instance("p", "process").start()
    url = f"http://{pubsub.host}/v1/projects/{pubsub.project}/topics/{instance.topic}:publish"
    message = {"data": "aGVsbG8=", "orderingKey": "k"}
    assert requests.post(url, json={"messages": [message]}, timeout=30).status_code == 200
    letter = until("it is kept", lambda: next(iter(processor.letters()), None))
    assert (letter["reason"], letter["preview"]) == ("bad_message", "hello")
    processor.restart()
    collector = instance("c", "collect").start()
    send(collector, "c", range(10))
    stored(processor, 10)
    assert len(processor.letters()) == 1, "it came once"


def test_a_bad_event_becomes_a_dead_letter_where_it_is_processed_and_is_replayed_there(instance):
    collector, processor = instance("c", "collect").start(), instance("p", "process").start()
    body = {"batch": [{"type": "track", "event": "E", "messageId": "bad"}]}
    assert collector.post("/v1/batch", body).status_code == 200
    letter = until("it is a letter", lambda: next(iter(processor.letters()), None))
    assert letter["reason"] == "missing_field" and collector.letters() == []
    until("it is acknowledged", lambda: queue(processor)["outstanding_messages"] == 0)
    assert processor.terminate() == 0
    processor.configure("[streams.events.validate]\nrequired = []\n")
    processor.start()
    processor.cli("dlq", "replay", str(letter["id"]))
    processor.flush()
    assert ids(processor.rows()) == ["bad"]


def test_a_subscription_without_ordering_is_refused(instance, pubsub):
    url = f"http://{pubsub.host}/v1/projects/{pubsub.project}"
    topic = f"projects/{pubsub.project}/topics/{instance.topic}"
    assert requests.put(f"{url}/topics/{instance.topic}", json={}, timeout=30).ok
    made = requests.put(f"{url}/subscriptions/{instance.topic}", json={"topic": topic}, timeout=30)
    assert made.ok, made.text
    processor = instance("p", "process").spawn()
    line = until("it says so", lambda: next(
        (line for line in [dependency(processor, "pubsub")]
         if line and "ordering" in line["detail"]), None))
    assert not line["ok"] and instance.topic in line["detail"]


def test_a_topic_that_was_deleted_is_made_again_only_with_its_subscription(instance, pubsub):
    collector, processor = instance("c", "collect").start(), instance("p", "process").start()
    send(collector, "c", range(50))
    stored(processor, 50)
    url = f"http://{pubsub.host}/v1/projects/{pubsub.project}"
    assert requests.delete(f"{url}/topics/{instance.topic}", timeout=30).ok
    send(collector, "c", range(50, 100))
    for service in (collector, processor):
        until("it says so", lambda service=service: "was deleted" in (
            dependency(service, "pubsub")["detail"]), 90)
    assert sum(s["wal"]["lag_events"] for s in collector.status()["streams"]) == 50
    assert requests.get(f"{url}/topics/{instance.topic}", timeout=30).status_code == 404
    assert requests.delete(f"{url}/subscriptions/{instance.topic}", timeout=30).ok
    rows = stored(processor, 100)
    assert len(rows) == 100
    assert_order(processor.lake)


def test_a_stop_stores_what_is_held_and_hands_over_the_rest(instance):
    collector = instance("c", "collect").start()
    first = instance("p1", "process", EVENTKIT_LOAD_AGE_MAX="1h").start()
    send(collector, "c", range(100))
    until("it is pulled", lambda: queue(first)["pulled_events"] == 100)
    assert queue(first)["outstanding_messages"] > 0 and lake_files(first.lake) == []
    assert first.terminate() == 0, first.log()
    assert len(first.rows()) == 100
    second = instance("p2", "process").start()
    send(collector, "c", range(100, 110))
    stored(second, 110)
    assert len(second.rows()) == 110, "what was stored was acknowledged"


def test_a_stop_while_the_topic_is_away_loses_nothing(instance, pubsub):
    collector = instance("c", "collect", EVENTKIT_SHUTDOWN_TIMEOUT="2s").start()
    processor = instance("p", "process", EVENTKIT_SHUTDOWN_TIMEOUT="2s").start()
    send(collector, "c", range(50))
    stored(processor, 50)
    pubsub.connections("refuse")
    send(collector, "c", range(50, 300))
    assert collector.terminate() == 0, collector.log()
    assert processor.terminate() == 0, processor.log()
    pubsub.connections("pass")
    collector.start()
    processor.start()
    rows = stored(processor, 300)
    assert len(rows) == 300
    assert_order(processor.lake)


def test_what_was_stored_and_not_acknowledged_comes_again_and_the_same_instance_knows_it(
    instance, pubsub
):
    collector, first = instance("c", "collect").start(), instance("p1", "process").start()
    refuse_acknowledgements(pubsub)
    send(collector, "c", range(100))
    stored(first, 100)
    first.kill()
    first.spawn()
    until("all of it came again", lambda: dependency(first, "log") and queue(
        first)["pulled_events"] >= 100)
    until("and was recognised", lambda: first.stream("events")["duplicate_events"] >= 100)
    assert len(first.rows()) == 100, "the same instance stores nothing twice"
    assert queue(first)["acked_messages"] == 0
    first.kill()
    pubsub.heal()
    instance("p2", "process").start()
    rows = until("another has stored it again", lambda: next(
        (rows for rows in [first.rows()] if len(rows) == 200), None))
    assert len(set(ids(rows))) == 100, "told apart by message_id"
    assert_order(first.lake)


@pytest.mark.parametrize("ends", ["killed", "stopped"])
def test_what_is_on_its_way_into_a_bucket_at_an_end_is_stored_once(instance, gcs, ends):
    """The storage has the whole request, and makes the object once the next process has begun."""
    gcs.heal()
    collector = instance("c", "collect").start()
    processor = in_bucket(instance, gcs, f"late-{ends}", "p")
    processor.environment["EVENTKIT_SHUTDOWN_TIMEOUT"] = "1s"
    processor.start()
    send(collector, "c", range(50))
    stored(processor, 50)
    gcs.fault(method="PUT", path="parquet", action="stall", seconds=6)
    send(collector, "c", range(50, 150))
    until("it is on its way", gcs.hit)
    processor.kill() if ends == "killed" else processor.terminate()
    processor.start()
    stored(processor, 150)
    until("what came again was recognised", lambda: queue(
        processor)["pulled_events"] >= 100 and queue(processor)["outstanding_messages"] == 0, 90)
    assert len(processor.rows()) == 150
    assert processor.stream("events")["duplicate_events"] >= 100


@pytest.mark.needs("ext4")
def test_a_processor_whose_disk_is_full_leaves_the_topic_to_others(instance, workshop):
    collector = instance("c", "collect").start()
    disk = disks.mount(disks.image(workshop / "disk.img", "ext4", 300), workshop / "disk")
    full, other = instance("p1", "process"), instance("p2", "process")
    full.data = disk / "data"
    full.configure(SMALL_DISK)
    full.start()
    send(collector, "c", range(200))
    stored(full, 200)
    other.start()
    disks.fill(disk)
    until("it has no room", lambda: not dependency(full, "disk")["ok"])
    for first in range(200, 1200, 50):
        send(collector, "c", range(first, first + 50))
    stored(other, 1200)
    assert full.stream("events")["stored_events"] < 1200


def collect(collectors, start, end):
    """Sends to all collectors at once, to each the events of these numbers."""
    def each(service, name):
        for first in range(start, end, 1000):
            send(service, name, range(first, min(first + 1000, end)))

    threads = [threading.Thread(target=each, args=(service, f"c{n}"))
               for n, service in enumerate(collectors, 1)]
    for thread in threads:
        thread.start()
    return threads


def numbered(collectors, count):
    """The ids of so many events of each collector."""
    return {f"c{c}-{n}" for c in range(1, collectors + 1) for n in range(count)}


def keep_order_at_a_death(pubsub):
    """The emulator keeps the order of what was delivered to the dead if that dies in a pause."""
    pubsub.fault(method="StreamingPull$", action="let-go-in-order", count=-1)
    pubsub.forget()


def let_go(pubsub):
    """Whether what was delivered to the dead is on its way to others, or was."""
    return "CANCELLED" in pubsub.asked().get(PULL, {"status": {}})["status"]


def test_two_collect_and_three_process_of_which_one_dies_and_one_comes(instance, pubsub, tell):
    keep_order_at_a_death(pubsub)
    collectors = [instance(name, "collect").start() for name in ("c1", "c2")]
    processors = [instance(f"p{n}", "process").start() for n in (1, 2)]
    # It holds what makes no whole batch.
    held = {"EVENTKIT_LOAD_AGE_MAX": "1h", "EVENTKIT_LOAD_EVENTS_MAX": "997"}
    victim = instance("p3", "process", **held).start()
    each = EVENTS // 2
    for thread in collect(collectors, 0, each // 2):
        thread.join()
    until("all is pulled", lambda: sum(
        queue(p)["pulled_events"] for p in (*processors, victim)) == each // 2 * 2)
    until("the others have stored all", lambda: all(
        queue(p)["outstanding_messages"] == 0 for p in processors))
    lost = queue(victim)["outstanding_messages"]
    assert lost > 0
    victim.kill()
    until("the topic sees it", lambda: let_go(pubsub))
    instance("p4", "process").start()
    for thread in collect(collectors, each // 2, each):
        thread.join()
    rows = stored(collectors[0], 2 * each)
    assert set(ids(rows)) == numbered(2, each)
    assert_order(collectors[0].lake)
    tell(f"{lost} messages were held by the dead, {len(rows) - 2 * each} of {2 * each} events "
         "stored by two instances")


def test_one_that_dies_under_load_loses_nothing(instance, tell):
    collectors = [instance(name, "collect").start() for name in ("c1", "c2")]
    processors = [instance(f"p{n}", "process").start() for n in (1, 2, 3)]
    threads = collect(collectors, 0, 6000)
    victim = until("one has some", lambda: next(
        (p for p in processors if queue(p)["outstanding_messages"] > 0), None))
    victim.kill()
    instance("p4", "process").start()
    for thread in threads:
        thread.join()
    rows = stored(collectors[0], 12_000)
    assert set(ids(rows)) == numbered(2, 6000)
    # Of what the dead held, the emulator does not keep the order.
    assert_once_each(collectors[0].lake)
    tell(f"{len(rows) - 12_000} of 12,000 events were stored by two instances")


def in_firestore(firestore, collection):
    """The settings of an instance that stores there."""
    return {
        "EVENTKIT_STORE_KIND": "firestore",
        "EVENTKIT_STORE_COLLECTION": collection,
        "FIRESTORE_EMULATOR_HOST": firestore.host,
    }


def in_bucket(instance, gcs, prefix, name):
    """An instance that processes, and stores there."""
    service = instance(name, "process", EVENTKIT_STORE_BUCKET=f"gs://{gcs.bucket}",
                       EVENTKIT_STORE_ENDPOINT=gcs.endpoint, EVENTKIT_STORE_PREFIX=prefix)
    del service.environment["EVENTKIT_STORE_PATH"]
    service.lake = gcs.directory / prefix
    return service


def documents(firestore, collection):
    """{message id: when it was written} of the stream `events`."""
    found = firestore.documents(f"{collection}/events/events")
    written = {d["fields"]["message_id"]["stringValue"]: d["updateTime"] for d in found}
    assert len(written) == len(found), "an event is two documents"
    return written


def refuse_acknowledgements(pubsub):
    """What is stored from now on is not acknowledged, and comes again."""
    pubsub.fault(method="Acknowledge$", action="status", count=-1, code="PERMISSION_DENIED")


def test_what_two_instances_store_is_one_document_of_firestore(
        instance, pubsub, firestore, tell):
    firestore.heal()
    into = in_firestore(firestore, "shared")
    collector = instance("c", "collect").start()
    first = instance("p1", "process", **into).start()
    each = EVENTS // 20
    refuse_acknowledgements(pubsub)
    for thread in collect([collector], 0, each):
        thread.join()
    until("all is stored", lambda: (
        first.stream("events") or {}).get("stored_events") == each, 120, every=0.2)
    before = documents(firestore, "shared")
    assert before.keys() == numbered(1, each)
    first.kill()
    assert all(rule["hits"] for rule in pubsub.heal()), "nothing was to be acknowledged"
    firestore.forget()
    second = instance("p2", "process", **into).start()
    for thread in collect([collector], each, 2 * each):
        thread.join()
    until("the rest is stored", lambda: numbered(1, 2 * each) == documents(
        firestore, "shared").keys(), 120, every=0.5)
    until("all came again", lambda: queue(second)["pulled_events"] >= 2 * each)
    until("all is acknowledged", lambda: queue(second)["outstanding_messages"] == 0)
    # What the first had stored was written once more, and is as it was.
    assert second.stream("events")["stored_events"] == 2 * each
    writes = sum(calls["count"] for kind, calls in firestore.asked().items()
                 if "batchWrite" in kind)
    assert writes >= 2 * each / 500
    after = documents(firestore, "shared")
    assert len(after) == 2 * each and before.items() <= after.items()
    tell(f"{each} of {2 * each} events were stored by two instances")


def test_what_instances_store_again_is_a_row_of_each_in_the_bucket_that_they_share(
        instance, pubsub, gcs, tell):
    gcs.heal()
    collectors = [instance(name, "collect").start() for name in ("c1", "c2")]
    processor = functools.partial(in_bucket, instance, gcs, "shared")
    first = processor("p1").start()
    each = EVENTS // 20
    refuse_acknowledgements(pubsub)
    for thread in collect(collectors, 0, each // 2):
        thread.join()
    stored(first, each // 2 * 2)
    first.kill()
    assert all(rule["hits"] for rule in pubsub.heal()), "nothing was to be acknowledged"
    second, third = processor("p2").start(), processor("p3").start()
    for thread in collect(collectors, each // 2, each):
        thread.join()
    stored(first, 2 * each)
    until("all came again", lambda: sum(
        queue(p)["pulled_events"] for p in (second, third)) >= 2 * each)
    until("all is acknowledged", lambda: all(
        queue(p)["outstanding_messages"] == 0 for p in (second, third)))
    rows = Counter(ids(first.rows()))
    assert rows.keys() == numbered(2, each)
    # What the dead had stored is there once more. The emulator lets go of its keys at once, so
    # that what comes behind may be stored and can't be acknowledged, and comes again as well.
    again = numbered(2, each // 2)
    assert {rows[name] for name in again} <= {2, 3}
    assert {rows[name] for name in rows.keys() - again} <= {1, 2}
    assert_once_each(first.lake)
    shares = [queue(p)["pulled_events"] for p in (second, third)]
    tell(f"{2 * each} events are {rows.total()} rows, {each // 2 * 2} of the dead, then {shares}")


def test_what_was_planned_for_another_store_is_not_published_too(instance):
    service = instance("c", "all", EVENTKIT_QUEUE_MODE="local").start()
    service.lake.mkdir(exist_ok=True)
    (service.lake / "stream=events").write_text("in the way")
    send(service, "c", range(100))
    until("a batch is planned", lambda: service.stream("events")["store_error"])
    service.kill()
    service.environment |= {"EVENTKIT_QUEUE_MODE": "pubsub", "EVENTKIT_ROLE": "collect"}
    service.spawn()
    said = "was planned here for another store"
    until("/ready says so", lambda: dependency(service, "log") and any(
        said in line["detail"] for line in requests.get(
            f"{service.url}/ready", timeout=5).json()["dependencies"]))
    send(service, "c", range(100, 110))
    assert queue(service)["published_events"] == 0
    service.kill()
    (service.lake / "stream=events").unlink()
    service.environment |= {"EVENTKIT_QUEUE_MODE": "local", "EVENTKIT_ROLE": "all"}
    service.start()
    service.flush()
    assert ids(service.rows()) == sorted(f"c-{n}" for n in range(110))


# What the service has taken it may refuse the second time, as its emulator does.
@pytest.mark.parametrize("lost, times", [("status", 2), ("drop-reply", 1)], ids=["itself", "answer"])
def test_a_lost_acknowledgement_is_told_again_and_nothing_is_stored_twice(
        instance, pubsub, lost, times):
    collector, first = instance("c", "collect").start(), instance("p1", "process").start()
    pubsub.fault(method="Acknowledge$", action=lost, count=times)
    pubsub.forget()
    send(collector, "c", range(100))
    stored(first, 100)
    until("it was told again", lambda: pubsub.asked()[ACKNOWLEDGE]["count"] > times)
    if lost == "status":
        until("and taken", lambda: queue(first)["acked_messages"] == queue(
            first)["pulled_messages"])
    assert [rule["hits"] for rule in pubsub.heal()] == [times]
    first.kill()
    second = instance("p2", "process").start()
    send(collector, "c", range(100, 200))
    rows = stored(second, 200)
    assert len(rows) == 200, "what was acknowledged does not come again"
    assert queue(second)["pulled_events"] == 100


def test_what_a_slow_store_holds_up_stays_with_its_instance_beyond_its_lease(
        instance, pubsub, gcs):
    gcs.heal()
    url = f"http://{pubsub.host}/v1/projects/{pubsub.project}"
    collector = instance("c", "collect").start()
    first = in_bucket(instance, gcs, "slow", "p1").start()
    # A lease that nobody extends, as long as an instance's, is the clock.
    clock = f"{url}/subscriptions/{instance.topic}-clock"
    topic = f"projects/{pubsub.project}/topics/{instance.topic}"
    settings = {"topic": topic, "ackDeadlineSeconds": LEASE_S}
    requests.put(clock, json=settings, timeout=30).raise_for_status()
    gcs.fault(method="PUT", path="parquet", action="status", status=503, count=-1)
    send(collector, "c", range(100))
    until("all is pulled", lambda: queue(first)["pulled_events"] == 100)
    second = in_bucket(instance, gcs, "slow", "p2").start()
    ticks = Counter()

    def leases():
        asked = {"maxMessages": 1000, "returnImmediately": True}
        pulled = requests.post(f"{clock}:pull", json=asked, timeout=60).json()
        ticks.update(one["message"]["messageId"] for one in pulled.get("receivedMessages", []))
        return max(ticks.values(), default=0) - 1

    until("two leases have ended", lambda: leases() >= 2, 120, every=0.5)
    assert queue(first)["outstanding_messages"] == queue(first)["pulled_messages"] > 0
    gcs.heal()
    rows = stored(first, 100)
    until("it is acknowledged", lambda: queue(first)["acked_messages"] == queue(
        first)["pulled_messages"])
    assert len(rows) == queue(first)["pulled_events"] == 100, "it came once"
    assert queue(second)["pulled_events"] == 0, "and to nobody else"


def test_many_stops_in_a_row_lose_nothing(instance, tell):
    collector = instance("c", "collect").start()
    # Sooner than all that they have stored can be confirmed.
    hurried = {"EVENTKIT_SHUTDOWN_TIMEOUT": "3s"}
    processors = [instance(f"p{n}", "process", **hurried).start() for n in (1, 2, 3)]
    sent, stops = 0, 9
    for stop in range(stops):
        for _ in range(3):
            send(collector, "c", range(sent, sent + 100))
            sent += 100
        victim = processors[stop % len(processors)]
        assert victim.terminate() == 0, victim.log()
        victim.start()
    rows = stored(collector, sent)
    # Of what is on its way to one that stops, the emulator does not keep the order.
    assert_once_each(collector.lake)
    tell(f"{len(rows) - sent} of {sent} events were stored by two instances, in {stops} stops")


def test_what_a_million_events_cost_in_the_topic_is_what_the_readme_says(instance, pubsub, tell):
    collector = instance("c", "collect").start()
    processor = instance("p", "process", EVENTKIT_LOAD_AGE_MAX="30s").start()
    pubsub.forget()
    count, of_event = 50_000, 540
    for start in range(0, count, 200):
        batch = events("c", range(start, start + 200))
        for event in batch:
            event["userId"] = f"user-{event['n'] % 5_000}"
            event["pad"] = "x" * (of_event - len(json.dumps(event)) - len(', "pad": ""'))
        assert collector.post("/v1/batch", {"batch": batch}).status_code == 200
    until("all is pulled", lambda: queue(processor)["pulled_events"] == count, 120, every=0.2)
    processor.flush()
    until("all is acknowledged", lambda: queue(processor)["acked_messages"] == queue(
        processor)["pulled_messages"])
    until("its collector shows it", lambda: queue(collector)["published_events"] == count)
    sent, taken = queue(collector), queue(processor)
    million = 1_000_000 / count
    assert taken["pulled_messages"] == sent["published_messages"]
    assert taken["pulled_bytes"] == sent["published_bytes"]
    asked = {kind.rsplit("/", 1)[1]: call["count"] for kind, call in pubsub.asked().items()}
    found = {
        "messages published, and pulled": sent["published_messages"] * million,
        "their size": sent["published_bytes"] * million / 1e6,
    }
    # How many requests there are depends on how fast messages come.
    tell(f"per million events: {found}; {asked}")
    assert_readme_says(found, __file__)
