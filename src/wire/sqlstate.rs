//! SQLSTATEs that pgshunt itself reports.

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SqlState(pub &'static str);

impl SqlState {
    pub const FEATURE_NOT_SUPPORTED: Self = Self("0A000");
    pub const CONNECTION_EXCEPTION: Self = Self("08000");
    pub const CONNECTION_FAILURE: Self = Self("08006");
    pub const CANNOT_CONNECT: Self = Self("08001");
    pub const PROTOCOL_VIOLATION: Self = Self("08P01");
    pub const TRANSACTION_UNKNOWN: Self = Self("08007");
    pub const NOT_NULL_VIOLATION: Self = Self("23502");
    pub const INVALID_PARAMETER_VALUE: Self = Self("22023");
    pub const INVALID_TEXT: Self = Self("22P02");
    pub const NO_ACTIVE_TRANSACTION: Self = Self("25P01");
    pub const IN_FAILED_TRANSACTION: Self = Self("25P02");
    pub const READ_ONLY_TRANSACTION: Self = Self("25006");
    pub const INVALID_STATEMENT_NAME: Self = Self("26000");
    pub const DUPLICATE_STATEMENT: Self = Self("42P05");
    pub const INVALID_PASSWORD: Self = Self("28P01");
    pub const INVALID_AUTHORIZATION: Self = Self("28000");
    pub const INVALID_CATALOG_NAME: Self = Self("3D000");
    pub const INVALID_CURSOR_NAME: Self = Self("34000");
    pub const CHECK_VIOLATION: Self = Self("23514");
    pub const SYNTAX_ERROR: Self = Self("42601");
    pub const UNDEFINED_OBJECT: Self = Self("42704");
    pub const INSUFFICIENT_PRIVILEGE: Self = Self("42501");
    pub const TOO_MANY_CONNECTIONS: Self = Self("53300");
    pub const CONFIGURATION_LIMIT_EXCEEDED: Self = Self("53400");
    pub const PROGRAM_LIMIT_EXCEEDED: Self = Self("54000");
    pub const QUERY_CANCELED: Self = Self("57014");
    pub const ADMIN_SHUTDOWN: Self = Self("57P01");
    pub const CRASH_SHUTDOWN: Self = Self("57P02");
    pub const CANNOT_CONNECT_NOW: Self = Self("57P03");
    pub const DATA_CORRUPTED: Self = Self("XX001");
    pub const NOT_IN_PREREQUISITE_STATE: Self = Self("55000");
    pub const DUPLICATE_CURSOR: Self = Self("42P03");
    pub const INTERNAL_ERROR: Self = Self("XX000");
}
