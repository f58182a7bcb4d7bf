//! Views of messages.
