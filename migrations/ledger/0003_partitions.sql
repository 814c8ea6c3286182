-- A batch may hold several partitions: from `partition` to `last_partition`.

ALTER TABLE batches ADD COLUMN last_partition INTEGER NOT NULL DEFAULT 0;
UPDATE batches SET last_partition = partition;
