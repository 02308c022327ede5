//! row_scales: the power of two that a kernel with f16 weights takes out of each row.

use super::{Caps, Config, Family, Kernel, Operation, Request};

pub static KERNEL: Kernel = Kernel {
    name: "row_scales",
    operation: Operation::RowScales,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../shaders/kernel/row_scales.wgsl"),
    configs,
};

fn configs(_: &Caps, _: &Request) -> Vec<Config> {
    vec![Config { workgroup_memory: 64 * 4, ..Config::new(64) }]
}
