"""A service of one's own: the real binary on an empty directory, with free ports.

Nothing here waits by sleeping for a fixed time: `until` polls with a deadline, and says what it
waited for when the deadline has passed.
"""

import json
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import requests

BINARY = Path(os.environ["EVENTKIT_BIN"])
# A machine's proxy is none of the tests' business.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
# Google's clients ask a machine of theirs who they are: here nobody answers, and at once.
GUARD = dict.fromkeys(
    ("GCE_METADATA_HOST", "GCE_METADATA_ROOT", "GCE_METADATA_IP"), "127.0.0.1:9"
)
os.environ.update(GUARD)

DEADLINE_S = 60


def until(what, check, seconds=DEADLINE_S, every=0.02):
    """The first true answer of `check`, or a failure that names `what`."""
    end = time.monotonic() + seconds
    while True:
        answer = check()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(every)


def free_port():
    """A port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def clean_environment():
    """The environment without anything that would configure the service."""
    configures = (
        "EVENTKIT_", "STATE_DIRECTORY", "RUNTIME_DIRECTORY", "NOTIFY_SOCKET", "AWS_", "GCP_",
        "GOOGLE_", "STORAGE_EMULATOR_HOST", "FIRESTORE_EMULATOR_HOST", "PUBSUB_EMULATOR_HOST",
        "BIGQUERY_EMULATOR_HOST",
    )
    return {key: value for key, value in os.environ.items() if not key.startswith(configures)}


class Service:
    """One data directory, its ports, and the process that serves it (or none)."""

    def __init__(self, home, data=None, lake=None):
        self.home = Path(home)
        self.data = Path(data or self.home / "data")
        self.lake = Path(lake or self.data / "lake")
        self.config = None
        self.wrap = []  # the command that starts the binary, such as strace
        self.environment = {"EVENTKIT_STORE_PATH": str(lake)} if lake else {}
        self.starts_s = []  # how long each start took until the service was ready
        self.port = free_port()
        self.metrics_port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.metrics_url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        self.process = None
        self.log_path = self.home / "service.log"

    # Its life.

    def options(self):
        """What every command is given, so that it means this service."""
        options = [
            "--data-dir", str(self.data),
            "--listen", f"127.0.0.1:{self.port}",
            "--metrics-listen", f"127.0.0.1:{self.metrics_port}",
        ]
        return options + (["--config", str(self.config)] if self.config else [])

    def configure(self, text):
        """From the next start on, this configuration file is in force."""
        self.config = self.home / "eventkit.toml"
        self.config.write_text(text)

    def spawn(self):
        """Starts the process and does not wait for it."""
        assert self.process is None, "it runs already"
        self.home.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.wrap, BINARY, *self.options(), "run"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=clean_environment() | self.environment,
            )
        return self

    def start(self):
        """Starts the process; returns once it is ready."""
        began = time.monotonic()
        self.spawn()
        until("the service is ready", self.is_ready, every=0.005)
        self.starts_s.append(time.monotonic() - began)
        return self

    def is_ready(self):
        """Whether /ready says so; a process that has ended is a failure."""
        code = self.process.poll()
        assert code is None, f"the service exited with {code}:\n{self.log()}"
        try:
            return requests.get(f"{self.url}/ready", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def kill(self):
        """kill -9, waited for."""
        self.process.kill()
        self.process.wait(DEADLINE_S)
        self.process = None

    def end(self, seconds=DEADLINE_S):
        """Waits until the process ends by itself; returns the exit code."""
        code = self.process.wait(seconds)
        self.process = None
        return code

    def terminate(self, seconds=DEADLINE_S):
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.end(seconds)

    def restart(self):
        """A clean stop and a new start on the same directory."""
        assert self.terminate() == 0, self.log()
        return self.start()

    def rss_bytes(self):
        """The process's memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024

    def descriptors(self):
        """How many files and sockets it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def log(self):
        """What the service has written about itself."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def reports(self):
        """Every damage report of its data directory: what it says is lost."""
        found = self.data.rglob("quarantine/**/*.json")
        return [json.loads(file.read_text()) for file in sorted(found)]

    # Its commands.

    def run(self, *arguments, timeout=120, **more):
        """Runs a command of the binary; returns the finished process, whatever its exit code."""
        return subprocess.run(
            [BINARY, *self.options(), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=clean_environment() | self.environment,
            **more,
        )

    def cli(self, *arguments, timeout=120):
        """Runs a command that must succeed; returns what it printed."""
        done = self.run(*arguments, timeout=timeout)
        assert done.returncode == 0, f"{arguments}: exit {done.returncode}: {done.stderr}"
        return done.stdout

    def json(self, *arguments, timeout=120):
        """Runs a command with --json; returns its answer."""
        return json.loads(self.cli(*arguments, "--json", timeout=timeout))

    def flush(self):
        """Everything acknowledged is in the lake or a dead letter afterwards."""
        flushed = self.json("flush")
        assert flushed["unfinished"] == [], flushed
        return flushed

    def status(self):
        """The newest snapshot."""
        return self.json("status")

    def stream(self, name):
        """One stream of the newest snapshot; None where that does not know it yet."""
        return next((s for s in self.status()["streams"] if s["name"] == name), None)

    def letters(self, *filters):
        """Every dead letter that matches, oldest first, read page by page."""
        letters, before = [], []
        while True:
            page = self.json("dlq", "list", *filters, *before)
            letters += page["letters"]
            if page["next_before"] is None:
                return letters[::-1]
            before = ["--before", page["next_before"]]

    def metrics(self):
        """The metrics page as {name: {labels: value}}; `labels` as on the page."""
        page = requests.get(self.metrics_url, timeout=10)
        assert page.status_code == 200
        found = {}
        for line in page.text.splitlines():
            if line and not line.startswith("#"):
                name, labels, value = re.fullmatch(r"(\w+)(\{.*\})? (\S+)", line).groups()
                found.setdefault(name, {})[labels or ""] = float(value)
        return found

    # Sending.

    def post(self, path, body, **more):
        """One request; a dictionary or list is sent as JSON, bytes as they are."""
        key = "data" if isinstance(body, (bytes, str)) else "json"
        return requests.post(f"{self.url}{path}", timeout=30, **{key: body}, **more)

    def collect(self, body, stream="default", **more):
        """Sends to /collect; the answer must be the promised one."""
        answer = self.post(f"/collect/{stream}", body, **more)
        assert (answer.status_code, answer.json()) == (202, {"status": "accepted"}), answer.text
        return answer

    # Reading the lake as an analyst does.

    def table(self):
        """The whole lake as one pyarrow table; one schema in all files, or a failure."""
        return read_lake(self.lake)

    def rows(self):
        """The whole lake as dictionaries; DuckDB must find the very same rows."""
        return read_rows(self.lake)


def lake_files(lake):
    """The lake's objects."""
    return sorted(Path(lake).rglob("*.parquet"))


def read_files(files):
    """Objects of a lake as one pyarrow table; one schema in all of them, or a failure."""
    tables = [pq.ParquetFile(file).read() for file in files]
    return pa.concat_tables(tables) if tables else pa.table({})


def read_lake(lake):
    """All of a lake as one pyarrow table."""
    return read_files(lake_files(lake))


def read_rows(lake):
    """The rows of a lake, read with pyarrow and again, from the same objects, with DuckDB."""
    files = lake_files(lake)
    rows = read_files(files).to_pylist()
    key = ("stream", "log_seq", "message_id", "received_at")
    found = query(files, f"select {', '.join(key)} from lake order by all")
    assert found == sorted(tuple(row[k] for k in key) for row in rows), "they disagree"
    return rows


def query(files, sql):
    """What DuckDB answers; the objects are the table `lake`."""
    if not files:
        return []
    with duckdb.connect() as database:
        database.execute("set TimeZone = 'UTC'")
        database.read_parquet([str(file) for file in files]).create_view("lake")
        return database.execute(sql).fetchall()


def assert_readme_says(found, test):
    """README's table below `measured by` that test has these figures, give or take a quarter."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    mark = f"<!-- measured by tests/outside/{Path(test).name} -->\n"
    table = readme.split(mark)[1].split("\n\n")[0]
    said = {
        cells[1].strip(): int(cells[2].split()[0].replace(",", ""))
        for cells in (line.split("|") for line in table.strip().splitlines()[2:])
    }
    assert said.keys() == found.keys()
    for name, value in found.items():
        assert abs(said[name] - value) <= 0.25 * value, (name, said[name], value)
