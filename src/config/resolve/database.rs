//! One database: its shards, tables and functions, and that they do not contradict one another.

use super::build::{Names, Resolver};
use super::{
    Database, DeclaredFunction, Positions, ServerAddress, Shard, ShardPlaces, ShardedTable,
    TablePlaces, amounts,
};
use crate::config::file::{DatabaseFile, FunctionFile, ShardFile, TableFile};
use crate::config::place::{At, Place};
use crate::shard::{Keyspace, ShardId};
use std::collections::HashMap;

/// Shards are told apart in a few bytes wherever they are counted.
const SHARDS_MAX: usize = 1024;

impl Resolver<'_> {
    pub(super) fn databases(&mut self, written: &[At<DatabaseFile>]) -> Vec<Database> {
        let mut seen = Names::new("database");
        let mut databases = Vec::with_capacity(written.len());
        for database in written.iter().map(|database| &database.value) {
            self.name(&database.name, "a database name");
            seen.note(&database.name, &mut self.problems);
            databases.push(self.database(database));
        }
        databases
    }

    fn database(&mut self, written: &DatabaseFile) -> Database {
        if let Some(name) = &written.server_database {
            self.name(name, "a database name");
        }
        self.name(&written.control.user, "a user name");
        let shards = self.shards(&written.shards);
        let shard_names: Vec<&str> = shards.iter().map(|shard| shard.name.as_str()).collect();
        let home = written
            .home
            .as_ref()
            .and_then(|home| self.known(home, "shard", &shard_names))
            .unwrap_or(0);
        let keyspaces = self.keyspaces(&written.keyspaces, &shard_names);
        let tables = self.tables(&written.tables, &keyspaces);
        let reference_tables = self.reference_tables(&written.reference_tables);
        self.tables_once(written);
        let functions = self.functions(written, &keyspaces);
        Database {
            name: written.name.value.clone(),
            server_database: written
                .server_database
                .as_ref()
                .unwrap_or(&written.name)
                .value
                .clone(),
            home: ShardId(u16::try_from(home).unwrap_or(0)),
            scratch_server: written
                .scratch_server
                .as_ref()
                .map(|server| self.server_address(server)),
            shards,
            keyspaces,
            tables,
            reference_tables,
            functions,
            pool: amounts::pool(&written.pool, &mut self.problems),
            consistency: amounts::consistency(&written.consistency, &mut self.problems),
            server_tls: self.server_tls(&written.server_tls),
            bounds: amounts::bounds(&written.limits, &mut self.problems),
            control_user: written.control.user.value.clone(),
            control_password: written
                .control
                .password
                .as_ref()
                .and_then(|password| self.login_password(password)),
            positions: positions(written, self.file),
        }
    }

    fn shards(&mut self, written: &At<Vec<At<ShardFile>>>) -> Vec<Shard> {
        if written.value.is_empty() || written.value.len() > SHARDS_MAX {
            let found = format!("{} shards", written.value.len());
            self.problems
                .add(written.place, found, format!("1 to {SHARDS_MAX} shards"));
        }
        let mut seen = Names::new("shard");
        let mut shards = Vec::with_capacity(written.value.len());
        for shard in written.value.iter().map(|shard| &shard.value) {
            self.word(&shard.name, "a shard name");
            seen.note(&shard.name, &mut self.problems);
            shards.push(Shard {
                name: shard.name.value.clone(),
                primary: self.server_address(&shard.primary),
                replicas: shard
                    .replicas
                    .iter()
                    .map(|replica| self.server_address(replica))
                    .collect(),
            });
        }
        self.servers_once(written, &shards);
        shards
    }

    /// A server that is listed twice would be counted, or written to, as if it were two.
    fn servers_once(&mut self, written: &At<Vec<At<ShardFile>>>, shards: &[Shard]) {
        let mut seen: HashMap<ServerAddress, (&str, Place)> = HashMap::new();
        for (shard, file) in shards
            .iter()
            .zip(written.value.iter().map(|shard| &shard.value))
        {
            let places = std::iter::once(file.primary.place)
                .chain(file.replicas.iter().map(|replica| replica.place));
            let addresses = std::iter::once(&shard.primary).chain(&shard.replicas);
            for (address, place) in addresses.zip(places) {
                let Some((first, first_place)) = seen.insert(address.clone(), (&shard.name, place))
                else {
                    continue;
                };
                let owner = if first == shard.name {
                    "of this shard already".into()
                } else {
                    format!("of shard `{first}`")
                };
                let found = format!(
                    "the server {}:{}, which is {owner} (line {})",
                    address.host, address.port, first_place.line
                );
                self.problems.add(place, found, "each server once");
            }
        }
    }

    fn tables(&mut self, written: &[At<TableFile>], keyspaces: &[Keyspace]) -> Vec<ShardedTable> {
        let names: Vec<&str> = keyspaces
            .iter()
            .map(|keyspace| keyspace.name.as_str())
            .collect();
        let mut tables = Vec::with_capacity(written.len());
        for table in written.iter().map(|table| &table.value) {
            let (schema, name) = self.table_name(&table.name);
            let keyspace = self.known(&table.keyspace, "keyspace", &names);
            self.key(table, keyspace.and_then(|keyspace| keyspaces.get(keyspace)));
            let key = table
                .key
                .value
                .0
                .iter()
                .map(|column| column.value.clone())
                .collect();
            tables.push(ShardedTable {
                schema,
                name,
                keyspace: keyspace.unwrap_or(0),
                key,
            });
        }
        tables
    }

    fn key(&mut self, table: &TableFile, keyspace: Option<&Keyspace>) {
        let columns = &table.key.value.0;
        let mut seen = Names::new("key column");
        for column in columns {
            self.name(column, "a column name");
            seen.note(column, &mut self.problems);
        }
        if let Some(keyspace) = keyspace.filter(|keyspace| keyspace.types.len() != columns.len()) {
            let types: Vec<&str> = keyspace
                .types
                .iter()
                .map(|key_type| key_type.name())
                .collect();
            let found = format!(
                "{} for table `{}`",
                plural(columns.len(), "key column"),
                table.name.value
            );
            let expected = format!(
                "{} as keyspace `{}` has ({})",
                types.len(),
                keyspace.name,
                types.join(", ")
            );
            self.problems.add(table.key.place, found, expected);
        }
    }

    fn reference_tables(&mut self, written: &[At<String>]) -> Vec<(String, String)> {
        written.iter().map(|table| self.table_name(table)).collect()
    }

    /// `name` or `schema.name`, as in pg_class.
    fn table_name(&mut self, written: &At<String>) -> (String, String) {
        let (schema, name) = written
            .value
            .split_once('.')
            .unwrap_or(("public", &written.value));
        if schema.is_empty()
            || name.is_empty()
            || name.contains('.')
            || written.value.contains('\0')
        {
            self.problems.add(
                written.place,
                format!("`{}`", written.value.escape_debug()),
                "a table as `name` or `schema.name`",
            );
        }
        (schema.to_owned(), name.to_owned())
    }

    /// A table has one placement.
    fn tables_once(&mut self, written: &DatabaseFile) {
        let sharded = written.tables.iter().map(|table| {
            (
                &table.value.name,
                format!("in keyspace `{}`", table.value.keyspace.value),
            )
        });
        let reference = written
            .reference_tables
            .iter()
            .map(|table| (table, "a reference table".to_owned()));
        let mut seen: HashMap<&str, (String, Place)> = HashMap::new();
        for (name, how) in sharded.chain(reference) {
            let bare = name.value.strip_prefix("public.").unwrap_or(&name.value);
            match seen.get(bare) {
                Some((first, place)) => {
                    let found = format!(
                        "table `{}` {how}, which is already {first} (line {})",
                        name.value, place.line
                    );
                    self.problems.add(
                        name.place,
                        found,
                        "each table once, in one keyspace or as a reference table",
                    );
                }
                None => drop(seen.insert(bare, (how, name.place))),
            }
        }
    }

    fn functions(
        &mut self,
        written: &DatabaseFile,
        keyspaces: &[Keyspace],
    ) -> HashMap<String, DeclaredFunction> {
        let mut functions = HashMap::with_capacity(written.functions.len());
        for (name, function) in &written.functions {
            if name.is_empty() || name.contains(['.', '(', '\0']) {
                self.problems.add(
                    function.place,
                    format!("function `{}`", name.escape_debug()),
                    "its name alone, without schema and arguments",
                );
            }
            let declared = match function.value {
                FunctionFile::Pure => DeclaredFunction::Pure,
                FunctionFile::Home => DeclaredFunction::Home,
                FunctionFile::KeyArgument(argument) => {
                    self.key_argument(function.place, argument, keyspaces);
                    DeclaredFunction::KeyArgument(usize::from(argument))
                }
            };
            functions.insert(name.clone(), declared);
        }
        functions
    }

    fn key_argument(&mut self, place: Place, argument: u16, keyspaces: &[Keyspace]) {
        if argument == 0 {
            self.problems
                .add(place, "`key_argument: 0`", "1 for the first argument");
        }
        // Which keyspace's key the argument is must not be guessed.
        if !matches!(keyspaces, [keyspace] if keyspace.types.len() == 1) {
            let found = format!(
                "`key_argument` in a database with {}",
                plural(keyspaces.len(), "keyspace")
            );
            self.problems.add(
                place,
                found,
                "exactly one keyspace, with a key of one column",
            );
        }
    }
}

