//! Who is there: logging clients in, and logging in to servers. Knows users and passwords; knows no SQL and no pools.

pub mod access;
pub mod binding;
pub mod certificate;
pub mod client;
pub mod keyring;
pub mod keys;
pub mod lookup;
pub mod md5;
pub mod passing;
pub mod scram;
pub mod server;
pub mod startup;
pub mod users;
