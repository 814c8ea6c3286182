"""A proxy for connections, whatever they carry, that cuts and withholds them on demand.

    tcp_faults.py --port P --to 127.0.0.1:Q [--http1 127.0.0.1:R] --control C

With --http1, connections that do not begin with HTTP/2's preface go there instead: Google's client
of Pub/Sub administers by REST and does the rest by gRPC, at one address. POST / on C:
{"action": "cut"} resets all connections; "refuse" also resets the new ones; "blackhole" lets
nothing through; "pass" ends both. The answer: {"mode", "cut", "open", "total"}. Standard library
only.
"""

import argparse
import json
import socket
import threading
import time

from faults import Handler, Server, reset

PREFACE = b"PRI * HTTP/2.0"


def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


class Proxy:
    """Every connection is a pair of sockets and a thread each way."""

    def __init__(self, port, to, http1):
        self.to, self.http1 = to, http1 or to
        self.mode, self.pairs, self.total = "pass", set(), 0
        self.listener = socket.create_server(("127.0.0.1", port), backlog=256)

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            self.total += 1
            threading.Thread(target=self.connect, args=(client,), daemon=True).start()

    def connect(self, client):
        if self.mode == "refuse":
            return reset(client)
        try:
            start = client.recv(len(PREFACE), socket.MSG_PEEK)
            to = self.to if PREFACE.startswith(start) else self.http1
            service = socket.create_connection(to)
        except OSError:
            return reset(client)
        for end in (client, service):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = (client, service)
        self.pairs.add(pair)
        threading.Thread(target=self.pump, args=(service, client, pair), daemon=True).start()
        return self.pump(client, service, pair)

    def pump(self, source, sink, pair):
        try:
            while some := source.recv(65536):
                while self.mode == "blackhole" and pair in self.pairs:
                    time.sleep(0.02)
                sink.sendall(some)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        if self.mode != "blackhole":
            self.end(pair)

    def end(self, pair):
        if pair in self.pairs:
            self.pairs.discard(pair)
            for one in pair:
                reset(one)

    def cut(self):
        pairs = list(self.pairs)
        for pair in pairs:
            self.end(pair)
        return len(pairs)


def control(proxy):
    class Control(Handler):
        def handle_any(self):
            action = json.loads(self.read_body() or b"{}").get("action")
            if action in ("pass", "refuse", "blackhole"):
                proxy.mode = action
            cut = proxy.cut() if action in ("cut", "refuse") else 0
            state = {"mode": proxy.mode, "cut": cut, "open": len(proxy.pairs), "total": proxy.total}
            self.reply(200, {}, json.dumps(state).encode())

        do_GET = do_POST = handle_any

    return Control


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--to", type=address, required=True)
    parser.add_argument("--http1", type=address)
    parser.add_argument("--control", type=int, required=True)
    options = parser.parse_args()
    proxy = Proxy(options.port, options.to, options.http1)
    threading.Thread(target=proxy.accept, daemon=True).start()
    Server(options.control, control(proxy)).serve_forever()


if __name__ == "__main__":
    main()
