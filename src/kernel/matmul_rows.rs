//! matmul_rows: the matmul of software adapters for every batch size; one lane is one row, times four.

use super::{Activations, Caps, Config, Family, Kernel, Operation, Request, columns_for, compose};

pub static KERNEL: Kernel = Kernel {
    name: "matmul_rows",
    operation: Operation::Matmul,
    family: Family::Software,
    activations: &Activations::ALL,
    rounds_weights: false,
    shader: include_str!("../../shaders/kernel/matmul_rows.wgsl"),
    configs,
};

fn configs(caps: &Caps, request: &Request) -> Vec<Config> {
    let columns = columns_for(request.batch, 8);
    let subgroup = caps.fixed_subgroup();
    let (mut parts, loops) = match (subgroup, request.activations) {
        (Some(4), Activations::F32) => (vec![&compose::DOT_ROWS_BROADCAST], 8),
        (Some(size), Activations::F32) => (vec![&compose::DOT_ROWS_BROADCAST], 32 / size),
        _ => ([compose::chunks(request), vec![&compose::DOT_ROWS_PLAIN]].concat(), 40),
    };
    parts.extend(compose::tiles(request));
    let lookup = match subgroup {
        Some(8..) => &compose::LOOKUP_SHUFFLE,
        _ => &compose::LOOKUP_MEMORY,
    };
    let subgroup = subgroup.unwrap_or(8);
    vec![Config {
        constants: vec![("SUBGROUP", subgroup), ("COLS", columns)],
        lookup,
        parts,
        rows: 4 * subgroup,
        columns,
        loops_per_chunk: 1 + columns * (1 + loops),
        ..Config::new(subgroup)
    }]
}
