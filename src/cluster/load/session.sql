-- What a fresh session of the role that asks begins with.
SELECT g.reset_val AS search_path, session_user AS role,
       current_setting('server_version_num')::int8 AS server_version
  FROM pg_settings g WHERE g.name = 'search_path'
