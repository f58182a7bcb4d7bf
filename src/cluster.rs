pub mod check;
pub mod compare;
pub mod draw;
pub mod finding;
pub mod inspect;
pub mod load;
