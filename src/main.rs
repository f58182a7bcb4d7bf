//! The command line: serve, check, explain, schema.

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Returns what idle clients have given back, and costs less than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A sharding-aware proxy for PostgreSQL.
#[derive(Parser)]
#[command(
    name = "pgshunt",
    version,
    about,
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    map: Map,
}

#[derive(clap::Args, Clone)]
struct Map {
    /// the shard map
    #[arg(long, value_name = "FILE", default_value = "shard-map.yaml")]
    map: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Serve clients (the default)
    Serve(Map),
    /// Check the shard map against the live servers, without serving
    Check(Map),
    /// Say where a statement would go, and why
    Explain {
        #[command(flatten)]
        map: Map,
        /// the database of the shard map (default: its first)
        #[arg(long)]
        database: Option<String>,
        /// the statement
        sql: String,
    },
    /// Print the JSON Schema of the shard map
    Schema {
        #[command(flatten)]
        _map: Map,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        None => pgshunt::server::serve(&arguments.map.map),
        Some(Command::Serve(map)) => pgshunt::server::serve(&map.map),
        Some(Command::Check(map)) => pgshunt::server::inspect::check(&map.map),
        Some(Command::Explain { map, database, sql }) => {
            pgshunt::server::inspect::explain(&map.map, database.as_deref(), &sql)
        }
        Some(Command::Schema { .. }) => pgshunt::server::inspect::schema(),
    }
}
