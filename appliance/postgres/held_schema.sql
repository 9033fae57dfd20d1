-- What was decided about production and holds for callers only once its engines answer, version 1.
-- Run by the role sealift_owner, in one transaction.
CREATE SCHEMA sealift_held;
CREATE TABLE sealift_held.format(version integer PRIMARY KEY);
INSERT INTO sealift_held.format VALUES(1);
CREATE TABLE sealift_held.held(sequence bigint PRIMARY KEY);
REVOKE ALL ON SCHEMA sealift_held FROM PUBLIC;
GRANT USAGE ON SCHEMA sealift_held TO sealift_state, sealift_reader;
GRANT SELECT ON sealift_held.format TO sealift_state, sealift_reader;
GRANT SELECT ON sealift_held.held TO sealift_reader;
GRANT SELECT, INSERT, DELETE ON sealift_held.held TO sealift_state;
