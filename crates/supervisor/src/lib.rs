//! Keeps programs in the wanted state: decide, then do.
//!
//! The [`fleet`] decides: one value that holds every process slot, and one function from an event and the time to
//! effects, without a clock, an await or I/O. The [`runtime`] does: one loop on the main thread that waits for what
//! happens (children that end, messages on links, output, timers, signals, commands), hands it to the fleet and carries
//! out the effects. Everybody else holds a [`handle::Handle`]: asks, and looks at published snapshots.
//!
//! The supervisor never speaks to a queue. What a dead worker held is given back by a recovery child it starts.

pub mod fleet;
pub mod handle;
pub mod runtime;

pub use fleet::Ended;
pub use fleet::watches::{Watch, Watched};
pub use handle::{Changes, Handle, Manifests};
pub use runtime::logs::tail::CarriedLog;
pub use runtime::logs::tail::{Chunk, LogReader, OwnLog, Stream};
pub use runtime::{Lived, Outside, Progress, Reload, Setup, State, Supervisor, Unreadable};
