-- Statements over all tenants, by the classes in which sharded answers go wrong.

-- rows, filters, columns of every type

SELECT * FROM tenants

SELECT * FROM members ORDER BY tenant_id, id

SELECT * FROM tasks ORDER BY tenant_id DESC, id

SELECT * FROM invoices ORDER BY tenant_id, id DESC

SELECT * FROM events

SELECT * FROM projects ORDER BY tenant_id, code

SELECT * FROM devices ORDER BY id

SELECT * FROM devices ORDER BY id DESC LIMIT 5

SELECT * FROM members WHERE level IS NULL

SELECT * FROM members WHERE level = NULL

SELECT * FROM tenants WHERE plan = 'large'

SELECT * FROM tenants WHERE plan > 'trial' ORDER BY id

SELECT * FROM events WHERE host <<= '10.0.0.0/8' ORDER BY tenant_id, id

SELECT * FROM events WHERE payload @> '{"n": 1}' ORDER BY tenant_id, id

SELECT * FROM projects WHERE tags && ARRAY['a', 'c'] ORDER BY tenant_id, code

SELECT * FROM invoices WHERE kind = 'bill' ORDER BY tenant_id, id

SELECT * FROM invoices WHERE kind = 'bill  ' ORDER BY tenant_id, id

SELECT * FROM members WHERE tenant_id IN (1, 2, 3) ORDER BY tenant_id, id

SELECT * FROM members WHERE tenant_id = ANY ('{1,2,3,99}') ORDER BY tenant_id, id

SELECT * FROM members WHERE tenant_id = 1 OR tenant_id = 2 ORDER BY tenant_id, id

SELECT * FROM members WHERE tenant_id = 1 OR level = 2 ORDER BY tenant_id, id

SELECT * FROM members WHERE tenant_id BETWEEN 2 AND 4 ORDER BY tenant_id, id

SELECT * FROM members WHERE tenant_id BETWEEN SYMMETRIC 4 AND 2 ORDER BY tenant_id, id

SELECT count(*) FROM members m JOIN tasks t ON t.id = m.id WHERE m.tenant_id BETWEEN SYMMETRIC 5 AND 2 AND t.tenant_id NOT BETWEEN SYMMETRIC 3 AND 1

SELECT * FROM members WHERE tenant_id > 9 AND tenant_id <= 11 ORDER BY tenant_id, id

SELECT * FROM members WHERE NOT (tenant_id = 3) ORDER BY tenant_id, id

SELECT * FROM members WHERE tenant_id = 3.0 ORDER BY tenant_id, id

SELECT * FROM members WHERE tenant_id = 1 AND tenant_id = 2

SELECT * FROM members WHERE false

SELECT tenant_id FROM members WHERE tenant_id + 0 = 3 ORDER BY id

-- text
SELECT m FROM members m ORDER BY tenant_id, id

SELECT (t).name, (t).budget FROM (SELECT t FROM tenants t) s ORDER BY 1, 2

SELECT tenant_id::text || '/' || id AS path, now() IS NOT NULL AS t FROM tasks

SELECT count(*) FROM tenants t WHERE t.settings ->> 'theme' = 'dark'

-- order by a selected column of each type, NULLS FIRST and LAST

SELECT score, tenant_id, id FROM members ORDER BY score, tenant_id, id

SELECT score, tenant_id, id FROM members ORDER BY score DESC NULLS LAST, tenant_id, id

SELECT score, tenant_id, id FROM members ORDER BY score NULLS FIRST, tenant_id DESC, id DESC

SELECT level, tenant_id, id FROM members ORDER BY level DESC, tenant_id, id

SELECT amount, tenant_id, id FROM invoices ORDER BY amount NULLS FIRST, 2, 3

SELECT rate, tenant_id, id FROM invoices ORDER BY rate, 2, 3

SELECT issued, tenant_id, id FROM invoices ORDER BY issued DESC NULLS LAST, 2, 3

SELECT doc, tenant_id, id FROM invoices ORDER BY doc, 2, 3

SELECT kind, tenant_id, id FROM invoices ORDER BY kind, 2, 3

SELECT effort, tenant_id, id FROM tasks ORDER BY effort, 2, 3

SELECT at, tenant_id, id FROM tasks ORDER BY at DESC, 2, 3

SELECT weight, tenant_id, id FROM tasks ORDER BY weight, 2, 3

SELECT done, tenant_id, id FROM tasks ORDER BY done DESC, 2, 3

SELECT joined, tenant_id, id FROM members ORDER BY joined, 2, 3

SELECT seen, tenant_id, id FROM members ORDER BY seen DESC, 2, 3

SELECT plan, id FROM tenants ORDER BY plan, id

SELECT plan, id FROM tenants ORDER BY plan DESC NULLS LAST, id

SELECT country, id FROM tenants ORDER BY country, id

SELECT settings, id FROM tenants ORDER BY settings, id

SELECT host, tenant_id, id FROM events ORDER BY host, 2, 3

SELECT nums, tenant_id, id FROM events ORDER BY nums NULLS FIRST, 2, 3

SELECT email, tenant_id, id FROM members ORDER BY email, 2, 3

SELECT tags, tenant_id, code FROM projects ORDER BY tags, 2, 3

-- order of text by the collation, not by bytes

SELECT name FROM members ORDER BY name

SELECT name, tenant_id, id FROM members ORDER BY name, tenant_id, id

SELECT name, tenant_id, id FROM members ORDER BY name DESC NULLS LAST, tenant_id, id

SELECT name FROM members ORDER BY name COLLATE "C"

SELECT name, tenant_id FROM members ORDER BY name COLLATE "C" DESC NULLS LAST, tenant_id, id LIMIT 7

SELECT title FROM tasks ORDER BY title LIMIT 9

SELECT title FROM tasks WHERE title > 'b' ORDER BY title

SELECT min(name), max(name) FROM members

SELECT min(title), max(title) FROM tasks WHERE title < 'a'

SELECT greatest(name, 'Zoo'), count(*) FROM members GROUP BY 1 ORDER BY 1

SELECT code FROM projects ORDER BY code, tenant_id OFFSET 3

SELECT label, id FROM devices ORDER BY label, id

SELECT max(kind) FROM events

-- order by an expression or by a column that is not selected

SELECT id FROM tasks ORDER BY due, tenant_id, id

SELECT title FROM tasks ORDER BY priority DESC, tenant_id, id

SELECT tenant_id, id FROM tasks ORDER BY id % 3, tenant_id, id

SELECT tenant_id, id FROM tasks ORDER BY -id, tenant_id

SELECT tenant_id, id FROM tasks ORDER BY coalesce(priority, 9), due NULLS FIRST, tenant_id, id

