"""psycopg through pgshunt: the same statements at one plain PostgreSQL must give the same."""
import sys
import psycopg

pgshunt_url, oracle_url = sys.argv[1:]
checks = 0


def shown(value, other):
    """only what differs"""
    if isinstance(value, list) and isinstance(other, list) and len(value) == len(other):
        value = [v for v, o in zip(value, other) if v != o]
    return repr(value)[:500]


def same(name, expected, actual):
    global checks
    checks += 1
    if expected != actual:
        sys.exit(f"{name}\n  expected {shown(expected, actual)}\n  found    {shown(actual, expected)}")


FEED = "select author_id, post_id, body, created_at from timeline where user_id = %s order by created_at desc, post_id limit 20"


def copy_out(conn):
    with conn.cursor() as cursor, cursor.copy("copy (select * from posts where user_id = 43 order by id) to stdout") as copy:
        return b"".join(bytes(chunk) for chunk in copy)


with psycopg.connect(pgshunt_url) as conn, psycopg.connect(oracle_url) as oracle:
    for binary in (False, True):
        for user in range(1, 60):  # past five executions psycopg prepares the statement
            ask = lambda c: c.cursor(binary=binary).execute(FEED, (user,)).fetchall()
            same(f"the feed of {user}", ask(oracle), ask(conn))
            conn.commit()
    many = ("select id, name, country from users where id = any(%s)", ([1, 2, 3, 500, 501, 502],))
    same("= ANY(array)", sorted(oracle.execute(*many).fetchall()), sorted(conn.execute(*many).fetchall()))
    conn.commit()

    # autocommit: write, then read, which may go to a replica
    conn.autocommit = True
    new = conn.execute("insert into users (name, country) values (%s, %s) returning id", ("Grace Hopper ☕ O'", "US")).fetchone()[0]
    for n in range(30):
        conn.execute("insert into posts (user_id, body) values (%s, %s)", (new, f"post {n}"))
        same("read your writes", (n + 1,), conn.execute("select count(*) from posts where user_id = %s", (new,)).fetchone())
    same("text comes back", ("Grace Hopper ☕ O'",), conn.execute("select name from users where id = %s", (new,)).fetchone())

    with conn.pipeline():
        cursors = [conn.execute("select id, name from users where id = %s", (u,)) for u in range(1, 101)]
    names = [cursor.fetchone() for cursor in cursors]
    same("a pipeline", [oracle.execute("select id, name from users where id = %s", (u,)).fetchone() for u in range(1, 101)], names)

    # an error inside a transaction, then life goes on
    try:
        with conn.transaction():
            conn.execute("delete from posts where user_id = %s", (new,))
            conn.execute("insert into users (id, name, country) values (%s, 'twice', 'US')", (new,))
        sys.exit("a duplicate key was accepted")
    except psycopg.errors.UniqueViolation as error:
        same("the error's constraint", "users_pkey", error.diag.constraint_name)
    same("rolled back", (30,), conn.execute("select count(*) from posts where user_id = %s", (new,)).fetchone())

    with conn.cursor() as cursor:
        cursor.executemany("insert into likes (user_id, author_id, post_id) values (%s, %s, %s)", [(new, 1, p) for p in range(50)])
    same("executemany", (50,), conn.execute("select count(*) from likes where user_id = %s", (new,)).fetchone())
    same("COPY out", copy_out(oracle), copy_out(conn))
    conn.execute("delete from users where id = %s", (new,))
    same("deleted", None, conn.execute("select id from users where id = %s", (new,)).fetchone())

print(f"{checks} answers alike")
