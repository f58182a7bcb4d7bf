//! Scratch databases: empty copies of the home shard's schema, in which Postgres answers what the shards cannot answer each
//! for itself. Here they are designed after the home shard's catalog, made and taken away. It does not know what runs there.

pub mod rubbish;

use super::control::{ControlError, ControlPools, words};
use super::patience::{LOCK_TIMEOUT, patiently};
use crate::catalog::QualifiedName;
use crate::config::{Database, ServerAddress};
use std::collections::HashMap;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

const RECIPE: &str = include_str!("scratch/recipe.sql");
const OBJECTS: &str = include_str!("scratch/objects.sql");
/// Text that means the same for every reader.
const SETTINGS: &str = "SET search_path = pg_catalog; SET quote_all_identifiers = off; SET statement_timeout = '120s'; \
    SET lock_timeout = '10s'; SET default_transaction_read_only = off;";
/// What is made again in another order, until nothing more succeeds.
const ROUNDS_MAX: usize = 20;

/// The columns of a table as one text, the same on every server whatever the order of the columns.
const SIGNATURE: &str = "pg_catalog.md5(pg_catalog.string_agg(a.attname || ' ' || tn.nspname || '.' || t.typname || ' ' \
    || a.atttypmod || ' ' || coalesce(cn.nspname || '.' || co.collname, ''), ',' ORDER BY a.attname COLLATE \"C\"))";
const COLUMNS: &str = "pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
    JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace \
    LEFT JOIN pg_catalog.pg_collation co ON co.oid = a.attcollation \
    LEFT JOIN pg_catalog.pg_namespace cn ON cn.oid = co.collnamespace";

#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error("{}", words(.0))]
    Server(#[from] tokio_postgres::Error),
    /// CREATEDB is missing
    #[error("the control user \"{user}\" may not create databases on the home shard's primary")]
    NoRight { user: String },
    #[error("{0}")]
    Unreadable(String),
}

/// How a scratch database is made, and what has to be known of the home shard to use one.
#[derive(Debug, Default)]
pub struct Recipe {
    /// differs when the schema does
    pub fingerprint: u64,
    steps: Vec<Step>,
    pub tables: HashMap<QualifiedName, Table>,
    /// the home shard's types and relations
    pub objects: Objects,
}

pub type Objects = HashMap<Object, Known>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    pub oid: u32,
    /// its binary values hold OIDs of types that came with the schema
    pub embeds: bool,
}

/// A type or relation that came with the schema.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Object {
    pub is_type: bool,
    pub name: QualifiedName,
}

#[derive(Clone, Debug)]
pub struct Table {
    pub signature: String,
    /// rows travel in binary: no OID of this database is in them
    pub binary: bool,
}

