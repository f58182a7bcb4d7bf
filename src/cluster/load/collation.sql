-- Collations that did not come with the system's own initialisation.
SELECT n.nspname AS schema, o.collname AS name,
       concat_ws(' ', o.collprovider, to_jsonb(o) ->> 'collcollate', to_jsonb(o) ->> 'collctype',
           coalesce(to_jsonb(o) ->> 'colliculocale', to_jsonb(o) ->> 'colllocale'), to_jsonb(o) ->> 'collicurules',
           CASE WHEN NOT o.collisdeterministic THEN 'nondeterministic' END) AS definition
  FROM pg_collation o JOIN pg_namespace n ON n.oid = o.collnamespace WHERE o.oid >= 16384
