# shellcheck shell=bash disable=SC2153
# scripts/demo --check: the demo's data and queries, compared with one plain PostgreSQL database that holds the same rows (the
# oracle), and with what lies on each shard. It reads no source of pgshunt and knows nothing of how it routes.

PASSED=0 FAILED=0 SKIPPED=0
TABLES=(users posts follows likes timeline)
key_of() { case $1 in users) echo id ;; follows) echo follower_id ;; *) echo user_id ;; esac; }

check_demo() {
    trap check_end EXIT
    trap 'exit 130' INT TERM
    CHECK=$DIR/check
    demo_up
    mkdir -p "$CHECK"
    make_oracle
    check_rows
    check_placement
    check_replicas
    check_queries_that_read
    check_psql
    check_copy_out
    check_explain
    check_never_wrong
    check_errors
    check_replica_reads
    check_queries_that_write
    check_read_your_writes
    check_transactions
    check_reference_table
    check_drivers
    check_stop
    check_summary
}

# --- Servers ------------------------------------------------------------------------------------------------------------

server_url() { echo "postgres://app:app@127.0.0.1:$1/${2-$DATABASE}"; }
primary_port() { echo $((BASE_PORT + 10 * ($1 - 1))); }

# A superuser's database on the first shard's primary, which pgshunt knows nothing of
make_oracle() {
    ensure_owner
    as_owner "$PGBIN/createdb" -h "$(readlink -f "$DIR/data")/run" -p "$(primary_port 1)" -U postgres -O app oracle
    ORACLE=$(server_url "$(primary_port 1)" oracle)
    say "loading the same into one plain PostgreSQL database, to compare with"
    load "$ORACLE" >/dev/null
}

# Output and errors of a piece of psql input, as one text. Errors are without file and line of the input.
ask() {
    local url=$1 format=$2
    { "$PGBIN/psql" -X -q -v ON_ERROR_STOP=1 "$format" "$url" 2>&1 || true; } | sed 's/^psql:<stdin>:[0-9]*: //'
}
ask_plain() { ask "$1" -At <<<"$2"; }

for_each_primary() {
    local shard
    for ((shard = 1; shard <= SHARDS; shard++)); do "$@" "$(primary_port "$shard")"; done
}

for_each_replica() {
    local shard replica
    for ((shard = 1; shard <= SHARDS; shard++)); do
        for ((replica = 1; replica <= REPLICAS; replica++)); do "$@" $(($(primary_port "$shard") + replica)); done
    done
}

# --- Verdicts -----------------------------------------------------------------------------------------------------------

pass() {
    PASSED=$((PASSED + 1))
    say "ok    $1"
}

fail() {
    FAILED=$((FAILED + 1))
    say "FAIL  $1"
    [ -z "${2-}" ] || printf "%s\n" "$2" | sed 's/^/      /'
}

skip() {
    SKIPPED=$((SKIPPED + 1))
    say "SKIP  ############ $1"
}

# same NAME EXPECTED ACTUAL
same() {
    local difference
    if difference=$(diff -u --label expected --label 'through pgshunt' <(printf '%s\n' "$2") <(printf '%s\n' "$3")); then
        pass "$1"
    else
        fail "$1" "$(head -n 40 <<<"$difference")"
    fi
}

