"""Mixed load with an oracle outside the service.

Every id is recorded before it is sent, and every answer. A request that was not acknowledged may
have been stored or not; one that was acknowledged must be there, once.
"""

import gzip
import json
import random
import threading

import requests

RETRIES_MAX = 200


class Sender(threading.Thread):
    """One client: users of its own, each of whose events carry a rising number."""

    def __init__(self, service, number, seed, *, retries, stop):
        super().__init__(name=f"sender {number}")
        self.service, self.number, self.retries, self.stop = service, number, retries, stop
        self.dice = random.Random(seed * 1000 + number)
        self.count = 0
        self.sent = {}  # id -> attempts
        self.acknowledged = set()
        self.bad = set()
        self.failure = None

    def run(self):
        try:
            with requests.Session() as session:
                while not self.stop.is_set():
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
        return event

    def request(self, session):
        form = self.dice.choice(["array", "lines", "batch", "track"])
        size = 1 if form == "track" else self.dice.randrange(1, 30)
        events = [self.event("track") for _ in range(size)]
        if form == "batch":
            for event in events:
                if self.dice.random() < 0.1:
                    del event["userId"]
                    self.bad.add(event["messageId"])
        for attempt in range(RETRIES_MAX if self.retries else 1):
            for event in events:
                event["attempt"] = attempt
                self.sent[event["messageId"]] = attempt + 1
            if self.attempt(session, form, events):
                self.acknowledged.update(event["messageId"] for event in events)
                return
            # Nobody listens for a moment: not a wait for a result, only no busy loop.
            self.stop.wait(0.01)
            if self.stop.is_set():
                return

    def attempt(self, session, form, events):
        path, body, headers = self.encode(form, events)
        try:
            answer = session.post(f"{self.service.url}{path}", data=body, headers=headers,
                                  timeout=30)
        except requests.RequestException:
            return False
        if answer.status_code == 503:
            return False
        assert answer.status_code in (200, 202), (answer.status_code, answer.text)
        return True

    def encode(self, form, events):
        if form == "array":
            return "/collect/clicks", json.dumps(events), {}
        if form == "lines":
            lines = "\n".join(map(json.dumps, events))
            return "/collect/taps", lines, {"content-type": "application/x-ndjson"}
        if form == "batch":
            body = gzip.compress(json.dumps({"batch": events}).encode(), 1)
            return "/v1/batch", body, {"content-encoding": "gzip"}
        return "/v1/track", json.dumps(events[0]), {}


class Load:
    """Several senders, from `with` to its end."""

    def __init__(self, service, dice, senders=3, retries=False):
        self.stop = threading.Event()
        seed = dice.randrange(2**32)
        self.senders = [
            Sender(service, number, seed, retries=retries, stop=self.stop)
            for number in range(senders)
        ]

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
    dead = [letter["message_id"] for letter in letters]
    sent, acknowledged = load.sent(), load.acknowledged()
    assert len(acknowledged) > 100, "too little was acknowledged to say anything"
    found = set(landed) | set(dead)
    assert not acknowledged - found, f"lost: {sorted(acknowledged - found)[:10]}"
    assert not found - set(sent), f"never sent: {sorted(found - set(sent))[:10]}"
    assert set(dead) <= load.bad() and not set(landed) & load.bad(), "good and bad are mixed up"
    positions = [(row["stream"], row["log_seq"]) for row in rows]
    assert len(positions) == len(set(positions)), "a log record landed twice"
    return landed, dead


def check_order(rows):
    """Each user's events stand in each stream in the order in which they were sent."""
    newest = {}
    for row in sorted(rows, key=lambda row: row["log_seq"]):
        key, n = (row["stream"], row["user_id"]), json.loads(row["properties"])["n"]
        assert newest.get(key, -1) < n, f"{key}: {n} stands behind {newest[key]}"
        newest[key] = n