#[derive(Clone, Debug)]
struct Step {
    maker: Maker,
    sql: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Maker {
    /// the control user, who owns the database
    Control,
    /// the client's role, who owns what is in it
    Client { table: Option<QualifiedName> },
    /// the same; without it a statement could mean something else
    Cast,
    /// a setting of the database, for this role or for all
    Setting { role: Option<String> },
}

/// Who the scratch database is for.
#[derive(Clone, Debug)]
pub struct Owner {
    /// on the servers
    pub user: String,
    pub password: Option<String>,
    /// nothing to log in with is known here: the control user takes its role
    pub by_role: bool,
}

/// The statement by which a server tells the columns of some tables: rows of schema, name, signature.
#[must_use]
pub fn signatures(tables: &[&QualifiedName]) -> String {
    let names: Vec<String> = tables
        .iter()
        .map(|t| format!("({}, {})", literal(&t.schema), literal(&t.name)))
        .collect();
    format!(
        "SELECT n.nspname, c.relname, (SELECT {SIGNATURE} FROM {COLUMNS} WHERE a.attrelid = c.oid AND a.attnum > 0 \
         AND NOT a.attisdropped) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE (n.nspname::text, c.relname::text) IN (VALUES {})",
        names.join(", ")
    )
}

/// The statement by which a server tells whether its session may read some views: rows of schema, name and `all`, `some`
/// (columns) or `none`.
#[must_use]
pub fn rights(views: &[QualifiedName]) -> String {
    let names: Vec<String> = views
        .iter()
        .map(|v| format!("({}, {})", literal(&v.schema), literal(&v.name)))
        .collect();
    format!(
        "SELECT n.nspname, c.relname, CASE WHEN pg_catalog.has_table_privilege(c.oid, 'SELECT') THEN 'all' \
         WHEN pg_catalog.has_any_column_privilege(c.oid, 'SELECT') THEN 'some' ELSE 'none' END \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE (n.nspname::text, c.relname::text) IN (VALUES {})",
        names.join(", ")
    )
}

/// A text as an SQL literal whatever the session's string syntax.
#[must_use]
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!("E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

/// Of the n-th scratch database of this user.
#[must_use]
pub fn database_name(database: &Database, user: &str, n: usize) -> String {
    let whose = xxh3_64_with_seed(
        user.as_bytes(),
        xxh3_64(database.server_database.as_bytes()),
    );
    format!("pgshunt_scratch_{:08x}_{n}", whose as u32)
}

/// Reads the home shard's schema, over a connection that is not used again.
pub async fn recipe(client: &Client) -> Result<Recipe, ScratchError> {
    client.batch_execute(SETTINGS).await?;
    let lock_timeout = format!("SET lock_timeout = '{LOCK_TIMEOUT}'");
    client.batch_execute(&lock_timeout).await?;
    patiently(|| read(client)).await
}

async fn read(client: &Client) -> Result<Recipe, ScratchError> {
    let statement = RECIPE
        .replace("/* SIGNATURE */", SIGNATURE)
        .replace("/* COLUMNS */", COLUMNS);
    client
        .batch_execute("ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await?;
    let rows = client
        .query(&format!("{statement} ORDER BY 1, 4, 5, 3"), &[])
        .await?;
    let objects = client.query(OBJECTS, &[]).await?;
    let mut recipe = Recipe::default();
    for row in &rows {
        recipe.take(row)?;
    }
    recipe.objects = named(&objects)?;
    Ok(recipe)
}

impl Recipe {
    fn take(&mut self, row: &tokio_postgres::Row) -> Result<(), ScratchError> {
        let text = |at: usize| row.try_get::<_, Option<String>>(at);
        let (who, sql) = (text(1)?.unwrap_or_default(), text(2)?);
        let name = QualifiedName::new(text(3)?.unwrap_or_default(), text(4)?.unwrap_or_default());
        for part in [
            Some(&who),
            sql.as_ref(),
            Some(&name.schema),
            Some(&name.name),
        ] {
            let bytes = part.map(String::as_bytes).unwrap_or_default();
            self.fingerprint = xxh3_64_with_seed(bytes, self.fingerprint.rotate_left(1));
        }
        let maker = match who.as_str() {
            "control" => Maker::Control,
            "cast" => Maker::Cast,
            "setting" => Maker::Setting { role: text(8)? },
            "client" => Maker::Client {
                table: (row.try_get::<_, i32>(0)? == 6).then_some(name),
            },
            _ => {
                let table = Table {
                    signature: text(6)?.unwrap_or_default(),
                    binary: row.try_get(7)?,
                };
                self.tables.insert(name, table);
                return Ok(());
            }
        };
        self.steps.extend(sql.map(|sql| Step { maker, sql }));
        Ok(())
    }
}

/// Types and relations of a scratch database or of the home shard.
fn named(rows: &[tokio_postgres::Row]) -> Result<Objects, ScratchError> {
    let mut objects = HashMap::with_capacity(rows.len());
    for row in rows {
        let object = Object {
            is_type: row.try_get::<_, String>(0)? == "type",
            name: QualifiedName::new(row.try_get::<_, String>(1)?, row.try_get::<_, String>(2)?),
        };
        let oid = u32::try_from(row.try_get::<_, i64>(3)?).unwrap_or(0);
        let embeds = row.try_get(4)?;
        objects.insert(object, Known { oid, embeds });
    }
    Ok(objects)
}

/// What stands there under a scratch database's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// made just now, by us
    New,
    /// not all is in it
    Unfinished,
    Finished {
        fingerprint: u64,
    },
}

#[derive(Debug)]
pub struct Contents {
    /// types and relations
    pub objects: Objects,
    /// tables with rows that were left behind, and their bytes
    pub litter: Vec<(QualifiedName, u64)>,
}

const LITTER: &str = "SELECT n.nspname::text, c.relname::text, pg_catalog.pg_total_relation_size(c.oid) FROM pg_catalog.pg_class c \
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' \
    AND n.nspname <> 'information_schema' AND pg_catalog.pg_relation_size(c.oid) > 0 AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = c.oid \
    AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype = 'e')";

/// Makes and takes away the scratch databases of one server.
pub struct Workshop<'a> {
    pub control: &'a ControlPools,
    pub database: &'a Database,
    pub address: &'a ServerAddress,
}

impl Workshop<'_> {
    /// Makes sure that there is a database of this name.
    pub async fn ensure(&self, name: &str) -> Result<State, ScratchError> {
        if let Some(found) = self.found(name).await? {
            return Ok(found);
        }
        let like = self.locale().await?;
        let client = self.control.connect_aside(self.address).await?;
        match client
            .batch_execute(&format!(
                "CREATE DATABASE {} TEMPLATE template0 {like}",
                quoted(name)
            ))
            .await
        {
            Ok(()) => {
                client
                    .batch_execute(&self.comment(name, UNFINISHED))
                    .await?;
                Ok(State::New)
            }
            Err(error) => match error.code() {
                // another instance was quicker
                Some(&SqlState::DUPLICATE_DATABASE | &SqlState::UNIQUE_VIOLATION) => {
                    Ok(State::Unfinished)
                }
                Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Err(ScratchError::NoRight {
                    user: self.database.control_user.clone(),
                }),
                _ => Err(error.into()),
            },
        }
    }