matches() { if [[ $3 =~ $2 ]]; then pass "$1"; else fail "$1" "expected to match: $2
found: $3"; fi; }

# The same statement at the oracle and through pgshunt; the rows in any order when $3 says so
compare() {
    local expected actual
    expected=$(ask_plain "$ORACLE" "$2")
    actual=$(ask_plain "$URL" "$2")
    if [ "${3-}" = unordered ]; then
        expected=$(LC_ALL=C sort <<<"$expected")
        actual=$(LC_ALL=C sort <<<"$actual")
    fi
    same "$1" "$expected" "$actual"
}

# Query n of queries.sql
query() { awk -v n="$1" '/^-- [0-9]+\./ { on = ($2 == n ".") } on' "$DATA_FILES/queries.sql"; }

# --- What was loaded ----------------------------------------------------------------------------------------------------

count_table() { ask_plain "$(server_url "$2")" "select count(*) from $1"; }

check_rows() {
    local table expected actual
    for table in "${TABLES[@]}"; do
        expected=$(awk -v table="$table" '$1 == table { print $2 }' "$SQL/counts")
        actual=$(for_each_primary count_table "$table" | awk '{ sum += $1 } END { print sum }')
        same "$table: the shards together have $expected rows" "$expected" "$actual"
    done
    expected=$(ask_plain "$ORACLE" "select * from countries order by code")
    actual=$(for_each_primary countries_on | sort -u)
    same "countries: whole and alike on every shard" "$(sort <<<"$expected")" "$actual"
    same "countries: as many on every shard" \
        "$(for_each_primary echo "$(wc -l <<<"$expected")" | awk '{ print $1 }')" "$(for_each_primary count_table countries)"
}

countries_on() { ask_plain "$(server_url "$1")" "select * from countries order by code"; }

keys_on() { ask_plain "$(server_url "$2")" "select distinct $(key_of "$1") from $1" | sed "s/\$/ $2/"; }

check_placement() {
    local table
    for table in "${TABLES[@]}"; do for_each_primary keys_on "$table"; done | sort -u >"$CHECK/placement"
    same "every user's rows of all tables are on one shard only" "" "$(cut -d' ' -f1 "$CHECK/placement" | sort | uniq -d)"
    same "every user is somewhere" "$(seq "$USERS" | sort)" "$(cut -d' ' -f1 "$CHECK/placement" | sort -u)"
    same "no shard has less than half of its fair share" "" \
        "$(cut -d' ' -f2 "$CHECK/placement" | sort | uniq -c | awk -v fair=$((USERS / SHARDS)) '$1 < fair / 2')"
    same "every shard has users" "$SHARDS" "$(cut -d' ' -f2 "$CHECK/placement" | sort -u | wc -l)"
}

check_replicas() {
    [ "$REPLICAS" -gt 0 ] || return 0
    if wait_until 20 replicas_are_level; then pass "replicas have what their primaries have"; else
        fail "replicas have what their primaries have" "$(cluster status)"
    fi
}

replicas_are_level() {
    local shard replica expected
    for ((shard = 1; shard <= SHARDS; shard++)); do
        expected=$(count_table timeline "$(primary_port "$shard")")
        for ((replica = 1; replica <= REPLICAS; replica++)); do
            [ "$(count_table timeline $(($(primary_port "$shard") + replica)))" = "$expected" ] || return 1
        done
    done
}

# --- Reading ------------------------------------------------------------------------------------------------------------

check_queries_that_read() {
    compare "query 1: the feed of one user" "$(query 1)"
    compare "query 4: all shards, concatenated" "$(query 4)" unordered
    compare "a join tied by the key" \
        "select u.name, c.name, count(*) from users u join posts p on p.user_id = u.id join countries c on c.code = u.country
         where u.id = 42 group by u.name, c.name"
    compare "several users by IN" "select id, name from users where id in (1, 2, 3, 5, 8, 13, 21)" unordered
    compare "every column of every row of a table" "select * from timeline" unordered
    compare "the reference table" "select continent, count(*) from countries group by continent order by continent"
    compare "parameters by psql's \\bind where it has it" "$(psql_bind_query)"
    local answer
    answer=$(ask_plain "$URL" "$(query 5)")
    for_each_replica check_replica_is_shown "$answer"
}

psql_bind_query() {
    # shellcheck disable=SC2016 # the $1 is PostgreSQL's
    if "$PGBIN/psql" --version | awk '{ exit !($3 + 0 >= 16) }'; then
        printf '%s\n' 'select name from users where id = $1 \bind 42 \g'
    else
        echo "select name from users where id = 42"
    fi
}

check_replica_is_shown() { matches "query 5: the console shows the replica on port $2" "$2" "$1"; }

check_psql() {
    local direct command
    direct=$(server_url "$(primary_port 1)")
    for command in '\dt' '\d' '\d users' '\d+ posts' '\di' '\dn' '\df' '\dv' '\ds' '\du' '\l' '\dT' '\dp users' '\sf now'; do
        same "psql's $command" "$(ask "$direct" -Pfooter=on <<<"$command")" "$(ask "$URL" -Pfooter=on <<<"$command")"
    done
}

check_copy_out() {
    local command
    command="\\copy (select * from posts where user_id = 42 order by id) to stdout csv header"
    compare "\\copy of one user's posts" "$command"
    compare "\\copy of the reference table" "\\copy countries to stdout" unordered
    ask_plain "$URL" "\\copy countries to '$CHECK/countries.csv' csv header"
    same "\\copy to a file" "$(wc -l <"$DATA_FILES/countries.csv")" "$(wc -l <"$CHECK/countries.csv")"
}

check_explain() {
    matches "EXPLAIN of one shard's query" Scan "$(ask_plain "$URL" "explain select * from posts where user_id = 42")"
    matches "EXPLAIN ANALYZE" "Execution Time" "$(ask_plain "$URL" "explain (analyze) select * from posts where user_id = 42")"
}

# What spans shards is answered as by one PostgreSQL, or refused; nothing in between.
check_never_wrong() {
    local sql refused=0 answered=0 wrong="" expected actual order
    while read -r sql; do
        actual=$(ask_plain "$URL" "\\set VERBOSITY verbose
$sql")
        expected=$(ask_plain "$ORACLE" "$sql")
        order="sort"
        [[ $sql != *"order by id"?( limit*)?( offset*) ]] || order="cat"
        if [ "$(LC_ALL=C $order <<<"$actual")" = "$(LC_ALL=C $order <<<"$expected")" ]; then
            answered=$((answered + 1))
        elif grep -q 'ERROR:  0A000' <<<"$actual"; then
            refused=$((refused + 1))
        else
            wrong+="$sql
  expected: $(head -n 2 <<<"$expected")
  found:    $(head -n 2 <<<"$actual")
"
        fi
    done < <(spanning_statements)
    if [ -z "$wrong" ]; then pass "never a wrong answer over shards: $answered right, $refused refused"; else
        fail "never a wrong answer over shards: $answered right, $refused refused" "$wrong"
    fi
}

spanning_statements() {
    cat <<'SQL'
select count(*) from posts
select count(*), min(id), max(id) from users
select avg(id) from posts
select country, count(*) from users group by country
select distinct country from users
select id from users order by id limit 10
select id from users limit 0
select id from posts order by id offset 20190
select u.name from users u join follows f on f.followee_id = u.id where f.follower_id = 42
select c.name from countries c where not exists (select from users u where u.country = c.code)
select c.code, u.id from countries c left join users u on u.country = c.code
select count(*) from countries c, users u where c.code = u.country
select id from users where id in (select followee_id from follows where follower_id = 42)
select id from users except select user_id from likes
select author_id, count(*) from likes group by author_id having count(*) > 30
select user_id, row_number() over (order by id) from posts where id < 100
select (select count(*) from posts p where p.user_id = u.id) from users u where u.id < 20
select max(created_at) from timeline
with busy as (select user_id from posts group by user_id having count(*) > 18) select count(*) from busy
select exists (select from users where name = 'Nobody')
select user_id, count(*) from posts group by user_id
select string_agg(name, ',' order by id) from users where id < 10
select id, name from users where id = 42 or name = 'Zoë Zhang'
select id from users where id = 42.0
select id from users where id is null
table countries
SQL
}

# PostgreSQL words its own errors, and they come through with code, detail and position.
check_errors() {
    local sql
    while read -r sql; do
        compare "the error of: $sql" "\\set VERBOSITY verbose
$sql"
    done < <(failing_statements)
}

failing_statements() {
    cat <<'SQL'
insert into users (id, name, country) values (42, 'Twice', 'GB');
insert into users (id, name, country) values (900001, 'Nowhere', 'ZZ');
insert into posts (user_id, id, body, created_at) values (42, 900001, null, '2026-01-01');
update users set country = 'ZZ' where id = 42;
select no_such_column from users where id = 42;
select 1 / 0;
SQL
}

# A function that says which server answers: stable, so a read
check_replica_reads() {
    local ports i
    [ "$REPLICAS" -gt 0 ] || return 0
    ports=$(for ((i = 0; i < 50; i++)); do
        echo "select inet_server_port() from users where id = 42;"
        echo "\\! sleep 0.1"
    done | ask "$URL" -At | sort -u)
    matches "reads reach a replica" "$(for_each_replica echo | paste -sd "|")" "$ports"
}

# --- Writing ------------------------------------------------------------------------------------------------------------

check_queries_that_write() {
    local answer id
    answer=$(ask_plain "$URL" "$(query 2)")
    id=${answer%%$'\n'*}
    matches "query 2: the new post has an id" '^[0-9]+$' "$id"
    same "query 2: read your writes" "$id|Hello from psql!" "${answer#*$'\n'}"
    answer=$(ask_plain "$URL" "$(query 3)")
    matches "query 3: a drawn id, and the join" '^[0-9]+\|Ada Lovelace\|United Kingdom$' "$answer"
    id=${answer%%|*}
    same "query 3: the drawn id is new" yes "$([ "$id" -gt "$USERS" ] && echo yes || echo "no: $id")"
    same "query 3: the new user is on one shard" 1 "$(for_each_primary has_user "$id" | awk '{ sum += $1 } END { print sum }')"
    check_drawn_ids
}

has_user() { ask_plain "$(server_url "$2")" "select count(*) from users where id = $1"; }

check_drawn_ids() {
    local i ids
    ids=$(for ((i = 0; i < 200; i++)); do echo "insert into users (name, country) values ('New $i', 'IS') returning id;"; done | ask "$URL" -At)
    same "200 drawn ids are 200 different ones" 200 "$(grep -E '^[0-9]+$' <<<"$ids" | sort -u | wc -l)"
    same "and all of them are found, on all shards" "$(sort <<<"$ids")" \
        "$(for_each_primary new_users_on | sort)"
    same "and they came to every shard" "$SHARDS" "$(for_each_primary count_new_users | awk '$1 > 0' | wc -l)"
}

new_users_on() { ask_plain "$(server_url "$1")" "select id from users where name like 'New %'"; }
count_new_users() { ask_plain "$(server_url "$1")" "select count(*) from users where name like 'New %'"; }

check_read_your_writes() {
    local i
    same "100 writes, each read back at once in the same session" "$(seq 100)" "$(for ((i = 1; i <= 100; i++)); do
        echo "insert into likes (user_id, author_id, post_id) values (77, 900000, $i);"
        echo "select count(*) from likes where user_id = 77 and author_id = 900000;"
    done | ask "$URL" -At)"
    same "and they are counted once" 100 "$(for_each_primary count_marked | awk '{ sum += $1 } END { print sum }')"
}

count_marked() { ask_plain "$(server_url "$1")" "select count(*) from likes where author_id = 900000"; }

check_transactions() {
    local inside
    inside="begin; update users set name = 'Renamed' where id = 42; select name from users where id = 42;"
    same "a transaction sees its own write, and a rollback takes it back" \
        "Renamed
$(ask_plain "$ORACLE" "select name from users where id = 42")" \
        "$(ask_plain "$URL" "$inside rollback; select name from users where id = 42;")"
    same "a failed transaction stays failed until its end" "after 1" "$(ask_after_error)"
    same "a savepoint" "Kept" "$(ask_plain "$URL" "begin; update users set name = 'Kept' where id = $USERS; savepoint s;
        update users set name = 'Lost' where id = $USERS; rollback to s; commit; select name from users where id = $USERS;")"
    same "a deleted row is gone" "0" "$(ask_plain "$URL" "delete from likes where user_id = 77 and author_id = 900000;
        select count(*) from likes where user_id = 77 and author_id = 900000;")"
}

ask_after_error() {
    "$PGBIN/psql" -X -q -At "$URL" 2>/dev/null <<'SQL'
begin;
select 1 / 0;
select 'not reached';
rollback;
select 'after ' || 1;
SQL
}

check_reference_table() {
    local change
    for change in "\\copy countries from stdin csv
XK,Kosovo,Europe
\\." "update countries set continent = 'Nowhere' where code = 'XK'" "delete from countries where code = 'XK'"; do
        ask_plain "$ORACLE" "$change"
        ask_plain "$URL" "$change"
        same "on every shard after: ${change%%$'\n'*}" \
            "$(for_each_primary echo "$(ask_plain "$ORACLE" "select continent from countries where code = 'XK'")" | sed 's/ *[0-9]*$//')" \
            "$(for_each_primary kosovo_on)"
    done
}

kosovo_on() { ask_plain "$(server_url "$1")" "select coalesce(max(continent), '') from countries where code = 'XK'"; }

# --- Drivers ------------------------------------------------------------------------------------------------------------

check_drivers() {
    check_driver psycopg "Python's psycopg" python_driver psycopg 'psycopg[binary]'
    check_driver asyncpg "Python's asyncpg" python_driver asyncpg asyncpg
    check_driver node-pg "Node's pg" node_driver
}

# A driver's program fails with what differs; 77 says that the driver could not be had.
check_driver() {
    local name=$2 output status=0
    shift 2
    output=$("$@" 2>&1) || status=$?
    case $status in
        0) pass "$name: $(tail -n 1 <<<"$output")" ;;
        77) skip "$name not tried: $(tail -n 1 <<<"$output")" ;;
        *) fail "$name" "$(tail -n 30 <<<"$output")" ;;
    esac
}