SELECT name FROM members ORDER BY lower(name), tenant_id, id

SELECT id + 1 AS next FROM tasks ORDER BY next DESC

SELECT id AS tenant_id, tenant_id AS id FROM tasks ORDER BY tenant_id, id

SELECT name FROM tenants ORDER BY CASE WHEN active THEN 0 ELSE 1 END, id

SELECT length(name) AS n, tenant_id, id FROM members ORDER BY 1 DESC NULLS LAST, 2, 3

SELECT name FROM members ORDER BY score * 2 DESC NULLS LAST, tenant_id, id LIMIT 4

-- LIMIT and OFFSET

SELECT tenant_id, id FROM tasks ORDER BY tenant_id, id LIMIT 3

SELECT tenant_id, id FROM tasks ORDER BY tenant_id, id LIMIT 3 OFFSET 5

SELECT tenant_id, id FROM tasks ORDER BY tenant_id, id OFFSET 60

SELECT tenant_id, id FROM tasks ORDER BY tenant_id, id OFFSET 1000

SELECT tenant_id, id FROM tasks ORDER BY tenant_id, id LIMIT 0

SELECT tenant_id, id FROM tasks ORDER BY tenant_id, id LIMIT ALL OFFSET 2

SELECT tenant_id, id FROM tasks ORDER BY tenant_id, id LIMIT NULL

SELECT tenant_id, id FROM tasks ORDER BY tenant_id, id LIMIT 1 + 2 OFFSET 2 * 2

SELECT tenant_id, id FROM tasks ORDER BY tenant_id, id LIMIT (SELECT 3)

SELECT tenant_id, id FROM tasks ORDER BY tenant_id, id FETCH FIRST 4 ROWS ONLY

SELECT tenant_id, id FROM tasks ORDER BY tenant_id, id OFFSET 2 ROWS FETCH NEXT ROW ONLY

SELECT priority FROM tasks ORDER BY priority FETCH FIRST 2 ROWS WITH TIES

SELECT count(*) FROM (SELECT 1 FROM tasks LIMIT 7) s

SELECT id FROM tenants ORDER BY id DESC LIMIT 2.4

-- fails
SELECT id FROM tenants ORDER BY id LIMIT -1

-- fails
SELECT id FROM tenants ORDER BY id OFFSET -1

-- aggregates of all sorts

SELECT count(*) FROM tasks

SELECT count(*), count(priority), count(DISTINCT priority) FROM tasks

SELECT sum(priority), sum(id), sum(weight), sum(effort) FROM tasks

SELECT avg(priority), avg(id), avg(weight) FROM tasks

SELECT min(effort), max(effort), avg(effort) FROM tasks

SELECT sum(amount), avg(amount), min(amount), max(amount), count(amount) FROM invoices

SELECT sum(score), avg(score), min(score), max(score) FROM members

SELECT sum(DISTINCT level), avg(DISTINCT level) FROM members

SELECT bool_and(done), bool_or(done), every(done) FROM tasks

SELECT bit_and(priority), bit_or(priority), bit_xor(priority) FROM tasks

SELECT min(due), max(due), min(at), max(at) FROM tasks

SELECT min(joined), max(seen) FROM members

SELECT min(doc::text), max(kind) FROM invoices

SELECT min(host), max(host) FROM events

SELECT min(plan), max(plan) FROM tenants

SELECT max(nums), min(tags) FROM events, projects WHERE events.tenant_id = projects.tenant_id

SELECT stddev(priority), variance(priority), stddev_pop(level) FROM tasks JOIN members m USING (tenant_id)

SELECT count(*) FILTER (WHERE done), sum(priority) FILTER (WHERE NOT done) FROM tasks

SELECT sum(priority) FROM tasks WHERE false

SELECT count(*), sum(amount), max(issued) FROM invoices WHERE tenant_id > 1000

SELECT array_agg(id ORDER BY id) FROM tenants

SELECT string_agg(name, ', ' ORDER BY name, id) FROM tenants

SELECT string_agg(DISTINCT name, ', ' ORDER BY name) FROM members

SELECT json_agg(name ORDER BY id), jsonb_object_agg(id, name) FROM tenants

SELECT json_object_agg(id, plan ORDER BY id DESC) FROM tenants

SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY level), percentile_disc(0.25) WITHIN GROUP (ORDER BY name) FROM members

SELECT mode() WITHIN GROUP (ORDER BY plan) FROM tenants WHERE plan IN ('small')

SELECT rank(2) WITHIN GROUP (ORDER BY level) FROM members

SELECT count(DISTINCT rate) FROM invoices

SELECT count(DISTINCT (tenant_id, done)) FROM tasks

SELECT regr_count(level, boss) FROM members

SELECT count(m) FROM members m

-- expressions over aggregates

SELECT sum(amount) / count(*) FROM invoices

SELECT coalesce(sum(amount), 0) FROM invoices WHERE amount > 1000

SELECT 100 * count(*) FILTER (WHERE done) / count(*) AS percent FROM tasks

SELECT round(avg(amount), 2), sum(amount)::int FROM invoices

SELECT max(id) - min(id) + 1 FROM tasks

SELECT tenant_id, sum(priority) * 2, count(*) || ' tasks' FROM tasks GROUP BY tenant_id ORDER BY tenant_id

SELECT CASE WHEN count(*) > 10 THEN 'many' ELSE 'few' END FROM tasks

SELECT (SELECT count(*) FROM tasks) + (SELECT count(*) FROM members)

SELECT EXISTS (SELECT 1 FROM tasks WHERE done)

-- groups, also by what is not selected, by expressions, with HAVING

SELECT tenant_id, count(*) FROM tasks GROUP BY tenant_id

SELECT tenant_id, done, count(*) FROM tasks GROUP BY tenant_id, done ORDER BY tenant_id, done

SELECT done, count(*) FROM tasks GROUP BY done ORDER BY done

SELECT count(*) FROM tasks GROUP BY done

SELECT count(*) FROM tasks GROUP BY priority % 2

SELECT priority % 2 AS odd, count(*), sum(id) FROM tasks GROUP BY odd ORDER BY odd

SELECT name, count(*) FROM members GROUP BY name ORDER BY count(*) DESC, name

SELECT name, count(*) FROM members GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 3

SELECT country, sum(budget) FROM tenants GROUP BY country ORDER BY sum(budget) DESC NULLS LAST, country

SELECT date_trunc('month', due) AS month, count(*) FROM tasks GROUP BY month ORDER BY month

SELECT done, count(*) FROM tasks GROUP BY done HAVING count(*) > 20 ORDER BY done

SELECT name, count(*) FROM members GROUP BY name HAVING count(*) > 2 ORDER BY name

SELECT name FROM members GROUP BY name HAVING min(level) = 0 ORDER BY name

