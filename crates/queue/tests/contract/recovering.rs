//! Promises about the jobs of dead workers.
