"""What every stand-in for a service has in common: it fails on demand, and counts what it is asked.

POST   /_faults    a rule, or a list of them, added to those that are there:
       {"method": regex, "path": regex on path?query, "body": regex, "action": ..., "status": 503,
        "reply": text, "headers": {..}, "seconds": s, "count": n (-1: for ever), "skip": n}
       "status"       answers with `status` and `reply`; nothing is done
       "stall"        waits `seconds`, then goes on as usual
       "drop-before"  resets the connection; nothing is done
       "drop-reply"   does it, then resets the connection
       "late-reply"   does it, waits `seconds`, then answers
       "cut-reply"    does it, sends half of the answer's body, resets the connection
GET    /_faults    the rules, each with its hits
DELETE /_faults    forgets them
GET    /_requests  {"counts": {kind: {count, bytes_in, bytes_out, status: {code: n}}}, "last": [..]}
DELETE /_requests  counts anew

Standard library only.
"""

import json
import re
import socket
import struct
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LAST_REQUESTS = 2000


class Faults:
    """The rules in force, and what has been asked."""

    def __init__(self):
        self.lock = threading.Lock()
        self.rules, self.counts, self.last = [], {}, deque(maxlen=LAST_REQUESTS)

    def add(self, rules):
        with self.lock:
            for rule in rules if isinstance(rules, list) else [rules]:
                self.rules.append({"count": 1, "skip": 0, **rule, "hits": 0})

    def take(self, method, path, body):
        """The rule that this request falls under, used up by one; or one that does nothing."""
        with self.lock:
            for rule in self.rules:
                if rule["count"] == 0 or not fits(rule, method, path, body):
                    continue
                if rule["skip"] > 0:
                    rule["skip"] -= 1
                    continue
                rule["count"] -= 1 if rule["count"] > 0 else 0
                rule["hits"] += 1
                return dict(rule)
        return {"action": None}

    def note(self, kind, status, bytes_in, bytes_out, line):
        """Counts one request."""
        with self.lock:
            count = self.counts.setdefault(
                kind, {"count": 0, "bytes_in": 0, "bytes_out": 0, "status": {}}
            )
            count["count"] += 1
            count["bytes_in"] += bytes_in
            count["bytes_out"] += bytes_out
            count["status"][str(status)] = count["status"].get(str(status), 0) + 1
            self.last.append(line)

    def asked(self, method, path, body):
        """The answer to a request about the stand-in itself."""
        if path.startswith("/_faults"):
            if method == "POST":
                self.add(json.loads(body))
            with self.lock:
                if method == "DELETE":
                    self.rules.clear()
                return json.dumps(self.rules).encode()
        with self.lock:
            if method == "DELETE":
                self.counts.clear()
                self.last.clear()
            return json.dumps({"counts": self.counts, "last": list(self.last)}).encode()


def fits(rule, method, path, body):
    return (
        re.search(rule.get("method", ""), method)
        and re.search(rule.get("path", ""), path)
        and re.search(rule.get("body", "").encode(), body)
    )


def reset(connection):
    """Ends a connection as a machine that fails does: with RST, not with FIN."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RD)  # wakes the thread that reads from it
    except OSError:
        pass
    connection.close()


class Server(ThreadingHTTPServer):
    """Serves on loopback until it is killed."""

    daemon_threads = True
    request_queue_size = 256
    allow_reuse_address = True

    def __init__(self, port, handler):
        super().__init__(("127.0.0.1", port), handler)

    def handle_error(self, request, client_address):
        """A client that goes away in the middle is what these tests are about."""


class Handler(BaseHTTPRequestHandler):
    """Subclasses have `answer(method, path, body) -> (status, headers, body)`, and say in
    `kind(method, path)` as what a request is counted."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    faults = Faults()

    def log_message(self, *_):
        """/_requests tells it."""

    def kind(self, method, path):
        return method

    def read_body(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            chunks = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def reply(self, status, headers, body, cut=False):
        """Answers; `cut` leaves out half of the body. A header that is None is not sent."""
        self.send_response_only(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        self.wfile.flush()

    def drop(self):
        self.close_connection = True
        self.wfile = open("/dev/null", "wb")  # noqa: SIM115 (nothing more goes to the client)
        reset(self.connection)

    def handle_any(self):
        body = self.read_body()
        if self.path.startswith(("/_faults", "/_requests")):
            answer = self.faults.asked(self.command, self.path, body)
            return self.reply(200, {"Content-Type": "application/json"}, answer)
        began = time.monotonic()
        rule = self.faults.take(self.command, self.path, body)
        action = rule["action"]
        if action == "stall":
            time.sleep(rule["seconds"])
        if action == "drop-before":
            status, headers, out = 0, {}, b""
        elif action == "status":
            status, headers = rule["status"], rule.get("headers", {})
            out = rule.get("reply", "").encode()
        else:
            status, headers, out = self.answer(self.command, self.path, body)
        if action == "late-reply":
            time.sleep(rule["seconds"])
        took_ms = 1000 * (time.monotonic() - began)
        line = f"{self.command} {self.path} -> {status} {action or ''} {took_ms:.0f} ms"
        self.faults.note(self.kind(self.command, self.path), status, len(body), len(out), line)
        if action in ("drop-before", "drop-reply"):
            return self.drop()
        self.reply(status, headers, out, cut=action == "cut-reply")
        if action == "cut-reply":
            self.drop()
        return None

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do_PATCH = handle_any
