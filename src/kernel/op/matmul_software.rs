//! matmul_software: the matmul of software adapters for every batch size; one lane is one row,
//! times four.

use crate::format::Codes;
use crate::kernel::activations::Activations;
use crate::kernel::compose;
use crate::kernel::op::product::Params;
use crate::kernel::parts;
use crate::kernel::program::Parameters;
use crate::kernel::shard::software_lanes;
use crate::kernel::types::{Caps, Family, Kernel, KernelConfig, Operation, Problem, columns_for};

pub static KERNEL: Kernel = Kernel {
    name: "matmul_software",
    operation: Operation::Matmul,
    family: Family::Software,
    activations: &Activations::ALL,
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/matmul_software.wgsl"),
    params: Params::FIELDS,
    configs,
};

/// Weights are decoded once for these. More of them want more of a stack than a first-level cache
/// holds, and experts get few columns each.
fn columns(request: &Problem) -> u32 {
    columns_for(request.batch, if request.batch < 16 || request.experts { 8 } else { 16 })
}

/// With f32 activations, one column and codes: scales come in once for 16 products, and few weights
/// are in registers at a time. For several columns it is better to decode once.
fn configs(caps: &Caps, request: &Problem) -> Vec<KernelConfig> {
    let columns = columns(request);
    let subgroup = caps.fixed_subgroup();
    let exact = request.activations == Activations::F32;
    let plain = || {
        config(
            caps,
            request,
            columns,
            [compose::chunks(caps, request), vec![&parts::DOT_ROWS_PLAIN]].concat(),
            40,
        )
    };
    let shared = |part, variant: &str| {
        let loops = 2 * (32 / software_lanes(caps));
        KernelConfig {
            variant: variant.into(),
            ..config(caps, request, columns, [&compose::shared_x(caps, request)[..], &[part]].concat(), loops)
        }
    };
    match (subgroup, exact) {
        (Some(_), true) if request.codes != Codes::None && columns == 1 => {
            let mut codes = shared(&parts::DOT_ROWS_CODES, "codes");
            codes.parts.push(&parts::CODES_ALONE);
            vec![codes, shared(&parts::DOT_ROWS_BROADCAST, "decoded")]
        }
        (Some(_), true) => vec![shared(&parts::DOT_ROWS_BROADCAST, "decoded")],
        _ => vec![plain()],
    }
}

fn config(
    caps: &Caps,
    request: &Problem,
    columns: u32,
    mut parts: Vec<&'static parts::Part>,
    loops: u32,
) -> KernelConfig {
    parts.extend(compose::tiles(request));
    parts.push(&parts::SHARED_NONE);
    // For fewer columns the loop costs as much as it saves (Mesa 26.2.6), or more (22.3.6).
    let (sums, turns) = match columns {
        ..8 => (&parts::SUMS_UNROLLED, columns),
        _ => (&parts::SUMS_IN_TURN, columns / 2 * (1 + columns)),
    };
    parts.push(sums);
    let lookup = match caps.fixed_subgroup() {
        Some(8..) => &parts::LOOKUP_SHUFFLE,
        _ => &parts::LOOKUP_MEMORY,
    };
    let subgroup = software_lanes(caps);
    KernelConfig {
        constants: vec![("SUBGROUP", subgroup), ("COLS", columns)],
        lookup,
        words: if caps.int64 { &parts::WORDS_64 } else { &parts::WORDS_32 },
        parts,
        rows: 4 * subgroup,
        columns,
        // A chunk may begin a stretch of shared words, which is a loop of its own.
        loops_per_chunk: 2 + turns + columns * loops,
        ..KernelConfig::new(subgroup)
    }
}
