"""What `bench` prints adds up, and it leaves nothing behind. How fast it was is nobody's claim."""

import json
import math
import os
import resource
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from service import BINARY, clean_environment, until

SCENARIOS = ["single", "batches", "mixed", "hot_user", "bad_events"]
BATCHED = ("batches", "hot_user")
PERCENTS = [10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100, 110]
VALUES = {
    "streams": [1, 4, 16, 64],
    "partitions": [16, 64, 256],
    "connections": [10, 100, 1000, 10_000],
    "batch": [1, 10, 100, 1000],
    "payload": [100, 1 << 10, 16 << 10, 128 << 10, (1 << 20) - (1 << 10)],
    "backlog": [0, 66_700],
}
DRAWING = Path(__file__).parents[2] / "benches" / "curve.py"


@pytest.fixture
def device(tmp_path):
    """Where a bench makes its directory: deeper than a socket's path can be."""
    device = tmp_path / ("device" * 20)
    device.mkdir()
    return device


def start(device, *arguments, **more):
    """A bench on that device, under way; its environment would configure a service."""
    elsewhere = {"EVENTKIT_DATA_DIR": str(device.parent / "not-mine"), "EVENTKIT_LISTEN": "0:1"}
    return subprocess.Popen(
        [BINARY, "bench", "--dir", device, *arguments], stdin=subprocess.DEVNULL, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_environment() | elsewhere, **more)


