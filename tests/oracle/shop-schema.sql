CREATE TYPE plan AS ENUM ('trial', 'small', 'large');
CREATE DOMAIN email AS text CHECK (value LIKE '%@%');
CREATE TABLE tenants (id bigint PRIMARY KEY, name text, plan plan, country char(2), opened date, settings jsonb, budget numeric(12,2),
  active boolean);
CREATE TABLE members (tenant_id bigint, id int, name varchar(40), email email, joined timestamptz, seen timestamp,
  score double precision, level int, boss int, PRIMARY KEY (tenant_id, id));
CREATE TABLE projects (tenant_id bigint, code text, title text, budget numeric(10,2), tags text[], starts date, lead int, open boolean,
  PRIMARY KEY (tenant_id, code));
CREATE TABLE tasks (tenant_id bigint, id bigint, project text, member int, title text, done boolean, effort interval, due date, at time,
  priority smallint, weight real, PRIMARY KEY (tenant_id, id));
CREATE TABLE invoices (tenant_id bigint, id int, amount numeric(12,2), rate numeric, issued date, doc bytea, kind char(6),
  PRIMARY KEY (tenant_id, id));
CREATE TABLE events (tenant_id bigint, id bigint, kind text, at timestamptz, data json, payload jsonb, host inet, nums int[],
  PRIMARY KEY (tenant_id, id));
CREATE TABLE devices (id uuid PRIMARY KEY, tenant_id bigint, label text, weight double precision, seen timestamptz, slot int);
CREATE TABLE countries (code char(2) PRIMARY KEY, name text, area double precision, continent text);
CREATE TABLE notes (id int PRIMARY KEY, tenant_id bigint, body text, rating numeric(6,2), written date);
CREATE VIEW open_tasks AS SELECT tenant_id, id, title, member, due FROM tasks WHERE NOT done;
CREATE VIEW task_totals AS SELECT tenant_id, count(*) AS n, max(due) AS latest FROM tasks GROUP BY tenant_id;
CREATE VIEW people AS SELECT t.id AS tenant_id, t.name AS tenant, m.id, m.name, m.level
  FROM tenants t JOIN members m ON m.tenant_id = t.id;
