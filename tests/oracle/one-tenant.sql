-- Statements of one tenant, however it is spelled: each goes to exactly one shard, whole.

-- by its key

SELECT * FROM tenants WHERE id = 3

SELECT * FROM tenants WHERE 3 = id

SELECT name, plan, country, opened, settings, budget, active FROM tenants WHERE id = 3::bigint

SELECT * FROM members WHERE tenant_id = 5 ORDER BY id

SELECT * FROM members WHERE tenant_id = '5' ORDER BY id

SELECT * FROM members WHERE (tenant_id = 5) AND level > 1 ORDER BY id

SELECT * FROM members m WHERE m.tenant_id = 5 AND m.id = 2

SELECT * FROM public.members WHERE public.members.tenant_id = 5 ORDER BY id

SELECT * FROM members WHERE tenant_id = CAST(5 AS bigint) ORDER BY id

SELECT * FROM members WHERE tenant_id IN (5) ORDER BY id

SELECT * FROM members WHERE tenant_id IN (5, 5) ORDER BY id

SELECT * FROM members WHERE tenant_id = ANY (ARRAY[5]) ORDER BY id

SELECT * FROM members WHERE tenant_id = ANY ('{5}') ORDER BY id

SELECT * FROM members WHERE tenant_id = ANY (ARRAY[5, 5]::bigint[]) ORDER BY id

SELECT * FROM members WHERE tenant_id = 5 OR tenant_id = 5 ORDER BY id

SELECT * FROM members WHERE (tenant_id = 5 AND level = 1) OR (tenant_id = 5 AND level = 2) ORDER BY id

SELECT * FROM members WHERE tenant_id = 5 AND (level = 1 OR level = 2 OR boss IS NULL) ORDER BY id

SELECT * FROM members WHERE (tenant_id, id) = (5, 2)

SELECT * FROM members WHERE (tenant_id, id) IN ((5, 2), (5, 3)) ORDER BY id

SELECT * FROM members WHERE tenant_id = 5 AND tenant_id = 5 ORDER BY id

SELECT * FROM members WHERE tenant_id = 5 AND tenant_id IN (5, 6) ORDER BY id

SELECT * FROM members WHERE tenant_id IS NOT DISTINCT FROM 5 ORDER BY id

SELECT * FROM tasks WHERE tenant_id = 2 AND done IS NOT TRUE ORDER BY due DESC NULLS LAST, id

SELECT * FROM devices WHERE id = 'b3d4a0a6-0000-4000-8000-000000000001'

SELECT id, tenant_id, title, effort, due, at, priority, weight FROM tasks WHERE tenant_id = 2 ORDER BY id

SELECT * FROM invoices WHERE tenant_id = 4 ORDER BY id

SELECT * FROM events WHERE tenant_id = 6 ORDER BY id

SELECT id, data ->> 'a', payload -> 'n', host, nums[1] FROM events WHERE tenant_id = 6 ORDER BY id

SELECT * FROM projects WHERE tenant_id = 9 AND 'b' = ANY (tags) ORDER BY code

-- groups, windows, orders, limits and sets of one tenant

SELECT count(*) FROM tasks WHERE tenant_id = 2

SELECT count(*), sum(amount), avg(amount), min(issued), max(rate) FROM invoices WHERE tenant_id = 4

SELECT done, count(*) FROM tasks WHERE tenant_id = 2 GROUP BY done HAVING count(*) > 1 ORDER BY done

SELECT tenant_id, count(*) FROM tasks WHERE tenant_id = 2 GROUP BY tenant_id

SELECT tenant_id, count(*) FROM tasks GROUP BY tenant_id HAVING tenant_id = 2

SELECT project, member, count(*) FROM tasks WHERE tenant_id = 2 GROUP BY ROLLUP (project, member) ORDER BY project, member, count(*)

SELECT id, row_number() OVER (ORDER BY due, id), sum(weight) OVER (PARTITION BY done ORDER BY id) FROM tasks WHERE tenant_id = 2 ORDER BY id

SELECT DISTINCT project FROM tasks WHERE tenant_id = 2 ORDER BY project

SELECT DISTINCT ON (project) project, id FROM tasks WHERE tenant_id = 2 ORDER BY project, due, id

SELECT name FROM members WHERE tenant_id = 5 ORDER BY name COLLATE "C", id LIMIT 2 OFFSET 1

SELECT name FROM members WHERE tenant_id = 5 ORDER BY upper(name) DESC NULLS LAST, id LIMIT 1 + 1

