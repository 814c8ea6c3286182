"""A night's run: load, a kill now and then, a store that goes away, and what became of it all.

    tests/run soak [--hours 4] [--kill-every 600] [--outage-every 1800] [--pause 0.005]

Every minute it prints memory and descriptors of the service. The first half of the time has kills;
the second is one life, whose slopes count. It exits with 1 where an acknowledged event is missing,
is there twice or was damaged, or where memory or descriptors grow.
"""

import argparse
import random
import shutil
import tempfile
import time
from pathlib import Path

from load import check_undamaged
from service import Service, until
from steady import Steady, check

STREAMS = ("a", "b", "c", "d")
CONFIG = """
partitions = 4
[load]
age_max = "5s"
# What is remembered of ids grows up to this, which is no leak: it has to be full soon.
[dedupe]
memory_bytes_max = "1 MiB"
"""
RSS_SLOPE_MAX_BYTES_H = 1 << 20


def slope(points):
    """Units an hour, by least squares over (seconds, units)."""
    if len(points) < 3:
        return 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread * 3600


class Soak:
    """The service, its clients and what was measured."""

    def __init__(self, home, options):
        self.options = options
        self.service = Service(home / "s")
        self.service.home.mkdir()
        self.service.configure(CONFIG)
        self.clients = [Steady(self.service, stream, filler=300, pause_s=options.pause)
                        for stream in STREAMS]
        self.kills, self.samples = 0, []  # the samples of this life

    def run(self):
        """Load until the time is over; then everything is stored."""
        began = time.monotonic()
        next_sample, next_kill = began, began + self.options.kill_every
        next_outage = began + self.options.outage_every
        self.service.start()
        for client in self.clients:
            client.start()
        duration = self.options.hours * 3600
        while (now := time.monotonic()) < began + duration:
            code = self.service.process.poll()
            assert code is None, f"it ended by itself with {code}: {self.service.log()[-3000:]}"
            if now >= next_sample:
                self.sample(now - began)
                next_sample += self.options.sample_every
            if now >= next_kill and now < began + duration / 2:
                self.service.kill()
                self.service.start()
                self.kills, self.samples = self.kills + 1, []
                next_kill = now + self.options.kill_every * random.uniform(0.5, 1.5)
            if now >= next_outage:
                self.outage()
                next_outage = now + self.options.outage_every
            time.sleep(0.2)
        for client in self.clients:
            client.__exit__()
        self.service.flush()

    def outage(self):
        """One stream's store is away for a minute at most."""
        place, aside = self.service.lake / f"stream={STREAMS[0]}", self.service.home / "aside"
        if not place.is_dir():
            return
        shutil.move(place, aside)
        place.write_text("in the way")
        time.sleep(min(60, self.options.outage_every / 4))
        place.unlink()
        shutil.move(aside, place)

    def sample(self, at):
        rss, descriptors = self.service.rss_bytes(), self.service.descriptors()
        self.samples.append((at, rss, descriptors))
        promised = sum(len(client.having(202)) for client in self.clients)
        print(f"{at:8.0f} s  {promised:9} promised  rss {rss / (1 << 20):6.1f} MiB  "
              f"{descriptors} descriptors", flush=True)

    def verdict(self):
        """What is wrong, as sentences."""
        check(self.service.rows(), *self.clients)
        check_undamaged(self.service)
        # The first half hour of a life, or a quarter of a shorter one, fills buffers.
        began, ended = self.samples[0][0], self.samples[-1][0]
        warm = began + min(1800, (ended - began) / 4)
        steady = [sample for sample in self.samples if sample[0] >= warm]
        rss = slope([(at, rss) for at, rss, _ in steady])
        fds = slope([(at, fds) for at, _, fds in steady])
        print(f"{self.kills} kills; in the last {(ended - warm) / 3600:.2f} h "
              f"rss {rss / (1 << 20):+.2f} MiB/h, descriptors {fds:+.2f}/h")
        if rss > RSS_SLOPE_MAX_BYTES_H:
            yield "memory grows"
        if fds > 1:
            yield "descriptors grow"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=4)
    parser.add_argument("--kill-every", type=float, default=600, help="seconds, about")
    parser.add_argument("--outage-every", type=float, default=1800, help="seconds")
    parser.add_argument("--sample-every", type=float, default=60, help="seconds")
    parser.add_argument("--pause", type=float, default=0.005, help="seconds between requests")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="eventkit-soak-") as home:
        soak = Soak(Path(home), options)
        try:
            soak.run()
            wrong = list(soak.verdict())
        finally:
            if soak.service.process:
                soak.service.kill()
    print("; ".join(wrong) or "nothing was lost, nothing is there twice")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
