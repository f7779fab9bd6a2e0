//! The contract of every driver, held by Laravel's.

use crate::rig::LaravelRig;

crate::contract!(LaravelRig::new());
