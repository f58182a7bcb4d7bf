SELECT e.extname AS name, e.extversion AS version FROM pg_extension e
