-- functions, triggers, notices, large objects, types
\set VERBOSITY verbose
DO $$ BEGIN RAISE NOTICE 'a notice' USING HINT = 'a hint', DETAIL = 'a detail'; RAISE WARNING 'a warning'; RAISE EXCEPTION 'an error' USING ERRCODE = 'P0042', COLUMN = 'c', CONSTRAINT = 'k'; END $$;
\set VERBOSITY default
CREATE FUNCTION factorial(n int) RETURNS numeric LANGUAGE plpgsql AS $$ BEGIN IF n < 2 THEN RETURN 1; END IF; RETURN n * factorial(n - 1); END $$; SELECT factorial(30); SELECT factorial(-1), factorial(NULL);
CREATE FUNCTION several(OUT a int, OUT b text) RETURNS SETOF record LANGUAGE sql AS $$ VALUES (1, 'x'), (2, NULL) $$; SELECT * FROM several(); SELECT several();
CREATE FUNCTION reads(refcursor) RETURNS refcursor LANGUAGE plpgsql AS $$ BEGIN OPEN $1 FOR SELECT generate_series(1, 3); RETURN $1; END $$; BEGIN; SELECT reads('r'); FETCH ALL FROM r; COMMIT;
CREATE TABLE log (n serial, what text); CREATE TABLE t (a int); CREATE FUNCTION logs() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log (what) VALUES (TG_OP || ' ' || coalesce(NEW.a, OLD.a)); RETURN NULL; END $$;
CREATE TRIGGER logs AFTER INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION logs(); INSERT INTO t VALUES (1), (2); UPDATE t SET a = a + 1; DELETE FROM t WHERE a = 3; SELECT what FROM log ORDER BY n;
DO $$ BEGIN CREATE TEMP TABLE made_within (a int); INSERT INTO made_within VALUES (7); END $$; TABLE made_within; CREATE FUNCTION uses() RETURNS int LANGUAGE sql AS 'SELECT max(a) FROM t'; SELECT uses(); DROP TABLE t CASCADE; SELECT uses();
CREATE TYPE mood AS ENUM ('sad', 'ok'); ALTER TYPE mood ADD VALUE 'happy'; SELECT 'happy'::mood > 'sad'; SELECT enum_range(NULL::mood); CREATE DOMAIN positive AS int CHECK (VALUE > 0); SELECT (-1)::positive; CREATE TYPE pair AS (a int, b mood); SELECT row(1, 'ok')::pair; SELECT ('(2,sad)'::pair).b;
SELECT lo_from_bytea(424242, '\x0102030405'); SELECT lo_get(424242); BEGIN; SELECT lo_open(424242, 131072 | 262144) >= 0; SELECT lo_lseek(0, 2, 0); SELECT loread(0, 2); SELECT lo_close(0); COMMIT; SELECT lo_put(424242, 1, '\xff'); SELECT lo_get(424242, 0, 3); SELECT lo_unlink(424242); SELECT lo_get(424242);
LISTEN short; NOTIFY other; UNLISTEN *; SELECT count(*) FROM pg_listening_channels(); LISTEN "A"; LISTEN b; SELECT * FROM pg_listening_channels() ORDER BY 1; UNLISTEN b; SELECT * FROM pg_listening_channels(); UNLISTEN *;
SELECT 'ünïcödé' || E'\u2603', U&'\2603', length('日本語'), convert_to('é', 'UTF8'); SELECT E'\xff'; SELECT ''; SELECT; ; SELECT repeat('long ', 20000) = repeat('long ', 20000);
SELECT * FROM nowhere; SELECT nothing; SELECT 1 FROM; SELECT '1'::int + 'x'; SELECT 1 AS "Ä ""quoted"""; TABLE pg_am \gdesc
SET statement_timeout = '50ms'; SELECT pg_sleep(5); RESET statement_timeout; SELECT 1; SET lock_timeout = '1s'; SHOW lock_timeout; RESET ALL;
EXPLAIN (COSTS OFF) SELECT * FROM log WHERE n = 1; EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT 1;
DROP TABLE log; DROP FUNCTION factorial, several, reads, logs, uses; DROP TYPE pair, mood; DROP DOMAIN positive;
