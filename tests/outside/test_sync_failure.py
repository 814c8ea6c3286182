"""A device that fails for good below the file system: what was promised is on what is left of it.

The image is sparse and lies in a memory that is smaller: the file system believes in room which
the device has not, and learns of it when it syncs. What its cache still shows is not on the disk.
"""

import pytest

import disks
from load import check_undamaged
from service import until
from steady import Steady, check

STREAM = "steady"
CONFIG = """
max_streams = 6
partitions = 2
[disk]
reserve_bytes = "1 MiB"
[load]
age_max = "100ms"
[wal]
segment_bytes = "1 MiB"
bytes_max = "150 MiB"
"""

pytestmark = pytest.mark.needs("ext4")


@pytest.fixture
def failing(workshop, make_service):
    """A service on a device that will run out of room; its store takes nothing, so its log grows."""
    memory = disks.mount_memory(workshop / "memory", 40)
    image = disks.image(memory / "disk.img", "ext4", 1024)
    disk = disks.mount(image, workshop / "disk")
    service = make_service(workshop / "s", data=disk / "data", lake=workshop / "lake")
    service.lake.mkdir()
    (service.lake / f"stream={STREAM}").write_text("in the way")
    service.configure(CONFIG)
    return service.start()


def test_a_device_that_runs_out_ends_it_with_74_and_every_promise_is_on_the_device(failing, tell):
    workshop = failing.home.parent
    client = Steady(failing, STREAM, filler=20000)
    until("the device has failed", lambda: client.send() and failing.process.poll() is not None,
          every=0)
    assert failing.end() == 74, failing.log()[-2000:]
    promised = len(client.having(202))
    assert promised > 100, "too little was promised to say anything"

    disks.unmount(workshop / "disk")
    disks.grow(workshop / "memory", 1200)
    disks.mount(workshop / "memory" / "disk.img", workshop / "disk")
    (failing.lake / f"stream={STREAM}").unlink()
    failing.start().flush()
    check(failing.rows(), client)
    check_undamaged(failing)
    assert client.send().status == 202
    tell(f"{promised} promised before the device failed")
