//! The full lane: every format × every kernel × every shape. `cargo test --test full`, an hour on
//! two cores; `make test-full` runs it.

#[path = "../common/cells.rs"]
mod cells;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/device.rs"]
mod device;
mod product;
