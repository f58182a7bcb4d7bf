-- Settings that sessions of this database begin with, by role; the more special entry comes last.
SELECT coalesce(a.rolname, '') AS role, s.setconfig AS settings
  FROM pg_db_role_setting s LEFT JOIN pg_roles a ON a.oid = s.setrole
 WHERE s.setdatabase IN (0, (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()))
   AND (s.setrole = 0 OR a.oid IS NOT NULL)
 ORDER BY s.setrole <> 0, s.setdatabase <> 0
