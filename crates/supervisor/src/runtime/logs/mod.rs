//! What becomes of the children's output: read without ever blocking a child, kept in memory for `tail`, written to our
//! own output and to files by a thread of its own.

pub mod tail;
