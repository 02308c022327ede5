//! gemm_q8: tiles of codes in workgroup memory, multiplied as integers.

use super::{Activations, Caps, Family, Kernel, KernelConfig, Operation, Problem, compose, gemm};

pub static KERNEL: Kernel = Kernel {
    name: "gemm_q8",
    operation: Operation::Matmul,
    family: Family::Gpu,
    activations: &[Activations::Q8],
    rounds_weights: false,
    shader: include_str!("../../shaders/kernel/gemm_q8.wgsl"),
    configs,
};

fn configs(caps: &Caps, request: &Problem) -> Vec<KernelConfig> {
    let mut parts = compose::x(caps, request);
    parts.extend(compose::tiles(request));
    gemm::tiled(request, &parts, |rows, columns| (rows + columns) * 13 * 4)
}
