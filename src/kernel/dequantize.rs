//! dequantize: `y[m, k] = w[m, k]`, f32 from packed weights, equal to the CPU decoder bit for bit.

use super::{Caps, Config, Family, Kernel, Operation, Request, compose};

pub static KERNEL: Kernel = Kernel {
    name: "dequantize",
    operation: Operation::Dequantize,
    family: Family::Any,
    shader: include_str!("../../shaders/kernel/dequantize.wgsl"),
    configure,
};

/// One invocation decodes 32 weights; `rows` and `columns` do not apply.
pub fn configure(_: &Caps, _: &Request) -> Config {
    const WORKGROUP: u32 = 64;
    Config {
        constants: vec![("WORKGROUP", WORKGROUP)],
        lookup: &compose::LOOKUP_MEMORY,
        parts: vec![&compose::ROWS],
        workgroup: WORKGROUP,
        workgroup_memory: 0,
        rows: 1,
        columns: 1,
        lanes_along_k: 1,
        loops_per_chunk: 40,
    }
}
