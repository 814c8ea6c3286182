"""Two processes never share a data directory: the second goes away and has touched nothing."""

import hashlib
import signal
import time
from pathlib import Path

from service import Service


def tree(directory):
    """Everything in a directory: names, kinds, times and contents."""
    found = {}
    for path in sorted([directory, *directory.rglob("*")]):
        facts = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path)] = (facts.st_mode, facts.st_ino, facts.st_size, facts.st_mtime_ns,
                            facts.st_ctime_ns, content)
    return found


def hold_still(process):
    """Stops a process; what a thread has begun inside the kernel comes to its end first."""
    process.send_signal(signal.SIGSTOP)
    threads = Path(f"/proc/{process.pid}/task").iterdir
    while not all((t / "stat").read_text().rsplit(") ", 1)[1][0] == "T" for t in threads()):
        time.sleep(0.01)


def test_a_second_instance_exits_75_and_touches_not_a_byte_of_the_data(running, tell):
    running.collect([{"userId": "u", "messageId": f"m{n}"} for n in range(100)])
    running.flush()
    running.collect({"userId": "u", "messageId": "in the log alone"})
    # The first one holds still, so that whatever changes was the second.
    hold_still(running.process)
    before = tree(running.data)
    assert any(name.endswith("ledger.db") for name in before)
    other = Service(running.home)
    began = time.monotonic()
    done = other.run("run", timeout=10)
    tell(f"exit after {time.monotonic() - began:.3f} s")
    after = tree(running.data)
    running.process.send_signal(signal.SIGCONT)
    assert done.returncode == 75, done
    assert str(running.data) in done.stderr
    assert after == before
    running.collect({"userId": "u", "messageId": "afterwards"})
    running.flush()
    assert len(running.rows()) == 102


def test_a_lock_dies_with_its_process_and_with_nothing_else(running):
    running.collect({"userId": "u"})
    assert Service(running.home).run("run", timeout=10).returncode == 75
    running.kill()
    running.start().flush()
    assert len(running.rows()) == 1
