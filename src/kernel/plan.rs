//! A request as data: which shader, on which shard, with which parameters, how many workgroups. The device layer only
//! carries it out, and a test can print it without a device.
//!
//! A request is split where a device forces it: shards of the weight where it exceeds one binding (done at upload),
//! batch columns where x or y exceed one binding, chunks of k where a driver limits loops.

use super::{Caps, Config, KERNELS, Kernel, LOOKUP_MEMORY, Operation, Request, choose_matmul};
use crate::error::{Error, Result};
use crate::format::Format;
use std::ops::Range;

/// Weights that the decoders handle at once.
pub const CHUNK: usize = 32;
/// Planes a format may have.
pub const MAX_PLANES: usize = 4;

/// Mirror of `Params` in `shaders/lib/params.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[allow(missing_docs)]
pub struct Params {
    pub rows: u32,
    pub cols: u32,
    pub batch: u32,
    pub row_groups: u32,
    pub groups: u32,
    pub chunk_begin: u32,
    pub chunk_end: u32,
    pub accumulate: u32,
    pub x_offset: u32,
    pub x_stride: u32,
    pub y_offset: u32,
    pub y_stride: u32,
    pub row_begin: u32,
    pub pad: [u32; 3],
    pub plane_offset: [u32; MAX_PLANES],
    pub plane_stride: [u32; MAX_PLANES],
}

/// Rows of a weight that lie in one device buffer, its planes one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Shard {
    /// Rows of the tensor.
    pub rows: Range<usize>,
    /// First word of each plane.
    pub plane_offset: [u32; MAX_PLANES],
    /// Words from one row of a plane to the next.
    pub plane_stride: [u32; MAX_PLANES],
}

impl Shard {
    /// Bytes of the shard's buffer.
    pub fn bytes(&self) -> u64 {
        self.plane_stride.iter().map(|words| u64::from(*words)).sum::<u64>() * 4 * self.rows.len() as u64
    }
}

/// Cuts `rows` rows into shards that each fit one binding.
///
/// # Errors
/// [`Error::LimitExceeded`] if a single row does not fit.
pub fn shards(name: &str, format: &Format, rows: usize, cols: usize, caps: &Caps) -> Result<Vec<Shard>> {
    let mut plane_stride = [0; MAX_PLANES];
    let mut row_bytes = 0u64;
    for (stride, plane) in plane_stride.iter_mut().zip(format.planes) {
        let words = plane.row_words(cols) as u64;
        row_bytes += words * 4;
        *stride = u32::try_from(words).unwrap_or(u32::MAX);
    }
    // The shaders count words in 32 bits.
    let limit = caps.max_binding.min(caps.max_buffer).min(u64::from(u32::MAX));
    if row_bytes > limit {
        let what = format!("one row of `{name}` ({cols} columns of {})", format.name);
        return Err(Error::LimitExceeded { what, wanted: row_bytes, limit });
    }
    let most = (limit / row_bytes.max(1)).min(rows.max(1) as u64) as usize;
    let starts = (0..rows).step_by(most);
    Ok(starts.map(|first| shard(first..(first + most).min(rows), plane_stride)).collect())
}

fn shard(rows: Range<usize>, plane_stride: [u32; MAX_PLANES]) -> Shard {
    let mut plane_offset = [0; MAX_PLANES];
    for i in 1..MAX_PLANES {
        plane_offset[i] = plane_offset[i - 1] + plane_stride[i - 1] * rows.len() as u32;
    }
    Shard { rows, plane_offset, plane_stride }
}

/// Part of a buffer, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// First byte, aligned for a binding.
    pub offset: u64,
    /// Length in bytes.
    pub size: u64,
}

/// One dispatch.
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// Which kernel.
    pub kernel: &'static Kernel,
    /// How it is compiled.
    pub config: Config,
    /// Which shard it reads.
    pub shard: usize,
    /// What it is told.
    pub params: Params,
    /// Workgroups in x and y.
    pub grid: [u32; 2],
    /// The part of x (or of the row numbers) it reads.
    pub x: Window,
    /// The part of y it writes.
    pub y: Window,
}

/// The shape of a weight on a device.
#[derive(Clone, Copy, Debug)]
pub struct Weight<'a> {
    /// Name, for messages.
    pub name: &'a str,
    /// Outputs, `m`.
    pub rows: usize,
    /// Inputs, `k`.
    pub cols: usize,
    /// Where the rows lie.
    pub shards: &'a [Shard],
}

