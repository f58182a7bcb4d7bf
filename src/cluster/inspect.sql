-- What one server says of itself. Columns that not every version has are asked for through JSON.
SELECT current_setting('server_version_num')::int8 AS version, current_setting('server_version') AS version_text,
       pg_is_in_recovery() AS in_recovery,
       extract(epoch FROM pg_postmaster_start_time())::text AS started_at,
       (SELECT count(*) > 0 FROM pg_stat_wal_receiver w WHERE w.pid IS NOT NULL) AS receives_wal,
       json_build_object(
         'encoding', pg_encoding_to_char(d.encoding), 'lc_collate', d.datcollate, 'lc_ctype', d.datctype,
         'collation provider', to_jsonb(d) ->> 'datlocprovider',
         'collation locale', coalesce(to_jsonb(d) ->> 'daticulocale', to_jsonb(d) ->> 'datlocale')) AS locale,
       coalesce(
         (SELECT string_agg(DISTINCT o.collprovider::text || ' ' || pg_collation_actual_version(o.oid), ', '
                 ORDER BY o.collprovider::text || ' ' || pg_collation_actual_version(o.oid))
            FROM pg_collation o
           WHERE (o.collprovider = 'c' AND o.collcollate = d.datcollate AND d.datcollate NOT IN ('C', 'POSIX'))
              OR (o.collprovider = 'i' AND o.collname = 'und-x-icu')), '') AS collation_versions,
       (SELECT json_object_agg(g.name, g.reset_val) FROM pg_settings g WHERE g.name = ANY (string_to_array(
         'TimeZone DateStyle IntervalStyle timezone_abbreviations integer_datetimes standard_conforming_strings '
         || 'backslash_quote transform_null_equals array_nulls bytea_output extra_float_digits lc_monetary lc_numeric '
         || 'lc_time xmlbinary xmloption default_text_search_config row_security session_replication_role search_path '
         || 'default_transaction_isolation default_transaction_read_only default_transaction_deferrable '
         || 'quote_all_identifiers gin_fuzzy_search_limit max_identifier_length max_index_keys', ' '))) AS settings,
       current_setting('max_prepared_transactions')::int8 AS max_prepared_transactions,
       current_setting('max_connections')::int8 AS max_connections,
       current_setting('superuser_reserved_connections')::int8 AS reserved_connections,
       current_setting('synchronous_standby_names') AS synchronous_standby_names,
       r.rolsuper AS is_superuser,
       pg_has_role(current_user, 'pg_monitor', 'MEMBER') AS is_monitor,
       r.rolsuper OR r.rolcreatedb AS may_create_databases,
       has_function_privilege('pg_catalog.pg_current_wal_insert_lsn()', 'EXECUTE')
         AND has_function_privilege('pg_catalog.pg_last_wal_replay_lsn()', 'EXECUTE') AS may_read_wal
  FROM pg_database d, pg_roles r
 WHERE d.datname = current_database() AND r.rolname = current_user
