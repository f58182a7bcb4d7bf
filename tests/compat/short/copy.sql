-- COPY both ways, and what goes wrong in it
CREATE TABLE rows (a int CHECK (a < 100), b text, c bytea);
COPY rows FROM stdin;
1	one	\\x00ff
2	\N	\N
3	tab\tand\\	\\x
\.
COPY rows TO stdout; COPY rows TO stdout (FORMAT csv, HEADER, FORCE_QUOTE *); COPY (SELECT a, b FROM rows ORDER BY a DESC) TO stdout (DELIMITER '|', NULL 'nothing');
COPY rows (a, b) FROM stdin (FORMAT csv);
10,"ten, ""quoted"""
11,
\.
COPY rows (a) FROM stdin;
5
six
7
\.
COPY rows (a) FROM stdin;
500
\.
SELECT * FROM rows ORDER BY a; COPY nowhere FROM stdin; COPY rows (z) TO stdout;
BEGIN; COPY rows (a) FROM stdin;
20
\.
SELECT count(*) FROM rows; ROLLBACK; SELECT count(*) FROM rows;
COPY rows (a) FROM stdin WHERE a > 30;
30
31
\.
SELECT a FROM rows WHERE a >= 30; \copy rows (a, b) to stdout csv
CREATE FUNCTION doubles() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'row %', NEW.a; NEW.a := NEW.a * 2; RETURN NEW; END $$; CREATE TRIGGER doubles BEFORE INSERT ON rows FOR EACH ROW EXECUTE FUNCTION doubles();
COPY rows (a) FROM stdin;
40
41
\.
SELECT a FROM rows WHERE a > 50 ORDER BY a; SELECT 1 \; COPY (SELECT 2) TO stdout \; SELECT 3;
DROP TABLE rows; DROP FUNCTION doubles;
