"""How the service ends, and with which code: scripts and systemd read nothing else."""

import socket
import subprocess

import requests

from load import Load, check, check_order
from service import BINARY, clean_environment, until


def test_sigterm_under_load_drains_and_everything_acknowledged_is_in_the_lake(running, dice):
    with Load(running, dice) as load:
        until("there is load", lambda: len(load.acknowledged()) > 500)
        assert running.terminate() == 0
    rows = running.rows()
    acknowledged = load.acknowledged() - load.bad()
    missing = acknowledged - {row["message_id"] for row in rows}
    assert missing == set(), f"{len(missing)} of {len(acknowledged)} left behind"
    check_order(rows)
    running.start()
    running.flush()
    landed, dead = check(load, running.rows(), running.letters())
    assert len(landed) == len(set(landed)) and len(dead) == len(set(dead))


def test_sigint_is_a_stop_as_well(running):
    running.collect({"userId": "u"})
    running.process.send_signal(subprocess.signal.SIGINT)
    assert running.process.wait(60) == 0
    running.process = None
    assert len(running.rows()) == 1


def test_an_address_in_use_exits_74_and_names_it(service):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        service.port = taken.getsockname()[1]
        done = service.run("run", timeout=10)
    assert done.returncode == 74, done
    assert f"127.0.0.1:{service.port}" in done.stderr


def test_a_bad_configuration_exits_78_and_names_file_line_and_key(service):
    service.configure('listen = "127.0.0.1:8000"\n\n[load]\nevents_max = "many"\nage = "1s"\n')
    for command in ("run", "check", "config"):
        done = service.run(command, timeout=10)
        assert done.returncode == 78, (command, done)
        # `check` answers the question on the standard output; for the others it is a failure.
        told = done.stdout if command == "check" else done.stderr
        assert f"{service.config}:4:14: load.events_max: " in told, done
        assert f"{service.config}:5:1: load.age: " in told, done
    assert not service.data.exists(), "nothing is touched before the configuration is right"


def test_a_good_configuration_passes_its_check(service):
    service.configure('[load]\nage_max = "1s"\n')
    service.cli("check")


def test_what_is_no_option_or_command_exits_64(service):
    for arguments in (["run", "--nonsense"], ["nonsense"], ["dlq", "show", "not-a-number"], []):
        done = service.run(*arguments, timeout=10)
        assert done.returncode == 64, (arguments, done)
        assert "--help" in done.stderr or "Usage" in done.stderr, done


def test_a_command_without_a_service_says_where_it_looked(service):
    done = service.run("status", timeout=30)
    assert done.returncode not in (0, 64, 75, 78), done
    assert "admin.sock" in done.stderr


def test_a_stopping_service_is_not_ready_and_its_socket_is_gone_afterwards(running):
    assert (running.data / "admin.sock").is_socket()
    assert running.terminate() == 0
    assert not (running.data / "admin.sock").exists()
    try:
        requests.get(f"{running.url}/ready", timeout=5)
    except requests.ConnectionError:
        return
    raise AssertionError("something answers although the service has ended")


def test_help_and_version_are_no_errors():
    for option in ("--help", "--version"):
        done = subprocess.run([BINARY, option], capture_output=True, text=True, timeout=30,
                              env=clean_environment(), check=True)
        assert "eventkit" in done.stdout
