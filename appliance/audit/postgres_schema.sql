-- The ledger's tables, version 1. Run by the role sealift_owner, in one transaction.
CREATE SCHEMA sealift_ledger;
CREATE TABLE sealift_ledger.format(version integer PRIMARY KEY);
INSERT INTO sealift_ledger.format VALUES(1);

-- Texts that come from outside are bytes: PostgreSQL's text has no NUL, and what one backend takes the other must.
CREATE TABLE sealift_ledger.leaf(
  sequence bigint PRIMARY KEY CHECK(sequence >= 0),
  kind text COLLATE "C" NOT NULL,
  raw bytea NOT NULL,
  hash bytea NOT NULL CHECK(length(hash) = 32),
  chain bytea NOT NULL CHECK(length(chain) = 32),
  term bytea NOT NULL,
  retry bytea NOT NULL
);
CREATE INDEX leaf_kind ON sealift_ledger.leaf(kind, sequence);
-- A hash index, because a B-tree refuses long values.
CREATE INDEX leaf_term ON sealift_ledger.leaf USING hash(term) WHERE term <> '';
CREATE TABLE sealift_ledger.node(
  level integer NOT NULL CHECK(level > 0),
  position bigint NOT NULL,
  hash bytea NOT NULL CHECK(length(hash) = 32),
  PRIMARY KEY(level, position)
);
CREATE TABLE sealift_ledger.checkpoint(size bigint PRIMARY KEY, note text NOT NULL);

-- One row: the newest writer's fencing token, and where the records went when they were moved away for good.
CREATE TABLE sealift_ledger.writer(id integer PRIMARY KEY CHECK(id = 1), token bigint NOT NULL, moved text);
INSERT INTO sealift_ledger.writer VALUES(1, 0, NULL);

CREATE FUNCTION sealift_ledger.refuse() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
  RAISE EXCEPTION 'append only' USING ERRCODE = 'SL002';
END $$;

-- FOR SHARE: who takes over waits for a transaction that is under way, and none begins behind its back.
CREATE FUNCTION sealift_ledger.fence() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
  present bigint;
  gone text;
BEGIN
  SELECT token, moved INTO present, gone FROM sealift_ledger.writer WHERE id = 1 FOR SHARE;
  IF gone IS NOT NULL OR present IS DISTINCT FROM nullif(current_setting('sealift.token', true), '')::bigint THEN
    RAISE EXCEPTION 'another writer has the ledger' USING ERRCODE = 'SL001';
  END IF;
  RETURN NULL;
END $$;

CREATE FUNCTION sealift_ledger.no_gap() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
  first bigint;
  amount bigint;
  last bigint;
  before bigint;
BEGIN
  SELECT min(sequence), count(*), max(sequence) INTO first, amount, last FROM added;
  IF amount > 0 THEN
    SELECT coalesce(max(sequence) + 1, 0) INTO before FROM sealift_ledger.leaf WHERE sequence < first;
    IF first <> before OR last - first + 1 <> amount THEN
      RAISE EXCEPTION 'leaves have no gaps' USING ERRCODE = 'SL003';
    END IF;
  END IF;
  RETURN NULL;
END $$;

CREATE FUNCTION sealift_ledger.rising() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
  IF OLD.moved IS NULL AND (
    (NEW.token = OLD.token + 1 AND NEW.moved IS NULL) OR (NEW.token = OLD.token AND NEW.moved IS NOT NULL)
  ) THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'a token only rises by one' USING ERRCODE = 'SL002';
END $$;

CREATE TRIGGER fence BEFORE INSERT ON sealift_ledger.leaf
  FOR EACH STATEMENT EXECUTE FUNCTION sealift_ledger.fence();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON sealift_ledger.leaf
  FOR EACH ROW EXECUTE FUNCTION sealift_ledger.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON sealift_ledger.leaf
  FOR EACH STATEMENT EXECUTE FUNCTION sealift_ledger.refuse();
CREATE TRIGGER fence BEFORE INSERT ON sealift_ledger.node
  FOR EACH STATEMENT EXECUTE FUNCTION sealift_ledger.fence();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON sealift_ledger.node
  FOR EACH ROW EXECUTE FUNCTION sealift_ledger.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON sealift_ledger.node
  FOR EACH STATEMENT EXECUTE FUNCTION sealift_ledger.refuse();
CREATE TRIGGER fence BEFORE INSERT ON sealift_ledger.checkpoint
  FOR EACH STATEMENT EXECUTE FUNCTION sealift_ledger.fence();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON sealift_ledger.checkpoint
  FOR EACH ROW EXECUTE FUNCTION sealift_ledger.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON sealift_ledger.checkpoint
  FOR EACH STATEMENT EXECUTE FUNCTION sealift_ledger.refuse();
CREATE TRIGGER no_gap AFTER INSERT ON sealift_ledger.leaf REFERENCING NEW TABLE AS added
  FOR EACH STATEMENT EXECUTE FUNCTION sealift_ledger.no_gap();
CREATE TRIGGER rising BEFORE UPDATE ON sealift_ledger.writer
  FOR EACH ROW EXECUTE FUNCTION sealift_ledger.rising();
CREATE TRIGGER one_row BEFORE INSERT OR DELETE OR TRUNCATE ON sealift_ledger.writer
  FOR EACH STATEMENT EXECUTE FUNCTION sealift_ledger.refuse();

REVOKE ALL ON SCHEMA sealift_ledger FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA sealift_ledger FROM PUBLIC;
GRANT USAGE ON SCHEMA sealift_ledger TO sealift_ledger, sealift_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA sealift_ledger TO sealift_ledger, sealift_reader;
GRANT INSERT ON sealift_ledger.leaf, sealift_ledger.node, sealift_ledger.checkpoint TO sealift_ledger;
GRANT UPDATE(token, moved) ON sealift_ledger.writer TO sealift_ledger;
