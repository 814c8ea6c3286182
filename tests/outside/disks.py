"""File systems of one's own: images on loop devices, made for a test and gone after it.

Everything lies in one directory per run, whose name holds the run's process id: what a killed run
left mounted is found by that, and taken down at the start of the next one.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

MARK = "eventkit-disks-"
ROOT = Path(os.environ.get("EVENTKIT_TEST_HOME") or tempfile.gettempdir())
MIB = 1 << 20
MAKERS = {
    # Nothing is written lazily later on, and nothing is kept back for root, who runs the tests.
    "ext4": ["mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
    "xfs": ["mkfs.xfs", "-q", "-f", "-m", "reflink=1"],
    "btrfs": ["mkfs.btrfs", "-q", "-f"],
}


def command(*arguments):
    """Runs a program that must succeed; returns what it printed."""
    done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{arguments}: exit {done.returncode}: {done.stderr}"
    return done.stdout.strip()


@contextlib.contextmanager
def workshop():
    """An empty directory for images and mount points; empty and gone afterwards."""
    directory = Path(tempfile.mkdtemp(prefix=f"{MARK}{os.getpid()}-", dir=ROOT))
    try:
        yield directory
    finally:
        clear(directory)


def image(path, kind, size_mib):
    """A sparse file with an empty file system of that kind."""
    with path.open("xb") as file:
        file.truncate(size_mib * MIB)
    command(*MAKERS[kind], path)
    return path


def mount(file, where, *options):
    """Mounts an image below the same workshop; `unmount` or the workshop's end undoes it."""
    where.mkdir(exist_ok=True)
    command("mount", "-o", ",".join(("loop", *options)), file, where)
    return where


def mount_memory(where, size_mib):
    """A file system in memory, of that size until `grow`."""
    where.mkdir()
    command("mount", "-t", "tmpfs", "-o", f"size={size_mib}M", "tmpfs", where)
    return where


def grow(where, size_mib):
    """Gives a file system in memory another size."""
    command("mount", "-o", f"remount,size={size_mib}M", where)


def unmount(where):
    """Unmounts; the loop device below goes with it."""
    command("umount", where)


def mounts_below(directory):
    """Mount points in a directory, those on top first."""
    with open("/proc/self/mounts") as lines:
        points = [line.split()[1] for line in lines]
    return [p for p in reversed(points) if Path(p).is_relative_to(directory)]


def clear(directory):
    """Takes down whatever is mounted in a workshop, and removes it."""
    for point in mounts_below(directory):
        # What a process that died just now still holds must not stop the others.
        if subprocess.run(["umount", point], capture_output=True).returncode != 0:
            command("umount", "--lazy", point)
    for line in command("losetup", "--list", "--noheadings", "-O", "NAME,BACK-FILE").splitlines():
        device, file = line.split(maxsplit=1)
        if Path(file).is_relative_to(directory):
            subprocess.run(["losetup", "--detach", device], capture_output=True)
    shutil.rmtree(directory)


def sweep():
    """Clears the workshops of runs that are no more."""
    for directory in ROOT.glob(f"{MARK}*"):
        owner = directory.name.removeprefix(MARK).split("-")[0]
        if not Path("/proc", owner).exists():
            clear(directory)


def unusable(kind):
    """Why images of that kind can't be mounted here; None where they can."""
    if os.geteuid() != 0:
        return "only root mounts file systems"
    try:
        sweep()
        with workshop() as here:
            where = mount(image(here / "probe.img", kind, 300), here / "probe")
            unmount(where)
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        return f"no image of {kind} can be mounted: {error}"
    return None


def free_bytes(where):
    """What a process may still take of a file system."""
    found = os.statvfs(where)
    return found.f_bavail * found.f_frsize


def fill(where, name="ballast"):
    """Takes all the room that is left: not a byte more can be written anywhere."""
    ballast = where / name
    with ballast.open("ab") as file:
        step = 64 * MIB
        while step >= 4096:
            try:
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), step)
            except OSError:
                step //= 2
    return ballast
