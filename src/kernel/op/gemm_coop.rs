//! gemm_coop: tiles of f16 in workgroup memory, multiplied by cooperative matrices with f32 sums.

use crate::format::Codes;
use crate::kernel::activations::Activations;
use crate::kernel::compose;
use crate::kernel::op::gemm;
use crate::kernel::op::product::Params;
use crate::kernel::parts;
use crate::kernel::program::Parameters;
use crate::kernel::types::{Caps, Family, Kernel, KernelConfig, Operation, Problem};

pub static KERNEL: Kernel = Kernel {
    name: "gemm_coop",
    operation: Operation::Matmul,
    family: Family::Gpu,
    activations: &[Activations::F16],
    rounds_weights: true,
    shader: include_str!("../../../shaders/op/gemm_coop.wgsl"),
    params: Params::FIELDS,
    configs,
};

/// Matrices of sums of a subgroup, along the rows and along the columns; a tile is two subgroups by
/// two. At most 16, which is what the shader stores.
const MATRICES: &[(u32, u32)] = &[(4, 4), (4, 2), (2, 2), (2, 1)];

/// None unless the device has f16 and cooperative matrices that passed the probe.
fn configs(caps: &Caps, request: &Problem) -> Vec<KernelConfig> {
    let (Some(edge), Some((_, subgroup)), true) = (caps.cooperative, caps.subgroup, caps.f16) else {
        return vec![];
    };
    let mut tiles: Vec<_> =
        MATRICES.iter().map(|(rows, columns)| [2 * edge * rows, 2 * edge * columns]).collect();
    tiles.sort_by(|a, b| gemm::cost(request, *a).total_cmp(&gemm::cost(request, *b)));
    let mut configs = vec![];
    for [rows, columns] in tiles {
        for splits in gemm::splits(request, rows, columns) {
            configs.push(config(edge, 4 * subgroup, [rows, columns], splits, request));
        }
    }
    configs
}

fn config(edge: u32, lanes: u32, [rows, columns]: [u32; 2], splits: u32, request: &Problem) -> KernelConfig {
    let matrices = if edge == 8 { &parts::COOP_8 } else { &parts::COOP_16 };
    let has_codes = request.codes != Codes::None && !request.gathered;
    let halves = if has_codes { &parts::HALVES_OF_CODES } else { &parts::HALVES_OF_WEIGHTS };
    let mut parts = vec![matrices, &parts::X_HALVES, halves];
    parts.extend(compose::tiles(request));
    // Registers for the next chunk where the sums leave room for few workgroups only.
    let ahead = rows * columns == 64 * edge * edge;
    KernelConfig {
        variant: gemm::variant(rows, columns, splits),
        constants: vec![
            ("TILE_ROWS", rows),
            ("TILE_COLS", columns),
            ("PARTS", (lanes / rows).clamp(1, 4)),
            ("AHEAD", u32::from(ahead)),
        ],
        parts,
        lookup: &parts::LOOKUP_BYTES,
        // Two tiles of f16, 40 to a row, and a matrix of sums of each subgroup.
        workgroup_memory: (rows + columns) * 40 * 2 + 4 * edge * edge * 4,
        rows,
        columns,
        loops_per_chunk: 200,
        splits,
        enables: &["f16", "wgpu_cooperative_matrix"],
        ..KernelConfig::new(lanes)
    }
}
