"""Mixed load with an oracle outside the service.

Every id is recorded before it is sent, and every answer. A request that was not acknowledged may
have been stored or not; one that was acknowledged must be there, once.
"""

import contextlib
import gzip
import json
import math
import random
import re
import threading
from collections import Counter

import requests

RETRIES_MAX = 200
PLAIN = ("array", "lines", "batch", "track")
# Besides, what clients do in bad moments: a body that is cut, an event twice in a request, a
# request again whose answer they did not believe.
MIXED = (*PLAIN, *PLAIN, "cut", "twice", "again")


class Sender(threading.Thread):
    """One client: users of its own, each of whose events carry a rising number."""

    def __init__(self, load, number, seed, retries):
        super().__init__(name=f"sender {number}", daemon=True)
        self.load, self.number, self.retries = load, number, retries
        self.service, self.stop = load.service, load.stop
        self.dice = random.Random(seed * 1000 + number)
        self.idle = threading.Event()
        self.count = 0
        self.sent = {}  # id -> attempts
        self.properties = {}  # id -> what was sent
        self.acknowledged = set()
        self.bad = set()
        self.cut = 0  # bodies that were answered with 400
        self.answered = []  # the requests last acknowledged, as (form, events)
        self.failure = None

    def run(self):
        try:
            with requests.Session() as session:
                while not self.stop.is_set():
                    if self.load.rests():
                        self.idle.set()
                        self.stop.wait(0.005)
                    else:
                        self.request(session)
        except Exception as error:  # noqa: BLE001 - told by the test, in its own thread
            self.failure = error

    def event(self, kind):
        self.count += 1
        user = self.dice.randrange(3)
        event = {
            "messageId": f"s{self.number}-{self.count}",
            "type": kind,
            "event": "Clicked",
            "userId": f"s{self.number}-u{user}",
            "properties": {"n": self.count, "filler": "x" * self.dice.randrange(200)},
        }
        self.properties[event["messageId"]] = event["properties"]
        return event

    def request(self, session):
        form = self.dice.choice(self.load.forms)
        if form == "again":
            self.again(session)
            return
        size = 1 if form == "track" else self.dice.randrange(1, 30)
        events = [self.event("track") for _ in range(size)]
        if form == "batch":
            for event in events:
                if self.dice.random() < 0.1:
                    del event["userId"]
                    self.bad.add(event["messageId"])
        if form == "twice":
            events.append(dict(self.dice.choice(events)))
        if form == "cut":
            self.cut += self.attempt(session, form, events, expected=(400,))
            return
        for attempt in range(RETRIES_MAX if self.retries else 1):
            for event in events:
                event["attempt"] = attempt
                self.sent[event["messageId"]] = self.sent.get(event["messageId"], 0) + 1
            era = self.load.era
            if self.attempt(session, form, events):
                if era == self.load.era and self.load.counts():
                    self.acknowledged.update(event["messageId"] for event in events)
                    self.answered = [*self.answered[-20:], (form, events)]
                return
            # Nobody listens for a moment: not a wait for a result, only no busy loop.
            self.stop.wait(0.01)
            if self.stop.is_set():
                return

    def again(self, session):
        """Sends what was acknowledged, without its bad events: each of those is a letter more."""
        form, events = self.dice.choice(self.answered or [("array", [])])
        events = [event for event in events if event["messageId"] not in self.bad]
        for event in events:
            self.sent[event["messageId"]] += 1
        if events:
            self.attempt(session, form, events)

    def attempt(self, session, form, events, expected=(200, 202)):
        """One request; whether it was answered as expected."""
        path, body, headers = self.encode(form, events)
        try:
            answer = session.post(f"{self.service.url}{path}", data=body, headers=headers,
                                  timeout=30)
        except requests.RequestException:
            return False
        if answer.status_code == 503:
            return False
        assert answer.status_code in expected, (answer.status_code, answer.text)
        return True

    def encode(self, form, events):
        if form in ("array", "twice"):
            return "/collect/clicks", json.dumps(events), {}
        if form == "cut":
            return "/collect/clicks", json.dumps(events)[:-1], {}
        if form == "lines":
            lines = "\n".join(map(json.dumps, events))
            return "/collect/taps", lines, {"content-type": "application/x-ndjson"}
        if form == "batch":
            body = gzip.compress(json.dumps({"batch": events}).encode(), 1)
            return "/v1/batch", body, {"content-encoding": "gzip"}
        return "/v1/track", json.dumps(events[0]), {}


