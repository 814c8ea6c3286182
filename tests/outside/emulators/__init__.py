"""The services that eventkit can use, as programs on this machine, each on free ports.

`gcs`, `s3`, `bigquery`, `firestore` and `pubsub` are context managers, and fixtures of the same
names (conftest.py). Each yields what a test needs to use the service, to make it fail and to see
what it was asked; faults.py and grpc_faults.py say how. `lacking(name)` tells why one can't be had.
"""

import contextlib
import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import requests

from service import GUARD, free_port, until

HERE = Path(__file__).parent
HOME = Path(os.environ.get("EVENTKIT_TEST_HOME") or Path.home() / ".cache/eventkit-tests")
# Made by tests/run from requirements-google.txt.
VENV = HOME / "venv-google"
START_S = 60
# Documents that the emulator is asked for at once: all of many take it longer than a minute.
FIRESTORE_PAGE = 2_000
PROJECT = "test-project"
BUCKET = "lake-bucket"
# Any will do: moto looks at their form only.
S3_KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
# The jars of Google's emulators, of which the packages' names and the SDK's place differ.
JARS = {
    "firestore": "cloud-firestore-emulator/cloud-firestore-emulator.jar",
    "pubsub": "pubsub-emulator/lib/cloud-pubsub-emulator-*-all.jar",
}


class Faulty:
    """A service that can be told to fail, at the address of its control."""

    def __init__(self, control):
        self.control = control

    def fault(self, **rule):
        """Adds a rule; once, unless it says `count`."""
        requests.post(f"{self.control}/_faults", json=rule, timeout=10).raise_for_status()

    def heal(self):
        """Forgets the rules; returns them with their hits."""
        rules = requests.get(f"{self.control}/_faults", timeout=10).json()
        requests.delete(f"{self.control}/_faults", timeout=10).raise_for_status()
        return rules

    def hit(self):
        """Whether any rule was met."""
        rules = requests.get(f"{self.control}/_faults", timeout=10).json()
        return any(rule["hits"] for rule in rules)

    def counted(self):
        """`asked` and `last` of the same moment."""
        counted = requests.get(f"{self.control}/_requests", timeout=10).json()
        return counted["counts"], counted["last"]

    def asked(self):
        """{kind: {count, bytes_in, bytes_out, status}} since the last `forget`."""
        return self.counted()[0]

    def last(self):
        """The last requests, a line each."""
        return self.counted()[1]

    def forget(self):
        """Counts anew."""
        requests.delete(f"{self.control}/_requests", timeout=10).raise_for_status()


def never_met(faults, rules):
    """Those faults of which no rule, as `heal` returns them, was hit."""
    met = [rule for rule in rules if rule["hits"]]
    return [fault for fault in faults if not any(fault.items() <= rule.items() for rule in met)]


def decks(faults, dice):
    """The faults without end, each once before any comes again."""
    while True:
        yield from dice.sample(faults, len(faults))


# Cloud Storage's needs nothing.
NEEDS = ("s3", "bigquery", *JARS)


def lacking(name):
    """Why this machine can't run the emulator; None where it can."""
    if not (VENV / "installed.txt").exists():
        return f"there is no {VENV}, which tests/run makes from requirements-google.txt"
    if name in JARS and not shutil.which("java"):
        return "there is no java here"
    if name in JARS and not jar(name):
        return f"there is no google-cloud-cli-{name}-emulator here"
    return None


@functools.cache
def jar(name):
    """The emulator's jar in Google's SDK, or None."""
    roots = [Path("/usr/lib/google-cloud-sdk"), Path("/google-cloud-sdk")]
    if gcloud := shutil.which("gcloud"):
        roots.insert(0, Path(gcloud).resolve().parent.parent)
    found = [jar for root in roots for jar in root.glob(f"platform/{JARS[name]}")]
    return max(found, default=None)


