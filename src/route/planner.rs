//! Statement and catalog to Plan.
