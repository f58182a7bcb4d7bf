-- Types that did not come with the system, without the row types of tables.
SELECT t.oid::int8 AS oid, n.nspname AS schema, t.typname AS name, t.typtype AS kind, t.typbasetype::int8 AS base,
       CASE t.typtype
       WHEN 'd' THEN concat_ws(' ', 'domain over', format_type(t.typbasetype, t.typtypmod),
            CASE WHEN t.typnotnull THEN 'not null' END, 'default ' || t.typdefault,
            CASE WHEN t.typcollation NOT IN (0, 100) THEN 'collate ' || (
                SELECT o.collnamespace::regnamespace || '.' || o.collname FROM pg_collation o WHERE o.oid = t.typcollation) END,
            (SELECT string_agg(pg_get_constraintdef(k.oid), ' ' ORDER BY pg_get_constraintdef(k.oid))
               FROM pg_constraint k WHERE k.contypid = t.oid))
       WHEN 'e' THEN 'enum (' || (SELECT string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder)
            FROM pg_enum e WHERE e.enumtypid = t.oid) || ')'
       WHEN 'c' THEN 'composite (' || (SELECT string_agg(quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod), ', '
            ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) || ')'
       WHEN 'r' THEN 'range of ' || (SELECT format_type(r.rngsubtype, NULL) FROM pg_range r WHERE r.rngtypid = t.oid)
       ELSE 'base type' END AS definition,
       (SELECT json_agg(m[2]::int8) FROM pg_constraint k,
               regexp_matches(k.conbin::text, ':(funcid|opfuncid) (\d+)', 'g') m WHERE k.contypid = t.oid) AS check_calls,
       t.typdefault IS NOT NULL AS has_default,
       (SELECT json_agg(m[2]::int8)
          FROM regexp_matches(t.typdefaultbin::text, ':(funcid|opfuncid) (\d+)', 'g') m) AS default_calls,
       coalesce(t.typdefaultbin::text ~ '\{(SQLVALUEFUNCTION|COERCEVIAIO|COERCETODOMAIN|NEXTVALUEEXPR|XMLEXPR|JSON[A-Z]+) ', false)
           AS default_impure
  FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
  LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
  LEFT JOIN pg_class c ON c.oid = t.typrelid
  LEFT JOIN pg_class ec ON ec.oid = e.typrelid
 WHERE t.oid >= 16384 AND t.typtype <> 'p' AND coalesce(c.relkind, 'c') = 'c' AND coalesce(ec.relkind, 'c') = 'c'
   AND n.nspname !~ '^pg_(temp|toast)'
