"""Whoever reads what a command prints may go at any time: the command ends, quietly."""

import os
import subprocess

import pytest

from service import BINARY, clean_environment

COMMANDS = [
    ["--help"], ["--version"], ["dlq", "--help"], ["completions", "bash"], ["config"],
    ["config", "--json"], ["config", "--reference"], ["check"], ["status"], ["status", "--json"],
    ["dlq", "list"], ["dlq", "list", "--json"], ["dlq", "show", "1"], ["wal", "verify"],
    ["wal", "inspect", "events"], ["wal", "damage"], ["flush"], ["console", "--plain"],
]


def unheard(service, arguments, stream):
    """Runs a command one of whose outputs has no reader; the exit code and its other output."""
    reader, writer = os.pipe()
    os.close(reader)
    outputs = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: writer}
    try:
        done = subprocess.run([BINARY, *service.options(), *arguments], stdin=subprocess.DEVNULL,
                              env=clean_environment(), timeout=60, **outputs)
    finally:
        os.close(writer)
    return done.returncode, done.stderr if stream == "stdout" else done.stdout


@pytest.fixture
def with_letter(service):
    service.start()
    service.post("/v1/track", {"event": "Opened"})
    service.flush()
    return service


def test_a_closed_output_ends_every_command_quietly(with_letter):
    for arguments in COMMANDS:
        assert unheard(with_letter, arguments, "stdout") == (0, b""), arguments


def test_a_complaint_that_nobody_reads_is_none(with_letter):
    for arguments, code in (["dlq", "show", "9"], 1), (["dlq", "replay", "9"], 1), (["nope"], 64):
        assert unheard(with_letter, arguments, "stderr") == (code, b""), arguments


def test_a_demo_that_nobody_reads_ends(service):
    demo = [BINARY, "demo", "--listen", f"127.0.0.1:{service.port}",
            "--metrics-listen", f"127.0.0.1:{service.metrics_port}"]
    process = subprocess.Popen(demo, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, env=clean_environment())
    assert process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 0
