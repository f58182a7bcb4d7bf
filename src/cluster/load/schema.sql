SELECT n.nspname AS name FROM pg_namespace n WHERE n.nspname !~ '^pg_(temp|toast)'
