-- The columns of each relation, in order. `calls` are the functions of a default's expression; `impure` says that it has
-- a part whose value is not made by a function alone (CURRENT_USER, a cast through text, a domain, ...).
SELECT a.attrelid::int8 AS relation,
       json_agg(json_build_object(
         'name', a.attname, 'type_oid', a.atttypid::int8, 'type_modifier', a.atttypmod, 'type_name', format_type(a.atttypid, a.atttypmod),
         'not_null', a.attnotnull,
         'collation', CASE WHEN a.attcollation NOT IN (0, 100) THEN o.collnamespace::regnamespace || '.' || o.collname END,
         'deterministic', coalesce(o.collisdeterministic, true),
         'by_bytes', coalesce(CASE WHEN a.attcollation = 100 THEN b.by_bytes
             ELSE o.collisdeterministic AND o.collprovider = 'c' AND to_jsonb(o) ->> 'collcollate' IN ('C', 'POSIX') END, false),
         'identity', a.attidentity, 'generated', a.attgenerated,
         'expression', pg_get_expr(d.adbin, d.adrelid),
         'calls', CASE WHEN d.oid IS NOT NULL THEN (
             SELECT json_agg(DISTINCT m[2]::int8)
               FROM regexp_matches(d.adbin::text, ':(funcid|opfuncid) (\d+)', 'g') m) END,
         'impure', coalesce(d.adbin::text ~ '\{(SQLVALUEFUNCTION|COERCEVIAIO|COERCETODOMAIN|NEXTVALUEEXPR|XMLEXPR|JSON[A-Z]+) ', false),
         'draws', s.draws, 'draws_count', s.count, 'may_draw', s.may_draw)
       ORDER BY a.attnum) AS columns
  FROM pg_attribute a
  JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND c.relpersistence <> 't'
  JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname <> 'pg_toast'
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  LEFT JOIN pg_collation o ON o.oid = a.attcollation
  CROSS JOIN (SELECT d.datcollate IN ('C', 'POSIX') AND coalesce(to_jsonb(d) ->> 'datlocprovider', 'c') = 'c' AS by_bytes
                FROM pg_database d WHERE d.datname = current_database()) b
  LEFT JOIN LATERAL (
       SELECT (json_agg(json_build_array(sn.nspname, sc.relname)))->0 AS draws, count(*) AS count,
              bool_and(has_sequence_privilege(sc.oid, 'USAGE')) AS may_draw
         FROM pg_depend p JOIN pg_class sc ON sc.relkind = 'S'
              AND sc.oid = CASE WHEN p.deptype = 'i' THEN p.objid ELSE p.refobjid END
         JOIN pg_namespace sn ON sn.oid = sc.relnamespace
        WHERE (p.classid = 'pg_class'::regclass AND p.refclassid = 'pg_class'::regclass
               AND p.refobjid = a.attrelid AND p.refobjsubid = a.attnum AND p.deptype = 'i')
           OR (p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid
               AND p.refclassid = 'pg_class'::regclass AND p.deptype = 'n')) s
       ON a.attidentity <> '' OR d.oid IS NOT NULL
 WHERE a.attnum > 0 AND NOT a.attisdropped
 GROUP BY a.attrelid
