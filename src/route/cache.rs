//! The plan cache: lifted text and context to plan, bounded, one lookup a query.
