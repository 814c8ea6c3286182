#!/usr/bin/env python3
"""How far each way of running many collectors goes, on paper.

Prints the tables of benches/README.md ("Many machines"). What a service does of itself is taken
from its defaults and from what the tests measure (README.md, "What it costs"); what Google's
services allow, from their own pages, as read in November 2026:

  https://cloud.google.com/bigquery/quotas#load_jobs
  https://cloud.google.com/pubsub/quotas
  https://cloud.google.com/storage/docs/request-rate
"""

import math

# Google's limits.
JOBS_A_DAY = 1_500  # load jobs of a table
URIS_A_JOB = 10_000
KEY_BYTES_A_SECOND = 1_000_000  # of an ordering key
TOPIC_BYTES_A_SECOND = 4_000_000_000  # a project's publishing in a large region
ADMINISTRATIVE_A_MINUTE = 6_000
BUCKET_WRITES_A_SECOND = 1_000  # to begin with; a bucket grows beyond it by itself

# What a service does.
STREAMS = 3  # with traffic, of equal shares
PARTITIONS = 16
EVENTS_MAX = 10_000  # load.events_max
AGE_MAX = 30  # load.age_max, seconds
INTERVAL = 300  # warehouse.interval, seconds
EVENT_BYTES = 655  # of an event in the topic
LAKE_BYTES = 58  # of an event in the lake
ASKED_A_MINUTE = 4  # administrative questions of an instance
# What one processor is given here: as much as one stream's ordering keys carry.
PROCESSOR_BYTES_A_SECOND = PARTITIONS * KEY_BYTES_A_SECOND

DAY, MONTH = 86_400, 30 * 86_400


def objects_a_second(events_a_second):
    """Of all streams of one service: a batch is full, or old."""
    each = events_a_second / STREAMS
    return STREAMS * max(each / EVENTS_MAX, 1 / AGE_MAX)


def short(number):
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.3g}"


def duration(seconds):
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{seconds / 3600:.1f} h"


def alone(collectors, rate):
    """Each stores what it takes, into one bucket and one table a stream."""
    objects = collectors * objects_a_second(rate)
    jobs = collectors * DAY / INTERVAL
    # So often that all of them together stay below the limit.
    interval = max(INTERVAL, collectors * DAY / JOBS_A_DAY)
    files = objects_a_second(rate) / STREAMS * interval
    writes = "ok" if objects < BUCKET_WRITES_A_SECOND else "**too many**"
    return [
        f"{collectors:,}", f"{rate:,}", short(objects * DAY), f"{objects:,.3g}/s, {writes}",
        short(objects * MONTH), f"{jobs:,.0f}", duration(interval),
        f"{files:,.0f}" + (" **too many**" if files > URIS_A_JOB else ""),
    ]


def behind_a_topic(collectors, rate):
    """Few processors store what all of them take."""
    flow = collectors * rate * EVENT_BYTES
    keys = math.ceil(flow / STREAMS / KEY_BYTES_A_SECOND)
    partitions = max(PARTITIONS, keys)
    processors = max(2, math.ceil(flow / PROCESSOR_BYTES_A_SECOND))
    objects = processors * objects_a_second(collectors * rate / processors)
    interval = max(INTERVAL, processors * DAY / JOBS_A_DAY)
    files = objects / processors / STREAMS * interval
    asked = (collectors + processors) * ASKED_A_MINUTE
    return [
        f"{collectors:,}", f"{rate:,}", f"{short(flow)}B/s"
        + (" **too much**" if flow > TOPIC_BYTES_A_SECOND else ""),
        f"{keys:,}", f"{partitions:,}", f"{processors:,}", short(objects * DAY),
        duration(interval), f"{files:,.0f}",
        f"{asked:,}" + (" **too many**" if asked > ADMINISTRATIVE_A_MINUTE else ""),
    ]


def table(head, rows):
    yield "| " + " | ".join(head) + " |"
    yield "|" + " ---: |" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


CASES = [(collectors, rate) for rate in (100, 2_000) for collectors in (10, 100, 1_000)]


def main():
    print("\n".join(table(
        ["collectors", "events/s each", "objects a day", "puts", "class A a month",
         "jobs a day and table at 5 min", "`warehouse.interval` needed", "objects a job"],
        [alone(*case) for case in CASES])))
    print()
    print("\n".join(table(
        ["collectors", "events/s each", "topic", "keys needed a stream", "`partitions`",
         "processors", "objects a day", "`warehouse.interval` needed", "objects a job",
         "administrative questions a minute"],
        [behind_a_topic(*case) for case in CASES])))


if __name__ == "__main__":
    main()
