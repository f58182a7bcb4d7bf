"""asyncpg through pgshunt, a pool of it: named prepared statements in binary, reset between uses."""
import asyncio
import sys
import asyncpg

pgshunt_url, oracle_url = sys.argv[1:]
checks = 0
FEED = "select author_id, post_id, body, created_at from timeline where user_id = $1 order by created_at desc, post_id limit $2"


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


async def feeds(pool, oracle, users):
    for user in users:
        async with pool.acquire() as conn:
            same(f"the feed of {user}", await oracle.fetch(FEED, user, 10), await conn.fetch(FEED, user, 10))


async def read_your_writes(pool):
    async with pool.acquire() as conn:
        new = await conn.fetchval("insert into users (name, country) values ($1, $2) returning id", "Ünïcode", "DE")
        for n in range(30):
            await conn.execute("insert into follows (follower_id, followee_id) values ($1, $2)", new, n)
            same("read your writes", n + 1, await conn.fetchval("select count(*) from follows where follower_id = $1", new))
        try:
            async with conn.transaction():
                await conn.execute("delete from follows where follower_id = $1", new)
                await conn.execute("insert into follows (follower_id, followee_id) values ($1, null)", new)
            sys.exit("a NULL was accepted")
        except asyncpg.NotNullViolationError:
            pass
        same("rolled back", 30, await conn.fetchval("select count(*) from follows where follower_id = $1", new))
        async with conn.transaction():
            seen = [r[0] async for r in conn.cursor("select followee_id from follows where follower_id = $1 order by 1", new, prefetch=7)]
            await conn.execute("delete from users where id = $1", new)
        same("a cursor", list(range(30)), seen)
        same("deleted", 0, await conn.fetchval("select count(*) from follows where follower_id = $1", new))


async def main():
    oracle = await asyncpg.create_pool(oracle_url, min_size=2, max_size=4)
    pool = await asyncpg.create_pool(pgshunt_url, min_size=2, max_size=4)
    await asyncio.gather(*(feeds(pool, oracle, range(start, 200, 4)) for start in range(1, 5)))
    await asyncio.gather(*(read_your_writes(pool) for _ in range(4)))
    await pool.close()
    await oracle.close()


asyncio.run(main())
print(f"{checks} answers alike")
