-- Indexes that are no constraint's.
SELECT x.indrelid::int8 AS relation, x.indisunique AS is_unique,
       regexp_replace(pg_get_indexdef(x.indexrelid), '^.*? USING ', '') AS definition,
       CASE WHEN 0 <> ALL (x.indkey::int2[]) THEN
           (SELECT json_agg(a.attname ORDER BY k.position)
              FROM unnest(x.indkey::int2[]) WITH ORDINALITY k(number, position)
              JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.number
             WHERE k.position <= x.indnkeyatts) END AS columns
  FROM pg_index x
 WHERE x.indrelid >= 16384 AND x.indisvalid
   AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = x.indexrelid AND k.contype IN ('p', 'u', 'x'))
   AND EXISTS (SELECT FROM pg_class c WHERE c.oid = x.indrelid AND c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't')
