-- Tables that cannot be sharded as the test's map says.
CREATE EXTENSION citext;
CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE VIEW a_view AS SELECT id FROM users;
CREATE TABLE citexts (name citext PRIMARY KEY);
CREATE TABLE chars (name char(5) PRIMARY KEY);
CREATE TABLE odd_collation (name text COLLATE ci PRIMARY KEY);
CREATE TABLE rounded (amount numeric(10, 2) PRIMARY KEY);
CREATE TABLE parent (id bigint) PARTITION BY HASH (id);
CREATE TABLE child PARTITION OF parent FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE TABLE made (base bigint, id bigint GENERATED ALWAYS AS (base * 2) STORED);
CREATE TABLE uuids (id uuid PRIMARY KEY DEFAULT gen_random_uuid());
CREATE TABLE labels (id int PRIMARY KEY, owner bigint REFERENCES users);
CREATE TABLE unlisted (name varchar REFERENCES names);
CREATE FUNCTION one_argument(x int) RETURNS int LANGUAGE sql AS 'SELECT 1';