    async fn found(&self, name: &str) -> Result<Option<State>, ScratchError> {
        let client = self.control.client(self.address).await?;
        let sql = "SELECT pg_catalog.shobj_description(oid, 'pg_database') FROM pg_catalog.pg_database WHERE datname = $1";
        let Some(row) = client.query_opt(sql, &[&name]).await? else {
            return Ok(None);
        };
        let comment: Option<String> = row.try_get(0)?;
        Ok(Some(state(comment.as_deref().unwrap_or_default())))
    }

    /// The home shard's. There are few control connections: nobody holds one while he waits for another.
    async fn locale(&self) -> Result<String, ScratchError> {
        let home = self.control.client(self.home()).await?;
        Ok(home.query_one(LOCALE, &[]).await?.try_get(0)?)
    }

    /// False when someone else is in it. It takes as long as a checkpoint of the server does.
    pub async fn remove(&self, name: &str) -> Result<bool, ScratchError> {
        let client = self.control.connect_aside(self.address).await?;
        match client
            .batch_execute(&format!("DROP DATABASE IF EXISTS {}", quoted(name)))
            .await
        {
            Ok(()) => Ok(true),
            Err(error) if error.code() == Some(&SqlState::OBJECT_IN_USE) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Fills the database with the schema. What cannot be made is left out, and is then missing there.
    pub async fn furnish(
        &self,
        name: &str,
        owner: &Owner,
        recipe: &Recipe,
    ) -> Result<(), ScratchError> {
        let control = self.control.connect(self.address, None, name).await?;
        control.batch_execute(SETTINGS).await?;
        self.same_collations(&control).await?;
        let user = quoted(&owner.user);
        let database = quoted(name);
        control
            .batch_execute(&format!(
                "REVOKE ALL ON DATABASE {database} FROM PUBLIC; GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {database} TO {user}"
            ))
            .await?;
        for step in recipe
            .steps
            .iter()
            .filter(|step| step.maker == Maker::Control)
        {
            if let Err(error) = control.batch_execute(&step.sql).await {
                tracing::info!(scratch = name, error = %words(&error), "left out: {}", head(&step.sql));
            }
        }
        control.batch_execute(&format!(
            "DO $$ DECLARE s name; BEGIN FOR s IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' \
             AND nspname <> 'information_schema' LOOP EXECUTE format('GRANT USAGE, CREATE ON SCHEMA %I TO %s', s, {}); END LOOP; END $$",
            literal(&user)
        )).await?;
        self.furnish_as_owner(name, owner, recipe).await?;
        for step in &recipe.steps {
            if let Maker::Setting { role } = &step.maker
                && role.as_ref().is_none_or(|role| *role == owner.user)
            {
                let set = control.batch_execute(&setting(&database, &step.sql)).await;
                match set {
                    Err(error) if error.as_db_error().is_none() || !is_harmless(&step.sql) => {
                        return Err(error.into());
                    }
                    _ => {}
                }
            }
        }
        let schema = format!("{SCHEMA}{:016x}", recipe.fingerprint);
        control.batch_execute(&self.comment(name, &schema)).await?;
        Ok(())
    }

    fn home(&self) -> &ServerAddress {
        let home = self.database.shards.get(self.database.home.index());
        home.map_or(self.address, |home| &home.primary)
    }

    /// Text sorts by the same rules there as on the home shard.
    async fn same_collations(&self, there: &Client) -> Result<(), ScratchError> {
        if *self.home() == *self.address {
            return Ok(());
        }
        let home = self.control.client(self.home()).await?;
        let versions = [
            home.query_one(COLLATIONS, &[]).await?,
            there.query_one(COLLATIONS, &[]).await?,
        ];
        let [here, there] = versions.map(|row| row.try_get::<_, String>(0));
        let (here, there) = (here?, there?);
        if here == there {
            return Ok(());
        }
        Err(ScratchError::Unreadable(format!(
            "the scratch server's collations are of other versions ({there}) than the home shard's ({here})"
        )))
    }

    /// What the comment on a scratch database says first: whose it is.
    fn mark(&self) -> String {
        format!("{MARK}{}, ", self.database.server_database)
    }

    fn comment(&self, name: &str, what: &str) -> String {
        let comment = literal(&(self.mark() + what));
        format!("COMMENT ON DATABASE {} IS {comment}", quoted(name))
    }

    async fn furnish_as_owner(
        &self,
        name: &str,
        owner: &Owner,
        recipe: &Recipe,
    ) -> Result<(), ScratchError> {
        let client = self
            .control
            .connect(self.address, Some(owner), name)
            .await?;
        client.batch_execute(SETTINGS).await?;
        client
            .batch_execute("SET check_function_bodies = off; SET synchronous_commit = off; SET client_min_messages = error; \
                SET standard_conforming_strings = on")
            .await?;
        let mut left: Vec<&Step> = recipe
            .steps
            .iter()
            .filter(|step| matches!(step.maker, Maker::Client { .. } | Maker::Cast))
            .collect();
        for _ in 0..ROUNDS_MAX {
            let before = left.len();
            let mut failed = Vec::new();
            for step in left {
                if let Err(error) = make(&client, step).await {
                    if error.as_db_error().is_none() {
                        return Err(error.into());
                    }
                    tracing::debug!(scratch = name, error = %words(&error), "not made: {}", head(&step.sql));
                    failed.push(step);
                }
            }
            left = failed;
            if left.is_empty() || left.len() == before {
                break;
            }
        }
        for step in left {
            if step.maker == Maker::Cast {
                return Err(ScratchError::Unreadable(format!(
                    "it must have all casts, and this one failed: {}",
                    step.sql
                )));
            }
            tracing::info!(scratch = name, "left out: {}", head(&step.sql));
        }
        Ok(())
    }

    /// What is in the scratch database.
    pub async fn contents(&self, name: &str) -> Result<Contents, ScratchError> {
        let client = self.control.connect(self.address, None, name).await?;
        let objects = named(&client.query(OBJECTS, &[]).await?)?;
        let rows = client.query(LITTER, &[]).await?;
        let left = |row: &tokio_postgres::Row| {
            let table =
                QualifiedName::new(row.try_get::<_, String>(0)?, row.try_get::<_, String>(1)?);
            let bytes: i64 = row.try_get(2)?;
            Ok::<_, ScratchError>((table, u64::try_from(bytes).unwrap_or(0)))
        };
        let litter = rows.iter().map(left).collect::<Result<_, _>>()?;
        Ok(Contents { objects, litter })
    }
}

/// What the comment on a scratch database consists of: this and the name of the database that it is for, and then one of those.
const MARK: &str = "pgshunt scratch database of ";
const UNFINISHED: &str = "unfinished";
const SCHEMA: &str = "schema ";

fn state(comment: &str) -> State {
    let schema = comment.rsplit_once(SCHEMA).map(|(_, hex)| hex);
    match schema.map(|hex| u64::from_str_radix(hex, 16)) {
        Some(Ok(fingerprint)) if comment.starts_with(MARK) => State::Finished { fingerprint },
        _ => State::Unfinished,
    }
}

/// Versions of the collation libraries, as far as the database's own collation and ICU's tell.
const COLLATIONS: &str = "SELECT coalesce(pg_catalog.string_agg(DISTINCT o.collprovider::text || ' ' \
    || pg_catalog.pg_collation_actual_version(o.oid), ', '), '') FROM pg_catalog.pg_collation o, pg_catalog.pg_database d \
    WHERE d.datname = pg_catalog.current_database() AND (o.collprovider = 'c' AND o.collcollate = d.datcollate \
    AND d.datcollate NOT IN ('C', 'POSIX') OR o.collprovider = 'i' AND o.collname = 'und-x-icu')";

/// Encoding and collation of the current database, as CREATE DATABASE takes them.
const LOCALE: &str = "SELECT format('ENCODING %L LC_COLLATE %L LC_CTYPE %L', pg_encoding_to_char(d.encoding), d.datcollate, d.datctype) \
    || CASE WHEN to_jsonb(d) ->> 'datlocprovider' = 'i' \
       THEN format(' LOCALE_PROVIDER icu ICU_LOCALE %L', coalesce(to_jsonb(d) ->> 'daticulocale', to_jsonb(d) ->> 'datlocale')) \
       WHEN to_jsonb(d) ->> 'datlocprovider' = 'b' \
       THEN format(' LOCALE_PROVIDER builtin BUILTIN_LOCALE %L', to_jsonb(d) ->> 'datlocale') ELSE '' END \
    FROM pg_database d WHERE d.datname = current_database()";

async fn make(client: &Client, step: &Step) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(&step.sql).await?;
    if let Maker::Client { table: Some(table) } = &step.maker {
        // who may read a table is said anew by each transaction that fills it
        client
            .batch_execute(&format!(
                "REVOKE ALL ON TABLE {} FROM CURRENT_USER",
                table.quoted()
            ))
            .await?;
    }
    Ok(())
}

/// `name=value` as it is stored to the statement that stores it.
fn setting(database: &str, stored: &str) -> String {
    let (name, value) = stored.split_once('=').unwrap_or((stored, ""));
    let parts: Vec<String> = name.split('.').map(quoted).collect();
    // these are kept as lists of quoted names
    let value = match name {
        "search_path"
        | "temp_tablespaces"
        | "session_preload_libraries"
        | "local_preload_libraries"
            if !value.is_empty() =>
        {
            value.to_owned()
        }
        _ => literal(value),
    };
    format!(
        "ALTER DATABASE {database} SET {} TO {value}",
        parts.join(".")
    )
}

/// A setting that changes no answer; to set it may take a right that the control user does not have.
fn is_harmless(stored: &str) -> bool {
    let name = stored.split('=').next().unwrap_or_default();
    ["log_", "track_", "auto_explain.", "pg_stat"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn head(sql: &str) -> &str {
    let mut end = sql.len().min(120);
    while !sql.is_char_boundary(end) {
        end -= 1;
    }
    &sql[..end]
}
