"""Events as documents of Firestore: each acknowledged one is there once, whatever fails."""

import itertools
import json
import os
import time

import pytest
import requests

from emulators import decks, never_met
from load import MIXED, Load, check, check_once, check_order, check_undamaged
from service import assert_readme_says, free_port, until

EVENTS = int(os.environ.get("EVENTKIT_FIRESTORE_EVENTS") or 30_000)
LIVES = 12
STREAMS = ("clicks", "taps", "events")
CONFIG = """
[store]
kind = "firestore"
collection = "{collection}"
[google]
project = "{project}"
"""


def refusal(status, code, message="injected", **details):
    error = {"code": status, "status": code, "message": message, "details": [details]}
    return {"action": "status", "status": status, "reply": json.dumps({"error": error})}


# What the service and the way to it do in bad moments.
FAULTS = [
    refusal(429, "RESOURCE_EXHAUSTED", retryDelay="0.2s"),
    refusal(503, "UNAVAILABLE"),
    refusal(500, "INTERNAL"),
    refusal(409, "ABORTED"),
    refusal(504, "DEADLINE_EXCEEDED"),
    {"action": "drop-reply"},
    {"action": "drop-before"},
    {"action": "cut-reply"},
    {"action": "stall", "seconds": 1},
    {"action": "late-reply", "seconds": 1},
]


def plain(value):
    """A value of Firestore's as JSON has it."""
    (kind, held), = value.items()
    match kind:
        case "mapValue":
            return {key: plain(inner) for key, inner in held.get("fields", {}).items()}
        case "arrayValue":
            return [plain(inner) for inner in held.get("values", [])]
        case "integerValue":
            return int(held)
    return held


def ready(service):
    """What /ready says of the store; nothing where nobody listens yet."""
    try:
        dependencies = requests.get(f"{service.url}/ready", timeout=10).json()["dependencies"]
    except requests.ConnectionError:
        return ""
    return next(d["detail"] for d in dependencies if d["name"] == "firestore")


def error(service, stream):
    """What the store said last to a stream, while it fails."""
    return (service.stream(stream) or {"store_error": None})["store_error"]


class Database:
    """What a service has written, in a collection of its own."""

    def __init__(self, firestore, service, collection):
        self.firestore, self.collection = firestore, collection
        self.path = f"{collection}/{{}}/events"
        service.environment = {"FIRESTORE_EMULATOR_HOST": firestore.host}
        service.configure(CONFIG.format(project=firestore.project, collection=collection))

    def documents(self, stream):
        return self.firestore.documents(self.path.format(stream))

    def rows(self, *streams):
        """The documents as the lake's rows."""
        rows = []
        for document in (d for stream in streams for d in self.documents(stream)):
            row = {name: plain(value) for name, value in document["fields"].items()}
            assert document["name"].endswith(f"/{row['message_id']}"), document["name"]
            rows.append(row | {"properties": json.dumps(row["properties"])})
        return rows

    def fault(self, count=1, **rule):
        self.firestore.fault(method="POST", path=":(batchWrite|commit|batchGet)", count=count,
                             **rule)


@pytest.fixture
def database(firestore, service, request):
    firestore.heal()
    firestore.forget()
    yield Database(firestore, service, request.node.name.replace("_", "-")[:60])
    firestore.heal()


def test_every_acknowledged_event_is_one_document_whatever_was_killed_or_failed(
        database, service, dice, tell):
    faults = decks(FAULTS, dice)
    with Load(service, dice, forms=MIXED, most=0) as load:
        for life in range(LIVES):
            # What is not acknowledged in one life is in the next.
            load.most = EVENTS * (life + 1) // LIVES
            for fault in itertools.islice(faults, 3):
                database.fault(skip=dice.randrange(8), **fault)
            service.spawn()
            # Instants that don't depend on what the service does: some before it is ready.
            time.sleep(dice.randrange(50, 4000) / 1000)
            assert service.process.poll() is None, service.log()[-3000:]
            service.kill()
        rules = database.firestore.heal()
        assert never_met(FAULTS, rules) == []
        service.start()
        until("all is acknowledged", lambda: load.count() >= EVENTS, 180)
    # What waits by now may take longer than a flush waits.
    until("all is stored", lambda: service.run("flush").returncode == 0, 300)
    rows, letters = database.rows(*STREAMS), service.letters()
    landed, dead = check(load, rows, letters)
    check_once(landed, dead)
    check_order(rows)
    check_undamaged(service, load)
    tell(f"{LIVES} kills, {sum(rule['hits'] for rule in rules)} faults met, "
         f"{len(load.acknowledged())} acknowledged, {len(landed)} documents, "
         f"{len(dead)} dead letters")


