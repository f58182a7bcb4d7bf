-- What writes without being named: in functions that begin with u_ a volatile function is called.
CREATE TABLE t (n int);
CREATE FUNCTION w(what text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t VALUES (1); RETURN 1; END $$;
CREATE VIEW looks AS SELECT w('view') AS x;
CREATE VIEW looks_again AS SELECT x FROM looks;
CREATE TABLE guarded (a int);
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON guarded USING (w('policy') = 1);
CREATE FUNCTION writes_when_asked(a int, b int) RETURNS bool LANGUAGE sql AS 'SELECT w(''operator'') = 1';
CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = writes_when_asked);
CREATE FUNCTION u_view() RETURNS int STABLE LANGUAGE sql AS 'SELECT x FROM looks_again';
CREATE FUNCTION u_parsed_view() RETURNS int STABLE LANGUAGE sql BEGIN ATOMIC SELECT x FROM looks_again; END;
CREATE FUNCTION u_guarded() RETURNS int STABLE LANGUAGE sql AS 'SELECT a FROM guarded';
CREATE FUNCTION u_operator() RETURNS bool STABLE LANGUAGE sql AS 'SELECT 1 === 2';
CREATE FUNCTION u_default(x int DEFAULT w('default')) RETURNS int STABLE LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION u_given(q text) RETURNS int STABLE LANGUAGE plpgsql AS
    $$ DECLARE r int; BEGIN EXECUTE q INTO r; RETURN r; END $$;
CREATE FUNCTION u_xml() RETURNS xml STABLE LANGUAGE sql AS 'SELECT table_to_xml(''looks'', true, true, '''')';
CREATE FUNCTION seen() RETURNS int STABLE LANGUAGE plpgsql AS
    $$ DECLARE r int; BEGIN EXECUTE 'SELECT n FROM t' INTO r; RETURN r; END $$;