/// `y[n, m] = x[n, k] · w[m, k]ᵀ`, with the kernel of the caller's choice or the best for the device.
///
/// # Errors
/// [`Error::LimitExceeded`] if one column of x or y exceeds a binding, or a kernel the device's workgroup limits;
/// [`Error::Argument`] if the kernel does not multiply.
pub fn matmul(
    w: Weight,
    batch: usize,
    kernel: Option<&'static Kernel>,
    caps: &Caps,
) -> Result<Vec<Dispatch>> {
    if let Some(other) = kernel.filter(|k| k.operation != Operation::Matmul) {
        return Err(Error::Argument(format!("kernel {} does not multiply", other.name)));
    }
    let mut plan = vec![];
    if w.rows == 0 || batch == 0 {
        return Ok(plan);
    }
    let most = batch_limit(&w, caps)?;
    let mut first = 0;
    while first < batch {
        let left = (batch - first).min(most);
        let request = Request { cols: w.cols, batch: left };
        let kernel = kernel.unwrap_or_else(|| choose_matmul(caps, &request));
        let config = (kernel.configure)(caps, &request);
        check_workgroup(kernel, &config, caps)?;
        // Whole groups of columns first; what is left gets a kernel compiled for fewer columns.
        let columns = config.columns as usize;
        let count = if left > columns { left / columns * columns } else { left };
        let count = count.min(grid_limit(&w, &config, caps));
        for (index, shard) in w.shards.iter().enumerate() {
            matmul_shard(&mut plan, &w, (index, shard), first..first + count, (kernel, &config), caps)?;
        }
        first += count;
    }
    Ok(plan)
}

/// Pushes the dispatches of one shard and one range of batch columns: one per range of k.
fn matmul_shard(
    plan: &mut Vec<Dispatch>,
    w: &Weight,
    (index, shard): (usize, &Shard),
    columns: Range<usize>,
    (kernel, config): (&'static Kernel, &Config),
    caps: &Caps,
) -> Result<()> {
    let (x, x_offset) = window(columns.start * w.cols..columns.end * w.cols, caps);
    let y_first = columns.start * w.rows + shard.rows.start;
    let (y, y_offset) = window(y_first..(columns.end - 1) * w.rows + shard.rows.end, caps);
    let row_groups = (shard.rows.len() as u32).div_ceil(config.rows);
    let groups = row_groups * (columns.len() as u32).div_ceil(config.columns);
    let chunks = w.cols.div_ceil(CHUNK) as u32;
    let step = chunk_limit(config, caps);
    let mut chunk_begin = 0u32;
    loop {
        let chunk_end = chunks.min(chunk_begin.saturating_add(step));
        let params = Params {
            rows: shard.rows.len() as u32,
            cols: w.cols as u32,
            batch: columns.len() as u32,
            row_groups,
            groups,
            chunk_begin,
            chunk_end,
            accumulate: u32::from(chunk_begin > 0),
            x_offset,
            x_stride: w.cols as u32,
            y_offset,
            y_stride: w.rows as u32,
            plane_offset: shard.plane_offset,
            plane_stride: shard.plane_stride,
            ..Params::default()
        };
        let grid = fold(w, groups, caps)?;
        plan.push(Dispatch { kernel, config: config.clone(), shard: index, params, grid, x, y });
        chunk_begin = chunk_end;
        if chunk_begin == chunks {
            return Ok(());
        }
    }
}

/// Rows `rows` of `w` as f32 into `y[rows, k]`.
///
/// # Errors
/// [`Error::LimitExceeded`] if one row exceeds a binding.
pub fn dequantize(w: Weight, rows: Range<usize>, caps: &Caps) -> Result<Vec<Dispatch>> {
    let kernel = the_kernel(Operation::Dequantize);
    let config = (kernel.configure)(caps, &Request { cols: w.cols, batch: 1 });
    check_workgroup(kernel, &config, caps)?;
    let step = row_limit(&w, &config, caps)?;
    let mut plan = vec![];
    if w.cols == 0 {
        return Ok(plan);
    }
    for (index, shard) in w.shards.iter().enumerate() {
        let (from, to) = (rows.start.max(shard.rows.start), rows.end.min(shard.rows.end));
        for first in (from..to).step_by(step) {
            let count = step.min(to - first);
            let out = first - rows.start;
            let params = Params { row_begin: (first - shard.rows.start) as u32, ..Params::default() };
            plan.push(rows_dispatch(&w, (index, shard), kernel, &config, out..out + count, params, caps)?);
        }
    }
    Ok(plan)
}

/// Rows `rows[i]` of `w`, `count` of them, as f32 into `y[count, k]`. The row numbers are u32 in x.
///
/// # Errors
/// [`Error::LimitExceeded`] if one row exceeds a binding.
pub fn get_rows(w: Weight, count: usize, caps: &Caps) -> Result<Vec<Dispatch>> {
    let kernel = the_kernel(Operation::GetRows);
    let config = (kernel.configure)(caps, &Request { cols: w.cols, batch: 1 });
    check_workgroup(kernel, &config, caps)?;
    let step = row_limit(&w, &config, caps)?;
    let mut plan = vec![];
    if w.cols == 0 {
        return Ok(plan);
    }
    for first in (0..count).step_by(step) {
        let out = first..count.min(first + step);
        let (x, x_offset) = window(out.clone(), caps);
        for (index, shard) in w.shards.iter().enumerate() {
            let params = Params { row_begin: shard.rows.start as u32, x_offset, ..Params::default() };
            let mut dispatch = rows_dispatch(&w, (index, shard), kernel, &config, out.clone(), params, caps)?;
            dispatch.x = x;
            plan.push(dispatch);
        }
    }
    Ok(plan)
}

/// A dispatch with one invocation per chunk of the rows `out` of y.
fn rows_dispatch(
    w: &Weight,
    (index, shard): (usize, &Shard),
    kernel: &'static Kernel,
    config: &Config,
    out: Range<usize>,
    params: Params,
    caps: &Caps,
) -> Result<Dispatch> {
    let chunks = w.cols.div_ceil(CHUNK);
    let groups = (out.len() * chunks).div_ceil(config.workgroup as usize) as u32;
    let (y, y_offset) = window(out.start * w.cols..out.end * w.cols, caps);
    let params = Params {
        rows: shard.rows.len() as u32,
        cols: w.cols as u32,
        batch: out.len() as u32,
        groups,
        chunk_end: chunks as u32,
        y_offset,
        y_stride: w.cols as u32,
        plane_offset: shard.plane_offset,
        plane_stride: shard.plane_stride,
        ..params
    };
    let x = Window { offset: 0, size: 4 };
    Ok(Dispatch { kernel, config: config.clone(), shard: index, params, grid: fold(w, groups, caps)?, x, y })
}

fn the_kernel(operation: Operation) -> &'static Kernel {
    KERNELS.iter().copied().find(|k| k.operation == operation).expect("every operation has a kernel")
}

