-- Casts that did not come with the system and call a function.
SELECT c.castfunc::oid::int8 AS function FROM pg_cast c WHERE c.oid >= 16384 AND c.castfunc <> 0
