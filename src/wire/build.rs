//! Builders of messages.
