"""The console in a real terminal (tmux): what an operator sees, and what is left behind."""

import shlex
import subprocess
import uuid

import pytest

from load import Load
from service import BINARY, clean_environment, until

STRICT = '[streams.events.validate]\nrequired = ["userId"]\n'
RELAXED = "[streams.events.validate]\nrequired = []\n"


class Terminal:
    """A shell in a terminal of its own."""

    def __init__(self, width, height):
        self.server = f"eventkit-{uuid.uuid4().hex[:8]}"
        environment = {**clean_environment(), "LC_ALL": "C.UTF-8"}
        environment.pop("TMUX", None)
        subprocess.run(
            ["tmux", "-L", self.server, "-f", "/dev/null", "new-session", "-d", "-x", str(width),
             "-y", str(height), "sh"],
            env=environment, check=True, timeout=30)
        # The shell reads lines once it has answered one.
        self.line("echo $((40 + 2)) is settled")
        self.sees("42 is settled")

    def tmux(self, *arguments):
        return subprocess.run(["tmux", "-L", self.server, *arguments], check=True, timeout=30,
                              capture_output=True, text=True).stdout

    def keys(self, *keys):
        self.tmux("send-keys", *keys)

    def line(self, text):
        self.tmux("send-keys", "-l", text)
        self.keys("Enter")

    def screen(self):
        return self.tmux("capture-pane", "-p")

    def sees(self, text, seconds=20):
        """Waits until the text stands on the screen; returns the screen."""
        try:
            return until(f"{text!r} on the screen",
                         lambda: (screen := self.screen()) and text in screen and screen, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.screen()}") from None

    def state(self):
        """What the terminal is set to: other screen, cursor, mouse, bracketed paste."""
        return self.tmux("display-message", "-p",
                         "#{alternate_on} #{cursor_flag} #{mouse_any_flag} #{keypad_flag}").strip()

    def close(self):
        subprocess.run(["tmux", "-L", self.server, "kill-server"], check=False, timeout=30)


@pytest.fixture(params=[(120, 40), (80, 24)], ids=["120x40", "80x24"])
def terminal(request):
    terminal = Terminal(*request.param)
    yield terminal
    terminal.close()


def console(service, *options):
    return shlex.join([str(BINARY), *service.options(), "console", *options])


def settings(terminal):
    """The line discipline, as stty sees it: answered once the shell has the terminal again."""
    word = f"settled {uuid.uuid4().hex[:8]}"
    terminal.line(f"clear; stty -g; echo {word}")
    screen = terminal.sees(f"\n{word}")
    return next(line for line in screen.splitlines() if line.count(":") > 10)


@pytest.fixture
def rejecting(service):
    """A service with two good events and one dead letter."""
    service.configure(STRICT)
    service.start()
    service.post("/v1/batch", {"batch": [
        {"type": "track", "event": "E", "messageId": f"m{n}", "userId": user}
        for n, user in enumerate(["u", "u", None])]})
    service.flush()
    return service


def test_the_console_shows_live_numbers_and_q_restores_the_terminal(running, terminal, dice):
    before, state = settings(terminal), terminal.state()
    terminal.line(console(running))
    terminal.sees("Pipeline")
    assert terminal.state() != state, "it draws on a screen of its own"
    with Load(running, dice, senders=1):
        screen = terminal.sees("clicks")
        assert "INGEST" in screen and "LOAD" in screen
        terminal.sees("/s")
    terminal.keys("q")
    until("the shell's screen is back", lambda: terminal.state() == state)
    assert settings(terminal) == before
    assert running.is_ready(), "the service goes on"


def test_a_dead_letter_is_read_and_replayed_with_R(rejecting, terminal):
    rejecting.configure(RELAXED)
    rejecting.restart()
    terminal.line(console(rejecting))
    terminal.sees("Pipeline")
    terminal.keys("5")
    terminal.sees("missing_field")
    terminal.keys("Down", "Enter")
    screen = terminal.sees("Letter 1")
    assert "missing_field" in screen
    terminal.keys("Enter")
    terminal.sees('"m2"')
    terminal.keys("R")
    terminal.sees("[ Replay 1 ]")
    assert rejecting.letters("--status", "open"), "nothing happens before the answer"
    terminal.keys("Tab", "Enter")
    until("the letter is resolved",
          lambda: rejecting.flush() and rejecting.letters("--status", "resolved"))
    assert sorted(row["message_id"] for row in rejecting.rows()) == ["m0", "m1", "m2"]
    assert [l["status"] for l in rejecting.letters()] == ["resolved"]
    terminal.keys("q")


def test_escape_at_the_question_replays_nothing(rejecting, terminal):
    terminal.line(console(rejecting))
    terminal.sees("Pipeline")
    terminal.keys("5")
    terminal.sees("missing_field")
    terminal.keys("Down", "R")
    terminal.sees("Cancel")
    terminal.keys("Escape")
    until("the question is gone", lambda: "Cancel ]" not in terminal.screen())
    [letter] = rejecting.letters()
    assert (letter["status"], letter["attempts"]) == ("open", 0)
    assert len(rejecting.json("dlq", "show", letter["id"])["history"]) == 1


def test_the_console_outlives_the_service_and_finds_it_again(running, terminal):
    terminal.line(console(running))
    terminal.sees("LIVE")
    running.kill()
    until("it says so", lambda: "LIVE" not in terminal.screen())
    running.start()
    terminal.sees("LIVE", 40)
    terminal.keys("q")


def test_a_run_with_the_console_stops_with_it_and_leaves_the_terminal_as_it_was(service, terminal):
    before, state = settings(terminal), terminal.state()
    terminal.line(shlex.join([str(BINARY), *service.options(), "run", "--console"]))
    terminal.sees("Pipeline")
    service.collect({"userId": "u"})
    # Ctrl-C asks; whatever it offers, SIGTERM to the process is the way a supervisor takes.
    pid = terminal.tmux("display-message", "-p", "#{pane_pid}").strip()
    child = subprocess.run(["pgrep", "-P", pid], check=True, capture_output=True, text=True,
                           timeout=30).stdout.split()[0]
    subprocess.run(["kill", "-TERM", child], check=True, timeout=30)
    until("the shell's screen is back", lambda: terminal.state() == state)
    assert settings(terminal) == before
    assert len(service.rows()) == 1, "it drained"


def test_without_a_terminal_the_console_prints_lines(running):
    process = subprocess.Popen([BINARY, *running.options(), "console"], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, text=True, env=clean_environment())
    try:
        line = process.stdout.readline()
        assert line.strip() and "\x1b" not in line
    finally:
        process.kill()
        process.wait()
