-- What may appear in a RowDescription, by name: a type and a relation may have the same one. Binary values of some types
-- hold OIDs of other types.
SELECT 'type' AS kind, n.nspname::text AS schema, t.typname::text AS name, t.oid::int8 AS oid,
       b.typtype = 'c' OR b.typcategory = 'A' AND b.typelem >= 16384 AS embeds
  FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
  JOIN pg_catalog.pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
 WHERE t.oid >= 16384 AND n.nspname !~ '^pg_'
UNION ALL
SELECT 'relation', n.nspname::text, c.relname::text, c.oid::int8, false
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p', 'v') AND n.nspname !~ '^pg_'
