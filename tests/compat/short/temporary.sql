-- what lives in the session: temporary objects, locks, sequences, cursors
CREATE TABLE real (a int); INSERT INTO real VALUES (1);
CREATE TEMP TABLE real AS SELECT 2 AS a; SELECT a FROM real; SELECT a FROM public.real; DROP TABLE real; SELECT a FROM real;
CREATE TEMP TABLE gone (a int) ON COMMIT DROP; BEGIN; CREATE TEMP TABLE gone (a int) ON COMMIT DROP; INSERT INTO gone VALUES (1); TABLE gone; COMMIT; TABLE gone;
CREATE TEMP TABLE emptied (a int) ON COMMIT DELETE ROWS; BEGIN; INSERT INTO emptied VALUES (1); TABLE emptied; COMMIT; TABLE emptied;
CREATE TEMP VIEW looks AS SELECT a + 1 AS b FROM real; TABLE looks; CREATE TEMP SEQUENCE counts; BEGIN; SELECT nextval('counts'), nextval('counts'); SELECT currval('counts'); COMMIT;
BEGIN; CREATE TEMP TABLE undone (a int); ROLLBACK; TABLE undone; SELECT 5 AS five INTO TEMP five; TABLE five;
CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE sql AS 'SELECT 42'; SELECT pg_temp.mine();
DISCARD TEMP; TABLE five; TABLE looks; SELECT a FROM real;
SELECT pg_advisory_lock(7), pg_advisory_lock(7); SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid(); SELECT pg_advisory_unlock(7), pg_advisory_unlock(7), pg_advisory_unlock(7);
BEGIN; SELECT pg_advisory_xact_lock(8); COMMIT; SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();
SELECT pg_try_advisory_lock_shared(1, 2); SELECT pg_advisory_unlock_all(); SELECT pg_advisory_unlock_shared(1, 2);
CREATE SEQUENCE s; BEGIN; SELECT nextval('s'); SELECT currval('s'), lastval(); SELECT setval('s', 40); SELECT nextval('s'); SELECT lastval(); COMMIT;
CREATE TABLE numbered (id serial, v text); INSERT INTO numbered (v) VALUES ('a'), ('b') RETURNING id; SELECT nextval('s'), currval('s');
BEGIN; DECLARE c SCROLL CURSOR FOR SELECT n FROM generate_series(1, 10) n; FETCH 3 FROM c; FETCH BACKWARD 2 FROM c; MOVE ABSOLUTE 9 IN c; FETCH NEXT FROM c; FETCH NEXT FROM c; FETCH PRIOR FROM c; CLOSE c; FETCH c; COMMIT;
DECLARE c CURSOR FOR SELECT 1; BEGIN; DECLARE h CURSOR WITH HOLD FOR SELECT a, a * a AS b FROM generate_series(1, 5) a; COMMIT; FETCH 2 FROM h; INSERT INTO real VALUES (9); FETCH ALL FROM h; SELECT name, is_holdable FROM pg_cursors; CLOSE h; FETCH h;
BEGIN; DECLARE u CURSOR FOR SELECT a FROM real FOR UPDATE; FETCH u; UPDATE real SET a = a + 100 WHERE CURRENT OF u; CLOSE u; COMMIT; SELECT a FROM real ORDER BY a;
DROP TABLE real, numbered; DROP SEQUENCE s;
