//! gemm_q8: tiles of codes in workgroup memory, multiplied as integers.

use crate::kernel::activations::Activations;
use crate::kernel::compose;
use crate::kernel::op::gemm::{self, Geometry};
use crate::kernel::op::product::Params;
use crate::kernel::parts;
use crate::kernel::program::Parameters;
use crate::kernel::types::{Caps, Family, Kernel, KernelConfig, Operation, Problem};

pub static KERNEL: Kernel = Kernel {
    name: "gemm_q8",
    operation: Operation::Matmul,
    family: Family::Gpu,
    activations: &[Activations::Q8],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/gemm_q8.wgsl"),
    params: Params::FIELDS,
    configs,
};

fn configs(caps: &Caps, request: &Problem) -> Vec<KernelConfig> {
    let mut parts = compose::x(caps, request);
    parts.extend(compose::tiles(request));
    parts.push(&parts::TILE_LANES);
    gemm::tiled(request, &parts, TILES, |rows, columns| (rows + columns) * 12 * 4)
}

/// A lane keeps the codes of four columns and their scales, 48 registers, and goes through its
/// rows.
const TILES: &[Geometry] = &[
    Geometry::new([128, 64], [8, 4]),
    Geometry::new([64, 64], [8, 4]),
    Geometry::new([64, 32], [4, 4]),
    Geometry::new([32, 32], [4, 4]),
    Geometry::new([32, 16], [2, 4]),
];