python_driver() {
    local place=$CHECK/python-$1
    have python3 || unavailable "there is no python3"
    python3 -m pip --version >/dev/null 2>&1 || unavailable "python3 has no pip"
    python3 -m pip install --quiet --disable-pip-version-check --no-input --target "$place" "$2" >"$place.log" 2>&1 ||
        unavailable "pip could not install $1"
    PYTHONPATH=$place timeout 120 python3 "$DATA_FILES/driver_$1.py" "$URL" "$ORACLE"
}

node_driver() {
    local place=$CHECK/node
    have node || unavailable "there is no node"
    have npm || unavailable "there is no npm"
    mkdir -p "$place"
    npm install --silent --no-audit --no-fund --prefix "$place" pg >"$place.log" 2>&1 || unavailable "npm could not install pg"
    NODE_PATH=$place/node_modules timeout 120 node "$DATA_FILES/driver_node.cjs" "$URL" "$ORACLE"
}

unavailable() {
    say "$1"
    exit 77
}

# --- The end ------------------------------------------------------------------------------------------------------------

check_stop() {
    local pids
    pids=$(pgshunt_pid; as_owner sh -c "head -q -n 1 $(readlink -f "$DIR/data")/*/postmaster.pid")
    [ "$FAILED" -eq 0 ] || say "the end of pgshunt's log:
$(tail -n 20 "$DIR/pgshunt.log")"
    demo_stop >/dev/null
    same "nothing runs any more" "" "$(for pid in $pids; do wait_until 5 gone "$pid" || echo "$pid"; done)"
    same "nothing listens any more" "" \
        "$(for port in "$PORT" "$HTTP_PORT" $(for_each_primary echo) $(for_each_replica echo); do ! port_answers "$port" || echo "$port"; done)"
    same "nothing is left behind" "" "$(ls -A "$DIR" 2>/dev/null || true)"
}

check_summary() {
    [ "$SKIPPED" -eq 0 ] || say "$SKIPPED skipped"
    say "$PASSED passed, $FAILED failed"
    [ "$FAILED" -eq 0 ]
}

# However it ends, nothing stays up.
check_end() {
    local status=$?
    trap - EXIT
    if [ -f "$DIR/cluster.env" ]; then
        say "the check did not come to its end; the end of pgshunt's log:"
        tail -n 20 "$DIR/pgshunt.log" 2>/dev/null || true
        demo_stop >/dev/null 2>&1 || true
        [ "$status" -ne 0 ] || status=1
    fi
    rmdir "$DIR" 2>/dev/null || true
    exit "$status"
}
