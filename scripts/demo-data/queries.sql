-- 1. The feed of one user: one shard, answered by its replica
select author_id, created_at, body from timeline where user_id = 42 order by created_at desc limit 5;

-- 2. Read your writes: the post is there at once, however far the replica is behind
insert into posts (user_id, body) values (42, 'Hello from psql!') returning id;
select id, body from posts where user_id = 42 order by created_at desc limit 1;

-- 3. A new user, whose id pgshunt draws and routes by; then a join with the reference table
insert into users (name, country) values ('Ada Lovelace', 'GB') returning id \gset
select u.id, u.name, c.name as country from users u join countries c on c.code = u.country where u.id = :id;

-- 4. All shards at once: their answers, one after the other
select id, name from users where country = 'IS';

-- 5. The console: who replicates, and how far behind
\connect pgshunt
show replicas;
