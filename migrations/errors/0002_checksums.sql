-- One checksum for all that changes in a letter, with its number; until now it covered the
-- rejections of the last failed replay alone. Those of rows that are there are computed by the
-- migration.
ALTER TABLE letters RENAME COLUMN latest_crc TO state_crc;
ALTER TABLE failures ADD COLUMN crc INTEGER NOT NULL DEFAULT 0;
