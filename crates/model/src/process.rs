//! The life of one process: states, events, actions, and the one function that connects them.
