//! stage_int8_one: all that LLM.int8 does to the activations of one column.

use super::{Caps, Config, Family, Kernel, Operation, Request, compose};

pub(super) static KERNEL: Kernel = Kernel {
    name: "stage_int8_one",
    operation: Operation::Stage,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../shaders/kernel/stage_int8_one.wgsl"),
    configs,
};

const LANES: u32 = 64;

fn configs(_: &Caps, _: &Request) -> Vec<Config> {
    let parts = vec![&compose::HALVES, &compose::LARGEST, &compose::INT8];
    vec![Config { parts, workgroup_memory: 2 * LANES * 4, loops_per_chunk: 96, ..Config::new(LANES) }]
}
