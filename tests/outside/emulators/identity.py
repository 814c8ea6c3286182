"""Who asks: a machine's metadata server, and services that answer by TLS whoever has a token.

In the test's own process, so that it sees every token. Standard library and openssl only.
"""

import base64
import contextlib
import http.client
import json
import ssl
import subprocess
import threading
import time
from http.server import ThreadingHTTPServer
from urllib.parse import urlsplit

from .faults import Handler

TOKEN = "/computeMetadata/v1/instance/service-accounts/default/token"
# What is on its way while a token expires is no mistake.
LEEWAY_S = 1
UNAUTHENTICATED = {"error": {
    "code": 401, "message": "Request had invalid authentication credentials.",
    "status": "UNAUTHENTICATED", "errors": [{"reason": "authError"}],
}}
REPLACED = ("host", "connection", "transfer-encoding", "content-length", "accept-encoding",
            "authorization")
HOP_BY_HOP = ("connection", "transfer-encoding", "date", "server")


def openssl(*arguments, stdin=None, check=True):
    command = ["openssl", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, check=check, timeout=60)


def private_key(path):
    """A new key for signatures by RSA, in a file."""
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", path)
    return path


class Certificates:
    """An authority that nobody knows, and what it says of 127.0.0.1."""

    def __init__(self, home):
        home.mkdir()
        self.authority, self.chain, self.key = home / "ca.pem", home / "cert.pem", home / "key.pem"
        own, asked, says = private_key(home / "ca.key"), home / "req.pem", home / "extensions"
        private_key(self.key)
        openssl("req", "-x509", "-key", own, "-out", self.authority, "-subj", "/CN=tests",
                "-days", 2)
        openssl("req", "-new", "-key", self.key, "-out", asked, "-subj", "/CN=127.0.0.1")
        says.write_text("subjectAltName=IP:127.0.0.1\n")
        openssl("x509", "-req", "-in", asked, "-CA", self.authority, "-CAkey", own,
                "-CAcreateserial", "-out", self.chain, "-days", 2, "-extfile", says)

    def context(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain, self.key)
        return context


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A client that does not trust the certificate, or goes away."""


@contextlib.contextmanager
def serving(answer, context=None):
    """Has `answer` called with each request, by TLS where there is a context; yields the port."""
    class Answers(Handler):
        def handle_any(self):
            self.reply(*answer(self))

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do_PATCH = handle_any

    with Server(("127.0.0.1", 0), Answers) as server:
        if context:
            # A handshake is its own thread's.
            server.socket = context.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


class Metadata:
    """Hands out tokens that are good for `seconds`; `host` is its address."""

    def __init__(self, seconds):
        self.seconds, self.until, self.lock = seconds, {}, threading.Lock()

    def issue(self):
        with self.lock:
            token = f"token-{len(self.until) + 1}"
            self.until[token] = time.monotonic() + self.seconds
        return {"access_token": token, "expires_in": self.seconds, "token_type": "Bearer"}

    def accepts(self, token):
        return time.monotonic() < self.until.get(token, 0) + LEEWAY_S

    @contextlib.contextmanager
    def serve(self):
        with serving(self.answer) as port:
            self.host = f"127.0.0.1:{port}"
            yield self

    def answer(self, request):
        asked = urlsplit(request.path).path
        if request.headers.get("Metadata-Flavor") != "Google" or asked != TOKEN:
            return 404, {}, b""
        return 200, {"Content-Type": "application/json"}, json.dumps(self.issue()).encode()


class Signed:
    """Tokens that the holder of a key signs by itself."""

    def __init__(self, key, email, key_id):
        self.public = key.with_suffix(".pub")
        openssl("rsa", "-in", key, "-pubout", "-out", self.public)
        self.email, self.key_id, self.claims = email, key_id, []

    def accepts(self, token):
        if token.count(".") != 2:
            return False
        signed, _, signature = token.rpartition(".")
        header, claims = (json.loads(decoded(part)) for part in signed.split("."))
        self.claims.append(claims)
        file = self.public.with_suffix(f".{threading.get_ident()}")
        file.write_bytes(decoded(signature))
        verified = openssl("dgst", "-sha256", "-verify", self.public, "-signature", file,
                           stdin=signed.encode(), check=False)
        return (
            verified.returncode == 0
            and (header["alg"], header["kid"]) == ("RS256", self.key_id)
            and (claims["iss"], claims["sub"]) == (self.email, self.email)
            and claims["iat"] <= time.time() < claims["exp"]
        )


def decoded(part):
    """Base64 as a token has it."""
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


class Front:
    """A stand-in for a service behind TLS: `endpoint`; `seen` has the tokens that it took, and
    `refused` what else was shown."""

    def __init__(self, to, accepts):
        self.to, self.accepts = urlsplit(to).netloc, accepts
        self.seen, self.refused = [], []

    @contextlib.contextmanager
    def serve(self, certificates):
        with serving(self.answer, certificates.context()) as port:
            self.endpoint = f"https://127.0.0.1:{port}"
            yield self

    def answer(self, request):
        body = request.read_body()
        shown = request.headers.get("Authorization", "")
        token = shown.removeprefix("Bearer ")
        if not shown.startswith("Bearer ") or not self.accepts(token):
            self.refused.append(shown)
            return 401, {"Content-Type": "application/json"}, json.dumps(UNAUTHENTICATED).encode()
        self.seen.append(token)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in REPLACED}
        # Firestore's emulator knows this one alone.
        headers |= {"Content-Length": str(len(body)), "Authorization": "Bearer owner"}
        connection = http.client.HTTPConnection(self.to, timeout=60)
        with contextlib.closing(connection):
            connection.request(request.command, request.path, body or None, headers)
            answer = connection.getresponse()
            kept = {k: v for k, v in answer.getheaders() if k.lower() not in HOP_BY_HOP}
            return answer.status, kept, answer.read()
