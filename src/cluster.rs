//! The servers behind the shards: who they are, how they are, which one may serve. Also what the control plane asks of
//! them: schema, checks, key values.

pub mod control;
pub mod health;
pub mod load;
pub mod sampler;
pub mod topology;
