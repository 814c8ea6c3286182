"""What a newer eventkit has written is refused with 78, and not a byte of it is changed."""

import shutil
import sqlite3
import struct
from pathlib import Path

import pytest

from test_second_instance import tree


def crc32c(content):
    """CRC-32C, as in RFC 3720."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def newer_segment(data):
    """Both copies of one segment's header say that only version 2's readers understand it."""
    path = sorted(data.glob("wal/*/seg-*.wal"))[0]
    content = bytearray(path.read_bytes())
    for copy in (0, 4096):
        struct.pack_into("<HH", content, copy + 8, 2, 2)
        struct.pack_into("<I", content, copy + 132, crc32c(content[copy:copy + 132]))
    path.write_bytes(content)
    return path


def newer_database(name):
    def change(data):
        path = data / name
        with sqlite3.connect(path) as database:
            found, = database.execute("PRAGMA user_version").fetchone()
            tag, = database.execute("PRAGMA application_id").fetchone()
            database.execute(f"PRAGMA user_version = {found + 1}")
            database.execute(f"PRAGMA application_id = {tag + 1}")
        database.close()
        return path
    return change


@pytest.mark.parametrize("change", [
    pytest.param(newer_segment, id="log"),
    pytest.param(newer_database("ledger.db"), id="ledger"),
    pytest.param(newer_database("errors.db"), id="errors"),
])
def test_a_newer_format_is_refused_untouched_and_named(service, change):
    service.start()
    service.collect([{"userId": "u", "messageId": f"m{n}"} for n in range(10)])
    assert service.terminate() == 0
    shutil.copytree(service.data, service.home / "kept")
    path = change(service.data)
    before = contents(service.data)
    done = service.run("run", timeout=20)
    assert done.returncode == 78, done
    assert str(path) in done.stderr
    assert contents(service.data) == before
    # The version that wrote it goes on with it.
    shutil.rmtree(service.data)
    (service.home / "kept").rename(service.data)
    service.start().flush()
    assert len(service.rows()) == 10


def contents(data):
    """Every file's content, but what holds nothing."""
    files = {Path(name): facts for name, facts in tree(data).items() if facts[-1] and facts[2]}
    return {path: facts[-1] for path, facts in files.items() if path.name != "reserve.bin"}
