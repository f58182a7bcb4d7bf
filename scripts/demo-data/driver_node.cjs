// Node's pg through pgshunt: unnamed and named statements, a pool, transactions.
const assert = require('node:assert');
const { Pool } = require('pg');
const [pgshuntUrl, oracleUrl] = process.argv.slice(2);
const FEED = 'select author_id, post_id, body, created_at from timeline where user_id = $1 order by created_at desc, post_id limit $2';
let checks = 0;

function same(name, expected, actual) {
  checks += 1;
  assert.deepStrictEqual(actual, expected, name);
}

async function feeds(pool, oracle) {
  for (let user = 1; user <= 100; user += 1) {
    const named = { name: 'feed', text: FEED, values: [user, 10] };
    const [expected, unnamed, prepared] = await Promise.all([oracle.query(FEED, [user, 10]), pool.query(FEED, [user, 10]), pool.query(named)]);
    same(`the feed of ${user}`, expected.rows, unnamed.rows);
    same(`the feed of ${user}, prepared`, expected.rows, prepared.rows);
  }
}

async function readYourWrites(client) {
  const added = await client.query('insert into users (name, country) values ($1, $2) returning id', ["Ren\u00e9e O'Hara", 'FR']);
  const { id } = added.rows[0];
  for (let n = 1; n <= 30; n += 1) {
    await client.query('insert into posts (user_id, body) values ($1, $2)', [id, `post ${n}`]);
    const { rows } = await client.query('select count(*)::int as n from posts where user_id = $1', [id]);
    same('read your writes', [{ n }], rows);
  }
  await transaction(client, id);
}

async function transaction(client, id) {
  await client.query('begin');
  await client.query('delete from users where id = $1', [id]);
  await assert.rejects(client.query('insert into users (id, name, country) values ($1, $2, $3)', [id, 'x', 'ZZ']), { code: '23503' });
  await client.query('rollback');
  same('rolled back', [{ name: "Ren\u00e9e O'Hara" }], (await client.query('select name from users where id = $1', [id])).rows);
  await client.query('delete from users where id = $1', [id]);
  same('deleted', [], (await client.query('select name from users where id = $1', [id])).rows);
}

async function main() {
  const oracle = new Pool({ connectionString: oracleUrl, max: 2 });
  const pool = new Pool({ connectionString: pgshuntUrl, max: 4 });
  await feeds(pool, oracle);
  const client = await pool.connect();
  await readYourWrites(client);
  client.release();
  await Promise.all([pool.end(), oracle.end()]);
  console.log(`${checks} answers alike`);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
