//! gemv: up to 8 columns per workgroup, lanes strided over k.

use crate::kernel::activations::Activations;
use crate::kernel::compose;
use crate::kernel::op::product::Params;
use crate::kernel::parts;
use crate::kernel::program::Parameters;
use crate::kernel::types::{Caps, Family, Kernel, KernelConfig, Operation, Problem, columns_for};

pub static KERNEL: Kernel = Kernel {
    name: "gemv",
    operation: Operation::Matmul,
    family: Family::Gpu,
    activations: &Activations::ALL,
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/gemv.wgsl"),
    params: Params::FIELDS,
    configs,
};

/// A shape: rows and lanes of a workgroup, and whether the activations go through workgroup memory.
type Shape = (u32, u32, bool);

/// The best guess first. 32 weights a row live in registers: fewer rows where there are sums for
/// several columns. What is there for several is there for one, which may be left over from them.
const ONE_COLUMN: &[Shape] = &[
    (4, 64, true),
    (4, 64, false),
    (8, 64, true),
    (2, 64, true),
    (2, 64, false),
    (1, 64, false),
    (4, 32, true),
    (2, 32, false),
    (4, 128, true),
    (2, 128, false),
    (4, 32, false),
];
const SEVERAL: &[Shape] = &[
    (2, 64, false),
    (4, 64, false),
    (4, 32, true),
    (4, 32, false),
    (2, 32, false),
    (1, 64, false),
    (2, 128, false),
];

/// Shapes for which every way to look codes up is worth a try.
const LOOKED_UP: [&str; 2] = ["4x64", "2x64"];

fn configs(caps: &Caps, request: &Problem) -> Vec<KernelConfig> {
    let columns = columns_for(request.batch, 8);
    let shapes = if columns == 1 { ONE_COLUMN } else { SEVERAL };
    // Codes are a third of the bytes and are taken directly.
    let suits = |shape: &&Shape| !(shape.2 && request.activations == Activations::Q8);
    let mut all: Vec<_> =
        shapes.iter().filter(suits).map(|shape| config(caps, request, columns, *shape)).collect();
    if request.looked_up {
        let likely = all.iter().filter(|c| LOOKED_UP.contains(&&*c.variant));
        let other: Vec<_> = likely.flat_map(|c| lookups(caps, c)).collect();
        all.extend(other);
    }
    all
}

/// The other ways to look codes up. A subgroup hands values round from its first eight lanes, which
/// are the last to have chunks left.
fn lookups(caps: &Caps, config: &KernelConfig) -> Vec<KernelConfig> {
    let mut ways = vec![("bytes", &parts::LOOKUP_BYTES)];
    if caps.subgroup.is_some_and(|(least, _)| least >= 8) {
        ways.push(("shuffle", &parts::LOOKUP_SHUFFLE));
    }
    let named = |(name, lookup)| {
        let variant = format!("{}-{name}", config.variant);
        KernelConfig { variant, lookup, ..config.clone() }
    };
    ways.into_iter().map(named).collect()
}

fn config(caps: &Caps, request: &Problem, columns: u32, (rows, workgroup, staged): Shape) -> KernelConfig {
    let sums = rows * columns;
    let (reduce, slots) = match caps.subgroup {
        Some((4.., _)) => (&parts::REDUCE_SUBGROUP, workgroup / 4),
        _ => (&parts::REDUCE_WORKGROUP, workgroup),
    };
    let mut parts = compose::chunks(caps, request, staged);
    parts.extend(compose::tiles(request));
    parts.push(reduce);
    let tile = if staged { columns * workgroup * 9 * 16 } else { 0 };
    KernelConfig {
        variant: format!("{rows}x{workgroup}{}", if staged { "s" } else { "" }),
        constants: vec![("ROWS", rows), ("COLS", columns), ("SUMS", sums)],
        parts,
        workgroup_memory: sums * slots * 4 + tile,
        rows,
        columns,
        lanes_along_k: workgroup,
        loops_per_chunk: 1 + rows + columns * (1 + rows + 9),
        ..KernelConfig::new(workgroup)
    }
}
