//! gemm_q8: tiles of codes in workgroup memory, multiplied as integers.

use crate::kernel::activations::Activations;
use crate::kernel::compose;
use crate::kernel::op::gemm;
use crate::kernel::op::product::Params;
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
    gemm::tiled(request, &parts, |rows, columns| (rows + columns) * 13 * 4)
}
