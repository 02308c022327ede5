//! gemm: tiles of 64 rows by 32 columns in workgroup memory.

use super::{Caps, Config, Family, Kernel, Operation, Request, compose};

pub static KERNEL: Kernel = Kernel {
    name: "gemm",
    operation: Operation::Matmul,
    family: Family::Gpu,
    shader: include_str!("../../shaders/kernel/gemm.wgsl"),
    configure,
};

fn configure(_: &Caps, request: &Request) -> Config {
    Config {
        constants: vec![],
        lookup: &compose::LOOKUP_MEMORY,
        parts: vec![compose::activations(request.cols)],
        workgroup: 128,
        workgroup_memory: (64 + 32) * 9 * 16,
        rows: 64,
        columns: 32,
        lanes_along_k: 1,
        loops_per_chunk: 1 + 8 + 8 * 5,
    }
}