fn positions(written: &DatabaseFile, file: &str) -> Positions {
    let shard = |shard: &At<ShardFile>| ShardPlaces {
        name: shard.value.name.place,
        primary: shard.value.primary.place,
        replicas: shard
            .value
            .replicas
            .iter()
            .map(|replica| replica.place)
            .collect(),
    };
    let table = |table: &At<TableFile>| TablePlaces {
        name: table.value.name.place,
        keyspace: table.value.keyspace.place,
        key: table
            .value
            .key
            .value
            .0
            .iter()
            .map(|column| or(column.place, table.value.key.place))
            .collect(),
    };
    Positions {
        file: file.to_owned(),
        database: written.name.place,
        home: written
            .home
            .as_ref()
            .map_or(written.name.place, |home| home.place),
        scratch_server: written
            .scratch_server
            .as_ref()
            .map_or(written.name.place, |server| server.place),
        control: written.control.user.place,
        server_tls: or(written.server_tls.mode.place, written.name.place),
        shards: written.shards.value.iter().map(shard).collect(),
        keyspaces: written
            .keyspaces
            .iter()
            .map(|keyspace| keyspace.value.name.place)
            .collect(),
        tables: written.tables.iter().map(table).collect(),
        reference_tables: written
            .reference_tables
            .iter()
            .map(|table| table.place)
            .collect(),
        functions: written
            .functions
            .iter()
            .map(|(name, function)| (name.clone(), function.place))
            .collect(),
    }
}

/// A single name stands where its list would.
fn or(place: Place, otherwise: Place) -> Place {
    if place.is_known() { place } else { otherwise }
}

pub(super) fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
