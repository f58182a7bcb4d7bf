-- Casts that did not come with the system and call a function. One that is written out, to a type of the user's, is `named`
-- wherever it is used.
SELECT c.castfunc::oid::int8 AS function, c.casttarget::int8 AS target, c.casttarget >= 16384 AND c.castcontext <> 'i' AS named
  FROM pg_cast c WHERE c.oid >= 16384 AND c.castfunc <> 0
