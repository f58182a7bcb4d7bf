//! Who is out of a database. While somebody needs it empty (it is dropped, renamed, copied), nothing of pgshunt connects to
//! it, and what was connected has left. Knows no connections: those who have some look here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub struct Gate {
    /// those who need it empty
    closed_by: AtomicUsize,
    changed: Notify,
}

/// The gate is closed as long as this lives.
#[derive(Debug)]
pub struct Closed(Arc<Gate>);

impl Gate {
    #[must_use]
    pub fn close(self: &Arc<Self>) -> Closed {
        self.closed_by.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_waiters();
        Closed(self.clone())
    }

    /// Waits until nobody keeps it closed.
    pub async fn opened(&self) {
        self.until(|closed_by| closed_by == 0).await;
    }

    /// Waits until somebody closes it.
    pub async fn closed(&self) {
        self.until(|closed_by| closed_by > 0).await;
    }

    async fn until(&self, reached: impl Fn(usize) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // from here on a change is heard, so that none is lost between the look and the wait
            changed.as_mut().enable();
            if reached(self.closed_by.load(Ordering::SeqCst)) {
                return;
            }
            changed.await;
        }
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.closed_by.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn it_opens_when_the_last_one_goes() {
        let gate = Arc::<Gate>::default();
        assert!(gate.opened().now_or_never().is_some());
        assert!(gate.closed().now_or_never().is_none());
        let (one, other) = (gate.close(), gate.close());
        let waits = gate.opened();
        tokio::pin!(waits);
        assert!(waits.as_mut().now_or_never().is_none());
        drop(one);
        assert!(waits.as_mut().now_or_never().is_none());
        assert!(gate.closed().now_or_never().is_some());
        drop(other);
        assert!(waits.now_or_never().is_some());
    }
}
