//! row_scales: the power of two that a kernel with f16 weights takes out of each row.

use crate::error::Result;
use crate::kernel::limits::most_groups;
use crate::kernel::program::{Dispatch, Parameters, Plan, View, Workgroups, parameters};
use crate::kernel::shard::{MAX_PLANES, Shard, Weight};
use crate::kernel::types::{CHUNK, Caps, Family, Kernel, KernelConfig, Operation, Problem};

pub static KERNEL: Kernel = Kernel {
    name: "row_scales",
    operation: Operation::RowScales,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/row_scales.wgsl"),
    params: Params::FIELDS,
    configs,
};

parameters! {
    /// Mirror of `Params` in the shader.
    pub struct Params {
        pub plane_offset: [u32; MAX_PLANES],
        pub plane_stride: [u32; MAX_PLANES],
        pub cols: u32,
        pub groups: u32,
        pub chunk_end: u32,
        pub padding: u32,
    }
}

fn configs(_: &Caps, _: &Problem) -> Vec<KernelConfig> {
    vec![KernelConfig { workgroup_memory: 64 * 4, ..KernelConfig::new(64) }]
}

/// The power of two of each row of a shard that makes its weights fit f16, as f32 into a slot.
///
/// # Errors
/// Those of the plan. Where a device allows fewer workgroups than there are rows, each does
/// several.
pub(crate) fn add(plan: &mut Plan, w: Weight, shard: usize, y: View) -> Result<()> {
    let Shard { rows, plane_offset, plane_stride, .. } = &w.shards[shard];
    let params = Params {
        plane_offset: *plane_offset,
        plane_stride: *plane_stride,
        cols: w.cols as u32,
        groups: rows.len() as u32,
        chunk_end: w.cols.div_ceil(CHUNK) as u32,
        padding: 0,
    };
    let (window, _) = y.window(0..rows.len(), 0..1, plan.caps());
    let candidate = KERNEL.only(plan.caps());
    let groups = params.groups.min(most_groups(plan.caps()) as u32);
    let dispatch = Dispatch::new(candidate, &params, Workgroups::Fixed(groups));
    plan.push_once(vec![dispatch.decodes(&w, shard).slot("y", window)])
}
