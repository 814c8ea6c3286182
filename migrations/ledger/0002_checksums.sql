-- Rows that say of themselves whether they are what was written, and a ledger that can tell that
-- it has gone back in time. The checksums of rows that are there are computed by the migration.

ALTER TABLE cursors ADD COLUMN crc INTEGER NOT NULL DEFAULT 0;

-- From here on seqs and ids end with a checksum of their own, so that they can be dropped without
-- touching the row's.
ALTER TABLE batches ADD COLUMN parent BLOB;      -- the plan it is a part of
ALTER TABLE batches ADD COLUMN ledger_tx INTEGER NOT NULL DEFAULT 0;  -- the transaction that planned it
ALTER TABLE batches ADD COLUMN crc INTEGER NOT NULL DEFAULT 0;
CREATE INDEX batches_parent ON batches (parent) WHERE parent IS NOT NULL;

ALTER TABLE replayed ADD COLUMN crc INTEGER NOT NULL DEFAULT 0;
ALTER TABLE secrets ADD COLUMN crc INTEGER NOT NULL DEFAULT 0;

-- How many transactions have written; segments and objects say which they have seen.
CREATE TABLE counters (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL,
    crc   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Where every letter stands that is neither stored nor discarded: the error store may lose it,
-- the log may still have it.
CREATE TABLE letters (
    stream   TEXT NOT NULL,
    seq      INTEGER NOT NULL,
    letter   INTEGER NOT NULL,
    log_uuid BLOB NOT NULL,
    crc      INTEGER NOT NULL,
    PRIMARY KEY (stream, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX letters_number ON letters (letter);
