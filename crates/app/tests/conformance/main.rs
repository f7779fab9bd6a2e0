//! BullMQ's and Bull's queues worked by a fleet, judged by the libraries themselves: they produce, listen and inspect, the
//! binary works. One file a behaviour, and the same for every library that has it.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

/// Makes functions tests of each library that has the behaviour, such as `taking::order::bullmq6`.
macro_rules! conforms {
    (every: $($behaviour:ident),+) => { conforms!(@each [bullmq5 bullmq6 bull4] $($behaviour)+); };
    (bullmq: $($behaviour:ident),+) => { conforms!(@each [bullmq5 bullmq6] $($behaviour)+); };
    (repeating: $($behaviour:ident),+) => { conforms!(@each [bullmq5 bull4] $($behaviour)+); };
    (@each $libraries:tt $($behaviour:ident)+) => { $(conforms!(@one $libraries $behaviour);)+ };
    (@one [$($library:ident)+] $behaviour:ident) => {
        mod $behaviour {
            $(#[test]
            fn $library() {
                super::$behaviour(crate::stage::Library::$library());
            })+
        }
    };
}

mod iterations;
mod life;
mod stage;
#[path = "../e2e/support/mod.rs"]
#[allow(dead_code, reason = "each of the two test programs needs its part of it")]
mod support;
mod tally;

mod board;
mod commands;
mod crashes;
mod data;
mod deduplication;
mod drained;
mod dumps;
mod events;
mod finishing;
mod flows;
mod limits;
mod locks;
mod malformed;
mod metrics;
mod mixed_fleets;
mod presence;
mod remarks;
mod removal;
mod repeatables;
mod retries;
mod rolling_back;
mod routing;
mod schedulers;
mod snoozing;
mod stalled;
mod taking;
mod telemetry;
mod unrecoverable;
mod versions;