@contextlib.contextmanager
def program(home, name, port, *command, **environment):
    """Runs a program until the block ends; the block begins when its port is open."""
    home.mkdir(parents=True, exist_ok=True)
    log_path = home / f"{name}.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=home,
            env=os.environ | GUARD | environment,
        )

    def answers():
        code = process.poll()
        assert code is None, f"{name} ended with {code}:\n{log_path.read_text()[-2000:]}"
        with contextlib.suppress(requests.ConnectionError):
            requests.get(f"http://127.0.0.1:{port}/_requests", timeout=START_S)
            return True

    try:
        until(f"{name} answers on port {port}", answers, START_S, every=0.05)
        yield process
    finally:
        process.kill()
        process.wait(START_S)


@contextlib.contextmanager
def gcs(home):
    """Cloud Storage with an empty bucket.

    `endpoint`, `bucket`, `directory` (where the bucket's objects are, as files), `root` (of all
    buckets).
    """
    port = free_port()
    command = [sys.executable, HERE / "gcs.py", "--port", port, "--root", home / "buckets"]
    with program(home, "gcs", port, *command, "--create", BUCKET) as process:
        front = Faulty(f"http://127.0.0.1:{port}")
        front.endpoint, front.bucket, front.process = front.control, BUCKET, process
        front.root = home / "buckets"
        front.directory = front.root / BUCKET
        yield front


@contextlib.contextmanager
def s3(home):
    """S3 with an empty bucket, behind a proxy: `endpoint`, `bucket`, `keys` (the environment that
    lets a client in), `objects()`."""
    port, behind = free_port(), free_port()
    to = f"http://127.0.0.1:{behind}"
    proxy = [sys.executable, HERE / "http_faults.py", "--port", port, "--to", to]
    moto = [VENV / "bin/moto_server", "-H", "127.0.0.1", "-p", behind]
    with program(home, "moto", behind, *moto), program(home, "proxy", port, *proxy):
        storage = Faulty(f"http://127.0.0.1:{port}")
        storage.endpoint, storage.bucket, storage.keys = storage.control, BUCKET, S3_KEYS
        storage.download = lambda to_: s3_objects("download", to, to_)
        s3_objects("create", to)
        yield storage


def s3_objects(do, endpoint, directory=""):
    """Makes the bucket, or writes all of its objects below a directory, with Amazon's own client,
    which is not among the tests' packages."""
    script = HERE / "s3_objects.py"
    done = subprocess.run(
        [VENV / "bin/python", script, do, endpoint, BUCKET, str(directory)],
        env=os.environ | GUARD | S3_KEYS,
        capture_output=True,
        text=True,
        timeout=START_S,
    )
    assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def bigquery(home, buckets):
    """BigQuery, which reads gs:// below the directory `buckets`, behind a proxy that refuses known
    job ids: `endpoint`, `project`."""
    port, behind, grpc = free_port(), free_port(), free_port()
    extensions = home / "home/.duckdb/extensions"
    for package in ("spatial", "avro"):
        found = VENV.glob(f"lib/python*/site-packages/duckdb_extension_{package}/extensions/*/*")
        for file in found:
            # DuckDB looks for them below HOME, and else downloads them.
            place = extensions / file.parent.name / "linux_amd64" / file.name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place)
    emulator = [
        VENV / "bin/python", HERE / "bigquery.py", "start", "--project", PROJECT,
        "--rest-port", behind, "--grpc-port", grpc,
    ]
    environment = {"HOME": str(home / "home"), "BQEMU_GCS_LOCAL_ROOT": str(buckets)}
    to = f"http://127.0.0.1:{behind}"
    proxy = [sys.executable, HERE / "http_faults.py", "--port", port, "--to", to, "--bigquery"]
    with (
        program(home, "bigquery", behind, *emulator, **environment),
        program(home, "proxy", port, *proxy),
    ):
        service = Faulty(f"http://127.0.0.1:{port}")
        service.endpoint, service.project = service.control, PROJECT
        yield service


