//! From an outcome to a verdict: the only place where the two meet.
