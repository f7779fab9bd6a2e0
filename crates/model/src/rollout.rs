//! A rolling restart: who is next, and when to halt.
