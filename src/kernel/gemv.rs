//! gemv: up to 8 columns per workgroup, lanes strided over k.

use super::{Caps, Config, Family, Kernel, Operation, Request, columns_for, compose};

pub static KERNEL: Kernel = Kernel {
    name: "gemv",
    operation: Operation::Matmul,
    family: Family::Gpu,
    shader: include_str!("../../shaders/kernel/gemv.wgsl"),
    configure,
};

fn configure(caps: &Caps, request: &Request) -> Config {
    const WORKGROUP: u32 = 64;
    let columns = columns_for(request.batch, 8);
    // 32 weights a row live in registers: fewer rows where there are sums for several columns.
    let rows = if columns == 1 { 4 } else { 2 };
    let sums = rows * columns;
    let (reduce, slots) = match caps.subgroup {
        Some((4.., _)) => (&compose::REDUCE_SUBGROUP, WORKGROUP / 4),
        _ => (&compose::REDUCE_WORKGROUP, WORKGROUP),
    };
    Config {
        constants: vec![("WORKGROUP", WORKGROUP), ("ROWS", rows), ("COLS", columns), ("SUMS", sums)],
        lookup: &compose::LOOKUP_MEMORY,
        parts: vec![compose::activations(request.cols), reduce],
        workgroup: WORKGROUP,
        workgroup_memory: sums * slots * 4,
        rows,
        columns,
        lanes_along_k: WORKGROUP,
        loops_per_chunk: 1 + rows + columns * (1 + rows),
    }
}
