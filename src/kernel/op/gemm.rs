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
    parts.push(&parts::TILE_LANES);
    tiled(request, &parts, TILES, |rows, columns| (rows + columns) * 9 * 16)
}

/// A tile, and the part of it whose sums a lane holds.
#[derive(Clone, Copy)]
pub(in crate::kernel) struct Geometry {
    pub rows: u32,
    pub columns: u32,
    pub lane_rows: u32,
    pub lane_columns: u32,
}

impl Geometry {
    /// A tile of so many rows and columns, and how many of each a lane has.
    pub const fn new([rows, columns]: [u32; 2], [lane_rows, lane_columns]: [u32; 2]) -> Self {
        Self { rows, columns, lane_rows, lane_columns }
    }

    fn lanes(self) -> u32 {
        self.rows / self.lane_rows * (self.columns / self.lane_columns)
    }
}

/// 8 x 8 sums a lane need half of the reads that 4 x 4 do, and some 120 registers. 4 x 4 and 2 x 4
/// are for few tokens, and the last for Intel, where more than 64 values halve the lanes of a core.
const TILES: &[Geometry] = &[
    Geometry::new([128, 128], [8, 8]),
    Geometry::new([128, 64], [8, 8]),
    Geometry::new([64, 64], [8, 8]),
    Geometry::new([64, 32], [4, 4]),
    Geometry::new([32, 32], [4, 4]),
    Geometry::new([32, 16], [2, 4]),
];

/// Configurations of a kernel with tiles, the one that suits the request first: large tiles read
/// memory less often, small ones compute less that is thrown away. Each is also split along k where
/// its tiles would not fill a device.
pub(in crate::kernel) fn tiled(
    request: &Problem,
    parts: &[&'static parts::Part],
    tiles: &[Geometry],
    memory: fn(u32, u32) -> u32,
) -> Vec<KernelConfig> {
    let mut tiles = tiles.to_vec();
    let cost = |tile: &Geometry| cost(request, [tile.rows, tile.columns]);
    tiles.sort_by(|a, b| cost(a).total_cmp(&cost(b)));
    let mut configs = vec![];
    for tile in tiles {
        let Geometry { rows, columns, lane_rows, lane_columns } = tile;
        for splits in splits(request, rows, columns) {
            configs.push(KernelConfig {
                variant: variant(rows, columns, splits),
                constants: vec![
                    ("TILE_ROWS", rows),
                    ("TILE_COLS", columns),
                    ("LANE_ROWS", lane_rows),
                    ("LANE_COLS", lane_columns),
                ],
                parts: parts.to_vec(),
                workgroup_memory: memory(rows, columns),
                rows,
                columns,
                loops_per_chunk: 320,
                splits,
                ..KernelConfig::new(tile.lanes())
            });
        }
    }
    configs
}

/// About what a tile costs in this request: the area it computes, times the words it reads for each
/// of its products.
pub(in crate::kernel) fn cost(request: &Problem, [rows, columns]: [u32; 2]) -> f64 {
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
