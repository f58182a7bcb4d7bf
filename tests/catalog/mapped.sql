-- The schema that the test's shard map is about: as it should be, on every shard.
CREATE TYPE color AS ENUM ('red', 'green');
CREATE TABLE countries (code text PRIMARY KEY);
CREATE TABLE users (id bigserial PRIMARY KEY, country text REFERENCES countries);
CREATE TABLE posts (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id bigint NOT NULL REFERENCES users, body text);
CREATE INDEX ON posts (body);
CREATE TABLE names (name varchar(40) PRIMARY KEY, other text, email text, UNIQUE (name, email));
CREATE VIEW seen AS SELECT id FROM users WHERE id > 0;
CREATE FUNCTION twice(x int) RETURNS int LANGUAGE sql AS 'SELECT $1 * 2';
CREATE FUNCTION once(x int) RETURNS int LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION once(x bigint) RETURNS bigint LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION gone() RETURNS int LANGUAGE sql AS 'SELECT 1';
