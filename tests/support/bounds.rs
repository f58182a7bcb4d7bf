//! How much of what the differential tests ask must be answered exactly, in percent. The rest is refused; nothing may be wrong.
//! These numbers only rise. The aim is 98 %, and all of TPC-H.
#![allow(dead_code, reason = "each test file uses its part")]

/// `tests/tpch.rs`: 22 queries, each in every manner
pub const TPCH: f64 = 100.0;

/// `tests/tenants.rs`: of one tenant, over tenants, the same under other settings, in a transaction that has written, by DECLARE
/// and FETCH
pub const TENANTS: [f64; 5] = [100.0, 98.0, 98.0, 97.0, 99.0];

/// `tests/generated.rs`
pub const GENERATED: f64 = 98.0;