SELECT tenant_id FROM tasks GROUP BY tenant_id HAVING count(*) >= 7 ORDER BY tenant_id

SELECT count(*) FROM tasks HAVING count(*) > 1000

SELECT 1 FROM tasks HAVING max(id) > 3

SELECT tenant_id, id, title, count(*) FROM tasks GROUP BY tenant_id, id ORDER BY 1, 2

SELECT t.id, t.name, count(k.id) FROM tenants t LEFT JOIN tasks k ON k.tenant_id = t.id GROUP BY t.id ORDER BY t.id

SELECT rate, count(*) > 0 AS some FROM invoices WHERE rate = 1 GROUP BY GROUPING SETS ((rate), ()) HAVING rate IS NULL

SELECT plan, country, count(*) FROM tenants GROUP BY ROLLUP (plan, country) ORDER BY 1, 2, 3

SELECT plan, country, count(*), grouping(plan, country) FROM tenants GROUP BY CUBE (plan, country) ORDER BY 1, 2, 4, 3

SELECT done, priority, count(*) FROM tasks GROUP BY GROUPING SETS ((done), (priority)) ORDER BY 1, 2, 3

SELECT kind, avg(amount), count(DISTINCT issued) FROM invoices GROUP BY kind ORDER BY kind

SELECT level, string_agg(name, '|' ORDER BY name, tenant_id, id) FROM members GROUP BY level ORDER BY level

SELECT level, avg(score), max(joined) FROM members WHERE score < 'Infinity' GROUP BY level ORDER BY level NULLS FIRST

SELECT id % 2 = 0, count(*) FROM tenants GROUP BY id % 2 = 0 ORDER BY 1

-- DISTINCT

SELECT DISTINCT priority FROM tasks

SELECT DISTINCT priority FROM tasks ORDER BY priority

SELECT DISTINCT tenant_id FROM tasks ORDER BY tenant_id

SELECT DISTINCT tenant_id, priority FROM tasks ORDER BY 1, 2

SELECT DISTINCT name FROM members ORDER BY name DESC

SELECT DISTINCT upper(name) FROM members ORDER BY 1

SELECT count(*) FROM (SELECT DISTINCT rate FROM invoices) s

SELECT DISTINCT kind, rate = 1 AS one FROM invoices ORDER BY kind, one

SELECT DISTINCT ON (project) project, due, tenant_id, id FROM tasks ORDER BY project, due DESC NULLS LAST, tenant_id, id

SELECT DISTINCT ON (tenant_id) tenant_id, id, title FROM tasks ORDER BY tenant_id, due, id

SELECT DISTINCT ON (1) level, name FROM members ORDER BY 1, name

SELECT DISTINCT count(*) FROM tasks GROUP BY tenant_id ORDER BY 1

SELECT DISTINCT country FROM tenants LIMIT 0

SELECT DISTINCT nums FROM events ORDER BY nums

SELECT DISTINCT payload FROM events ORDER BY payload

SELECT DISTINCT score FROM members ORDER BY score

-- window functions

SELECT tenant_id, id, row_number() OVER (ORDER BY tenant_id, id) FROM tasks ORDER BY 1, 2

SELECT tenant_id, id, row_number() OVER (PARTITION BY tenant_id ORDER BY id) FROM tasks ORDER BY 1, 2

SELECT tenant_id, id, rank() OVER (ORDER BY priority DESC NULLS LAST) FROM tasks ORDER BY 1, 2

SELECT name, dense_rank() OVER (ORDER BY name) FROM members ORDER BY 1, 2

SELECT tenant_id, id, sum(priority) OVER (ORDER BY tenant_id, id) FROM tasks ORDER BY 1, 2

SELECT tenant_id, id, count(*) OVER () FROM tasks ORDER BY 1, 2 LIMIT 3

SELECT tenant_id, id, lag(title) OVER w, lead(due, 2) OVER w FROM tasks WINDOW w AS (PARTITION BY done ORDER BY tenant_id, id) ORDER BY 1, 2

SELECT tenant_id, sum(count(*)) OVER (ORDER BY tenant_id) FROM tasks GROUP BY tenant_id ORDER BY 1

SELECT * FROM (SELECT tenant_id, id, row_number() OVER (PARTITION BY tenant_id ORDER BY due DESC NULLS LAST, id) AS n FROM tasks) s WHERE n <= 2 ORDER BY 1, 3

SELECT name, ntile(4) OVER (ORDER BY name, tenant_id, id), first_value(name) OVER (PARTITION BY level ORDER BY tenant_id, id) FROM members ORDER BY tenant_id, id

