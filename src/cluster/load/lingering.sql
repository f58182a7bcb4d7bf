-- Functions whose bodies can be read, and by what they are called.
SELECT p.proname AS name, l.lanname AS language,
       CASE WHEN p.prosqlbody IS NULL THEN p.prosrc ELSE pg_get_function_sqlbody(p.oid) END AS body,
       EXISTS (SELECT FROM pg_trigger t WHERE t.tgfoid = p.oid)
           OR EXISTS (SELECT FROM pg_event_trigger e WHERE e.evtfoid = p.oid) AS is_trigger,
       EXISTS (SELECT FROM pg_depend d
                WHERE d.refclassid = 'pg_proc'::regclass AND d.refobjid = p.oid AND d.deptype IN ('n', 'a')
                  AND d.classid NOT IN ('pg_proc'::regclass, 'pg_trigger'::regclass, 'pg_event_trigger'::regclass)) AS is_used
  FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
 WHERE p.oid >= 16384 AND p.prokind IN ('f', 'p') AND l.lanname NOT IN ('c', 'internal')
