//! route_experts: sorts the columns of a batch by their experts.

use crate::error::Result;
use crate::kernel::plan::{Buffer, Dispatch, Params, Window, window};
use crate::kernel::shard::Weight;
use crate::kernel::types::{Caps, Family, Kernel, KernelConfig, Operation, Problem};
use std::ops::Range;

pub static KERNEL: Kernel = Kernel {
    name: "route_experts",
    operation: Operation::Route,
    family: Family::Any,
    activations: &[],
    rounds_weights: false,
    shader: include_str!("../../../shaders/op/route_experts.wgsl"),
    configs,
};

/// Lanes of the one workgroup; each takes an expert at a time.
const EXPERTS: u32 = 64;

/// The plan sets the constant: the columns of a workgroup of the matmul.
fn configs(_: &Caps, _: &Problem) -> Vec<KernelConfig> {
    vec![KernelConfig {
        constants: vec![("COLS", 8)],
        workgroup_memory: EXPERTS * 4,
        ..KernelConfig::new(EXPERTS)
    }]
}

/// The dispatch that sorts columns by experts into `tiles` tiles of so many columns.
pub(super) fn plan(
    w: &Weight,
    columns: Range<usize>,
    tiles: usize,
    width: u32,
    caps: &Caps,
) -> Result<Dispatch> {
    let mut candidate = KERNEL.only(caps);
    candidate.config.constants = vec![("COLS", width)];
    let (x, x_offset) = window(Buffer::Experts, columns.clone(), caps);
    let experts = [0, w.experts as u32, 0, tiles as u32];
    let params = Params { batch: columns.len() as u32, groups: 1, x_offset, experts, ..Params::default() };
    let y = Window::first(Buffer::Routes, 4 * tiles + columns.len());
    Ok(Dispatch::new(candidate, params, w.name, caps)?.reads(x).writes(y))
}

/// Columns that one dispatch sorts before a driver stops its loops.
pub(super) fn most_columns(w: &Weight, caps: &Caps) -> usize {
    let rounds = w.experts.div_ceil(EXPERTS as usize).max(1);
    let loops = caps.max_loops.map_or(usize::MAX, |loops| loops as usize / rounds);
    // Two passes over the columns, one over the lanes, one over the tiles.
    (loops.saturating_sub(2 * EXPERTS as usize) / 4).max(1)
}
