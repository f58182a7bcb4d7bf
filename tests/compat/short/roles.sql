-- who the session is
CREATE ROLE short_reader; CREATE ROLE short_writer; CREATE TABLE held (a int); GRANT SELECT ON held TO short_reader; GRANT SELECT, INSERT ON held TO short_writer;
SET ROLE short_reader; SELECT current_user; INSERT INTO held VALUES (1); SELECT count(*) FROM held;
SET ROLE short_writer; INSERT INTO held VALUES (1); SELECT count(*) FROM held;
RESET ROLE; SELECT current_user = session_user;
BEGIN; SET LOCAL ROLE short_reader; INSERT INTO held VALUES (2); ROLLBACK; INSERT INTO held VALUES (2);
BEGIN; SET ROLE short_reader; SAVEPOINT a; SET ROLE short_writer; ROLLBACK TO a; SELECT current_user; COMMIT; SELECT current_user; SET ROLE NONE;
SET SESSION AUTHORIZATION short_reader; SELECT session_user, current_user; SET ROLE short_writer; CREATE TABLE no (a int);
RESET SESSION AUTHORIZATION; SELECT session_user = current_user;
SELECT set_config('role', 'short_writer', false); SELECT current_user; DISCARD ALL; SELECT current_user = session_user;
ALTER TABLE held ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON held USING (a::text = current_setting('my.tenant', true));
SET ROLE short_reader; SELECT * FROM held; SET my.tenant = '2'; SELECT * FROM held; RESET my.tenant; SELECT * FROM held; RESET ROLE;
DROP TABLE held; DROP ROLE short_reader, short_writer;
