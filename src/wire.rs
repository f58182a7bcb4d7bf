//! The PostgreSQL wire protocol as bytes: frames, views, builders. No I/O, imports nothing of ours.

pub mod build;
pub mod frame;
pub mod message;
pub mod sqlstate;
