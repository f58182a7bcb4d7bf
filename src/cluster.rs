//! The servers behind the shards: who they are, how they are, which one may serve. Also what the control plane asks of
//! them: schema, checks, key values.

pub mod check;
pub mod compare;
pub mod control;
pub mod draw;
pub mod finding;
pub mod gate;
pub mod health;
pub mod inspect;
pub mod load;
pub mod notifications;
pub mod patience;
pub mod sampler;
pub mod scratch;
pub mod topology;