SELECT amount, sum(amount) OVER (ORDER BY tenant_id, id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM invoices ORDER BY tenant_id, id

-- UNION, INTERSECT, EXCEPT

SELECT tenant_id FROM tasks UNION SELECT tenant_id FROM events ORDER BY 1

SELECT tenant_id FROM tasks UNION ALL SELECT tenant_id FROM events ORDER BY 1

SELECT tenant_id, id FROM tasks INTERSECT SELECT tenant_id, id FROM events ORDER BY 1, 2

SELECT tenant_id, id FROM tasks EXCEPT SELECT tenant_id, id FROM events ORDER BY 1, 2

SELECT name FROM members INTERSECT SELECT title FROM tasks ORDER BY 1

SELECT name FROM members EXCEPT ALL SELECT title FROM tasks ORDER BY 1

SELECT id FROM tenants EXCEPT SELECT tenant_id FROM invoices ORDER BY 1

SELECT 1 AS n UNION ALL SELECT count(*) FROM tasks ORDER BY 1

SELECT name FROM countries UNION SELECT name FROM tenants ORDER BY 1

SELECT country FROM tenants EXCEPT SELECT code FROM countries ORDER BY 1

(SELECT id FROM tenants ORDER BY id LIMIT 2) UNION ALL (SELECT id FROM tenants ORDER BY id DESC LIMIT 2) ORDER BY 1

SELECT tenant_id FROM tasks WHERE tenant_id = 1 UNION SELECT tenant_id FROM tasks WHERE tenant_id = 2 ORDER BY 1

SELECT DISTINCT tenant_id FROM tasks UNION ALL SELECT 0 ORDER BY 1

SELECT id FROM notes UNION ALL SELECT id FROM tenants ORDER BY 1

VALUES (1), (2) UNION SELECT id FROM tenants ORDER BY 1

-- colocated joins, semi and anti joins

SELECT t.name, m.name FROM tenants t JOIN members m ON m.tenant_id = t.id ORDER BY t.id, m.id

SELECT t.name, m.name FROM tenants t LEFT JOIN members m ON m.tenant_id = t.id ORDER BY t.id, m.id

SELECT t.name, m.name FROM members m RIGHT JOIN tenants t ON m.tenant_id = t.id AND m.level > 2 ORDER BY t.id, m.id

SELECT m.id, k.id, coalesce(m.tenant_id, k.tenant_id) FROM members m FULL JOIN tasks k ON k.tenant_id = m.tenant_id AND k.id = m.id ORDER BY 3, 2, 1

SELECT count(*) FROM tenants t JOIN members m ON m.tenant_id = t.id JOIN tasks k ON k.tenant_id = m.tenant_id AND k.member = m.id

SELECT t.name FROM tenants t WHERE EXISTS (SELECT 1 FROM invoices i WHERE i.tenant_id = t.id) ORDER BY t.id

SELECT t.name FROM tenants t WHERE NOT EXISTS (SELECT 1 FROM invoices i WHERE i.tenant_id = t.id) ORDER BY t.id

SELECT t.name FROM tenants t WHERE t.id IN (SELECT tenant_id FROM invoices) ORDER BY t.id

SELECT t.name FROM tenants t WHERE t.id NOT IN (SELECT tenant_id FROM invoices) ORDER BY t.id

SELECT t.name, (SELECT count(*) FROM tasks k WHERE k.tenant_id = t.id) FROM tenants t ORDER BY t.id

SELECT t.name, s.n FROM tenants t JOIN (SELECT tenant_id, count(*) AS n FROM tasks GROUP BY 1) s ON s.tenant_id = t.id ORDER BY t.id

SELECT t.id, l.title FROM tenants t CROSS JOIN LATERAL (SELECT title, id FROM tasks k WHERE k.tenant_id = t.id ORDER BY k.due, k.id LIMIT 1) l ORDER BY t.id

-- joins that are not colocated

SELECT a.id, b.id FROM tenants a JOIN tenants b ON b.id = a.id + 1 ORDER BY 1, 2

SELECT a.name, count(*) FROM members a JOIN members b ON a.name = b.name GROUP BY a.name ORDER BY a.name

SELECT count(*) FROM tasks a JOIN events b ON a.id = b.id

SELECT d.label, t.name FROM devices d JOIN tenants t ON t.id = d.tenant_id ORDER BY d.id

SELECT t.id, count(d.id) FROM tenants t LEFT JOIN devices d ON d.tenant_id = t.id GROUP BY t.id ORDER BY t.id

SELECT d.id FROM devices d WHERE NOT EXISTS (SELECT 1 FROM tenants t WHERE t.id = d.tenant_id) ORDER BY d.id

SELECT n.body, t.name FROM notes n LEFT JOIN tenants t ON t.id = n.tenant_id ORDER BY n.id

SELECT t.id, n.id FROM tenants t JOIN notes n ON n.tenant_id = t.id ORDER BY 1, 2

SELECT count(*) FROM tenants, devices

SELECT m.name FROM members m WHERE m.level = (SELECT max(level) FROM members) ORDER BY m.tenant_id, m.id

SELECT m.tenant_id, m.id FROM members m WHERE m.score > (SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY score) FROM members) ORDER BY 1, 2

SELECT name FROM tenants WHERE budget > ALL (SELECT amount FROM invoices WHERE amount IS NOT NULL) ORDER BY id

SELECT name FROM members WHERE name IN (SELECT title FROM tasks) ORDER BY tenant_id, id

SELECT name FROM members WHERE name NOT IN (SELECT label FROM devices) ORDER BY tenant_id, id

-- reference tables on each side

SELECT t.id, c.name FROM tenants t JOIN countries c ON c.code = t.country ORDER BY t.id

SELECT t.id, c.name FROM tenants t LEFT JOIN countries c ON c.code = t.country ORDER BY t.id

SELECT c.code, t.id FROM countries c LEFT JOIN tenants t ON c.code = t.country ORDER BY 1, 2

SELECT c.code, t.id FROM tenants t RIGHT JOIN countries c ON c.code = t.country ORDER BY 1, 2

SELECT c.code, t.id FROM tenants t FULL JOIN countries c ON c.code = t.country ORDER BY 1, 2

SELECT c.code FROM countries c WHERE NOT EXISTS (SELECT 1 FROM tenants t WHERE t.country = c.code) ORDER BY 1

SELECT c.code FROM countries c WHERE EXISTS (SELECT 1 FROM tenants t WHERE t.country = c.code) ORDER BY 1

SELECT c.code, (SELECT count(*) FROM tenants t WHERE t.country = c.code) FROM countries c ORDER BY 1

SELECT c.continent, count(*) FROM tenants t JOIN countries c ON c.code = t.country GROUP BY c.continent ORDER BY 1

SELECT count(*) FROM countries

SELECT c.code, n.body FROM countries c, notes n WHERE n.id = 1 ORDER BY 1

-- common table expressions and views over tenants

WITH x AS (SELECT tenant_id, count(*) AS n FROM tasks GROUP BY tenant_id) SELECT max(n), min(n) FROM x

WITH x AS (SELECT * FROM tasks WHERE done) SELECT count(*) FROM x

WITH x AS (SELECT avg(level) AS a FROM members) SELECT m.tenant_id, m.id FROM members m, x WHERE m.level > x.a ORDER BY 1, 2

WITH a AS (SELECT id FROM tenants), b AS (SELECT tenant_id FROM invoices) SELECT count(*) FROM a WHERE id NOT IN (SELECT tenant_id FROM b)

WITH RECURSIVE n(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n WHERE k < 16) SELECT k, t.name FROM n LEFT JOIN tenants t ON t.id = k ORDER BY k

WITH RECURSIVE chain(tenant_id, id, depth) AS (SELECT tenant_id, id, 0 FROM members WHERE boss IS NULL UNION SELECT m.tenant_id, m.id, c.depth + 1 FROM members m JOIN chain c ON c.tenant_id = m.tenant_id AND c.id = m.boss WHERE c.depth < 4) SELECT depth, count(*) FROM chain GROUP BY depth ORDER BY depth

SELECT * FROM open_tasks ORDER BY tenant_id, id

SELECT * FROM task_totals ORDER BY tenant_id

SELECT * FROM people ORDER BY tenant_id, id

SELECT sum(n), max(latest) FROM task_totals

SELECT p.level, count(*) FROM people p GROUP BY p.level ORDER BY 1

SELECT * FROM (SELECT * FROM open_tasks ORDER BY tenant_id, id LIMIT 3) s

SELECT x.n FROM task_totals x WHERE x.n = (SELECT max(n) FROM task_totals) ORDER BY x.tenant_id

-- mistakes, worded by Postgres

-- fails
SELECT nothing FROM tasks

-- fails
SELECT * FROM tasks WHERE title = 5 + date '2024-01-01'