def children(device):
    """Processes that were started for a directory on that device."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # it has just ended
        if b"--child" in arguments and str(device).encode() in b" ".join(arguments):
            found[int(process.name)] = b" ".join(arguments).decode()
    return found


def accounted(events):
    assert events["acknowledged"] == events["received"] > 0, events
    assert events["stored"] == events["rows"], events
    assert events["stored"] + events["dead_letters"] == events["received"], events
    assert events["dead_letters"] == events["open_letters"] == events["bad_acknowledged"], events
    assert events["doubled"] == events["unknown"] == events["duplicates"] == 0, events


def agrees(told, of, to):
    assert of > 0 and to > 0 and math.isclose(told, of / to, rel_tol=1e-9), (told, of, to)


def run(home, *arguments):
    """The figures of a short run, with a configuration lying around where it is started."""
    device = home / "device"
    device.mkdir()
    (home / "eventkit.toml").write_text('data_dir = "./not-mine"\n')
    bench = start(device, "--for", "10s", "--json", *arguments, cwd=home)
    out, err = bench.communicate(timeout=200)
    assert bench.returncode == 0, (out, err)
    assert sorted(path.name for path in home.iterdir()) == ["device", "eventkit.toml"]
    assert list(device.iterdir()) == [] and children(device) == {}
    return json.loads(out)


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    """One run for all who read it."""
    return run(tmp_path_factory.mktemp("bench"))


def test_every_acknowledged_event_is_accounted_for(figures):
    assert [scenario["name"] for scenario in figures["scenarios"]] == SCENARIOS
    for measured in [*figures["scenarios"], figures["half_load"]]:
        accounted(measured["events"])
        assert measured["faults"] == {}
    dead = {s["name"]: s["events"]["dead_letters"] for s in figures["scenarios"]}
    assert dead["bad_events"] > 0 and sum(dead.values()) == dead["bad_events"]
    assert figures["problems"] == []


def test_ratios_are_those_of_the_figures_beside_them(figures):
    ceilings = figures["ceilings"]
    work = ceilings["parse"]["cpu_us_per_event"] + ceilings["parquet"]["cpu_us_per_event"]
    sync_p99_ms = min(ceilings[when]["p99_ms"] for when in ("syncs_before", "syncs_after"))
    for measured in figures["scenarios"]:
        ratios = measured["ratios"]
        floor = ceilings["axum_batches" if measured["name"] in BATCHED else "axum_single"]
        agrees(ratios["throughput_of_axum"],
               measured["acknowledged_per_second"], floor["events_per_second"])
        agrees(ratios["cpu_of_axum"], measured["cpu_us_per_event"], floor["cpu_us_per_event"])
        agrees(ratios["cpu_of_parse_and_parquet"], measured["cpu_us_per_event"], work)
        agrees(ratios["p99_of_sync"], measured["latency"]["p99_ms"], sync_p99_ms)
        agrees(measured["acknowledged_per_second"],
               measured["events"]["acknowledged"], measured["sent_s"])
        # What is delivered was acknowledged before.
        assert measured["delivered_per_second"] <= measured["acknowledged_per_second"]
        took = measured["latency"]
        assert 0 < took["p50_ms"] <= took["p90_ms"] <= took["p99_ms"] <= took["max_ms"]
        assert measured["memory_bytes_max"] > 0 and measured["lake_bytes_per_event"] > 0
        assert measured["log_bytes_per_event"] > 100, "an event alone is longer"
    half = figures["half_load"]
    agrees(half["p99_of_sync"], half["latency"]["p99_ms"], sync_p99_ms)
    assert 0 < half["axum_latency"]["p50_ms"] <= half["axum_latency"]["p99_ms"]
    agrees(half["asked_per_second"], figures["scenarios"][0]["acknowledged_per_second"], 2)


def test_a_steady_stream_is_timed_alone_and_beside_anothers_flood(figures):
    fairness = figures["fairness"]
    flood, alone, beside = fairness["flood"], fairness["alone"], fairness["beside"]
    assert fairness["asked_per_second"] == min(
        1000, figures["scenarios"][0]["acknowledged_per_second"] * 0.1)
    for answers in (alone, beside):
        took = answers["latency"]
        assert answers["answered_per_second"] > 0, answers
        assert 0 < took["p50_ms"] <= took["p90_ms"] <= took["p99_ms"] <= took["max_ms"], answers
    agrees(fairness["p99_of_alone"], beside["latency"]["p99_ms"], alone["latency"]["p99_ms"])
    assert flood["acknowledged_per_second"] > 0
    # Each stream has its own account; a refused request's events may be there nonetheless.
    for of, refused, each in ((fairness, alone["refused"] + beside["refused"], 1),
                              (flood, flood["refused"], 100)):
        assert of["faults"] == {} and of["events"]["in_doubt"] == refused * each, of
        if refused == 0:
            accounted(of["events"])
    assert flood["events"]["acknowledged"] % 100 == 0


def test_a_machine_that_was_not_quiet_is_told(figures):
    quiet = figures["quiet"]
    changed = {figures["ceilings"][when]["per_second"] for when in ("syncs_before", "syncs_after")}
    assert math.isclose(
        quiet["sync_change_percent"], 100 - 100 * min(changed) / max(changed), abs_tol=1e-6)
    disturbed = [quiet["others_percent"] > 10, quiet["steal_percent"] > 5,
                 quiet["sync_change_percent"] > 25, figures["machine"]["filesystem"] == "tmpfs"]
    assert len(figures["distrust"]) == sum(disturbed), (quiet, figures["distrust"])


def at_a_rate(part, answered, took):
    assert part[answered] > 0 and part["cpu_us_per_event"] > 0, part
    assert 0 < took["p50_ms"] <= took["p90_ms"] <= took["p99_ms"] <= took["max_ms"], part


def test_a_curve_has_every_load_with_its_account(tmp_path):
    curve = run(tmp_path, "--curve")
    assert curve["problems"] == [] and curve["machine"]["asked_s"] == 10
    closed = curve["closed"]
    assert closed["asked_percent"] is None and closed["asked_per_second"] is None
    assert [point["asked_percent"] for point in curve["points"]] == PERCENTS
    for point in [closed, *curve["points"]]:
        at_a_rate(point, "answered_per_second", point["latency"])
        events = point["events"]
        # A refusal is not acknowledged, and the account knows that it may be there nonetheless.
        assert point["faults"] == {} and events["in_doubt"] == point["refused"], point
        if point["refused"] == 0:
            accounted(events)
    for point in curve["points"]:
        agrees(point["asked_per_second"],
               closed["answered_per_second"] * point["asked_percent"], 100)
    drawn = subprocess.run([sys.executable, DRAWING], input=json.dumps(curve), text=True,
                           capture_output=True, check=True, timeout=60)
    svg = ElementTree.fromstring(drawn.stdout)
    lines = svg.findall("{*}polyline")
    assert [len(line.get("points").split()) for line in lines] == [len(PERCENTS)] * 2
    words = [text.text for text in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert {"p50", "p99", "time to the answer, ms (log)"} <= set(words), words


def test_a_scale_has_every_value_with_its_account(tmp_path):
    scale = run(tmp_path, "--scale")
    assert scale["problems"] == []
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    allowed = [n for n in VALUES["connections"] if n + 256 <= limit]
    assert len(scale["left_out"]) == len(VALUES["connections"]) - len(allowed), scale["left_out"]
    found = {table["name"]: [row["value"] for row in table["rows"]] for table in scale["tables"]}
    assert found == VALUES | {"connections": allowed}
    for table in scale["tables"]:
        first = table["rows"][0]
        for row in table["rows"]:
            at_a_rate(row, "acknowledged_per_second", row["latency"])
            assert row["faults"] == {}, (table["name"], row)
            accounted(row["events"])
            agrees(row["cpu_of_first"], row["cpu_us_per_event"], first["cpu_us_per_event"])
            agrees(row["delivered_of_first"],
                   row["delivered_per_second"], first["delivered_per_second"])
            assert row["memory_bytes_max"] > 0 and row["lake_files"] > 0
    live, drained = scale["tables"][-1]["rows"]
    assert live["events"]["acknowledged"] == drained["events"]["acknowledged"] == drained["value"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_bench_that_is_stopped_leaves_no_child_and_no_directory(device, how):
    bench = start(device, "--for", "20s")
    try:
        # The service is the second child.
        until("it measures", lambda: len(children(device)) == 2)
        bench.send_signal(how)
        out, _ = bench.communicate(timeout=60)
        assert out == "" and bench.returncode == (-how if how == signal.SIGKILL else 1)
        until("its children have ended", lambda: children(device) == {})
        until("its directory is gone", lambda: list(device.iterdir()) == [])
    finally:
        bench.kill()
        bench.communicate()
        for child in children(device):
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("arguments, said", [
    (["--for", "9s"], "10s"),
    (["--for", "soon"], "not a duration"),
    (["--data-dir", "elsewhere"], "--dir"),
    (["--curve", "--scale"], "--scale"),
])
def test_what_makes_no_sense_is_refused(device, arguments, said):
    bench = start(device, *arguments)
    out, err = bench.communicate(timeout=60)
    assert (bench.returncode, out) == (64, "") and said in err
    assert list(device.iterdir()) == []


def test_a_directory_that_is_not_there_is_named(device):
    bench = start(device / "missing", "--for", "10s")
    out, err = bench.communicate(timeout=60)
    assert (bench.returncode, out) == (74, "") and "missing" in err
