//! matmul_rows: the matmul of software adapters for every batch size; one lane is one row, times four.

use super::{Caps, Config, Family, Kernel, Operation, Request, columns_for, compose};

pub static KERNEL: Kernel = Kernel {
    name: "matmul_rows",
    operation: Operation::Matmul,
    family: Family::Software,
    shader: include_str!("../../shaders/kernel/matmul_rows.wgsl"),
    configure,
};

fn configure(caps: &Caps, request: &Request) -> Config {
    let columns = columns_for(request.batch, 8);
    let (dot, lookup, subgroup, loops) = match caps.fixed_subgroup() {
        Some(4) => (&compose::DOT_ROWS_BROADCAST, &compose::LOOKUP_MEMORY, 4, 8),
        Some(size) => (&compose::DOT_ROWS_BROADCAST, &compose::LOOKUP_SHUFFLE, size, 32 / size),
        None => (&compose::DOT_ROWS_PLAIN, &compose::LOOKUP_MEMORY, 8, 40),
    };
    Config {
        constants: vec![("SUBGROUP", subgroup), ("COLS", columns)],
        lookup,
        parts: vec![dot],
        workgroup: subgroup,
        workgroup_memory: 0,
        rows: 4 * subgroup,
        columns,
        lanes_along_k: 1,
        loops_per_chunk: 1 + columns * (1 + loops),
    }
}
