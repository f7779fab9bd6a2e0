//! The gate of an endpoint within one worker process: open, held until a time, or tripped.