/// f32 elements that fit one binding wherever the window starts.
fn binding_elements(caps: &Caps) -> usize {
    let bytes = caps.max_binding.saturating_sub(u64::from(caps.binding_alignment)).min(u64::from(u32::MAX));
    (bytes / 4) as usize
}

/// Batch columns whose x and y each fit one binding.
fn batch_limit(w: &Weight, caps: &Caps) -> Result<usize> {
    let most = binding_elements(caps);
    let column = w.rows.max(w.cols);
    match most / column {
        0 => Err(too_wide(format!("one column of x or y for `{}`", w.name), column, most)),
        columns => Ok(columns),
    }
}

/// Rows of f32 that fit one binding and one folded grid.
fn row_limit(w: &Weight, config: &Config, caps: &Caps) -> Result<usize> {
    let most = binding_elements(caps);
    let by_grid = most_groups(caps).saturating_mul(config.workgroup as usize) / w.cols.div_ceil(CHUNK).max(1);
    match (most / w.cols.max(1)).min(by_grid) {
        0 => Err(too_wide(format!("one row of `{}` as f32", w.name), w.cols, most)),
        rows => Ok(rows),
    }
}

fn too_wide(what: String, elements: usize, limit: usize) -> Error {
    Error::LimitExceeded { what, wanted: elements as u64 * 4, limit: limit as u64 * 4 }
}

/// Batch columns for which the folded grid holds every workgroup.
fn grid_limit(w: &Weight, config: &Config, caps: &Caps) -> usize {
    let row_groups =
        w.shards.iter().map(|s| s.rows.len()).max().unwrap_or(0).div_ceil(config.rows as usize).max(1);
    (most_groups(caps) / row_groups).max(1) * config.columns as usize
}

/// Workgroups of a folded grid whose index fits 31 bits.
fn most_groups(caps: &Caps) -> usize {
    (caps.max_groups as usize).saturating_mul(caps.max_groups as usize).min(1 << 24)
}

/// `groups` workgroups as a grid of two dimensions.
fn fold(w: &Weight, groups: u32, caps: &Caps) -> Result<[u32; 2]> {
    let x = groups.clamp(1, caps.max_groups);
    let y = groups.div_ceil(x).max(1);
    if y > caps.max_groups {
        let limit = u64::from(caps.max_groups) * u64::from(caps.max_groups);
        return Err(Error::LimitExceeded {
            what: format!("workgroups for `{}`", w.name),
            wanted: groups.into(),
            limit,
        });
    }
    Ok([x, y])
}

/// Chunks that one dispatch may sum before the driver stops its loops.
fn chunk_limit(config: &Config, caps: &Caps) -> u32 {
    match caps.max_loops {
        None => u32::MAX,
        Some(loops) => (loops / config.loops_per_chunk).max(1).saturating_mul(config.lanes_along_k),
    }
}

/// The aligned window around f32 elements `range` of a buffer, and the element in it where the range starts.
fn window(range: Range<usize>, caps: &Caps) -> (Window, u32) {
    let alignment = u64::from(caps.binding_alignment);
    let start = range.start as u64 * 4;
    let offset = start / alignment * alignment;
    let size = (range.end as u64 * 4 - offset).max(4);
    (Window { offset, size }, ((start - offset) / 4) as u32)
}

/// wgpu does not check workgroups against the limits when they depend on constants; a driver may take them and fail.
fn check_workgroup(kernel: &Kernel, config: &Config, caps: &Caps) -> Result<()> {
    for (what, wanted, limit) in [
        ("invocations in a workgroup", config.workgroup, caps.max_workgroup),
        ("bytes of workgroup memory", config.workgroup_memory + LOOKUP_MEMORY, caps.max_workgroup_memory),
    ] {
        if wanted > limit {
            let what = format!("kernel {}: {what}", kernel.name);
            return Err(Error::LimitExceeded { what, wanted: wanted.into(), limit: limit.into() });
        }
    }
    Ok(())
}
