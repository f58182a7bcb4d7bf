//! Running what the planner decided: the only place where thinking (plans) and holding (servers) meet.

pub mod backend;
pub mod brought;
pub mod cancel;
pub mod cancels;
pub mod client;
pub mod combine;
pub mod commit;
pub mod copy;
pub mod cursors;
pub mod everywhere;
pub mod executor;
pub mod explain;
pub mod failure;
pub mod flowing;
pub mod freshness;
pub mod gather;
pub mod held;
pub mod job;
pub mod lane;
pub mod listening;
pub mod measure;
pub mod merge;
pub mod neighbours;
pub mod overrun;
pub mod relay;
mod ride;
pub mod scatter;
pub mod sequences;
pub mod servers;
pub mod single;
mod time;
pub mod transaction;
mod verify;
pub mod waits;

pub use executor::{Done, Executor};
pub use failure::{Failure, Report};