SELECT string_agg(name, ',' ORDER BY name, id), array_agg(level ORDER BY id), json_agg(boss ORDER BY id) FROM members WHERE tenant_id = 5

SELECT id FROM tasks WHERE tenant_id = 2 UNION SELECT id FROM members WHERE tenant_id = 2 ORDER BY 1

SELECT id FROM tasks WHERE tenant_id = 2 EXCEPT SELECT id FROM members WHERE tenant_id = 2 ORDER BY 1

SELECT title FROM tasks WHERE tenant_id = 2 INTERSECT ALL SELECT name FROM members WHERE tenant_id = 2 ORDER BY 1

SELECT 'task' AS what, id FROM tasks WHERE tenant_id = 2 UNION ALL SELECT 'event', id FROM events WHERE tenant_id = 2 ORDER BY 1, 2

SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY weight), stddev(priority) FROM tasks WHERE tenant_id = 2

SELECT id FROM tasks WHERE tenant_id = 2 ORDER BY random() * 0, id FETCH FIRST 3 ROWS ONLY

-- joins

SELECT t.name, m.name FROM tenants t JOIN members m ON m.tenant_id = t.id WHERE t.id = 5 ORDER BY m.id

SELECT t.name, m.name FROM tenants t JOIN members m ON m.tenant_id = t.id WHERE m.tenant_id = 5 ORDER BY m.id

SELECT t.name, m.name FROM tenants t JOIN members m ON m.tenant_id = t.id AND t.id = 5 ORDER BY m.id

SELECT t.name, m.name FROM tenants t, members m WHERE m.tenant_id = t.id AND t.id = 5 ORDER BY m.id

SELECT t.name, m.name FROM members m, tenants t WHERE t.id = 5 AND m.tenant_id = 5 ORDER BY m.id

SELECT m.name, k.title FROM members m JOIN tasks k ON k.tenant_id = m.tenant_id AND k.member = m.id WHERE m.tenant_id = 2 ORDER BY k.id

SELECT m.name, k.title FROM members m JOIN tasks k ON k.member = m.id WHERE m.tenant_id = 2 AND k.tenant_id = 2 ORDER BY k.id

SELECT m.name, k.title FROM members m LEFT JOIN tasks k ON k.tenant_id = m.tenant_id AND k.member = m.id WHERE m.tenant_id = 2 ORDER BY m.id, k.id

SELECT m.name, k.title FROM tasks k RIGHT JOIN members m ON k.tenant_id = m.tenant_id AND k.member = m.id WHERE m.tenant_id = 2 ORDER BY m.id, k.id

SELECT m.id, k.id FROM members m FULL JOIN tasks k ON k.tenant_id = m.tenant_id AND k.id = m.id WHERE m.tenant_id = 2 AND k.tenant_id = 2 ORDER BY 1, 2

SELECT m.name, k.title FROM members m JOIN tasks k USING (tenant_id) WHERE tenant_id = 2 ORDER BY m.id, k.id

SELECT m.name, k.title FROM members m JOIN tasks k USING (tenant_id) WHERE k.tenant_id = 2 ORDER BY m.id, k.id

SELECT tenant_id, id, name, title FROM members NATURAL JOIN tasks WHERE tenant_id = 2 ORDER BY id

SELECT t.name, p.title, k.title FROM tenants t JOIN projects p ON p.tenant_id = t.id JOIN tasks k ON k.tenant_id = p.tenant_id AND k.project = p.code WHERE t.id = 9 ORDER BY k.id

SELECT t.name, p.title, k.title FROM tenants t JOIN projects p ON p.tenant_id = t.id LEFT JOIN tasks k ON k.tenant_id = t.id AND k.project = p.code WHERE p.tenant_id = 9 ORDER BY p.code, k.id

SELECT t.name, c.name FROM tenants t JOIN countries c ON c.code = t.country WHERE t.id = 1

SELECT t.name, c.name FROM tenants t LEFT JOIN countries c ON c.code = t.country WHERE t.id IN (4)

SELECT m.name, b.name FROM members m LEFT JOIN members b ON b.tenant_id = m.tenant_id AND b.id = m.boss WHERE m.tenant_id = 5 ORDER BY m.id

SELECT m.name, s.n FROM members m CROSS JOIN (SELECT count(*) AS n FROM tasks WHERE tenant_id = 5) s WHERE m.tenant_id = 5 ORDER BY m.id

SELECT m.name, l.title FROM members m LEFT JOIN LATERAL (SELECT k.title, k.id FROM tasks k WHERE k.tenant_id = m.tenant_id AND k.member = m.id ORDER BY k.due DESC, k.id LIMIT 1) l ON true WHERE m.tenant_id = 2 ORDER BY m.id

