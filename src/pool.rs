//! Server connections and their lending. A pool is one server, one database, one user.
//! It lends servers; it does not know what will be asked of them.

pub mod ceiling;
pub mod checkout_error;
pub mod expiry;
pub mod lease;
pub mod lending;
pub mod upkeep;
mod wishes;

pub use ceiling::{Ceiling, Ceilings};
pub use checkout_error::{CheckoutError, DialFailure};
pub use lease::{Borrower, Checkout, DialPermit, Lease, Retired};
pub use lending::{Pool, PoolName, PoolStatus, PoolTotals};
pub mod outstanding;
pub mod server;