-- fails
SELECT title, count(*) FROM tasks

-- fails
SELECT 1 / (id - id) FROM tenants

-- fails
SELECT id FROM tasks a JOIN events b ON true

-- fails
SELECT count(*) FROM tasks WHERE count(*) > 1

-- fails
SELECT DISTINCT title FROM tasks ORDER BY id

-- fails
SELECT id FROM tenants UNION SELECT name FROM tenants

-- fails
SELECT (SELECT id FROM tenants)

-- fails
SELECT title::int FROM tasks WHERE title = 'Zoo'

-- values at the edges of their types

SELECT score / 3 AS third, tenant_id, id FROM members ORDER BY third, 2, 3

SELECT score / 3 AS third, tenant_id, id FROM members ORDER BY score / 3 DESC NULLS LAST, 2, 3 LIMIT 20

SELECT count(DISTINCT score / 3), max(score / 7), min(score / 7) FROM members

SELECT DISTINCT score / 7 AS part FROM members ORDER BY part

SELECT (weight / 3)::real AS third, count(*) FROM tasks GROUP BY third ORDER BY third

SELECT CASE id WHEN 1 THEN 'infinity'::date WHEN 2 THEN '-infinity' WHEN 3 THEN '0044-03-15 BC' WHEN 4 THEN '12024-01-01' ELSE due END AS day, tenant_id, id FROM tasks ORDER BY day, 2, 3

SELECT min(CASE id WHEN 3 THEN '0044-03-15 BC' ELSE due END), max(CASE id WHEN 4 THEN '12024-01-01' ELSE due END) FROM tasks

SELECT CASE id WHEN 1 THEN 'infinity'::timestamptz WHEN 2 THEN '0044-03-15 12:00 BC+00' WHEN 3 THEN '20024-01-01 00:00+00' ELSE joined END AS at, tenant_id, id FROM members ORDER BY at DESC NULLS LAST, 2, 3

SELECT date_trunc('month', joined) AS month, count(*), min(joined), max(seen) FROM members GROUP BY month ORDER BY month

SELECT joined AT TIME ZONE 'America/New_York' AS local, tenant_id, id FROM members ORDER BY local, 2, 3

SELECT CASE id WHEN 1 THEN 'NaN'::numeric WHEN 2 THEN 'Infinity' WHEN 3 THEN '-Infinity' ELSE amount END AS a, tenant_id, id FROM invoices ORDER BY a DESC, 2, 3

SELECT sum(CASE id WHEN 1 THEN 'Infinity'::numeric ELSE amount END), max(CASE id WHEN 1 THEN 'NaN'::numeric ELSE amount END) FROM invoices

SELECT sum(CASE id WHEN 1 THEN 'Infinity'::numeric WHEN 2 THEN '-Infinity' ELSE amount END) FROM invoices

SELECT sum(amount * 1e-20), sum(amount * 1e30), avg(amount * 1e-20), sum(1e-200::numeric) FROM invoices

SELECT sum(9223372036854775807::bigint), avg(9223372036854775807::bigint), sum(2147483647), avg(2147483647) FROM tasks

SELECT sum(-9223372036854775808), min(-9223372036854775808), max(0.000) FROM tasks

SELECT avg(id), avg(id::numeric), avg(priority / 3.0), sum(priority / 3.0) FROM tasks

SELECT tenant_id % 2 AS half, avg(priority), sum(priority)::numeric / nullif(count(priority), 0) FROM tasks GROUP BY half ORDER BY half

SELECT sum(effort), avg(effort), max(effort * 1000), min(-effort) FROM tasks

SELECT effort * 100 AS long, tenant_id, id FROM tasks ORDER BY long, 2, 3

SELECT at::timetz AS z, tenant_id, id FROM tasks ORDER BY z, 2, 3

SELECT CASE id WHEN 1 THEN time '24:00' ELSE at END AS t, tenant_id, id FROM tasks ORDER BY t DESC, 2, 3

SELECT max(doc), count(DISTINCT doc) FROM (SELECT doc::text AS doc FROM invoices) s

SELECT '' || name AS n, tenant_id, id FROM members ORDER BY ('' || name) COLLATE "C", 2, 3

SELECT name AS n, count(*) FROM members GROUP BY name COLLATE "C", name ORDER BY name COLLATE "C"

SELECT title::char(3) AS t, tenant_id, id FROM tasks ORDER BY t, 2, 3

SELECT 'x' AS x, NULL AS n, count(*) FROM tasks GROUP BY 1, 2

SELECT x.id % 2 AS b, sum(x.id), count(*) FILTER (WHERE x.done), bool_or(x.done) FROM tasks x GROUP BY b ORDER BY sum(x.id) DESC, b

SELECT sum(priority) AS s, tenant_id FROM tasks GROUP BY tenant_id ORDER BY s DESC NULLS LAST, tenant_id LIMIT 4 OFFSET 1

SELECT bit_and(priority), bit_or(id), every(done OR priority > 0) FROM tasks

-- fails
SELECT sum(CASE WHEN tenant_id > 0 THEN 9223372036854775807 END)::bigint FROM tasks

-- fails
SELECT sum(id)::smallint * 32767::smallint FROM tasks

-- fails
SELECT DISTINCT title FROM tasks ORDER BY lower(title)

-- fails
SELECT DISTINCT ON (title) title, id FROM tasks ORDER BY id

-- whole rows, and columns that the text does not name

SELECT count(*) FROM members NATURAL JOIN tasks

SELECT max(title) FROM (TABLE tasks) x

SELECT count(*) FROM (SELECT * FROM tasks) x WHERE x IS NOT NULL

SELECT max(title(t)) FROM tasks t

SELECT max(t.title) FROM tasks t, members m WHERE t.title = name(m)

SELECT max(U&"t\0069tle") FROM tasks

SELECT max("title") FROM tasks

SELECT max(TITLE) FROM tasks

SELECT count(DISTINCT t) FROM (SELECT k.* FROM tasks k) t

SELECT max((t).title) FROM (SELECT tasks AS t FROM tasks) s

SELECT max((tasks).title) FROM tasks

SELECT max((ROW(t.*)::tasks).title) FROM tasks t

SELECT count(*) FROM tasks GROUP BY tasks ORDER BY 1

SELECT count(*) FROM tasks t JOIN tasks u ON t = u

SELECT count(*) FROM tasks t WHERE NOT (t IS NULL)

SELECT count(*) FROM members m, LATERAL (SELECT m.*) x WHERE x.name IS NOT NULL

SELECT row_to_json(x) FROM (SELECT tenant_id, max(title) AS m FROM tasks GROUP BY 1) x ORDER BY tenant_id

SELECT json_agg(t ORDER BY id) FROM tenants t