SELECT m.name, v.n FROM members m JOIN (VALUES (1, 'one'), (2, 'two')) v(id, n) ON v.id = m.id WHERE m.tenant_id = 5 ORDER BY m.id

SELECT m.name, g FROM members m, generate_series(1, 2) g WHERE m.tenant_id = 5 ORDER BY m.id, g

SELECT e.id, n FROM events e, unnest(e.nums) AS n WHERE e.tenant_id = 6 ORDER BY 1, 2

SELECT v.k, t.name FROM (VALUES (5::bigint)) v(k) JOIN tenants t ON t.id = v.k WHERE t.id = 5

SELECT a.id, b.id FROM tasks a JOIN tasks b ON a.tenant_id = b.tenant_id AND a.id < b.id JOIN members m ON m.tenant_id = b.tenant_id AND m.id = b.member WHERE m.tenant_id = 2 ORDER BY 1, 2

-- subqueries

SELECT * FROM (SELECT * FROM tasks WHERE tenant_id = 2) s ORDER BY id

SELECT * FROM (SELECT * FROM tasks) s WHERE s.tenant_id = 2 ORDER BY id

SELECT s.t, s.i FROM (SELECT tenant_id AS t, id AS i FROM tasks) s WHERE t = 2 ORDER BY i

SELECT * FROM (SELECT tenant_id, count(*) AS n FROM tasks GROUP BY tenant_id) s WHERE s.tenant_id = 2

SELECT * FROM (SELECT DISTINCT tenant_id, project FROM tasks) s WHERE s.tenant_id = 2 ORDER BY project

SELECT * FROM (SELECT tenant_id, id FROM tasks UNION ALL SELECT tenant_id, id FROM events) s WHERE s.tenant_id = 2 ORDER BY id

SELECT * FROM (SELECT tenant_id, id, row_number() OVER (PARTITION BY tenant_id ORDER BY id) AS n FROM tasks) s WHERE s.tenant_id = 2 ORDER BY id

SELECT m.name, s.n FROM members m JOIN (SELECT tenant_id, member, count(*) AS n FROM tasks GROUP BY tenant_id, member) s ON s.tenant_id = m.tenant_id AND s.member = m.id WHERE m.tenant_id = 2 ORDER BY m.id

SELECT name, (SELECT count(*) FROM tasks k WHERE k.tenant_id = m.tenant_id AND k.member = m.id) AS n FROM members m WHERE m.tenant_id = 2 ORDER BY m.id

SELECT name, (SELECT max(amount) FROM invoices i WHERE i.tenant_id = t.id) AS most FROM tenants t WHERE t.id = 4

SELECT name FROM members m WHERE m.tenant_id = 2 AND EXISTS (SELECT 1 FROM tasks k WHERE k.tenant_id = m.tenant_id AND k.member = m.id) ORDER BY m.id

SELECT name FROM members m WHERE m.tenant_id = 2 AND NOT EXISTS (SELECT 1 FROM tasks k WHERE k.tenant_id = 2 AND k.member = m.id) ORDER BY m.id

SELECT name FROM members m WHERE m.tenant_id = 2 AND m.id IN (SELECT member FROM tasks WHERE tenant_id = 2) ORDER BY m.id

SELECT name FROM members m WHERE (m.tenant_id, m.id) IN (SELECT tenant_id, member FROM tasks) AND m.tenant_id = 2 ORDER BY m.id

SELECT name FROM members m WHERE m.tenant_id = 2 AND m.id NOT IN (SELECT member FROM tasks WHERE tenant_id = 2 AND member IS NOT NULL) ORDER BY m.id

SELECT name FROM tenants WHERE id IN (SELECT tenant_id FROM tasks WHERE tenant_id = 2)

SELECT name FROM tenants WHERE id = (SELECT 5) AND id = 5

SELECT name FROM tenants t WHERE t.id = 5 AND t.budget >= ALL (SELECT p.budget FROM projects p WHERE p.tenant_id = t.id AND p.budget IS NOT NULL)

SELECT name FROM tenants t WHERE t.id = 4 AND t.budget > (SELECT avg(i.amount) FROM invoices i WHERE i.tenant_id = t.id)

SELECT k.title FROM tasks k WHERE k.tenant_id = 2 AND k.weight = (SELECT max(weight) FROM tasks x WHERE x.tenant_id = k.tenant_id) ORDER BY k.id

