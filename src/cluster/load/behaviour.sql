-- What acts by itself when a table is read or written: triggers, rules, row security policies.
SELECT t.tgrelid::int8 AS relation, 'trigger ' || t.tgname AS name, pg_get_triggerdef(t.oid) || ' ' || t.tgenabled::text AS definition,
       t.tgenabled <> 'D' AS acts, NULL::json AS calls
  FROM pg_trigger t WHERE NOT t.tgisinternal
UNION ALL
SELECT r.ev_class::int8, 'rule ' || r.rulename, pg_get_ruledef(r.oid) || ' ' || r.ev_enabled::text, r.ev_enabled <> 'D', NULL
  FROM pg_rewrite r WHERE r.rulename <> '_RETURN' AND r.ev_class >= 16384
UNION ALL
SELECT p.polrelid::int8, 'policy ' || p.polname,
       concat_ws(' ', CASE WHEN p.polpermissive THEN 'permissive' ELSE 'restrictive' END, 'for', p.polcmd::text, 'to',
           (SELECT string_agg(coalesce(a.rolname, 'public'), ', ' ORDER BY a.rolname)
              FROM unnest(p.polroles) u(role) LEFT JOIN pg_roles a ON a.oid = u.role),
           'using ' || pg_get_expr(p.polqual, p.polrelid), 'check ' || pg_get_expr(p.polwithcheck, p.polrelid)),
       false,
       (SELECT json_agg(DISTINCT m[2]::int8)
          FROM regexp_matches(p.polqual::text, ':(funcid|opfuncid|aggfnoid|winfnoid) (\d+)', 'g') m)
  FROM pg_policy p
