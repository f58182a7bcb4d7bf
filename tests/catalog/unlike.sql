-- What makes one shard unlike the other.
ALTER DATABASE postgres SET TimeZone = 'Asia/Tokyo';
ALTER TABLE names DROP CONSTRAINT names_name_email_key, ALTER other TYPE varchar(3), ADD CHECK (name <> '');
ALTER TABLE posts ADD extra int;
DROP INDEX posts_body_idx;
CREATE FUNCTION noise() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER noisy BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION noise();
ALTER TABLE countries ENABLE ROW LEVEL SECURITY;
DROP TYPE color;
CREATE TYPE color AS ENUM ('red');
CREATE OR REPLACE VIEW seen AS SELECT id FROM users WHERE id > 1;
CREATE OR REPLACE FUNCTION twice(x int) RETURNS int LANGUAGE sql AS 'SELECT $1 + $1';
DROP FUNCTION once(bigint);
DROP FUNCTION gone();
CREATE SCHEMA other;
CREATE TABLE other.users (id bigint);
CREATE EXTENSION citext SCHEMA other;
