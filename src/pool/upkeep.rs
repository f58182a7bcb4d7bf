//! The task that keeps pools in shape: sweeps them now and then, closes what is old, dials what is missing.
//! What is to be done is decided in `expiry`; how a server is dialled and closed comes in from outside.

use super::checkout_error::DialFailure;
use super::lending::Pool;
use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How the owner of a pool dials and closes its servers.
pub trait Keeper<S>: Send + Sync + 'static {
    fn dial(&self, pool: &Arc<Pool<S>>) -> impl Future<Output = Result<S, DialFailure>> + Send;
    /// Is this idle server still there? Looks without waiting.
    fn is_alive(&self, server: &mut S) -> bool;
    fn close(&self, server: S);
}

/// One round over one pool. Dials run as tasks of their own, so that a slow one does not hold up the next sweep; each
/// holds a slot of its pool, which bounds them.
pub fn sweep<S, K>(pool: &Arc<Pool<S>>, keeper: &Arc<K>, now: Instant)
where
    S: Send + 'static,
    K: Keeper<S>,
{
    for dead in pool.cull(|server| keeper.is_alive(server)) {
        dead.close_with(|server| keeper.close(server));
    }
    let sweep = pool.sweep(now);
    for old in sweep.closed {
        old.close_with(|server| keeper.close(server));
    }
    for permit in sweep.dials {
        let (pool, keeper) = (pool.clone(), keeper.clone());
        tokio::spawn(async move {
            match keeper.dial(&pool).await {
                Ok(server) => permit.fulfil(server).check_in(),
                Err(failure) => drop(permit.fail(failure)),
            }
        });
    }
}

/// Sweeps one pool every `pause` until its owner has dropped it.
pub async fn run<S, K>(pool: Weak<Pool<S>>, keeper: Arc<K>, pause: Duration)
where
    S: Send + 'static,
    K: Keeper<S>,
{
    loop {
        tokio::time::sleep(pause).await;
        let Some(pool) = pool.upgrade() else { return };
        sweep(&pool, &keeper, Instant::now());
    }
}
