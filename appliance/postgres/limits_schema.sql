-- What the nodes of a site count together, version 1. Run by the role sealift_owner, in one transaction.
CREATE SCHEMA sealift_limits;
CREATE TABLE sealift_limits.format(version integer PRIMARY KEY);
INSERT INTO sealift_limits.format VALUES(1);

-- Rows change with every answer: room on their page keeps their indices out of it.
CREATE TABLE sealift_limits.bucket(
  stage text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL,
  level double precision NOT NULL,
  at timestamptz NOT NULL,
  PRIMARY KEY(stage, name)
) WITH (fillfactor = 50);
CREATE TABLE sealift_limits.spent(
  stage text COLLATE "C" NOT NULL,
  key_id text COLLATE "C" NOT NULL,
  period text COLLATE "C" NOT NULL,
  tokens bigint NOT NULL,
  PRIMARY KEY(stage, key_id, period)
) WITH (fillfactor = 50);

-- The one clock by which the buckets of all nodes fill.
CREATE FUNCTION sealift_limits.moment() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$ SELECT clock_timestamp() $$;

-- Take `wanted` from a bucket that fills evenly up to `most` in a minute; a negative `wanted` gives back.
CREATE FUNCTION sealift_limits.spend(
  of_stage text, of_name text, most double precision, wanted double precision,
  OUT level double precision, OUT is_allowed boolean
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
  before timestamptz;
  present timestamptz;
BEGIN
  LOOP  -- as `prune` may take the row away between the two
    SELECT b.level, b.at INTO level, before FROM sealift_limits.bucket b
      WHERE b.stage = of_stage AND b.name = of_name FOR UPDATE;
    EXIT WHEN FOUND;
    INSERT INTO sealift_limits.bucket VALUES(of_stage, of_name, most, sealift_limits.moment()) ON CONFLICT DO NOTHING;
  END LOOP;
  -- Read while the row is held: who waited for it comes later than who had it. A clock that was set back fills nothing.
  present := sealift_limits.moment();
  level := least(most, level + greatest(extract(epoch FROM present - before)::double precision, 0) * most / 60);
  is_allowed := level >= wanted;
  IF is_allowed THEN
    level := least(most, level - wanted);
  END IF;
  UPDATE sealift_limits.bucket b SET level = spend.level, at = present WHERE b.stage = of_stage AND b.name = of_name;
END $$;

-- Charge a key's day, month and minute together, or none of them: 'held', 'spent' (day or month) or 'minute'. 0 is no
-- limit. Everybody locks the month's row first, then the minute's, so whoever counts for a key is alone.
CREATE FUNCTION sealift_limits.hold(
  of_stage text, of_key text, of_day text, cost bigint, today bigint, this_month bigint,
  minute double precision, wanted double precision, OUT answer text, OUT level double precision
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
  of_month text := left(of_day, 7);
  used_month bigint;
  used_day bigint;
  is_allowed boolean;
BEGIN
  LOOP
    SELECT s.tokens INTO used_month FROM sealift_limits.spent s
      WHERE s.stage = of_stage AND s.key_id = of_key AND s.period = of_month FOR UPDATE;
    EXIT WHEN FOUND;
    INSERT INTO sealift_limits.spent VALUES(of_stage, of_key, of_month, 0) ON CONFLICT DO NOTHING;
  END LOOP;
  SELECT s.tokens INTO used_day FROM sealift_limits.spent s
    WHERE s.stage = of_stage AND s.key_id = of_key AND s.period = of_day;
  IF (this_month > 0 AND used_month + cost > this_month) OR (today > 0 AND coalesce(used_day, 0) + cost > today) THEN
    answer := 'spent';
    RETURN;
  END IF;
  IF minute > 0 THEN
    SELECT m.level, m.is_allowed INTO level, is_allowed
      FROM sealift_limits.spend(of_stage, 'tokens ' || of_key, minute, wanted) m;
    IF NOT is_allowed THEN
      answer := 'minute';
      RETURN;
    END IF;
  END IF;
  UPDATE sealift_limits.spent s SET tokens = s.tokens + cost
    WHERE s.stage = of_stage AND s.key_id = of_key AND s.period = of_month;
  INSERT INTO sealift_limits.spent AS s VALUES(of_stage, of_key, of_day, cost)
    ON CONFLICT (stage, key_id, period) DO UPDATE SET tokens = s.tokens + excluded.tokens;
  answer := 'held';
END $$;

-- Give back what a request did not cost, to the day and the month that it was charged to.
CREATE FUNCTION sealift_limits.settle(
  of_stage text, of_key text, of_day text, back bigint, minute double precision, back_of_minute double precision
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
  UPDATE sealift_limits.spent s SET tokens = greatest(s.tokens - back, 0)
    WHERE s.stage = of_stage AND s.key_id = of_key AND s.period = left(of_day, 7);
  UPDATE sealift_limits.spent s SET tokens = greatest(s.tokens - back, 0)
    WHERE s.stage = of_stage AND s.key_id = of_key AND s.period = of_day;
  IF minute > 0 THEN
    PERFORM sealift_limits.spend(of_stage, 'tokens ' || of_key, minute, -back_of_minute);
  END IF;
END $$;

-- Forget what no limit asks for any more: periods that are over by the asking node's clock and by this one, and buckets
-- that are full. Rows that somebody holds stay, so this waits for nobody.
CREATE FUNCTION sealift_limits.prune(oldest text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
  DELETE FROM sealift_limits.spent WHERE ctid = ANY(ARRAY(
    SELECT s.ctid FROM sealift_limits.spent s
    WHERE s.period < least(oldest, to_char((sealift_limits.moment() AT TIME ZONE 'UTC') - interval '62 days', 'YYYY-MM'))
    FOR UPDATE SKIP LOCKED
  ));
  DELETE FROM sealift_limits.bucket WHERE ctid = ANY(ARRAY(
    SELECT b.ctid FROM sealift_limits.bucket b WHERE b.at < sealift_limits.moment() - interval '1 hour'
    FOR UPDATE SKIP LOCKED
  ));
END $$;

REVOKE ALL ON SCHEMA sealift_limits FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA sealift_limits FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA sealift_limits FROM PUBLIC;
GRANT USAGE ON SCHEMA sealift_limits TO sealift_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA sealift_limits TO sealift_reader;
-- The gateway's role counts by these alone; it cannot write the tables.
GRANT EXECUTE ON FUNCTION sealift_limits.spend, sealift_limits.hold, sealift_limits.settle, sealift_limits.prune
  TO sealift_reader;
