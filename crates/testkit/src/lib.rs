//! Real servers and scratch places for the tests.
//!
//! Nothing here imitates a server: Redis is `redis-server`, Laravel is PHP with the Illuminate libraries, certificates come
//! from `openssl`. Only the far end of an HTTP handler, which every user writes anew, is played by [`Receiver`]. Everything
//! blocks, cleans up when dropped, dies with the test process even if that one is killed, and may run in parallel.
//!
//! A broken set-up is a broken test, so these functions panic with what is missing instead of returning errors.
//!
//! | Wanted | Here |
//! | --- | --- |
//! | a place for files and sockets | [`Scratch`] |
//! | a child that never outlives the test | [`Guarded`] |
//! | a Redis, to break at will; one with replica and sentinels; a cluster | [`RedisServer`], [`Sentinels`], [`RedisCluster`] |
//! | a Laravel that pushes and works jobs | [`Php`] |
//! | a Node with BullMQ or Bull that adds, works and listens | [`Node`] |
//! | payloads of many Laravel versions | [`laravel_payloads`], [`cjson_traps`] |
//! | the far end of an HTTP handler, and answers that wait for the test | [`Receiver`], [`Gate`] |
//! | waiting for something | [`eventually`] |

mod certificates;
mod eventually;
mod fixtures;
mod gate;
mod guarded;
mod node;
mod php;
mod ports;
mod receiver;
mod redis_cluster;
mod redis_server;
mod scratch;
mod sentinels;

pub use certificates::Certificates;
pub use eventually::eventually;
pub use fixtures::{CjsonTrap, Shape, cjson_traps, laravel_payloads};
pub use gate::Gate;
pub use guarded::Guarded;
pub use node::Node;
pub use php::{JobKind, Php, PhpWorker, Push, Pushed, WorkEvent, WorkerOptions};
pub use ports::free_port;
pub use receiver::{Answer, Received, Receiver};
pub use redis_cluster::RedisCluster;
pub use redis_server::{RedisServer, RedisServerBuilder};
pub use scratch::Scratch;
pub use sentinels::Sentinels;
