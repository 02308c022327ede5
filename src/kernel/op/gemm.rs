//! gemm: tiles of f32 weights and activations in workgroup memory.

use crate::kernel::activations::Activations;
use crate::kernel::compose;
use crate::kernel::op::product::Params;
use crate::kernel::parts;
use crate::kernel::program::Parameters;
use crate::kernel::types::{Caps, Family, Kernel, KernelConfig, Operation, Problem};

pub static KERNEL: Kernel = Kernel {
    name: "gemm",
    operation: Operation::Matmul,
    family: Family::Gpu,
    activations: &[Activations::F32, Activations::F16],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/gemm.wgsl"),
    params: Params::FIELDS,
    configs,
};

fn configs(caps: &Caps, request: &Problem) -> Vec<KernelConfig> {
    let mut parts = compose::x(caps, request);
    parts.extend(compose::tiles(request));
    tiled(request, &parts, |rows, columns| (rows + columns) * 9 * 16)
}

/// Rows and columns of a tile, and rows of a lane; lanes have four columns.
const TILES: &[(u32, u32, u32)] = &[(64, 64, 4), (128, 64, 8), (64, 32, 4), (32, 32, 4), (32, 16, 4)];

/// Configurations of a kernel with tiles, the one that suits the request first: large tiles read
/// memory less often, small ones compute less that is thrown away. Each is also split along k where
/// its tiles would not fill a device.
pub(in crate::kernel) fn tiled(
    request: &Problem,
    parts: &[&'static parts::Part],
    memory: fn(u32, u32) -> u32,
) -> Vec<KernelConfig> {
    let mut tiles = TILES.to_vec();
    tiles.sort_by(|a, b| cost(request, (a.0, a.1)).total_cmp(&cost(request, (b.0, b.1))));
    let mut configs = vec![];
    for (rows, columns, lane_rows) in tiles {
        for splits in splits(request, rows, columns) {
            configs.push(KernelConfig {
                variant: variant(rows, columns, splits),
                constants: vec![("TILE_ROWS", rows), ("TILE_COLS", columns), ("LANE_ROWS", lane_rows)],
                parts: parts.to_vec(),
                workgroup_memory: memory(rows, columns),
                rows,
                columns,
                loops_per_chunk: 200,
                splits,
                ..KernelConfig::new(rows / lane_rows * (columns / 4))
            });
        }
    }
    configs
}

/// About what a tile costs in this request: the area it computes, times the words it reads for each
/// of its products.
pub(in crate::kernel) fn cost(request: &Problem, (rows, columns): (u32, u32)) -> f64 {
    let padded = |n: usize, tile: u32| n.max(1).next_multiple_of(tile as usize) as f64;
    let words = 1.0 + 32.0 / f64::from(rows) + 32.0 / f64::from(columns);
    padded(request.rows, rows) * padded(request.batch, columns) * words
}

/// `64x32`, or `64x32/4` with four splits.
pub(in crate::kernel) fn variant(rows: u32, columns: u32, splits: u32) -> String {
    match splits {
        1 => format!("{rows}x{columns}"),
        splits => format!("{rows}x{columns}/{splits}"),
    }
}

/// Ways to split k, the best guess first: where fewer tiles than this would leave a large device
/// idle, and k is long enough to give each split work.
pub(in crate::kernel) fn splits(request: &Problem, rows: u32, columns: u32) -> Vec<u32> {
    const TILES_WANTED: usize = 128;
    const LEAST_COLUMNS: usize = 1024;
    let tiles = request.rows.div_ceil(rows as usize).saturating_mul(request.batch.div_ceil(columns as usize));
    let most = (request.cols / LEAST_COLUMNS).min(8);
    match (TILES_WANTED / tiles.max(1)).min(most) {
        0 | 1 => vec![1],
        splits => vec![splits as u32, 1],
    }
}
