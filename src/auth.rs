//! Who is there: logging clients in, and logging in to servers. Knows users and passwords; knows no SQL and no pools.

pub mod binding;
pub mod client;
pub mod keys;
pub mod scram;
pub mod server;
pub mod startup;
pub mod users;
