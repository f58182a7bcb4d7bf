-- What the other clients do while a suite runs through pgshunt: short transactions that keep the servers of the pool moving
-- from hand to hand. pgbench runs it, four clients at a time.
\set pause random(1, 4)
BEGIN;
SELECT count(*) FROM pg_class WHERE oid < 100 * :pause;
\sleep :pause ms
COMMIT;
SELECT :pause;
\sleep :pause ms
