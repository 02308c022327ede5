//! stage_int8_f32: activations rounded as LLM.int8 does, as f32.

use super::{Caps, Config, Family, Kernel, Operation, Request, compose};

pub(super) static KERNEL: Kernel = Kernel {
    name: "stage_int8_f32",
    operation: Operation::Stage,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../shaders/kernel/stage_int8_f32.wgsl"),
    configs,
};

/// The plan sets the constant: whether there is a mask of the batch.
fn configs(_: &Caps, _: &Request) -> Vec<Config> {
    let parts = vec![&compose::HALVES, &compose::LARGEST, &compose::INT8];
    vec![Config { constants: vec![("MASKED", 0)], parts, workgroup_memory: 64 * 4, ..Config::new(64) }]
}