SELECT json_agg(tenants ORDER BY id) FROM tenants

SELECT json_agg(tenants.* ORDER BY id) FROM public.tenants

SELECT count(*) FROM (TABLE open_tasks) x

SELECT max(title) FROM (SELECT * FROM open_tasks) x

SELECT max(x) FROM (SELECT open_tasks::text AS x FROM open_tasks) y

SELECT * FROM people NATURAL JOIN task_totals ORDER BY tenant_id, id

SELECT count(*) FROM (SELECT DISTINCT * FROM tasks) x

SELECT * FROM tasks UNION SELECT * FROM tasks ORDER BY tenant_id, id

SELECT * FROM tasks t JOIN tenants n ON n.name = t.title ORDER BY t.tenant_id, t.id, n.id

SELECT t.* FROM tasks t JOIN tenants n ON n.name = t.title ORDER BY t.tenant_id, t.id, n.id

WITH x AS (TABLE members) SELECT * FROM x ORDER BY name, tenant_id, id

WITH x AS (TABLE members) TABLE x ORDER BY name, tenant_id, id

SELECT * FROM (VALUES (1)) v, LATERAL (TABLE countries) c ORDER BY 2

SELECT count(*) FROM tenants t WHERE EXISTS (TABLE tasks)

SELECT name FROM members WHERE (tenant_id, id) IN (SELECT tenant_id, id FROM (TABLE members) m WHERE level = 1) ORDER BY tenant_id, id

-- names, ordinals and literals that mean something else than they seem to

SELECT count(DISTINCT tableoid) FROM tasks

SELECT count(*) FROM tasks WHERE ctid IS NOT NULL

SELECT max(xmin::text) IS NOT NULL FROM tasks

SELECT count(*), current_schema() FROM tasks

SELECT count(*), current_user, session_user FROM tasks

SELECT count(*), current_setting('search_path') FROM tasks

SELECT row_to_json(t) FROM tenants t ORDER BY t.id

SELECT to_jsonb(t) - 'settings' FROM tenants t ORDER BY id LIMIT 3

SELECT t::text FROM tenants t ORDER BY t.id OFFSET 1

SELECT count(t.*), max(t::text) FROM tenants t

SELECT max(plan), min(plan), count(DISTINCT plan) FROM tenants

SELECT has_table_privilege('tasks', 'SELECT'), count(*) FROM tasks

SELECT count(*), pg_is_in_recovery() FROM tasks

SELECT count(*) FILTER (WHERE email LIKE '%@x.org') FROM members

SELECT max(email), min(email) FROM members

SELECT email, count(*) FROM members GROUP BY email ORDER BY email

SELECT DISTINCT plan, email FROM tenants t JOIN members m ON m.tenant_id = t.id ORDER BY plan, email

SELECT count(*) FROM ONLY tasks

SELECT id FROM tenants ORDER BY id FOR UPDATE

SELECT count(*) FROM tasks AS tasks (a, b)

SELECT a, count(*) FROM tasks AS k (a, b) GROUP BY a ORDER BY a

SELECT count(*) FROM (tasks t CROSS JOIN countries c) AS j

TABLE tenants ORDER BY id

(TABLE tenants) UNION (TABLE tenants) ORDER BY id

SELECT tenants.name FROM tenants ORDER BY tenants

SELECT tenants.id, count FROM tenants, LATERAL (SELECT count(*) FROM tasks WHERE tenant_id = tenants.id) c ORDER BY 1

SELECT max(id) AS max, min AS m FROM tasks, (SELECT min(id) FROM tasks) x GROUP BY 2

SELECT count(*) AS "select", sum(id) AS "Sum" FROM tasks

SELECT count(*) c, 1 one FROM tasks

SELECT sum(id) FROM tasks;

SELECT /* a ; comment */ count(*) FROM tasks

SELECT sum(priority) OVER () FROM tasks ORDER BY tenant_id, id LIMIT 1

SELECT corr(level, boss), covar_pop(level, boss), regr_slope(level, boss) FROM members WHERE false

SELECT string_agg(DISTINCT code, ',' ORDER BY code) FROM projects

SELECT xmlagg(xmlelement(name a, id) ORDER BY id) FROM tenants

SELECT cume_dist() OVER (ORDER BY id), percent_rank() OVER (ORDER BY id), nth_value(id, 2) OVER (ORDER BY id) FROM tenants ORDER BY id

SELECT count(*), NULL AS n, 'a' AS u, 1.0 AS d FROM tasks

SELECT max(NULL), min('a'), count(NULL) FROM tasks

SELECT sum(1), sum(1.5), sum('1'::int), avg(NULL::int) FROM tasks

SELECT min(-2147483648), max(-2147483648), sum(-2147483648) FROM tasks

SELECT max(- 5), min(-2147483647), max(+3), sum(-(2147483648)) FROM tasks

SELECT -2147483648 AS n, count(*) FROM tasks GROUP BY n

SELECT DISTINCT -2147483648 AS n FROM tasks ORDER BY n

SELECT -9223372036854775808 AS n, tenant_id, id FROM tasks ORDER BY n, 2, 3 LIMIT 2

SELECT count(*) FROM tasks GROUP BY () ORDER BY 1

SELECT FROM tasks

SELECT FROM tasks LIMIT 3

SELECT count(*) FROM (SELECT FROM tasks) s

SELECT id, id FROM tenants ORDER BY 2 DESC LIMIT 2

SELECT id AS a, id AS a FROM tenants ORDER BY 1 LIMIT 2

SELECT name AS id, id AS name FROM tenants ORDER BY id, name LIMIT 5

SELECT id + 0 AS id FROM tenants ORDER BY id LIMIT 5

SELECT -id AS id FROM tenants ORDER BY id LIMIT 5

SELECT -id AS id FROM tenants ORDER BY tenants.id LIMIT 5

SELECT -id AS id FROM tenants ORDER BY id + 1 LIMIT 5

SELECT -id AS id, count(*) FROM tenants GROUP BY id ORDER BY id LIMIT 5

SELECT id % 2 AS id, count(*) FROM tenants GROUP BY id ORDER BY 1, 2

-- ties
SELECT priority AS p, count(*) AS priority FROM tasks GROUP BY priority ORDER BY priority

SELECT priority AS p, count(*) AS priority FROM tasks GROUP BY priority ORDER BY tasks.priority

SELECT sum(id) AS id FROM tasks GROUP BY priority ORDER BY id

SELECT sum(id) AS s FROM tasks GROUP BY priority HAVING sum(id) > 20 ORDER BY s LIMIT 2

SELECT * FROM (SELECT priority, sum(id) AS s FROM tasks GROUP BY priority) x ORDER BY s, priority

SELECT 1 AS a FROM tasks GROUP BY a

