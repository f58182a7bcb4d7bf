//! pgshunt: a sharding-aware proxy for PostgreSQL. ARCHITECTURE.md is the map of the house.

pub mod config;
pub mod log;
pub mod stats;
pub mod wire;

pub mod auth;
pub mod net;
pub mod vars;

pub mod catalog;
pub mod consistency;
pub mod route;
pub mod shard;
pub mod sql;

pub mod cluster;
pub mod pool;

pub mod exec;

pub mod admin;
pub mod session;

pub mod server;
