#!/usr/bin/env python3
"""eventkit beside its peers, in one run on one machine.

    benches/peers/peers.py --eventkit target/release/eventkit [--rounds 3] [--seconds 5]

One server after the other, each on an empty directory, round after round: eventkit; a bare axum
handler that drops the body (eventkit's own `bench` has it); the design that eventkit started from
(seed.py), with SQLite's synchronous NORMAL and FULL; and Vector, where there is a `vector`. wrk
sends single events on 64 connections, then to a new server batches of 100 on 32. Then the server
is told to end, which is when it has stored what it took. A server's CPU time is the system's
account of its process and their children, from when it was ready to its end; what it has stored
is read from its files. A ratio is of one round; every figure is the median of the rounds.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
START_SECONDS_MAX = 30
END_SECONDS_MAX = 120
TICKS = os.sysconf("SC_CLK_TCK")

VECTOR = """
data_dir: {dir}/data
sources:
  in:
    type: http_server
    address: 127.0.0.1:{port}
    path: /v1
    strict_path: false
    decoding: {{codec: json}}
    acknowledgements: {{enabled: true}}
sinks:
  out:
    type: file
    inputs: [in]
    path: {dir}/out.ndjson
    encoding: {{codec: json}}
    buffer: {{type: disk, max_size: 4294967296, when_full: block}}
    acknowledgements: {{enabled: true}}
"""


@dataclass(frozen=True)
class Load:
    """What wrk sends."""

    name: str
    path: str
    connections: int
    events: int


LOADS = [Load("single", "/v1/track", 64, 1), Load("batched", "/v1/batch", 32, 100)]


@dataclass(frozen=True)
class Peer:
    """How a server is started in a directory, and how many events it has in the end."""

    name: str
    command: Callable[[int, Path], list[str]]
    stored: Callable[[Path], tuple[int, int]] | None
    shape: str = "segment"
    # It says on its standard output where it listens.
    announces: bool = False


@dataclass(frozen=True)
class Figures:
    """Of one server under one load."""

    acked: int
    stored: int
    doubled: int
    broken: int
    acked_per_second: float
    stored_per_second: float
    cpu_us: float
    p50_ms: float
    p99_ms: float


def lake_rows(directory: Path) -> tuple[int, int]:
    """The rows below it, and how many of them have a message id that another has too."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    files = sorted(directory.rglob("*.parquet"))
    if not files:
        return 0, 0
    read = lambda file: pq.ParquetFile(file).read(columns=["message_id"]).column(0)
    ids = pa.chunked_array([chunk for file in files for chunk in read(file).chunks])
    return len(ids), len(ids) - pc.count_distinct(ids).as_py()