SELECT ARRAY(SELECT id FROM tasks WHERE tenant_id = 2 ORDER BY id)

SELECT (SELECT count(*) FROM tasks WHERE tenant_id = 2) + (SELECT count(*) FROM members WHERE tenant_id = 2) AS n

SELECT EXISTS (SELECT 1 FROM tasks WHERE tenant_id = 2 AND done)

SELECT x.id FROM (SELECT id, tenant_id FROM (SELECT * FROM tasks WHERE tenant_id = 2) a WHERE due IS NOT NULL) x ORDER BY 1

-- common table expressions

WITH x AS (SELECT * FROM tasks WHERE tenant_id = 2) SELECT id, title FROM x ORDER BY id

WITH x AS (SELECT * FROM tasks) SELECT id, title FROM x WHERE tenant_id = 2 ORDER BY id

WITH x AS MATERIALIZED (SELECT * FROM tasks WHERE tenant_id = 2) SELECT count(*) FROM x

WITH x AS (SELECT * FROM tasks WHERE tenant_id = 2), y AS (SELECT member, count(*) AS n FROM x GROUP BY member) SELECT m.name, y.n FROM members m JOIN y ON y.member = m.id WHERE m.tenant_id = 2 ORDER BY m.id

WITH x AS (SELECT id FROM tenants WHERE id = 2) SELECT k.title FROM tasks k JOIN x ON k.tenant_id = x.id ORDER BY k.id

WITH x AS (SELECT tenant_id, member FROM tasks WHERE tenant_id = 2) SELECT m.name FROM members m JOIN x ON x.tenant_id = m.tenant_id AND x.member = m.id ORDER BY m.id

WITH x AS (SELECT * FROM members) SELECT a.name, b.name FROM x a JOIN x b ON b.tenant_id = a.tenant_id AND b.id = a.boss WHERE a.tenant_id = 5 ORDER BY a.id

WITH RECURSIVE chain(id, boss) AS (SELECT id, boss FROM members WHERE tenant_id = 5 AND boss IS NULL UNION SELECT m.id, m.boss FROM members m JOIN chain c ON m.boss = c.id WHERE m.tenant_id = 5) SELECT * FROM chain ORDER BY id

WITH x AS (SELECT 2::bigint AS t) SELECT k.title FROM tasks k, x WHERE k.tenant_id = x.t AND k.tenant_id = 2 ORDER BY k.id

WITH members AS (SELECT * FROM tasks WHERE tenant_id = 2) SELECT count(*) FROM members

WITH x(t, i) AS (SELECT tenant_id, id FROM tasks) SELECT i FROM x WHERE t = 2 ORDER BY i

WITH t AS (SELECT * FROM tenants WHERE id = 4), i AS (SELECT * FROM invoices WHERE tenant_id = 4) SELECT t.name, sum(i.amount) FROM t LEFT JOIN i ON i.tenant_id = t.id GROUP BY t.name

-- views

SELECT * FROM open_tasks WHERE tenant_id = 2 ORDER BY id

SELECT * FROM task_totals WHERE tenant_id = 2

SELECT * FROM people WHERE tenant_id = 5 ORDER BY id

SELECT p.name, o.title FROM people p JOIN open_tasks o ON o.tenant_id = p.tenant_id AND o.member = p.id WHERE p.tenant_id = 2 ORDER BY o.id

SELECT p.name, o.title FROM people p JOIN open_tasks o ON o.tenant_id = p.tenant_id AND o.member = p.id WHERE o.tenant_id = 2 ORDER BY o.id

SELECT t.name, x.n FROM tenants t JOIN task_totals x ON x.tenant_id = t.id WHERE t.id = 2

SELECT t.name, x.n FROM tenants t LEFT JOIN task_totals x ON x.tenant_id = t.id WHERE t.id = 7

SELECT count(*) FROM people WHERE tenant_id = 5 AND level > 1

SELECT tenant, count(*) FROM people WHERE tenant_id = 5 GROUP BY tenant

WITH x AS (SELECT * FROM open_tasks) SELECT count(*) FROM x WHERE tenant_id = 2

SELECT * FROM (SELECT * FROM people) s WHERE s.tenant_id = 5 ORDER BY s.id

SELECT name FROM people p WHERE p.tenant_id = 2 AND EXISTS (SELECT FROM open_tasks o WHERE o.tenant_id = p.tenant_id AND o.member = p.id) ORDER BY id

SELECT * FROM members WHERE tenant_id = 3 AND id BETWEEN SYMMETRIC 9 AND 2 ORDER BY id