SELECT count(*) FROM tasks ORDER BY count(*)

SELECT count(*) FROM tasks LIMIT 0

SELECT count(*) FROM tasks OFFSET 1

SELECT sum(id) FROM tasks LIMIT 1 OFFSET 0

SELECT DISTINCT count(*), sum(id) FROM tasks

SELECT DISTINCT tenant_id % 2, count(*) FROM tasks GROUP BY tenant_id ORDER BY 1, 2

SELECT score FROM members ORDER BY score USING >

SELECT score FROM members ORDER BY score USING < LIMIT 4

SELECT amount FROM invoices ORDER BY amount NULLS FIRST LIMIT 3 OFFSET 1

SELECT host, count(*) FROM events GROUP BY host ORDER BY host

SELECT at::date, count(*) FROM events GROUP BY at::date ORDER BY at::date

SELECT extract(dow FROM due) AS d, count(*) FROM tasks GROUP BY d ORDER BY d NULLS FIRST

SELECT tenant_id, max(due) - min(due) AS days, age(max(due), min(due)) FROM tasks GROUP BY tenant_id ORDER BY days DESC NULLS LAST, tenant_id

-- conditions that are asked where the rows are: each form, in gathered statements

SELECT max(name) FROM members WHERE name LIKE '%o%'

SELECT max(name), count(*) + 0 FROM members WHERE name NOT LIKE 'a%' AND name <> 'Zoo'

SELECT max(name), count(*) + 0 FROM members WHERE NOT (name LIKE '%o%' OR level IN (1, 2))

SELECT max(title), count(*) + 0 FROM tasks WHERE title LIKE 'a\_%' OR title LIKE '%\%'

SELECT max(title), count(*) + 0 FROM tasks WHERE title LIKE 'a!_%' ESCAPE '!'

SELECT max(kind), count(*) + 0 FROM invoices WHERE kind LIKE 'bill%'

SELECT max(kind), count(*) + 0 FROM invoices WHERE kind IN ('bill', 'none') AND kind <> 'note'

SELECT max(name), count(*) + 0 FROM members WHERE level IS NULL

SELECT max(name), count(*) + 0 FROM members WHERE level IS NOT NULL AND boss IS NULL

SELECT max(name), count(*) + 0 FROM members WHERE level = 2 OR boss = 1 OR name = 'Zoo'

SELECT max(name), count(*) + 0 FROM members WHERE level NOT IN (1, 2)

SELECT max(name), count(*) + 0 FROM members WHERE level NOT IN (1, NULL)

SELECT max(name), count(*) + 0 FROM members WHERE (level IN (1, NULL)) IS NOT TRUE

SELECT max(name), count(*) + 0 FROM members WHERE (level = 1) IS NOT FALSE

SELECT max(name), count(*) + 0 FROM members WHERE NOT (level = 1 AND boss = 2)

SELECT max(name), count(*) + 0 FROM members WHERE level = boss OR level > boss + 1

SELECT max(name), count(*) + 0 FROM members WHERE level <> boss AND score > 1.5

SELECT max(name), count(*) + 0 FROM members WHERE level > 1.5 AND level < 99999999999 AND score <> -1

SELECT max(name), count(*) + 0 FROM members WHERE coalesce(level, 0) = 0

SELECT max(name), count(*) + 0 FROM members WHERE coalesce(name, 'none') = 'none' OR coalesce(level, 7) > 6

SELECT max(name), count(*) + 0 FROM members WHERE substring(name FROM 1 FOR 1) IN ('a', 'Z', 'ä')

SELECT max(name), count(*) + 0 FROM members WHERE substring(name FROM 2) = 'oo'

SELECT max(title), count(*) + 0 FROM tasks WHERE done

SELECT max(title), count(*) + 0 FROM tasks WHERE NOT done OR done IS NULL

SELECT max(title), count(*) + 0 FROM tasks WHERE done IS NOT TRUE AND done = false

SELECT max(title), count(*) + 0 FROM tasks WHERE coalesce(done, true)

SELECT max(title), count(*) + 0 FROM tasks WHERE due >= date '2024-01-01' AND due < date '2024-01-01' + interval '3' month

SELECT max(title), count(*) + 0 FROM tasks WHERE due BETWEEN date '2024-03-31' - interval '1 month' AND '2024-06-30'

SELECT max(title), count(*) + 0 FROM tasks WHERE due NOT BETWEEN '2024-02-01' AND '2024-06-30'

SELECT max(title), count(*) + 0 FROM tasks WHERE extract(month FROM due) = 2 OR extract(year FROM due) > 2024

SELECT max(title), count(*) + 0 FROM tasks WHERE weight > 0.5 AND priority BETWEEN 1 + 0 AND 2 + 1

SELECT max(title), count(*) + 0 FROM tasks WHERE priority = 3 - 1 OR priority = -1

SELECT max(kind), sum(amount) + 0 FROM invoices WHERE amount BETWEEN .06 - 0.01 AND 100.5 OR rate = 1

SELECT max(kind), sum(amount) + 0 FROM invoices WHERE rate < amount AND issued > '2023-12-31'

SELECT max(kind), count(*) + 0 FROM events WHERE host IS NOT NULL AND nums IS NOT NULL AND payload IS NOT NULL

SELECT max(label), count(*) + 0 FROM devices WHERE id > '80000000-0000-0000-0000-000000000000' OR slot IS NULL

SELECT max(name), count(*) + 0 FROM tenants WHERE active AND country <> 'pe' AND plan = 'small'

SELECT max(m.name), count(*) + 0 FROM members m, tasks k WHERE m.level = 2 AND k.done AND m.id = k.id

SELECT max(m.name), count(*) + 0 FROM members m JOIN tasks k ON k.member = m.id AND k.tenant_id = m.tenant_id WHERE (m.level = 1 AND k.done) OR (m.level = 2 AND NOT k.done AND m.boss IS NOT NULL)

-- outer joins: what is said of rows that the join has made up says nothing of the tables' own

SELECT max(t.name), count(*) + 0 FROM tenants t LEFT JOIN tasks k ON k.tenant_id = t.id WHERE k.id IS NULL

SELECT max(t.name), count(*) + 0 FROM tenants t LEFT JOIN tasks k ON k.tenant_id = t.id AND k.done WHERE k.id IS NULL

SELECT max(t.name), count(*) + 0 FROM tenants t LEFT JOIN tasks k ON k.tenant_id = t.id WHERE k.done IS NOT TRUE

SELECT max(t.name), count(*) + 0 FROM tenants t LEFT JOIN tasks k ON k.tenant_id = t.id WHERE coalesce(k.priority, 0) = 0

SELECT max(t.name), count(*) + 0 FROM tenants t LEFT JOIN tasks k ON k.tenant_id = t.id WHERE k.priority = 2 OR k.priority IS NULL