@contextlib.contextmanager
def firestore(home):
    """Firestore's REST API behind a proxy: `host`, `project`; `direct` is the emulator's own
    address, and `documents(path)` all documents of a collection."""
    port, behind = free_port(), free_port()
    direct = f"http://127.0.0.1:{behind}"
    main = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"
    # It holds all documents in memory, some 4 KB each.
    emulator = [
        "java", "-Xmx2g", "-Duser.language=en", "-cp", jar("firestore"), main,
        "--host=127.0.0.1", f"--port={behind}",
    ]
    proxy = [sys.executable, HERE / "http_faults.py", "--port", port, "--to", direct]
    with (
        program(home, "firestore", behind, *emulator) as process,
        program(home, "proxy", port, *proxy),
    ):
        service = Faulty(f"http://127.0.0.1:{port}")
        service.host, service.direct, service.project = f"127.0.0.1:{port}", direct, PROJECT
        service.process = process
        service.documents = lambda path: firestore_documents(direct, path)
        yield service


def firestore_documents(address, path):
    """Every document of a collection, such as eventkit/users/events, by its name's order."""
    parent, collection = path.rsplit("/", 1)
    query = {
        "from": [{"collectionId": collection}],
        "orderBy": [{"field": {"fieldPath": "__name__"}}],
        "limit": FIRESTORE_PAGE,
    }
    documents = []
    while True:
        answer = requests.post(
            f"{address}/v1/projects/{PROJECT}/databases/(default)/documents/{parent}:runQuery",
            json={"structuredQuery": query},
            headers={"Authorization": "Bearer owner"},
            timeout=START_S,
        )
        answer.raise_for_status()
        page = [found["document"] for found in answer.json() if "document" in found]
        documents += page
        if len(page) < FIRESTORE_PAGE:
            return documents
        query["startAt"] = {"values": [{"referenceValue": page[-1]["name"]}], "before": False}


@contextlib.contextmanager
def pubsub(home):
    """Pub/Sub: `host` for gRPC and REST, behind proxies; `connections` cuts them."""
    main = ["com.google.cloud.pubsub.testing.v1.Main"]
    with java(home, "pubsub", "-cp", jar("pubsub"), *main) as service:
        yield service


@contextlib.contextmanager
def java(home, name, *arguments):
    """One of Google's emulators behind a proxy for connections and one for gRPC calls.

    `fault` and `asked` are about calls of gRPC; `connections(action)` about connections, "cut",
    "refuse", "blackhole" or "pass"; `cut_calls()` ends all running calls; `direct` is the
    emulator's own address.
    """
    port, control = free_port(), free_port()
    calls, calls_control, behind = free_port(), free_port(), free_port()
    emulator = ["java", "-Xmx512m", *arguments, "--host=127.0.0.1", f"--port={behind}"]
    to = f"127.0.0.1:{behind}"
    grpc = [
        VENV / "bin/python", HERE / "grpc_faults.py", "--port", calls, "--to", to,
        "--control", calls_control,
    ]
    tcp = [
        sys.executable, HERE / "tcp_faults.py", "--port", port, "--to", f"127.0.0.1:{calls}",
        "--http1", to, "--control", control,
    ]
    with (
        program(home, name, behind, *emulator) as process,
        program(home, "calls", calls_control, *grpc),
        program(home, "connections", control, *tcp),
    ):
        service = Faulty(f"http://127.0.0.1:{calls_control}")
        service.host, service.direct, service.project = f"127.0.0.1:{port}", to, PROJECT
        service.process = process

        def ask(address, **action):
            answer = requests.post(address, json=action, timeout=10)
            answer.raise_for_status()
            return answer

        service.connections = lambda act: ask(f"http://127.0.0.1:{control}/", action=act).json()
        service.cut_calls = lambda: ask(f"{service.control}/_cut")
        yield service
