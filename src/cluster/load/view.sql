-- What views read and call, out of their parsed definitions: pg_depend does not record what comes with the system.
SELECT r.ev_class::int8 AS relation,
       CASE WHEN r.ev_class >= 16384 THEN pg_get_viewdef(r.ev_class) END AS definition,
       r.ev_action::text ~ ':hasForUpdate true' AS locks,
       r.ev_action::text ~ '\{COERCETODOMAIN ' AS checks_domains,
       (SELECT json_agg(DISTINCT m[2]::int8)
          FROM regexp_matches(r.ev_action::text, ':(funcid|opfuncid|aggfnoid|winfnoid) (\d+)', 'g') m) AS calls,
       (SELECT json_agg(DISTINCT m[1]::int8)
          FROM regexp_matches(r.ev_action::text, ':relid (\d+)', 'g') m WHERE m[1]::int8 <> r.ev_class::int8) AS reads
  FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class AND c.relkind IN ('v', 'm')
 WHERE r.rulename = '_RETURN'
