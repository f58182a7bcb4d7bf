-- What a scratch database is made of, as statements in an order that mostly works; what depends on something later is
-- tried again. `who` is the role that runs it: the control user what needs rights, the client's role the rest.
SELECT 1 AS place, 'control' AS who, format('CREATE SCHEMA IF NOT EXISTS %I', n.nspname) AS sql, n.nspname::text AS schema,
       n.nspname::text AS name, NULL::int8 AS oid, NULL::text AS signature, false AS is_binary, NULL::text AS role
  FROM pg_namespace n
 WHERE (n.oid >= 16384 OR n.nspname = 'public') AND n.nspname !~ '^pg_'
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_namespace'::regclass AND d.objid = n.oid AND d.deptype = 'e')
UNION ALL
SELECT 2, 'control', format('CREATE EXTENSION IF NOT EXISTS %I WITH SCHEMA %I VERSION %L', e.extname, n.nspname, e.extversion),
       n.nspname, e.extname, NULL, NULL, false, NULL
  FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname <> 'plpgsql'
UNION ALL
SELECT 3, 'client', format('CREATE COLLATION %I.%I (PROVIDER = %s, %s, DETERMINISTIC = %s)', n.nspname, o.collname,
           CASE o.collprovider WHEN 'i' THEN 'icu' ELSE 'libc' END,
           CASE o.collprovider WHEN 'i'
                THEN format('LOCALE = %L', coalesce(to_jsonb(o) ->> 'colliculocale', to_jsonb(o) ->> 'colllocale', to_jsonb(o) ->> 'collcollate'))
                ELSE format('LC_COLLATE = %L, LC_CTYPE = %L', to_jsonb(o) ->> 'collcollate', to_jsonb(o) ->> 'collctype') END,
           o.collisdeterministic),
       n.nspname, o.collname, NULL, NULL, false, NULL
  FROM pg_collation o JOIN pg_namespace n ON n.oid = o.collnamespace
 WHERE o.oid >= 16384
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_collation'::regclass AND d.objid = o.oid AND d.deptype = 'e')
UNION ALL
SELECT 4, 'client', CASE t.typtype
       WHEN 'e' THEN format('CREATE TYPE %I.%I AS ENUM (%s)', n.nspname, t.typname,
            (SELECT string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid))
       WHEN 'c' THEN format('CREATE TYPE %I.%I AS (%s)', n.nspname, t.typname,
            (SELECT string_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod))
                    || coalesce((SELECT format(' COLLATE %I.%I', on_.nspname, o.collname) FROM pg_collation o
                                   JOIN pg_namespace on_ ON on_.oid = o.collnamespace JOIN pg_type at ON at.oid = a.atttypid
                                  WHERE o.oid = a.attcollation AND a.attcollation <> at.typcollation), ''), ', ' ORDER BY a.attnum)
               FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped))
       WHEN 'd' THEN format('CREATE DOMAIN %I.%I AS %s%s%s %s', n.nspname, t.typname, format_type(t.typbasetype, t.typtypmod),
            coalesce((SELECT format(' COLLATE %I.%I', on_.nspname, o.collname) FROM pg_collation o
                        JOIN pg_namespace on_ ON on_.oid = o.collnamespace JOIN pg_type b ON b.oid = t.typbasetype
                       WHERE o.oid = t.typcollation AND t.typcollation <> b.typcollation), ''),
            CASE WHEN t.typnotnull THEN ' NOT NULL' ELSE '' END,
            (SELECT string_agg(format('CONSTRAINT %I %s', k.conname, pg_get_constraintdef(k.oid)), ' ' ORDER BY k.conname)
               FROM pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c'))
       WHEN 'r' THEN (SELECT format('CREATE TYPE %I.%I AS RANGE (SUBTYPE = %s%s)', n.nspname, t.typname, format_type(r.rngsubtype, NULL),
                coalesce((SELECT format(', COLLATION = %I.%I', on_.nspname, o.collname) FROM pg_collation o
                            JOIN pg_namespace on_ ON on_.oid = o.collnamespace WHERE o.oid = r.rngcollation), ''))
                FROM pg_range r WHERE r.rngtypid = t.oid AND r.rngcanonical = 0) END,
       n.nspname, t.typname, NULL, NULL, false, NULL
  FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace LEFT JOIN pg_class c ON c.oid = t.typrelid
 WHERE t.oid >= 16384 AND t.typtype IN ('e', 'c', 'd', 'r') AND coalesce(c.relkind, 'c') = 'c' AND n.nspname !~ '^pg_'
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e')
UNION ALL
SELECT 5, 'client', pg_get_functiondef(p.oid), n.nspname, p.proname, NULL, NULL, false, NULL
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
 WHERE p.oid >= 16384 AND p.prokind = 'f' AND l.lanname NOT IN ('c', 'internal') AND n.nspname !~ '^pg_'
   AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
UNION ALL
SELECT 6, 'client', format('CREATE UNLOGGED TABLE %I.%I (%s%s) WITH (autovacuum_enabled = off, toast.autovacuum_enabled = off)',
           n.nspname, c.relname,
           (SELECT string_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod))
                   || coalesce((SELECT format(' COLLATE %I.%I', on_.nspname, o.collname) FROM pg_collation o
                                  JOIN pg_namespace on_ ON on_.oid = o.collnamespace JOIN pg_type at ON at.oid = a.atttypid
                                 WHERE o.oid = a.attcollation AND a.attcollation <> at.typcollation), ''), ', ' ORDER BY a.attnum)
              FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
           (SELECT ', ' || pg_get_constraintdef(k.oid) FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'p')),
       n.nspname, c.relname, NULL, NULL, false, NULL
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_'
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
UNION ALL
SELECT 7, 'client', format('CREATE VIEW %I.%I AS %s', n.nspname, c.relname, pg_get_viewdef(c.oid)), n.nspname, c.relname,
       NULL, NULL, false, NULL
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid >= 16384 AND c.relkind = 'v' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_'
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
UNION ALL
SELECT 10, 'cast', format('CREATE CAST (%s AS %s) %s%s', format_type(k.castsource, NULL), format_type(k.casttarget, NULL),
           CASE k.castmethod WHEN 'f' THEN 'WITH FUNCTION ' || k.castfunc::regprocedure WHEN 'i' THEN 'WITH INOUT'
                ELSE 'WITHOUT FUNCTION' END,
           CASE k.castcontext WHEN 'i' THEN ' AS IMPLICIT' WHEN 'a' THEN ' AS ASSIGNMENT' ELSE '' END),
       NULL, NULL, NULL, NULL, false, NULL
  FROM pg_cast k
 WHERE k.oid >= 16384
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_cast'::regclass AND d.objid = k.oid AND d.deptype = 'e')
UNION ALL
-- settings of the database, for all roles first
SELECT 8, 'setting', setting, NULL, NULL, NULL, NULL, false, r.rolname
  FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) AS setting
 WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
UNION ALL
-- tables: their columns, and whether the binary form of a row means the same in another database
SELECT 9, 'table', NULL, n.nspname, c.relname, c.oid::int8, g.signature, g.is_binary, NULL
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
  LATERAL (SELECT /* SIGNATURE */ AS signature,
                  bool_and(CASE WHEN b.oid < 16384 THEN b.typsend <> 0 AND b.typnamespace = 11 AND b.typname !~ '^_?reg'
                                WHEN b.typtype = 'e' THEN true
                                WHEN b.typtype = 'b' THEN b.typcategory <> 'A' AND b.typsend <> 0 AND b.typreceive <> 0
                                ELSE false END) AS is_binary
             FROM /* COLUMNS */
             JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) g
 WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_'
