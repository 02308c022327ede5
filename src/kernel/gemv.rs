//! gemv: up to 8 columns per workgroup, lanes strided over k.

use super::{Activations, Caps, Config, Family, Kernel, Operation, Request, columns_for, compose};

pub static KERNEL: Kernel = Kernel {
    name: "gemv",
    operation: Operation::Matmul,
    family: Family::Gpu,
    activations: &Activations::ALL,
    rounds_weights: false,
    shader: include_str!("../../shaders/kernel/gemv.wgsl"),
    configs,
};

/// Rows and lanes of a workgroup. 32 weights a row live in registers: fewer rows where there are sums for several columns. What
/// is there for several is there for one, which may be left over from them.
const ONE_COLUMN: &[(u32, u32)] =
    &[(4, 64), (2, 64), (1, 64), (8, 64), (4, 32), (2, 32), (4, 128), (2, 128), (1, 128)];
const SEVERAL: &[(u32, u32)] = &[(2, 64), (1, 64), (4, 64), (2, 32), (2, 128)];

fn configs(caps: &Caps, request: &Request) -> Vec<Config> {
    let columns = columns_for(request.batch, 8);
    let shapes = if columns == 1 { ONE_COLUMN } else { SEVERAL };
    shapes.iter().map(|shape| config(caps, request, columns, *shape)).collect()
}

fn config(caps: &Caps, request: &Request, columns: u32, (rows, workgroup): (u32, u32)) -> Config {
    let sums = rows * columns;
    let (reduce, slots) = match caps.subgroup {
        Some((4.., _)) => (&compose::REDUCE_SUBGROUP, workgroup / 4),
        _ => (&compose::REDUCE_WORKGROUP, workgroup),
    };
    let mut parts = compose::chunks(request);
    parts.extend(compose::tiles(request));
    parts.push(reduce);
    Config {
        variant: format!("{rows}x{workgroup}"),
        constants: vec![("ROWS", rows), ("COLS", columns), ("SUMS", sums)],
        parts,
        workgroup_memory: sums * slots * 4,
        rows,
        columns,
        lanes_along_k: workgroup,
        loops_per_chunk: 1 + rows + columns * (1 + rows),
        ..Config::new(workgroup)
    }
}
