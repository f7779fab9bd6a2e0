//! Runs jobs: slots, leases, timeouts, drain, and the handlers.
