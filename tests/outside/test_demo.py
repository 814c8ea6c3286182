"""What a newcomer runs first: everything alive, and figures that agree with each other."""

import contextlib
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import termios
from pathlib import Path

import pytest

from service import BINARY, Service, clean_environment, lake_files, query, read_rows

LINE = re.compile(
    r"\d\d:\d\d:\d\d received (\d+) \(\d+/s\), stored (\d+), waiting (\d+), dead letters (\d+) open")
SENT = re.compile(
    r"sent (\d+) events, (\d+) acknowledged \((\d+) of them without a user\), (\d+) refused")


@pytest.fixture
def ports(tmp_path):
    """Options that keep a demo away from every other service of the machine."""
    service = Service(tmp_path)
    return ["--listen", f"127.0.0.1:{service.port}",
            "--metrics-listen", f"127.0.0.1:{service.metrics_port}"]


def demo(*arguments, **variables):
    """Runs the demo without a terminal; what it printed."""
    done = subprocess.run(
        [BINARY, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=180, env=clean_environment() | variables)
    assert done.returncode == 0, done
    return done.stdout


def test_the_demos_figures_agree_with_the_lake_that_it_keeps(ports):
    told = demo(*ports, "demo", "--rate", "200", "--for", "10s", "--keep")
    lines = [tuple(map(int, found)) for found in LINE.findall(told)]
    assert len(lines) >= 3, told
    assert lines[-1][0] > lines[0][0] and lines[-1][0] > 500, "the traffic shows"
    sent, acknowledged, without_user, refused = map(int, SENT.search(told).groups())
    assert sent >= acknowledged > 1000 and without_user > 0 and refused > 0, told
    lake = Path(re.search(r"the demo's lake is in (\S+)", told)[1])
    try:
        rows = read_rows(lake)
        assert len(rows) == acknowledged - without_user
        assert len({row["message_id"] for row in rows}) == len(rows)
        users = query(lake_files(lake), "select user_id, count(*) from lake group by 1 order by 2")
        assert users[-1][1] > 5 * users[len(users) // 2][1], "one user is hot"
    finally:
        shutil.rmtree(lake.parent)


def test_a_demo_leaves_nothing_behind_unless_told_to(ports, tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    demo(*ports, "demo", "--for", "1s", TMPDIR=str(temporary))
    assert list(temporary.iterdir()) == []
    demo(*ports, "demo", "--for", "1s", "--keep", TMPDIR=str(temporary))
    assert len(list(temporary.iterdir())) == 1


def test_a_demo_in_a_terminal_ends_by_itself(ports):
    screen, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    process = subprocess.Popen(
        [BINARY, *ports, "demo", "--for", "2s"], stdin=terminal, stdout=terminal,
        stderr=subprocess.DEVNULL, env=clean_environment() | {"TERM": "xterm-256color"})
    os.close(terminal)
    try:
        shown = b""
        # The terminal's end is the last program's that had it.
        with contextlib.suppress(OSError):
            while select.select([screen], [], [], 60)[0] and (more := os.read(screen, 65536)):
                shown += more
        assert process.wait(timeout=10) == 0
        assert b"CONNECTING" in shown and b"sent " in shown
    finally:
        process.kill()
        process.wait()
        os.close(screen)


def test_ctrl_c_ends_a_demo_without_an_error(ports):
    process = subprocess.Popen(
        [BINARY, *ports, "demo"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, env=clean_environment())
    try:
        assert LINE.match(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
        assert process.returncode == 0 and SENT.search(rest), rest
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
