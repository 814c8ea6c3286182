"""A gRPC proxy that fails on demand. It needs grpcio.

    grpc_faults.py --port P --to 127.0.0.1:Q --control C

It also turns a client's lost connection into the end of its requests: Google's emulator of Pub/Sub
(0.8.20) lets go of the ordering keys of a pull that has ended, but keeps for ever those of one
whose connection was lost, or that was cancelled while messages were on their way. But what was
delivered on a pull that has ended comes again behind the rest of its key, and what was on one that
was cancelled in a quiet moment before it, as the service does it: "let-go-in-order" waits for one.

POST /_faults on C: {"method": regex on "/google.pubsub.v1.Publisher/Publish", "action": ...,
"code": "UNAVAILABLE", "message": text, "seconds": s, "count": n (-1: for ever), "skip": n}
    "status"      answers with `code`; nothing is done
    "stall"       waits `seconds`, then goes on
    "drop-reply"  does it, then answers with `code`
    "late-reply"  does it, waits `seconds`, then answers
    "cut"         ends a stream with `code` after its first answer
    "let-go-in-order"  of a pull: does it, and cancels it once its client has gone away and nothing
                  has come for a while, which _requests counts as CANCELLED; ends nothing before
POST /_cut ends every running stream with UNAVAILABLE; GET /_requests counts by method.
"""

import argparse
import functools
import threading
import time
from concurrent import futures

import grpc

from faults import Faults, Handler, Server

THREADS = 256
# The emulator looks twenty times a second whether a pull has ended.
END_S = 2
# In a pull on which nothing has come for so long nothing is on its way.
QUIET_S = 1
UNLIMITED = [
    ("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1),
    # A refusal names every acknowledgement that came too late.
    ("grpc.max_metadata_size", 4 << 20), ("grpc.absolute_max_metadata_size", 8 << 20),
]
# What the channel to the service sends by itself.
OWN_METADATA = ("user-agent", "te", "content-type")


class Proxy(grpc.GenericRpcHandler):
    """Every call is a call to the service, message by message, not looked into."""

    def __init__(self, to, faults):
        self.channel = grpc.insecure_channel(to, options=UNLIMITED)
        self.faults = faults
        self.lock, self.calls = threading.Lock(), set()

    def service(self, details):
        return grpc.stream_stream_rpc_method_handler(
            lambda requests, context: self.forward(details.method, requests, context)
        )

    def cut(self):
        with self.lock:
            for call in self.calls:
                call.cancel()

    def forward(self, method, requests, context):
        rule = self.faults.take(method, method, b"")
        code = getattr(grpc.StatusCode, rule.get("code", "UNAVAILABLE"))
        if rule["action"] == "status":
            next(iter(requests), None)
            self.faults.note(method, code.name, 0, 0, f"{method} {code.name}")
            context.abort(code, rule.get("message", "injected"))
        if rule["action"] == "stall":
            time.sleep(rule["seconds"])
        bytes_each_way = [0, 0]
        in_order = InOrder() if rule["action"] == "let-go-in-order" else None
        call = self.call(method, requests, context, bytes_each_way, in_order)
        status = "OK"
        try:
            for answer in call:
                bytes_each_way[1] += len(answer)
                if in_order:
                    in_order.came()
                if rule["action"] == "late-reply":
                    time.sleep(rule["seconds"])
                if rule["action"] != "drop-reply":
                    yield answer
                if rule["action"] == "cut":
                    break
            if rule["action"] in ("drop-reply", "cut"):
                call.cancel()
                status = f"{code.name} ({rule['action']})"
                context.abort(code, rule.get("message", "injected"))
        except grpc.RpcError as error:
            status = error.code().name
            if status == "CANCELLED" and context.is_active():
                context.abort(grpc.StatusCode.UNAVAILABLE, "injected: the stream was cut")
            trailing = error.trailing_metadata() or ()
            context.set_trailing_metadata(
                tuple((k, v) for k, v in trailing if not k.startswith("grpc-message"))
            )
            context.abort(error.code(), error.details())
        finally:
            with self.lock:
                self.calls.discard(call)
            if in_order and not context.is_active():
                status = in_order.drain(call)
            self.faults.note(method, status, *bytes_each_way, f"{method} {status}")

    def call(self, method, requests, context, bytes_each_way, in_order):
        """The call to the service, ended with the client's."""

        def counted():
            try:
                for request in requests:
                    bytes_each_way[0] += len(request)
                    yield request
            except Exception:  # the client has gone away: grpcio raises this very class
                if in_order:
                    in_order.cancelled.wait()

        metadata = [
            (k, v)
            for k, v in context.invocation_metadata()
            if not k.startswith(("grpc-", ":")) and k not in OWN_METADATA
        ]
        left_s = context.time_remaining()
        timeout_s = left_s if left_s and 0 < left_s < 1e6 else None
        start = self.channel.stream_stream(method)
        call = start(counted(), timeout=timeout_s, metadata=metadata)
        context.add_callback(
            functools.partial(in_order.end, call) if in_order
            else functools.partial(self.end, method, call)
        )
        with self.lock:
            self.calls.add(call)
        return call

    @staticmethod
    def end(method, call):
        """Ends a call whose client has gone away; its requests have ended already."""
        if method.endswith("/StreamingPull"):
            threading.Timer(END_S, call.cancel).start()
        else:
            call.cancel()


class InOrder:
    """A pull that is cancelled in a quiet moment once its client has gone away."""

    def __init__(self):
        self.came_at, self.cancelled = time.monotonic(), threading.Event()

    def came(self):
        self.came_at = time.monotonic()

    def end(self, call):
        """The client has gone away."""
        threading.Thread(target=self.cancel, args=(call,), daemon=True).start()

    def cancel(self, call):
        while (left_s := self.came_at + QUIET_S - time.monotonic()) > 0:
            time.sleep(left_s)
        call.cancel()
        self.cancelled.set()

    def drain(self, call):
        """Reads what nobody wants any more, to its end; returns the call's status."""
        try:
            for _ in call:
                self.came()
        except grpc.RpcError:
            pass
        return call.code().name


def control(proxy):
    class Control(Handler):
        def handle_any(self):
            body = self.read_body()
            if self.path.startswith("/_cut"):
                proxy.cut()
                return self.reply(200, {}, b"")
            return self.reply(200, {}, proxy.faults.asked(self.command, self.path, body))

        do_GET = do_POST = do_DELETE = handle_any

    return Control


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--to", required=True)
    parser.add_argument("--control", type=int, required=True)
    options = parser.parse_args()
    proxy = Proxy(options.to, Faults())
    server = grpc.server(
        futures.ThreadPoolExecutor(THREADS),
        handlers=[proxy],
        options=[*UNLIMITED, ("grpc.so_reuseport", 0)],
    )
    server.add_insecure_port(f"127.0.0.1:{options.port}")
    server.start()
    Server(options.control, control(proxy)).serve_forever()


if __name__ == "__main__":
    main()
