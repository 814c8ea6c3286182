"""A steady client: one event a request, one request at a time, on one stream.

So each acknowledged event had a sync of its own, and what was acknowledged when is known exactly.
Nothing is ever sent again.
"""

import base64
import json
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass

import requests


@dataclass
class Answer:
    """What became of one request; without a status nobody answered."""

    id: str
    began: float  # by the wall clock, as strace's
    ended: float
    status: int | None
    retry_after: str | None


def properties(n, filler):
    """An event's properties, from its number: what landed can be compared with it."""
    noise = random.Random(n).randbytes(filler * 4 // 5)
    return {"n": n, "filler": base64.b85encode(noise).decode()}


class Steady(threading.Thread):
    """The client: a thread from `with` to its end, or `send` by `send`."""

    def __init__(self, service, stream, filler=50, pause_s=0.0, timeout_s=60):
        super().__init__(name=f"steady {stream}", daemon=True)
        self.service, self.stream, self.filler = service, stream, filler
        self.pause_s, self.timeout_s = pause_s, timeout_s
        self.end = threading.Event()
        self.session = requests.Session()
        self.answers = []
        self.sent = {}  # id -> number

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.end.set()
        self.join(self.timeout_s + 5)
        assert not self.is_alive(), "a request was never answered"

    def run(self):
        while not self.end.is_set():
            # A service that does not answer, or refuses, is not asked in a busy loop.
            if self.send().status != 202:
                self.end.wait(0.01)
            self.end.wait(self.pause_s)

    def send(self):
        """The next request, in the thread of whoever asks for it."""
        self.answers.append(self.request())
        return self.answers[-1]

    def request(self):
        n = len(self.sent)
        message_id = f"{self.stream}-{n}"
        self.sent[message_id] = n
        event = {"messageId": message_id, "userId": "u", "type": "track", "event": "Clicked",
                 "properties": properties(n, self.filler)}
        began, status, retry_after = time.time(), None, None
        try:
            answer = self.session.post(f"{self.service.url}/collect/{self.stream}",
                                  data=json.dumps(event), timeout=self.timeout_s)
            status, retry_after = answer.status_code, answer.headers.get("Retry-After")
        except requests.RequestException:
            pass
        return Answer(message_id, began, time.time(), status, retry_after)

    def having(self, status):
        """The requests that were answered so."""
        return [answer for answer in list(self.answers) if answer.status == status]

    def acknowledged(self):
        """The ids that were."""
        return {answer.id for answer in self.having(202)}


def check(rows, *clients, lost_max=0):
    """What was acknowledged is there once, as it was sent and in its order; returns the missing."""
    missing = set()
    for client in clients:
        mine = sorted((r for r in rows if r["stream"] == client.stream), key=lambda r: r["log_seq"])
        ids = [row["message_id"] for row in mine]
        twice = [i for i, count in Counter(ids).items() if count > 1]
        assert twice == [], f"{len(twice)} are there twice, such as {twice[:10]}"
        assert not set(ids) - set(client.sent), "something was never sent"
        for row in mine:
            n = client.sent[row["message_id"]]
            assert json.loads(row["properties"]) == properties(n, client.filler), row
        numbers = [client.sent[i] for i in ids]
        assert numbers == sorted(numbers), "the order is not that of the requests"
        missing |= client.acknowledged() - set(ids)
    assert len(missing) <= lost_max, f"lost: {len(missing)}, such as {sorted(missing)[:10]}"
    return missing