SELECT max(t.name), count(*) + 0 FROM tenants t LEFT JOIN tasks k ON k.tenant_id = t.id WHERE NOT (k.title LIKE '%o%')

SELECT max(t.name), count(*) + 0 FROM tenants t LEFT JOIN tasks k ON k.tenant_id = t.id AND t.active WHERE t.country IS NOT NULL

SELECT max(t.name), count(*) + 0 FROM tenants t LEFT JOIN tasks k ON k.tenant_id = t.id AND k.due IS NULL

SELECT max(t.name), count(*) + 0 FROM tasks k RIGHT JOIN tenants t ON k.tenant_id = t.id AND k.due IS NOT NULL WHERE k.title IS NULL

SELECT max(t.name), count(*) + 0 FROM tenants t FULL JOIN tasks k ON k.tenant_id = t.id AND k.done WHERE t.active IS NULL OR k.done IS NULL

SELECT max(t.name), count(*) + 0 FROM tenants t LEFT JOIN (members m LEFT JOIN tasks k ON k.tenant_id = m.tenant_id AND k.member = m.id) ON m.tenant_id = t.id AND k.id IS NULL

SELECT max(t.name), count(*) + 0 FROM tenants t LEFT JOIN members m ON m.tenant_id = t.id LEFT JOIN tasks k ON k.tenant_id = m.tenant_id AND m.level > 1 WHERE m.level IS NOT NULL

-- rows whose partners on the same shard are not wanted are not brought

SELECT max(k.title), count(*) + 0 FROM tenants t JOIN tasks k ON k.tenant_id = t.id WHERE t.active

SELECT max(k.title), count(*) + 0 FROM tenants t LEFT JOIN tasks k ON k.tenant_id = t.id WHERE t.plan = 'small' AND t.active IS NOT TRUE

SELECT max(k.title), count(*) + 0 FROM tenants t RIGHT JOIN tasks k ON k.tenant_id = t.id AND t.active

SELECT max(k.title), count(*) + 0 FROM tenants t FULL JOIN tasks k ON k.tenant_id = t.id AND t.active WHERE k.done IS NOT NULL

SELECT max(t.name), count(*) + 0 FROM tenants t WHERE t.active AND NOT EXISTS (SELECT 1 FROM tasks k WHERE k.tenant_id = t.id AND k.done)

SELECT max(t.name), count(*) + 0 FROM tenants t WHERE t.active AND (SELECT count(*) FROM tasks k WHERE k.tenant_id = t.id) > 3

SELECT max(t.name), max(s.n) + 0 FROM tenants t JOIN (SELECT tenant_id, count(*) AS n FROM tasks GROUP BY tenant_id) s ON s.tenant_id = t.id WHERE NOT t.active

SELECT max(m.name), count(*) + 0 FROM members m JOIN tasks k ON k.tenant_id = m.tenant_id AND k.member = m.id JOIN tenants t ON t.id = m.tenant_id WHERE t.active AND m.level IS NOT NULL AND k.due IS NOT NULL

SELECT max(a.title), count(*) + 0 FROM tenants t JOIN tasks a ON a.tenant_id = t.id JOIN tasks b ON b.tenant_id = t.id WHERE t.active AND a.done AND NOT b.done

SELECT max(k.title), count(*) + 0 FROM tasks k WHERE k.tenant_id IN (SELECT id FROM tenants WHERE active) OR k.tenant_id = 3

SELECT max(k.title), count(*) + 0 FROM tasks k WHERE k.tenant_id NOT IN (SELECT id FROM tenants WHERE active)

SELECT max(t.name), count(*) + 0 FROM tenants t JOIN countries c ON c.code = t.country WHERE c.continent = 'Europe'

SELECT max(t.name), count(*) + 0 FROM tenants t LEFT JOIN countries c ON c.code = t.country AND c.area > 1000 WHERE c.name IS NULL

SELECT max(o.title), count(*) + 0 FROM open_tasks o JOIN people p ON p.tenant_id = o.tenant_id AND p.id = o.member WHERE p.level > 1 AND o.title IS NOT NULL

-- clocks, where the answer does not depend on the moment

SELECT count(*) FROM members WHERE joined < now() - interval '1 day'

SELECT tenant_id, count(*) FILTER (WHERE joined < now()), max(joined) < current_timestamp FROM members GROUP BY tenant_id ORDER BY tenant_id

SELECT count(*), min(now()) = max(now()), count(DISTINCT now()) FROM tasks

SELECT tenant_id, id, due < current_date AS late FROM tasks WHERE due IS NOT NULL ORDER BY tenant_id, id LIMIT 30

SELECT date_trunc('year', joined), count(*) FROM members WHERE joined BETWEEN '2000-01-01' AND now() GROUP BY 1 ORDER BY 1

SELECT m.name, t.title FROM members m JOIN tasks t ON t.tenant_id = m.tenant_id AND t.member = m.id WHERE m.joined < now() AND t.due < localtimestamp ORDER BY m.tenant_id, m.id, t.id LIMIT 40

SELECT name FROM members WHERE joined < current_timestamp ORDER BY name, tenant_id, id LIMIT 12

SELECT DISTINCT (now() - now()) AS nothing FROM events

SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY joined) < now() AS past FROM members

SELECT count(*) FROM events WHERE at < 'tomorrow'::timestamptz + interval '1 year' AND at < 'now'::timestamptz + interval '100 years'

SELECT id FROM tenants WHERE opened < current_date EXCEPT SELECT tenant_id FROM invoices WHERE issued >= now() ORDER BY 1

SELECT tenant_id, id, rank() OVER (ORDER BY joined, tenant_id, id) FROM members WHERE joined < transaction_timestamp() ORDER BY 3 LIMIT 9

WITH late AS (SELECT tenant_id, id FROM tasks WHERE due < current_date) SELECT t.name, count(*) FROM late l JOIN tenants t ON t.id = l.tenant_id GROUP BY t.name ORDER BY 1, 2

SELECT extract(year FROM now()) > 2000 AS young, count(*) FROM devices WHERE seen IS NULL OR seen <> now()

SELECT title FROM tasks WHERE title = 'today' OR title = 'now' ORDER BY tenant_id, id

-- an aggregate's own GROUP is no clause

SELECT joined, percentile_disc(0.5) WITHIN GROUP (ORDER BY level) FILTER (WHERE name > 'A'), count(*) FROM members GROUP BY tenant_id, joined ORDER BY joined, count(*), 2

SELECT tenant_id, mode() WITHIN GROUP (ORDER BY name) FROM members GROUP BY tenant_id ORDER BY max(joined) DESC NULLS LAST, tenant_id
