"""Deployed SDKs, as they come from the package index, pointed at the service."""

import datetime
import json

import pyarrow as pa
import pytest
import rudderstack.analytics as rudder
import segment.analytics as segment

STREAM_OF = {
    "identify": "users", "group": "users", "alias": "users",
    "track": "events", "page": "pages", "screen": "pages",
}
USERS, ROUNDS = 5, 20
UTC = pa.timestamp("us", tz="UTC")
TYPES = {
    "message_id": pa.string(), "type": pa.string(), "event": pa.string(), "name": pa.string(),
    "user_id": pa.string(), "anonymous_id": pa.string(), "group_id": pa.string(),
    "previous_id": pa.string(), "timestamp": UTC, "original_timestamp": UTC, "sent_at": UTC,
    "received_at": UTC, "stream": pa.dictionary(pa.int32(), pa.string()), "partition": pa.uint16(), "log_seq": pa.uint64(),
    "write_key_id": pa.string(), "replayed_at": UTC, "dead_letter_id": pa.int64(),
    "context": pa.string(), "properties": pa.string(), "traits": pa.string(),
    "integrations": pa.string(), "extra": pa.string(),
}
JSON_COLUMNS = ("context", "properties", "traits", "integrations", "extra")


class Sent:
    """Every call of a client, with what the lake should say of it."""

    def __init__(self, client):
        self.client = client
        self.expected = []

    def call(self, kind, user, message_id, **fields):
        arguments = {"message_id": message_id, **fields}
        if kind == "alias":
            self.client.alias(previous_id=f"old-{user}", user_id=user, **arguments)
        else:
            getattr(self.client, kind)(user_id=user, **arguments)
        self.expected.append((user, kind, message_id))

    def round(self, user, n):
        message = lambda kind: f"{user}-{n}-{kind}"
        self.call("identify", user, message("identify"), traits={"email": f"{user}@x.test", "n": n})
        self.call("track", user, message("track"), event="Clicked", properties={"n": n, "ok": True})
        self.call("page", user, message("page"), name="Home", category="Docs",
                  properties={"n": n})
        self.call("screen", user, message("screen"), name="Main", properties={"n": n})
        self.call("group", user, message("group"), group_id="g1", traits={"plan": "x"})
        self.call("alias", user, message("alias"))


def send_everything(client):
    sent = Sent(client)
    for n in range(ROUNDS):
        for user in range(USERS):
            sent.round(f"user-{user}", n)
    client.flush()
    client.join()
    return sent.expected



def client(sdk, service, errors, **options):
    def on_error(error, items):
        errors.append((error, len(items)))

    return sdk.Client("a-write-key", host=service.url, on_error=on_error, max_retries=0,
                      upload_interval=0.1, **options)


SDKS = [
    pytest.param(segment, {"gzip": False}, id="segment"),
    pytest.param(segment, {"gzip": True}, id="segment_gzip"),
    pytest.param(rudder, {"gzip": True}, id="rudderstack_gzip"),
]


@pytest.mark.parametrize(("sdk", "options"), SDKS)
def test_every_event_of_an_sdk_lands_once_and_each_users_in_order(running, sdk, options):
    errors, begun = [], datetime.datetime.now(datetime.UTC)
    expected = send_everything(client(sdk, running, errors, **options))
    assert errors == [], "an SDK that is not answered 200 reports or resends"
    running.flush()
    rows = sorted(running.rows(), key=lambda row: (row["stream"], row["log_seq"]))

    assert running.letters() == []
    assert len(rows) == len(expected) == USERS * ROUNDS * 6
    for row in rows:
        assert row["stream"] == STREAM_OF[row["type"]], row
    # Within a stream, a user's events are read in the order in which they were sent.
    for user in {user for user, _, _ in expected}:
        for stream in set(STREAM_OF.values()):
            sent = [m for u, kind, m in expected if u == user and STREAM_OF[kind] == stream]
            got = [r["message_id"] for r in rows if (r["user_id"], r["stream"]) == (user, stream)]
            assert got == sent
    # And all of them in one partition of each stream.
    places = {(row["user_id"], row["stream"], row["partition"]) for row in rows}
    assert len(places) == USERS * 3

    check_values(rows, begun)
    check_types(running)


def check_values(rows, begun):
    ended = datetime.datetime.now(datetime.UTC)
    second = datetime.timedelta(seconds=1)
    for row in rows:
        assert begun - second <= row["timestamp"] <= ended + second, row
        assert begun <= row["received_at"] <= ended, row
        context = json.loads(row["context"])
        assert context["library"]["name"] == "analytics-python", context
        for column in JSON_COLUMNS:
            assert row[column] is None or isinstance(json.loads(row[column]), dict), row
    one = {row["type"]: row for row in rows if row["message_id"].startswith("user-3-7-")}
    traits = json.loads(one["identify"]["traits"])
    assert traits == {"email": "user-3@x.test", "n": 7}
    assert json.loads(one["track"]["properties"]) == {"n": 7, "ok": True}
    assert one["track"]["event"] == "Clicked"
    assert (one["page"]["name"], one["screen"]["name"]) == ("Home", "Main")
    assert one["group"]["group_id"] == "g1"
    assert one["alias"]["previous_id"] == "old-user-3"


def check_types(service):
    schema = service.table().schema
    assert dict(zip(schema.names, schema.types)) == TYPES
    assert schema.names == list(TYPES), "the columns' order is part of the contract"
