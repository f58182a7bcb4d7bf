-- Every function. For those that are not the system's: their signature, a digest of all that decides what they answer,
-- and what can be seen of what they call.
SELECT p.oid::int8 AS oid, n.nspname AS schema, p.proname AS name, p.provolatile AS volatility, p.prokind AS kind,
       l.lanname AS language, p.oid < 16384 AS system, p.pronargs AS arguments, p.proretset AS returns_set,
       CASE WHEN g.aggfnoid IS NOT NULL THEN json_build_array(
           g.aggtransfn::oid::int8, g.aggfinalfn::oid::int8, g.aggcombinefn::oid::int8, g.aggserialfn::oid::int8,
           g.aggdeserialfn::oid::int8, g.aggmtransfn::oid::int8, g.aggminvtransfn::oid::int8,
           g.aggmfinalfn::oid::int8) END AS supports,
       u.extension, u.signature, u.digest, u.source, u.calls, u.types, u.reads, u.locks
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
  LEFT JOIN pg_aggregate g ON g.aggfnoid = p.oid
  LEFT JOIN LATERAL (
       SELECT (SELECT e.extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
                WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
                  AND d.refclassid = 'pg_extension'::regclass LIMIT 1) AS extension,
              pg_get_function_identity_arguments(p.oid) AS signature,
              concat_ws(' ', 'returns', pg_get_function_result(p.oid), 'language', l.lanname, 'volatility', p.provolatile,
                  CASE WHEN p.proisstrict THEN 'strict' END, CASE WHEN p.prosecdef THEN 'security definer' END,
                  array_to_string(p.proconfig, ' '), 'arguments', md5(pg_get_function_arguments(p.oid)), 'body',
                  CASE WHEN l.lanname IN ('c', 'internal') THEN p.prosrc
                       ELSE md5(coalesce(b.body, '') || p.prosrc || coalesce(g.aggtransfn::text, '')
                                || coalesce(g.aggfinalfn::text, '') || coalesce(g.agginitval, '')) END) AS digest,
              CASE WHEN l.lanname NOT IN ('c', 'internal') AND p.provolatile <> 'v' THEN p.prosrc END AS source,
              (SELECT json_agg(DISTINCT m[2]::int8)
                 FROM regexp_matches(concat(b.tree, ' ', p.proargdefaults::text), ':(funcid|opfuncid|aggfnoid|winfnoid) (\d+)', 'g') m) AS calls,
              (SELECT json_agg(DISTINCT t::int8)
                 FROM unnest(p.proargtypes::oid[] || coalesce(p.proallargtypes, '{}') || p.prorettype) t WHERE t >= 16384) AS types,
              (SELECT json_agg(DISTINCT m[1]::int8) FROM regexp_matches(b.tree, ':relid (\d+)', 'g') m) AS reads,
              coalesce(b.tree ~ ':hasForUpdate true', false) AS locks
         FROM (SELECT t.tree, CASE WHEN t.tree IS NOT NULL THEN pg_get_functiondef(p.oid) END AS body
                 FROM (SELECT to_jsonb(p) ->> 'prosqlbody' AS tree WHERE p.oid >= 16384 OFFSET 0) t) b) u
       ON true
 WHERE n.nspname !~ '^pg_(temp|toast_temp)_'