class Load:
    """Several senders, from `with` to its end; they rest once `most` events are acknowledged."""

    def __init__(self, service, dice, senders=3, retries=False, forms=PLAIN, most=math.inf):
        self.service, self.forms, self.most = service, forms, most
        self.stop, self.resting = threading.Event(), threading.Event()
        self.era = 0
        seed = dice.randrange(2**32)
        self.senders = [Sender(self, number, seed, retries) for number in range(senders)]

    @contextlib.contextmanager
    def pause(self):
        """Nothing is sent, and nothing waits for an answer."""
        for sender in self.senders:
            sender.idle.clear()
        self.resting.set()
        for sender in self.senders:
            assert sender.idle.wait(60), "a request was never answered"
        yield
        self.resting.clear()

    def rests(self):
        """Whether nothing is to be sent now."""
        return self.resting.is_set() or self.count() >= self.most

    def count(self):
        """How many events are acknowledged."""
        return sum(len(sender.acknowledged) for sender in self.senders)

    def turn(self):
        """Ends an era: what is begun in every second one counts as never acknowledged."""
        self.era += 1

    def counts(self):
        """Whether an answer in this era is an acknowledgement."""
        return self.era % 2 == 0

    def __enter__(self):
        for sender in self.senders:
            sender.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for sender in self.senders:
            sender.join(60)
            assert not sender.is_alive(), "a request was never answered"
        failures = [sender.failure for sender in self.senders if sender.failure]
        assert not failures, failures

    def acknowledged(self):
        return set().union(*(sender.acknowledged for sender in self.senders))

    def properties(self):
        return {i: p for sender in self.senders for i, p in sender.properties.items()}

    def bad(self):
        return set().union(*(sender.bad for sender in self.senders))

    def sent(self):
        sent = {}
        for sender in self.senders:
            sent.update(sender.sent)
        return sent


def check(load, rows, letters):
    """What the lake and the dead letters hold is what was acknowledged, as it was sent."""
    landed = [row["message_id"] for row in rows]
    # A body that can't be read has no id, and is kept in a ring of its own.
    dead = [l["message_id"] for l in letters if l["reason"] != "malformed_json"]
    sent, acknowledged = load.sent(), load.acknowledged()
    assert len(acknowledged) > 100, "too little was acknowledged to say anything"
    found = set(landed) | set(dead)
    assert not acknowledged - found, f"lost: {sorted(acknowledged - found)[:10]}"
    assert not found - set(sent), f"never sent: {sorted(found - set(sent))[:10]}"
    assert set(dead) <= load.bad() and not set(landed) & load.bad(), "good and bad are mixed up"
    properties = load.properties()
    for row in rows:
        assert json.loads(row["properties"]) == properties[row["message_id"]], row
    positions = [(row["stream"], row["log_seq"]) for row in rows]
    assert len(positions) == len(set(positions)), "a log record landed twice"
    return landed, dead


def check_once(landed, dead=()):
    """Nothing is there a second time."""
    twice = [i for i, count in Counter([*landed, *dead]).items() if count > 1]
    assert twice == [], f"{len(twice)} of {len(landed)} are there twice, such as {twice[:10]}"


def check_undamaged(service, load=None):
    """No report names a loss, and no tail that was set aside holds what was acknowledged."""
    for report in service.reports():
        assert report["lost"] == 0, f"reported as lost: {report}"
    if load is None:
        return
    # What was sent more than once may well be acknowledged, and torn elsewhere.
    once = {i for i, count in load.sent().items() if count == 1} & load.acknowledged()
    for file in service.data.rglob("quarantine/**/*"):
        if file.is_file() and file.suffix != ".json":
            ids = re.findall(rb'"messageId": ?"(s\d+-\d+)"', file.read_bytes())
            torn = {message_id.decode() for message_id in ids}
            assert not torn & once, f"{file}: {sorted(torn & once)[:10]} were acknowledged"


def check_order(rows):
    """Each user's events stand in each stream in the order in which they were sent."""
    newest = {}
    for row in sorted(rows, key=lambda row: row["log_seq"]):
        key, n = (row["stream"], row["user_id"]), json.loads(row["properties"])["n"]
        assert newest.get(key, -1) < n, f"{key}: {n} stands behind {newest[key]}"
        newest[key] = n
