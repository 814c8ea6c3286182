"""The README's commands work as they stand.

All blocks are run in order, in one empty directory, on a loopback of their own, so that the
usual ports are free. A comment before a block says what is special about it.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from service import BINARY, clean_environment

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"(?:<!-- ([^\n]*) -->\n)?```(sh|python)\n(.*?)```", re.DOTALL)
BEGIN = """
set -euo pipefail
ip link set lo up
cd "$1"
"""
END = """
kill -TERM $background
wait $background
echo 'the service has ended well'
"""
READY = "curl -s --retry 100 --retry-delay 1 --retry-connrefused http://127.0.0.1:8000/ready"


def steps(readme):
    """Bash for each block, with a line before it that names it."""
    for number, (special, language, text) in enumerate(BLOCK.findall(readme), 1):
        yield f"echo 'block {number}: {special or language}'"
        if special == "the tests themselves":
            # Running them here would never end; that they exist is all there is to check.
            yield from (f"test -x {ROOT}/{line}" for line in text.split())
        elif special == "until interrupted, in the checkout":
            # 128+2 would be an end by the signal itself; 0 is an end in order.
            yield (f"(cd {ROOT} && timeout --preserve-status --signal=INT 15 bash -c "
                   f"{shlex.quote(text.strip())})")
        elif special == "in the background":
            yield f"bash -c {shlex.quote(text.strip())} & background=$!\n{READY}"
        else:
            assert not special, f"what is {special!r}?"
            shell = "bash -euo pipefail" if language == "sh" else "python3"
            yield f"{shell} <<'END_OF_BLOCK'\n{text}END_OF_BLOCK"


def test_every_command_of_the_readme_works_as_it_stands(tmp_path):
    script = "\n".join([BEGIN, *steps((ROOT / "README.md").read_text()), END])
    path = os.pathsep.join(
        [str(BINARY.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    unshare = ["unshare", "--net"] if os.geteuid() == 0 else [
        "unshare", "--user", "--map-root-user", "--net"]
    done = subprocess.run(
        [*unshare, "bash", "-c", script, "bash", tmp_path], stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=600, env={**clean_environment(), "PATH": path})
    told = f"{done.stdout}\n--- stderr\n{done.stderr[-6000:]}"
    assert done.returncode == 0, told
    assert "the service has ended well" in done.stdout, told
    assert "sent " in done.stdout and "stored" in done.stdout, "the demo showed itself"
    assert "missing_field" in done.stdout and "in the log again" in done.stdout, told
    assert "ada" in done.stdout and "/userId" in done.stdout, told


def test_the_readme_s_configuration_reference_is_the_binary_s():
    reference = subprocess.run(
        [BINARY, "config", "--reference"], capture_output=True, text=True, check=True, timeout=30,
        env=clean_environment()).stdout.strip()
    readme = (ROOT / "README.md").read_text()
    between = re.search(
        r"<!-- eventkit config --reference -->\n(.*?)\n?<!-- end -->", readme, re.DOTALL)[1]
    assert between.strip() == reference, "run `eventkit config --reference` and put it in"


def test_the_readme_names_every_metric():
    sources = [*ROOT.glob("src/status/**/*.rs")]
    names = {name for file in sources
             for name in re.findall(r'"eventkit_([a-z0-9_]+)"', file.read_text())}
    assert len(names) > 20
    readme = (ROOT / "README.md").read_text()
    assert {name for name in names if f"`{name}`" not in readme} == set()


def test_the_sheet_of_many_machines_is_what_its_arithmetic_says():
    computed = subprocess.run(
        [sys.executable, ROOT / "benches/scaling.py"], capture_output=True, text=True, check=True)
    sheet = (ROOT / "benches/README.md").read_text()
    for table in computed.stdout.strip().split("\n\n"):
        assert table in sheet