def lines(directory: Path) -> tuple[int, int]:
    try:
        with open(directory / "out.ndjson", "rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b"")), 0
    except FileNotFoundError:
        return 0, 0


def vector_command(program: str, port: int, directory: Path) -> list[str]:
    (directory / "data").mkdir()
    config = directory / "vector.yaml"
    config.write_text(VECTOR.format(dir=directory, port=port))
    return [program, "--quiet", "--config", str(config)]


def peers(eventkit: str, vector: str | None) -> list[Peer]:
    def service(port: int, directory: Path) -> list[str]:
        listen = ["--listen", f"127.0.0.1:{port}", "--metrics-listen", f"127.0.0.1:{free_port()}"]
        return [eventkit, "run", "--data-dir", str(directory), *listen]

    def seed(synchronous: str) -> Callable[[int, Path], list[str]]:
        script = str(HERE / "seed.py")
        return lambda port, dir: [sys.executable, script, str(port), str(dir), synchronous]

    found = [
        Peer("eventkit", service, lake_rows),
        Peer("bare axum", lambda *_: [eventkit, "bench", "--child", "bare"], None, announces=True),
        Peer("seed, NORMAL", seed("NORMAL"), lake_rows),
        Peer("seed, FULL", seed("FULL"), lake_rows),
    ]
    if vector:
        command = lambda port, directory: vector_command(vector, port, directory)
        found.append(Peer("Vector", command, lines, shape="array"))
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def cpu_seconds(pid: int) -> float:
    """User and system time so far of a process, and of the children it has waited for."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    # The second field is a name in parentheses, which may hold anything.
    return sum(int(n) for n in stat.rsplit(")", 1)[1].split()[11:15]) / TICKS


def wait_until_ready(server: subprocess.Popen, port: int):
    end = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < end:
        if server.poll() is not None:
            sys.exit(f"{server.args[0]} has ended with {server.returncode}")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5).close()
            return
        except urllib.error.HTTPError as answer:
            # Who knows no such path answers as well.
            if answer.code != 503:
                return
        except OSError:
            pass
        time.sleep(0.05)
    sys.exit(f"{server.args[0]} is not ready after {START_SECONDS_MAX} s")


def wrk(load: Load, port: int, shape: str, run: int, seconds: int) -> dict:
    command = ["wrk", "-t1", f"-c{load.connections}", f"-d{seconds}s", "--timeout", "30s"]
    command += ["-s", str(HERE / "events.lua"), f"http://127.0.0.1:{port}{load.path}"]
    command += ["--", str(run), str(load.events), shape]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def end(server: subprocess.Popen) -> float:
    """Tells it to end and waits until it has; its CPU time in seconds."""
    server.send_signal(signal.SIGTERM)
    limit = time.monotonic() + END_SECONDS_MAX
    while time.monotonic() < limit:
        pid, status, used = os.wait4(server.pid, os.WNOHANG)
        if pid:
            server.returncode = os.waitstatus_to_exitcode(status)
            return used.ru_utime + used.ru_stime
        time.sleep(0.01)
    server.kill()
    sys.exit(f"{server.args[0]} has not ended within {END_SECONDS_MAX} s")


def measure(peer: Peer, load: Load, run: int, options: argparse.Namespace) -> Figures:
    directory = Path(tempfile.mkdtemp(prefix="eventkit-peers-", dir=options.dir))
    port = free_port()
    log = open(directory / "log.txt", "wb")
    output = subprocess.PIPE if peer.announces else log
    server = subprocess.Popen(
        peer.command(port, directory), stdin=subprocess.PIPE, stdout=output, stderr=log
    )
    try:
        if peer.announces:
            port = int(server.stdout.readline().rsplit(b":", 1)[1])
        wait_until_ready(server, port)
        cpu, began = cpu_seconds(server.pid), time.monotonic()
        found = wrk(load, port, peer.shape, run, options.seconds)
        cpu, took = end(server) - cpu, None
        took = time.monotonic() - began
        acked = (found["requests"] - found["refused"]) * load.events
        stored, doubled = peer.stored(directory) if peer.stored else (0, 0)
        return Figures(
            acked=acked,
            stored=stored,
            doubled=doubled,
            broken=found["broken"],
            acked_per_second=acked / found["seconds"],
            stored_per_second=stored / took,
            cpu_us=cpu / max(acked, 1) * 1e6,
            p50_ms=found["p50_ms"],
            p99_ms=found["p99_ms"],
        )
    finally:
        if server.returncode is None:
            server.kill()
            server.wait()
        shutil.rmtree(directory)


Runs = dict[tuple[str, str], list[Figures]]


def table(load: Load, names: list[str], runs: Runs) -> list[str]:
    rows = [
        f"| {load.name}: {load.events} a request, {load.connections} connections | acked/s"
        " | CPU µs/event | p50 ms | p99 ms | stored/s | acked, not stored | doubled |",
        "| --- " + "| ---: " * 7 + "|",
    ]
    for name in names:
        figures = runs[load.name, name]
        median = lambda field: statistics.median(getattr(f, field) for f in figures)
        row = f"| {name} | {median('acked_per_second'):,.0f} | {median('cpu_us'):.3g}"
        row += f" | {median('p50_ms'):.3g} | {median('p99_ms'):.3g} |"
        if figures[0].stored:
            lost = sum(max(f.acked - f.stored, 0) for f in figures)
            doubled = sum(f.doubled for f in figures)
            row += f" {median('stored_per_second'):,.0f} | {lost:,} | {doubled:,} |"
        else:
            row += " – | – | – |"
        rows.append(row)
    return rows


@dataclass(frozen=True)
class Goal:
    """A ratio of eventkit to another in the same round."""

    load: str
    field: str
    other: str
    at_least: float | None = None
    at_most: float | None = None

    def row(self, runs: Runs) -> str:
        pairs = zip(runs[self.load, "eventkit"], runs[self.load, self.other], strict=True)
        ratios = [getattr(ours, self.field) / getattr(theirs, self.field) for ours, theirs in pairs]
        ratio = statistics.median(ratios)
        low, high = min(ratios), max(ratios)
        met = ratio >= self.at_least if self.at_least else ratio <= self.at_most
        goal = f"≥ {self.at_least:g}" if self.at_least else f"≤ {self.at_most:g}"
        what = {"acked_per_second": "acked/s", "stored_per_second": "stored/s", "cpu_us": "CPU/event"}
        name = f"{self.load}, {what[self.field]} ÷ {self.other}"
        return f"| {name} | {ratio:.3g} | {low:.3g} to {high:.3g} | {goal} | {'yes' if met else 'no'} |"


GOALS = [
    Goal("single", "acked_per_second", "bare axum", at_least=0.75),
    Goal("single", "cpu_us", "bare axum", at_most=1.35),
    Goal("single", "acked_per_second", "seed, NORMAL", at_least=15),
    Goal("single", "acked_per_second", "seed, FULL", at_least=15),
    Goal("batched", "stored_per_second", "seed, NORMAL", at_least=30),
    Goal("batched", "stored_per_second", "seed, FULL", at_least=30),
    Goal("single", "acked_per_second", "Vector", at_least=5),
    Goal("batched", "stored_per_second", "Vector", at_least=7),
]


def report(names: list[str], runs: Runs) -> str:
    rows = []
    for load in LOADS:
        rows += [*table(load, names, runs), ""]
    rows += ["| eventkit to the others | ratio | of the rounds | goal | met |", "| --- | ---: | --- | --- | --- |"]
    rows += [goal.row(runs) for goal in GOALS if goal.other in names]
    return "\n".join(rows)


def in_environment(home: Path):
    """Goes on in a Python that has what the requirements name; installs it where it is not."""
    venv, wanted = home / "venv", (HERE / "requirements.txt").read_text()
    marker = venv / "installed.txt"
    if not marker.exists() or marker.read_text() != wanted:
        shutil.rmtree(venv, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        pip = [venv / "bin/pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", HERE / "requirements.txt"], check=True)
        marker.write_text(wanted)
    if Path(sys.prefix) != venv:
        os.execv(venv / "bin/python", [str(venv / "bin/python"), *sys.argv])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--eventkit", required=True, help="its release binary")
    parser.add_argument("--vector", default=shutil.which("vector"), help="its binary [default: in PATH]")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5, help="of load, for each server and each kind")
    parser.add_argument("--dir", help="where data goes [default: the temporary directory]")
    parser.add_argument("--home", type=Path, default=Path.home() / ".cache/eventkit-peers")
    options = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("wrk is missing: Debian has it in its package wrk")
    in_environment(options.home.resolve())
    if not options.vector:
        print("Vector is left out: there is no `vector` in PATH; --vector names one.", file=sys.stderr)
    every = peers(str(Path(options.eventkit).resolve()), options.vector)
    runs: Runs = {(load.name, peer.name): [] for load in LOADS for peer in every}
    for round in range(options.rounds):
        for load in LOADS:
            for peer in every:
                figures = measure(peer, load, round, options)
                runs[load.name, peer.name].append(figures)
                print(round, load.name, peer.name, figures, file=sys.stderr)
    print(report([peer.name for peer in every], runs))
    ours = [figures for (_, name), rounds in runs.items() if name == "eventkit" for figures in rounds]
    if any(f.stored < f.acked or f.doubled for f in ours):
        sys.exit("eventkit has lost or doubled what it had acknowledged")


if __name__ == "__main__":
    main()
