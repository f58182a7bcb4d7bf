-- Operators that did not come with the system.
SELECT o.oprname AS name, n.nspname AS schema, o.oprcode::oid::int8 AS function,
       format_type(o.oprleft, NULL) AS left, format_type(o.oprright, NULL) AS right, o.oprcode::regproc::text AS calls
  FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
 WHERE o.oid >= 16384
