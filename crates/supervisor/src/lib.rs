//! Keeps programs in the wanted state: decide, then do.