def test_a_write_whose_answer_comes_too_late_is_made_again_and_the_late_one_changes_nothing(
        database, service):
    service.start()
    # The service waits a minute. One is made before the second, one after it.
    for stream, action in {"early": "late-reply", "late": "stall"}.items():
        database.fault(body=f"/{stream}/events/", action=action, seconds=75)
        service.collect([{"messageId": f"m{n}", "n": n} for n in range(400)], stream)
    for stream in ("early", "late"):
        until("nothing waits", lambda name=stream: (
            service.stream(name) or {}).get("stored_events") == 400, 120, every=0.2)
        assert service.stream(stream)["store_failures"] == 1
    written = {d["name"]: d["updateTime"] for s in ("early", "late") for d in database.documents(s)}
    assert len(written) == 800
    late = lambda: [line for line in database.firestore.last() if " stall " in line]  # noqa: E731
    assert late() == []
    until("the late one is made", late, every=0.2)
    assert written == {
        d["name"]: d["updateTime"] for s in ("early", "late") for d in database.documents(s)}


def test_a_ledger_that_is_lost_writes_no_document_anew(database, service):
    service.start()
    service.collect([{"messageId": f"m{n}", "n": n} for n in range(700)])
    service.flush()
    before = {d["name"]: d["updateTime"] for d in database.documents("default")}
    assert len(before) == 700
    service.kill()
    for file in service.data.glob("ledger.db*"):
        file.unlink()
    service.start()
    service.collect([{"messageId": "m1", "n": "again"}, {"messageId": "new"}])
    service.flush()
    after = {d["name"]: d["updateTime"] for d in database.documents("default")}
    assert len(after) == 701 and before.items() <= after.items()


def test_a_document_that_firestore_refuses_is_a_dead_letter_alone(database, service):
    service.start()
    # The whole request is refused, and nothing says which document it is for.
    poison = refusal(400, "INVALID_ARGUMENT", "Property properties contains an invalid value.")
    database.fault(count=-1, body="m333", **poison)
    service.collect([{"messageId": f"m{n}", "n": n} for n in range(400)])
    # Each fits an event, and no document, which has its columns beside. They would be too many
    # to be refused, if it were not for a limit.
    large = [f"large{n}" for n in range(12)]
    for message_id in large:
        service.collect({"messageId": message_id, "n": "x" * ((1 << 20) - 100)})
    until("all are dead letters", lambda: len(service.letters()) == 13)
    service.flush()
    letters = {letter["message_id"]: letter for letter in service.letters()}
    assert {letter["phase"] for letter in letters.values()} == {"store"}
    reasons = {message_id: letter["reason"] for message_id, letter in letters.items()}
    assert reasons == {"m333": "refused"} | dict.fromkeys(large, "too_large")
    ids = {d["name"].rsplit("/", 1)[1] for d in database.documents("default")}
    assert ids == {f"m{n}" for n in range(400)} - {"m333"}


def test_a_replay_beside_a_copy_that_is_refused_leaves_an_open_letter(database, service):
    service.environment["EVENTKIT_LOAD_AGE_MAX"] = "60s"
    service.start()
    refused = refusal(400, "INVALID_ARGUMENT", "poisoned")
    database.fault(count=-1, body="POISON", **refused)
    event = {"messageId": "m", "n": "POISON"}
    service.collect([{"messageId": f"good{n}"} for n in range(40)] + [event])
    service.flush()
    assert [letter["status"] for letter in service.letters()] == ["open"]
    # Its client sends it again: the copy waits in a batch when the letter is replayed.
    service.collect(event)
    service.cli("dlq", "replay", "1")
    service.flush()
    [letter] = [letter for letter in service.letters() if letter["status"] == "open"]
    database.firestore.heal()
    service.cli("dlq", "replay", letter["id"])
    service.flush()
    assert len(database.documents("default")) == 41
    assert {letter["status"] for letter in service.letters()} == {"resolved"}


# What is no name of a document, no name of a field or no value as it stands.
IDS = ["a/b", ".", "..", "...", "__x__", "__", "100%", "%2F", "Zoë €😀", "tab\there", "x" * 1_500,
       "é" * 2_000 + "1", "é" * 2_000 + "2", "/" * 600]
HELD = [{"a": {"b": [1.5, None, True]}}, {}, {"a.b": 1, "`c`": {"d e": 2}},
        {"least": -2**63, "most": 2**63 - 1, "text": "\u0000\u2028"}, {"a": [{"b": [{"c": [1]}]}]},
        {"_": 1, "__": 2, "__a": 3}]
TEXT = [{"matrix": [[1, 2], [3]]}, {"": 1}, {"__name__": 1}, {"id": 2**63}, {"id": -2**63 - 1},
        {"n" * 1_600: 1}, {"n" * 800: {"n" * 800: 1}}, {"many": list(range(2_100))},
        {"much": [{}] * 2_100}]


def test_whatever_an_event_holds_is_a_document_that_gives_it_back(database, service):
    service.start()
    deep = [{"d": 0}]
    for _ in range(30):
        deep.append({"d": deep[-1]})
    shapes = [*HELD, *TEXT, *deep]
    events = {f"shape{n}": shape for n, shape in enumerate(shapes)}
    events |= {message_id: {"named": n} for n, message_id in enumerate(IDS)}
    for message_id, properties in events.items():
        service.collect({"messageId": message_id, "properties": properties})
    service.flush()
    assert service.letters() == []
    found = {plain(d["fields"]["message_id"]): d for d in database.documents("default")}
    assert found.keys() == events.keys()
    for message_id, properties in events.items():
        fields = found[message_id]["fields"]
        if "properties" in fields:
            assert plain(fields["properties"]) == properties and properties not in TEXT
        else:
            assert json.loads(plain(fields["properties_json"])) == properties not in HELD
    names = [found[message_id]["name"].rsplit("/events/", 1)[1] for message_id in IDS[:6]]
    assert names == ["a%2Fb", "%2E", "%2E.", "...", "%5F_x__", "%5F_"]


