-- A load that failed for good may be dismissed by an operator.

CREATE TABLE loads_with_dismissed (
    id         BLOB PRIMARY KEY,   -- xxh3-128 of the table and its batches' ids
    dataset    TEXT NOT NULL,
    tab        TEXT NOT NULL,
    attempt    INTEGER NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('open', 'loaded', 'split', 'failed', 'dismissed')),
    objects    INTEGER NOT NULL,
    rows       INTEGER NOT NULL,
    bytes      INTEGER NOT NULL,
    object     TEXT NOT NULL,      -- the first of its objects
    error      TEXT,
    parent     BLOB,               -- the load that it is a part of
    planned_at INTEGER NOT NULL,   -- microseconds since the epoch, UTC
    changed_at INTEGER NOT NULL,
    crc        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO loads_with_dismissed (id, dataset, tab, attempt, state, objects, rows, bytes, object,
                                  error, parent, planned_at, changed_at, crc)
SELECT id, dataset, tab, attempt, state, objects, rows, bytes, object,
       error, parent, planned_at, changed_at, crc FROM loads;
DROP TABLE loads;
ALTER TABLE loads_with_dismissed RENAME TO loads;
CREATE INDEX loads_state ON loads (state, changed_at);
