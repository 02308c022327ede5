//! gemm_coop: tiles of f16 in workgroup memory, multiplied by cooperative matrices with f32 sums.

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

/// None unless the device has f16 and cooperative matrices that passed the probe.
fn configs(caps: &Caps, request: &Problem) -> Vec<KernelConfig> {
    let (Some(edge), Some((_, subgroup)), true) = (caps.cooperative, caps.subgroup, caps.f16) else {
        return vec![];
    };
    let matrices = match edge {
        8 => &parts::COOP_8,
        _ => &parts::COOP_16,
    };
    let tile = 4 * edge;
    let config = |splits| {
        let mut parts = vec![matrices];
        parts.extend(compose::x(caps, request));
        parts.extend(compose::tiles(request));
        KernelConfig {
            variant: gemm::variant(tile, tile, splits),
            parts,
            // Two tiles of f16, 40 to a row, and the sums.
            workgroup_memory: 2 * tile * 40 * 2 + tile * tile * 4,
            rows: tile,
            columns: tile,
            loops_per_chunk: 200,
            splits,
            enables: &["f16", "wgpu_cooperative_matrix"],
            ..KernelConfig::new(4 * subgroup)
        }
    };
    gemm::splits(request, tile, tile).into_iter().map(config).collect()
}