def test_a_stream_that_firestore_throttles_or_lets_hang_holds_no_other(database, service):
    service.environment["EVENTKIT_LOAD_EVENTS_MAX"] = "2000"
    service.start()
    exhausted = refusal(429, "RESOURCE_EXHAUSTED", "Quota exceeded.", retryDelay="1s")
    for stream, fault in [("throttled", exhausted), ("hanging", {"action": "stall", "seconds": 20})]:
        database.fault(count=-1, body=f"/{stream}/events/", **fault)
        # As many requests as may be under way for a stream, and more.
        service.collect([{"messageId": f"m{n}", "n": n} for n in range(9_000)], stream)
        until("it fails", lambda name=stream: error(service, name), every=0.1)
        other = f"beside-{stream}"
        service.collect([{"messageId": f"m{n}"} for n in range(1_200)], other)
        until("the other is stored",
              lambda name=other: len(database.documents(name)) == 1_200, every=0.2)
        assert not error(service, other)
        assert database.documents(stream) == [], "it was not held up at all"
    assert "a quota of project" in error(service, "throttled")
    database.firestore.heal()
    # What hangs already goes on hanging for a while, and a flush does not wait for as long.
    until("all is stored", lambda: service.run("flush").returncode == 0, 120)
    for stream in ("throttled", "hanging"):
        assert len(database.documents(stream)) == 9_000


def test_events_wait_for_a_firestore_that_is_not_there(database, service):
    at = service.environment["FIRESTORE_EMULATOR_HOST"]
    service.environment = {"FIRESTORE_EMULATOR_HOST": f"127.0.0.1:{free_port()}"}
    checked = service.run("check")
    assert checked.returncode == 74
    assert "finding: firestore can't be reached at http://127.0.0.1:" in checked.stdout
    service.spawn()
    until("/ready says so", lambda: "can't be reached" in ready(service), every=0.1)
    until("the log says so", lambda: "firestore can't be used; events wait" in service.log())
    service.collect([{"messageId": f"m{n}"} for n in range(700)])
    service.kill()
    service.environment = {"FIRESTORE_EMULATOR_HOST": at}
    service.start().flush()
    assert len(database.documents("default")) == 700


def test_what_keeps_firestore_from_working_is_one_sentence(database, service):
    service.start()
    assert service.cli("check").strip().endswith("a service runs on its data directory")
    project = database.firestore.project
    for fault, sentence in [
        (refusal(403, "PERMISSION_DENIED", "off", reason="SERVICE_DISABLED"),
         f"the Cloud Firestore API is not enabled in project {project}: "),
        (refusal(403, "PERMISSION_DENIED", "Missing or insufficient permissions."),
         "the credentials may not write to Firestore's database (default) of project"),
        (refusal(404, "NOT_FOUND", "no such database"),
         f"project {project} has no Firestore database (default): "),
    ]:
        database.fault(count=-1, **fault)
        checked = service.run("check")
        assert checked.returncode == 74, checked
        findings = [line for line in checked.stdout.splitlines() if sentence in line]
        assert len(findings) == 1, checked.stdout
        until("/ready says so", lambda: sentence in ready(service), every=0.1)
        database.firestore.heal()
    until("/ready is ready again", service.is_ready, every=0.1)


def test_what_a_million_events_cost_is_what_the_readme_says(database, service, tell):
    service.start()
    body = [{"userId": f"u{n % 50}", "type": "track", "event": "Order Completed",
             "properties": {"price": n / 10, "currency": "EUR", "filler": "x" * 100},
             "context": {"library": {"name": "js", "version": "1.2"}, "locale": "de"}}
            for n in range(500)]
    database.firestore.forget()
    for _ in range(10):
        service.collect(body)
    service.flush()
    stored = service.metrics()
    documents = sum(stored["eventkit_events_stored_total"].values())
    stored_bytes = sum(stored["eventkit_bytes_stored_total"].values())
    asked = {kind: count for kind, count in database.firestore.asked().items()
             if "batchWrite" in kind}
    writes = sum(count["count"] for count in asked.values())
    sent = sum(count["bytes_in"] for count in asked.values())
    assert documents == 5_000 == len(database.documents("default"))
    assert writes == sum(stored["eventkit_batches_stored_total"].values()) >= 10
    million = 1_000_000 / documents
    found = {
        "documents written": documents * million,
        "requests that write": writes * million,
        "sent to Firestore": sent * million / 1e6,
        "size of the documents": stored_bytes * million / 1e6,
    }
    tell(f"per million events of {len(json.dumps(body)) / 500:.0f} bytes: {found}")
    assert_readme_says(found, __file__)
