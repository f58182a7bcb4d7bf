//! How much of what the differential tests ask must be answered exactly, in percent. The rest is refused; nothing may be wrong.
//! These numbers only rise. The aim is 98 %, and all of TPC-H.
#![allow(dead_code, reason = "each test file uses its part")]

/// `tests/tpch.rs`: 22 queries, each in every manner
pub const TPCH: f64 = 0.0;

/// `tests/tenants.rs`: the statements that span tenants
pub const TENANTS: f64 = 4.0;

/// `tests/generated.rs`
pub const GENERATED: f64 = 6.0;

/// `tests/tenants.rs`: the statements of one tenant
pub const ONE_TENANT: f64 = 100.0;

/// `tests/tenants.rs`: the same in a transaction that has written
pub const TENANTS_IN_TRANSACTIONS: f64 = 4.0;

/// `tests/tenants.rs`: the same by DECLARE and FETCH
pub const TENANTS_BY_CURSOR: f64 = 0.0;
