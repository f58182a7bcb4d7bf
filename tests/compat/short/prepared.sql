-- statements that SQL prepares
CREATE TABLE things (id int PRIMARY KEY, name text, at date); INSERT INTO things SELECT n, 'thing ' || n, date '2026-01-01' + n FROM generate_series(1, 20) n;
PREPARE by_id (int) AS SELECT name FROM things WHERE id = $1; EXPLAIN (COSTS OFF) EXECUTE by_id(3);
EXECUTE by_id(3); EXECUTE by_id(7 + 1); EXECUTE by_id('4'); EXECUTE by_id(NULL);
EXECUTE by_id; EXECUTE by_id(1, 2); EXECUTE by_id('no number'); EXECUTE nobody(1);
PREPARE by_id AS SELECT 1;
PREPARE adds AS INSERT INTO things VALUES ($1, $2, $3) RETURNING id, at;
EXECUTE adds(100, 'late', '2026-05-05'); BEGIN; EXECUTE adds(101, 'undone', NULL); ROLLBACK; EXECUTE by_id(101); EXECUTE by_id(100);
SELECT name, statement, parameter_types, from_sql FROM pg_prepared_statements ORDER BY name;
CREATE TABLE from_it AS EXECUTE by_id(5); SELECT * FROM from_it; CREATE TEMP TABLE from_it2 AS EXECUTE by_id(6); SELECT * FROM from_it2;
BEGIN; PREPARE within AS SELECT 'within'; EXECUTE within; ROLLBACK; EXECUTE within;
ALTER TABLE things ALTER COLUMN name TYPE varchar(40); DEALLOCATE by_id; EXECUTE by_id(3);
PREPARE by_id (int) AS SELECT name FROM things WHERE id = $1; EXECUTE by_id(3); DEALLOCATE PREPARE within; DEALLOCATE within;
DEALLOCATE ALL; SELECT count(*) FROM pg_prepared_statements; PREPARE broken AS SELECT nothing FROM things; PREPARE "A b" AS VALUES (1), (2); EXECUTE "A b"; DISCARD ALL; EXECUTE "A b";
SELECT name, id FROM things WHERE id < 3 ORDER BY id \gdesc
SELECT $1 \gdesc
SET plan_cache_mode = force_generic_plan; PREPARE q (text) AS SELECT count(*) FROM things WHERE name LIKE $1; EXECUTE q('thing 1%'); EXECUTE q('late'); RESET ALL;
DROP TABLE things, from_it;
