//! A request as data: which shader, on which shard, with which parameters, how many workgroups. The device layer only
//! carries it out, and a test can print it without a device.
//!
//! A request is split where a device forces it: shards of the weight where it exceeds one binding (done at upload),
//! batch columns where x or y exceed one binding, chunks of k where a driver limits loops.

use crate::error::{Error, Result};
use crate::format::Layout;
use crate::kernel::KERNELS;
use crate::kernel::op::{
    gather_act_order, llm_int8, matmul_software, quantize_activations_q8, quantize_four_bit,
    round_activations_f16, route_experts,
};
use crate::kernel::types::{Activations, Candidate, Caps, Kernel, KernelConfig, Operation, Problem};
use std::ops::Range;

/// Weights that the decoders handle at once.
pub const CHUNK: usize = 32;
/// Planes a format may have.
pub const MAX_PLANES: usize = 4;

/// Weights that are quantized in one dispatch at most: 64 MiB of f32.
pub(crate) const QUANTIZE_WEIGHTS: usize = 16 << 20;

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
    pub split_groups: u32,
    pub split_chunks: u32,
    pub split_stride: u32,
    pub experts: [u32; 4],
    pub plane_offset: [u32; MAX_PLANES],
    pub plane_stride: [u32; MAX_PLANES],
    pub threshold: f32,
    pub padding: [u32; 3],
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
    /// There is room for a multiple of so many rows.
    pub tile: usize,
}

impl Shard {
    /// Bytes of a row in all planes.
    pub fn row_bytes(&self) -> u64 {
        4 * self.plane_stride.iter().map(|words| u64::from(*words)).sum::<u64>()
    }

    /// Bytes of the shard's buffer.
    pub fn bytes(&self) -> u64 {
        self.row_bytes() * self.rows.len().next_multiple_of(self.tile) as u64
    }
}

/// Cuts `rows` rows into shards that each fit one binding and hold whole runs of `unit` rows, and decides whether rows lie side by
/// side there.
///
/// # Errors
/// [`Error::LimitExceeded`] if a single row or run does not fit.
pub fn shards(
    name: &str,
    layout: &mut Layout,
    (rows, cols): (usize, usize),
    unit: usize,
    caps: &Caps,
) -> Result<Vec<Shard>> {
    let mut plane_stride = [0; MAX_PLANES];
    let mut row_bytes = 0u64;
    for (stride, plane) in plane_stride.iter_mut().zip(&layout.planes) {
        let words = plane.row_words(cols) as u64;
        row_bytes += words * 4;
        *stride = u32::try_from(words).unwrap_or(u32::MAX);
    }
    // The shaders count words in 32 bits.
    let limit = caps.max_binding.min(caps.max_buffer).min(u64::from(u32::MAX));
    if row_bytes > limit {
        let what = format!("one row of `{name}` ({cols} columns of {})", layout.format.name);
        return Err(Error::LimitExceeded { what, wanted: row_bytes, limit });
    }
    let fit = usize::try_from(limit / row_bytes.max(1)).unwrap_or(usize::MAX);
    interleave(layout, rows, unit, fit, caps);
    let tile = layout.tile_rows();
    let most = (fit - fit % tile).min(rows.max(1));
    if most < unit {
        let what =
            format!("one expert of `{name}` ({unit} rows of {cols} columns of {})", layout.format.name);
        return Err(Error::LimitExceeded { what, wanted: row_bytes * unit as u64, limit });
    }
    let most = most / unit.max(1) * unit.max(1);
    let starts = (0..rows).step_by(most);
    Ok(starts.map(|first| shard(first..(first + most).min(rows), plane_stride, tile)).collect())
}

fn shard(rows: Range<usize>, plane_stride: [u32; MAX_PLANES], tile: usize) -> Shard {
    let mut plane_offset = [0; MAX_PLANES];
    for i in 1..MAX_PLANES {
        plane_offset[i] =
            plane_offset[i - 1] + plane_stride[i - 1] * rows.len().next_multiple_of(tile) as u32;
    }
    Shard { rows, plane_offset, plane_stride, tile }
}

/// Sets [`Layout::lanes`] for a device: on software adapters to those of `matmul_software`, where no more than an eighth of the rows is added to
/// fill the last tile, and a tile, or the runs of `unit` rows that must stay together, still fit.
fn interleave(layout: &mut Layout, rows: usize, unit: usize, fit: usize, caps: &Caps) {
    layout.lanes = if caps.software { matmul_software::lanes(caps) } else { 0 };
    let tile = layout.tile_rows();
    if unit > fit - fit % tile || rows.next_multiple_of(tile) * 8 > rows * 9 {
        layout.lanes = 0;
    }
}

/// What a binding of a dispatch is part of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Buffer {
    /// The caller's activations or row numbers.
    X,
    /// The caller's result.
    Y,
    /// The expert of each column of the batch.
    Experts,
    /// Activations made ready for a kernel.
    Staged,
    /// Results of the splits of k.
    Partial,
    /// Columns sorted by experts.
    Routes,
    /// Outlier features: their mask, then their list.
    Outliers,
    /// Activations of the outlier features, side by side.
    Gathered,
    /// Activations in the order of the weight's columns.
    Ordered,
    /// The caller's list of columns.
    Columns,
}

/// Part of a buffer, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// Which buffer.
    pub buffer: Buffer,
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
    pub config: KernelConfig,
    /// Which shard it reads.
    pub shard: usize,
    /// What it is told.
    pub params: Params,
    /// Workgroups in x and y.
    pub grid: [u32; 2],
    /// What it reads besides the weights.
    pub x: Window,
    /// What it writes.
    pub y: Window,
    /// What it reads besides, whole: sorted columns, or outliers.
    pub side: Option<Buffer>,
}

impl Dispatch {
    /// `gemv:4x64`
    pub fn name(&self) -> String {
        Candidate { kernel: self.kernel, config: self.config.clone() }.name()
    }
}

/// Bytes that a plan needs of a buffer.
pub fn bytes_of(plan: &[Dispatch], buffer: Buffer) -> u64 {
    let windows = plan.iter().flat_map(|d| [d.x, d.y]);
    windows.filter(|w| w.buffer == buffer).map(|w| w.offset + w.size).max().unwrap_or(0)
}

/// The shape of a weight on a device.
#[derive(Clone, Copy, Debug)]
pub struct Weight<'a> {
    /// Name, for messages.
    pub name: &'a str,
    /// How it is stored.
    pub layout: &'a Layout,
    /// Outputs, `m`; of all experts.
    pub rows: usize,
    /// Inputs, `k`.
    pub cols: usize,
    /// Matrices that the rows are a stack of, where columns of a batch are sent to one each.
    pub experts: usize,
    /// Where the rows lie.
    pub shards: &'a [Shard],
}

/// Decides how a request is carried out.
pub type Choose<'a> = &'a dyn Fn(&Problem) -> Result<Candidate>;

/// `y[n, m] = x[n, k] · w[m, k]ᵀ`; with `accumulate` the product is added to what y holds.
///
/// # Errors
/// [`Error::LimitExceeded`] if one column of x or y exceeds a binding, and those of `choose`.
pub fn matmul(
    w: Weight,
    (batch, accumulate): (usize, bool),
    activations: Activations,
    choose: Choose,
    caps: &Caps,
) -> Result<Vec<Dispatch>> {
    if let Activations::Int8(threshold) = activations {
        return llm_int8::matmul(w, (batch, accumulate), threshold, choose, caps);
    }
    let mut plan = vec![];
    if w.rows == 0 || batch == 0 {
        return Ok(plan);
    }
    check_columns(&w)?;
    let most = batch_limit(&w, activations, caps)?;
    let mut first = 0;
    while first < batch {
        let left = (batch - first).min(most);
        let request = Problem {
            rows: w.rows,
            cols: w.cols,
            batch: left,
            activations,
            codes: w.layout.codes,
            looked_up: w.layout.is_looked_up(),
            ..Problem::default()
        };
        let Candidate { kernel, config } = choose(&request)?;
        let columns = first..first + columns_at_once(&w, left, &config, caps);
        let x = stage(&mut plan, &w, columns.clone(), activations, caps)?;
        for index in 0..w.shards.len() {
            let tiles = Tiles { accumulate, ..Tiles::of(&w, index, columns.clone(), &config, caps) };
            matmul_shard(&mut plan, &w, &tiles, x, (kernel, &config), caps)?;
        }
        first = columns.end;
    }
    Ok(plan)
}

/// Experts: `y[i] = x[i / per] · w[experts[i]]ᵀ` for `slots` columns of y `[slots, m / experts]`; the expert of each is a
/// u32 in its buffer. A column whose expert does not exist is not written.
///
/// # Errors
/// As [`matmul`]; [`Error::Argument`] if `slots` is not a multiple of `per`.
pub fn matmul_experts(
    w: Weight,
    (slots, per): (usize, usize),
    activations: Activations,
    choose: Choose,
    caps: &Caps,
) -> Result<Vec<Dispatch>> {
    if let Activations::Int8(_) = activations {
        return Err(Error::Argument(format!("LLM.int8 is not for the experts of `{}`", w.name)));
    }
    let mut plan = vec![];
    let rows = w.rows / w.experts.max(1);
    if rows == 0 || slots == 0 {
        return Ok(plan);
    }
    check_columns(&w)?;
    if per == 0 || !slots.is_multiple_of(per) {
        let name = w.name;
        return Err(Error::Argument(format!(
            "{slots} columns for the experts of `{name}` are no multiple of {per}"
        )));
    }
    if w.experts == 1 && w.shards.len() > 1 {
        // Shards end between experts; a single one is cut like any weight.
        return Err(too_wide(
            format!("the one expert of `{}`", w.name),
            rows * w.cols,
            binding_elements(caps),
        ));
    }
    let one = Weight { rows, ..w };
    // A column takes up to nine words of the sorted columns: its own and two tiles.
    let bindings = batch_limit(&one, activations, caps)?.min(binding_elements(caps) / 9);
    let most = bindings.min(route_limit(&w, caps)) / per * per;
    if most == 0 {
        return Err(too_wide(
            format!("{per} columns of y for `{}`", w.name),
            per * rows,
            binding_elements(caps),
        ));
    }
    let mut first = 0;
    while first < slots {
        let left = most.min(slots - first);
        // About as many columns for each expert.
        let batch = left.div_ceil(w.experts).max(1);
        let (codes, looked_up) = (w.layout.codes, w.layout.is_looked_up());
        let request = Problem {
            rows,
            cols: w.cols,
            batch,
            activations,
            experts: true,
            codes,
            looked_up,
            gathered: false,
        };
        let Candidate { kernel, config } = choose(&request)?;
        let columns = first..first + left.min(expert_limit(&one, &config, per, caps));
        let tiles = columns.len() / config.columns as usize + w.experts.min(columns.len());
        plan.push(route(&w, columns.clone(), tiles, config.columns, caps));
        let x = stage(&mut plan, &w, columns.start / per..columns.end / per, activations, caps)?;
        for (index, shard) in w.shards.iter().enumerate() {
            let experts = [shard.rows.start / rows, shard.rows.len() / rows, per, tiles].map(|v| v as u32);
            let tiles = Tiles {
                shard: index,
                rows,
                batch: columns.len(),
                columns: tiles,
                experts,
                side: Some(Buffer::Routes),
                accumulate: false,
                y: window(Buffer::Y, columns.start * rows..columns.end * rows, caps),
                y_stride: rows,
            };
            matmul_shard(&mut plan, &w, &tiles, x, (kernel, &config), caps)?;
        }
        first = columns.end;
    }
    Ok(plan)
}

/// Columns for which the folded grid holds every tile, however the columns fall on experts of the rows of `one`.
fn expert_limit(one: &Weight, config: &KernelConfig, per: usize, caps: &Caps) -> usize {
    let tiles = most_groups(caps) / one.rows.div_ceil(config.rows as usize).max(1);
    // No more than a tile a column and one an expert, and than two a column.
    let columns = (tiles.saturating_sub(one.experts) * config.columns as usize).max(tiles / 2);
    (columns / per).max(1) * per
}

/// A matmul without columns would be all zeros, which no kernel writes.
fn check_columns(w: &Weight) -> Result<()> {
    match w.cols {
        0 => Err(Error::Argument(format!("`{}` has no columns to multiply", w.name))),
        _ => Ok(()),
    }
}

/// The dispatch that sorts columns by experts.
fn route(w: &Weight, columns: Range<usize>, tiles: usize, width: u32, caps: &Caps) -> Dispatch {
    let (kernel, mut config) = the_kernel(Operation::Route, caps);
    config.constants = vec![("COLS", width)];
    let (x, x_offset) = window(Buffer::Experts, columns.clone(), caps);
    let y = Window { buffer: Buffer::Routes, offset: 0, size: 4 * (4 * tiles + columns.len()) as u64 };
    let experts = [0, w.experts as u32, 0, tiles as u32];
    let params = Params { batch: columns.len() as u32, groups: 1, x_offset, experts, ..Params::default() };
    Dispatch { kernel, config, shard: 0, params, grid: [1, 1], x, y, side: None }
}

/// Columns that one `route_experts` sorts before a driver stops its loops.
fn route_limit(w: &Weight, caps: &Caps) -> usize {
    let rounds = w.experts.div_ceil(route_experts::EXPERTS as usize).max(1);
    let loops = caps.max_loops.map_or(usize::MAX, |loops| loops as usize / rounds);
    // Two passes over the columns, one over the lanes, one over the tiles.
    (loops.saturating_sub(2 * route_experts::EXPERTS as usize) / 4).max(1)
}

/// Where a matmul finds its activations.
#[derive(Clone, Copy)]
pub(super) struct Activated {
    pub window: Window,
    pub offset: u32,
    pub stride: u32,
}

/// Activations of `columns` as the kernel wants them, made ready by a dispatch of their own if need be.
fn stage(
    plan: &mut Vec<Dispatch>,
    w: &Weight,
    columns: Range<usize>,
    activations: Activations,
    caps: &Caps,
) -> Result<Activated> {
    let source = source(plan, w, columns.clone(), caps)?;
    let chunks = w.cols.div_ceil(CHUNK);
    let stride = staged_words(w.cols, activations) as u32;
    let kernel = match activations {
        Activations::F32 => return Ok(source),
        Activations::F16 => &round_activations_f16::KERNEL,
        Activations::Q8 | Activations::Int8(_) => &quantize_activations_q8::KERNEL,
    };
    let config = only_config(kernel, caps);
    let groups = match activations {
        Activations::Q8 => (columns.len() * chunks).div_ceil(config.workgroup as usize) as u32,
        _ => columns.len() as u32,
    };
    let params = Params {
        cols: w.cols as u32,
        batch: columns.len() as u32,
        groups,
        chunk_end: chunks as u32,
        x_offset: source.offset,
        x_stride: w.cols as u32,
        y_stride: stride,
        ..Params::default()
    };
    let x = source.window;
    let window =
        Window { buffer: Buffer::Staged, offset: 0, size: 4 * u64::from(stride) * columns.len() as u64 };
    plan.push(Dispatch {
        kernel,
        config,
        shard: 0,
        params,
        grid: fold(w.name, groups, caps)?,
        x,
        y: window,
        side: None,
    });
    Ok(Activated { window, offset: 0, stride })
}

/// Activations of `columns` as they are, in the order of the weight's columns on the device.
fn source(plan: &mut Vec<Dispatch>, w: &Weight, columns: Range<usize>, caps: &Caps) -> Result<Activated> {
    let stride = w.cols as u32;
    let (x, x_offset) = window(Buffer::X, columns.start * w.cols..columns.end * w.cols, caps);
    if !w.layout.ordered {
        return Ok(Activated { window: x, offset: x_offset, stride });
    }
    let kernel = &gather_act_order::KERNEL;
    let config = only_config(kernel, caps);
    let elements = columns.len() * w.cols;
    let groups = elements.div_ceil(config.workgroup as usize) as u32;
    let batch = columns.len() as u32;
    let params = Params { cols: stride, batch, groups, x_offset, x_stride: stride, ..Params::default() };
    let y = Window { buffer: Buffer::Ordered, offset: 0, size: 4 * elements as u64 };
    plan.push(Dispatch {
        kernel,
        config,
        shard: 0,
        params,
        grid: fold(w.name, groups, caps)?,
        x,
        y,
        side: None,
    });
    Ok(Activated { window: y, offset: 0, stride })
}

/// Words of one column of activations.
fn staged_words(cols: usize, activations: Activations) -> usize {
    let chunks = cols.div_ceil(CHUNK);
    match activations {
        Activations::F32 => cols,
        Activations::F16 => round_activations_f16::HEADER_WORDS + chunks * round_activations_f16::CHUNK_WORDS,
        Activations::Q8 | Activations::Int8(_) => chunks * quantize_activations_q8::CHUNK_WORDS,
    }
}

/// The tiles of one shard and some columns.
pub(super) struct Tiles {
    pub shard: usize,
    /// Rows of the matrix, or of each expert.
    pub rows: usize,
    /// Columns of y.
    pub batch: usize,
    /// Tiles along the columns.
    pub columns: usize,
    pub experts: [u32; 4],
    /// What the kernel reads besides.
    pub side: Option<Buffer>,
    /// Add to what y holds.
    pub accumulate: bool,
    pub y: (Window, u32),
    pub y_stride: usize,
}

impl Tiles {
    /// Those of a whole shard and these columns, which overwrite y.
    pub fn of(w: &Weight, index: usize, columns: Range<usize>, config: &KernelConfig, caps: &Caps) -> Self {
        let shard = &w.shards[index];
        let y_first = columns.start * w.rows + shard.rows.start;
        let y_last = (columns.end - 1) * w.rows + shard.rows.end;
        Self {
            shard: index,
            rows: shard.rows.len(),
            batch: columns.len(),
            columns: columns.len().div_ceil(config.columns as usize),
            experts: [0; 4],
            side: None,
            accumulate: false,
            y: window(Buffer::Y, y_first..y_last, caps),
            y_stride: w.rows,
        }
    }
}

/// How many of `left` columns a configuration takes: whole groups first; what is left gets a kernel compiled for fewer.
pub(super) fn columns_at_once(w: &Weight, left: usize, config: &KernelConfig, caps: &Caps) -> usize {
    let columns = config.columns as usize;
    let count = if left > columns { left / columns * columns } else { left };
    count.min(grid_limit(w, config, caps))
}

/// Pushes the dispatches of one shard and one range of batch columns: one per range of k.
pub(super) fn matmul_shard(
    plan: &mut Vec<Dispatch>,
    w: &Weight,
    tiles: &Tiles,
    x: Activated,
    (kernel, config): (&'static Kernel, &KernelConfig),
    caps: &Caps,
) -> Result<()> {
    let shard = &w.shards[tiles.shard];
    let row_groups = (tiles.rows as u32).div_ceil(config.rows);
    let split_groups = row_groups * tiles.columns as u32;
    let chunks = w.cols.div_ceil(CHUNK) as u32;
    let splits = split_count(tiles, config, chunks, split_groups, caps);
    let step = chunk_limit(config, caps).saturating_mul(splits);
    let mut chunk_begin = 0u32;
    loop {
        let chunk_end = chunks.min(chunk_begin.saturating_add(step));
        let mut params = Params {
            rows: tiles.rows as u32,
            cols: w.cols as u32,
            batch: tiles.batch as u32,
            row_groups,
            groups: split_groups * splits,
            chunk_begin,
            chunk_end,
            accumulate: u32::from(tiles.accumulate || chunk_begin > 0),
            x_offset: x.offset,
            x_stride: x.stride,
            y_offset: tiles.y.1,
            y_stride: tiles.y_stride as u32,
            split_groups,
            split_chunks: (chunk_end - chunk_begin).div_ceil(splits).max(1),
            experts: tiles.experts,
            plane_offset: shard.plane_offset,
            plane_stride: shard.plane_stride,
            ..Params::default()
        };
        let mut y = tiles.y.0;
        let sum = (splits > 1).then(|| reduce_split_k(w, tiles, &params, splits, caps)).transpose()?;
        if let Some(sum) = &sum {
            y = sum.x;
            params = Params {
                accumulate: 0,
                y_offset: 0,
                y_stride: tiles.rows as u32,
                split_stride: sum.params.split_stride,
                ..params
            };
        }
        let grid = fold(w.name, params.groups, caps)?;
        plan.push(Dispatch {
            kernel,
            config: config.clone(),
            shard: tiles.shard,
            params,
            grid,
            x: x.window,
            y,
            side: tiles.side,
        });
        plan.extend(sum);
        chunk_begin = chunk_end;
        if chunk_begin == chunks {
            return Ok(());
        }
    }
}

/// The splits of a configuration, fewer where k, a binding or the grid hold no more. Experts are not split: their columns
/// are not known before they run.
fn split_count(tiles: &Tiles, config: &KernelConfig, chunks: u32, split_groups: u32, caps: &Caps) -> u32 {
    if tiles.experts[1] > 0 {
        return 1;
    }
    let by_binding = binding_elements(caps) / (tiles.rows * tiles.batch).max(1);
    let by_grid = most_groups(caps) / split_groups.max(1) as usize;
    config.splits.min(chunks).min(by_binding.min(by_grid).max(1) as u32).max(1)
}

/// The dispatch that adds up the splits of `matmul`.
fn reduce_split_k(w: &Weight, tiles: &Tiles, matmul: &Params, splits: u32, caps: &Caps) -> Result<Dispatch> {
    let (kernel, config) = the_kernel(Operation::Sum, caps);
    let elements = tiles.rows * tiles.batch;
    let groups = elements.div_ceil(config.workgroup as usize) as u32;
    let params = Params {
        rows: matmul.rows,
        batch: matmul.batch,
        groups,
        accumulate: matmul.accumulate,
        y_offset: matmul.y_offset,
        y_stride: matmul.y_stride,
        split_groups: splits,
        split_stride: elements as u32,
        ..Params::default()
    };
    let x = Window { buffer: Buffer::Partial, offset: 0, size: 4 * (elements * splits as usize) as u64 };
    Ok(Dispatch {
        kernel,
        config,
        shard: tiles.shard,
        params,
        grid: fold(w.name, groups, caps)?,
        x,
        y: tiles.y.0,
        side: None,
    })
}

/// The power of two of each row of a shard that makes its weights fit f16, as f32 into y.
///
/// # Errors
/// [`Error::LimitExceeded`] if the shard has more rows than a grid has workgroups.
pub fn row_scales(w: Weight, shard: usize, caps: &Caps) -> Result<Dispatch> {
    let (kernel, config) = the_kernel(Operation::RowScales, caps);
    let s = &w.shards[shard];
    let groups = s.rows.len() as u32;
    let params = Params {
        rows: groups,
        cols: w.cols as u32,
        groups,
        chunk_end: w.cols.div_ceil(CHUNK) as u32,
        plane_offset: s.plane_offset,
        plane_stride: s.plane_stride,
        ..Params::default()
    };
    let x = Window { buffer: Buffer::X, offset: 0, size: 4 };
    let y = Window { buffer: Buffer::Y, offset: 0, size: 4 * u64::from(groups) };
    Ok(Dispatch { kernel, config, shard, params, grid: fold(w.name, groups, caps)?, x, y, side: None })
}

/// Four-bit codes and scales of the weights `weights` of a tensor, which start a block: f32 in x, in y the words of the codes and
/// behind them the scales. The weights that one dispatch can do are [`quantize_limit`].
///
/// # Errors
/// [`Error::LimitExceeded`] if there are more.
pub fn quantize(name: &str, weights: Range<usize>, block: usize, caps: &Caps) -> Result<Dispatch> {
    let kernel = the_kernel(Operation::Quantize, caps).0;
    let config = quantize_four_bit::config(block);
    let count = weights.len();
    let groups = count.div_ceil(quantize_four_bit::span(block)) as u32;
    let code_words = count.div_ceil(8);
    let params = Params { cols: count as u32, groups, y_stride: code_words as u32, ..Params::default() };
    // Read four weights at a time.
    let x = window(Buffer::X, weights.start..weights.start + count.next_multiple_of(4), caps).0;
    let y = window(Buffer::Y, 0..code_words + count.div_ceil(block), caps).0;
    Ok(Dispatch { kernel, config, shard: 0, params, grid: fold(name, groups, caps)?, x, y, side: None })
}

/// Weights that one [`quantize`] can do: whole blocks of every size, and few enough that memory for them is no matter.
///
/// # Errors
/// [`Error::LimitExceeded`] if that is none.
pub fn quantize_limit(name: &str, caps: &Caps) -> Result<usize> {
    let largest = quantize_four_bit::BLOCKS[quantize_four_bit::BLOCKS.len() - 1];
    let most = binding_elements(caps).min((caps.max_buffer / 4) as usize).min(QUANTIZE_WEIGHTS);
    match most / largest * largest {
        0 => Err(too_wide(format!("a block of `{name}` as f32"), largest, most)),
        weights => Ok(weights),
    }
}

/// Rows `rows` of `w` as f32 into `y[rows, k]`.
///
/// # Errors
/// [`Error::LimitExceeded`] if one row exceeds a binding.
pub fn dequantize(w: Weight, rows: Range<usize>, caps: &Caps) -> Result<Vec<Dispatch>> {
    let (kernel, config) = the_kernel(Operation::Dequantize, caps);
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
    let (kernel, config) = the_kernel(Operation::GetRows, caps);
    let step = row_limit(&w, &config, caps)?;
    let mut plan = vec![];
    if w.cols == 0 {
        return Ok(plan);
    }
    for first in (0..count).step_by(step) {
        let out = first..count.min(first + step);
        let (x, x_offset) = window(Buffer::X, out.clone(), caps);
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
    config: &KernelConfig,
    out: Range<usize>,
    params: Params,
    caps: &Caps,
) -> Result<Dispatch> {
    let chunks = w.cols.div_ceil(CHUNK);
    let groups = (out.len() * chunks).div_ceil(config.workgroup as usize) as u32;
    let (y, y_offset) = window(Buffer::Y, out.start * w.cols..out.end * w.cols, caps);
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
    let x = Window { buffer: Buffer::X, offset: 0, size: 4 };
    Ok(Dispatch {
        kernel,
        config: config.clone(),
        shard: index,
        params,
        grid: fold(w.name, groups, caps)?,
        x,
        y,
        side: None,
    })
}

/// The kernel of an operation that has one, and its one configuration.
fn the_kernel(operation: Operation, caps: &Caps) -> (&'static Kernel, KernelConfig) {
    let kernel =
        KERNELS.iter().copied().find(|k| k.operation == operation).expect("every operation has a kernel");
    (kernel, only_config(kernel, caps))
}

/// The configuration of a kernel that has the same for every request.
pub(super) fn only_config(kernel: &Kernel, caps: &Caps) -> KernelConfig {
    let any = Problem { rows: 1, cols: 1, batch: 1, ..Problem::default() };
    (kernel.configs)(caps, &any).swap_remove(0)
}

/// f32 elements that fit one binding wherever the window starts.
fn binding_elements(caps: &Caps) -> usize {
    let bytes = caps.max_binding.saturating_sub(u64::from(caps.binding_alignment)).min(u64::from(u32::MAX));
    (bytes / 4) as usize
}

/// Products of one dispatch at most, unless it has few columns: below half a second for a GPU of 140 GFLOP/s. Operating systems reset a
/// driver that is busy for two.
pub const PRODUCTS: usize = 1 << 35;
/// The same for a processor of 35 GFLOP/s, which is what Mesa 22.3 makes of two cores.
const SOFTWARE_PRODUCTS: usize = 1 << 33;
/// Columns that a kernel takes at a time, whatever the weight.
const FEW_COLUMNS: usize = 8;

/// Batch columns of one dispatch: whose x and y each fit one binding, and whose products take less than half a second.
pub(super) fn batch_limit(w: &Weight, activations: Activations, caps: &Caps) -> Result<usize> {
    let most = binding_elements(caps);
    let column = w.rows.max(w.cols).max(staged_words(w.cols, activations));
    match most / column {
        0 => Err(too_wide(format!("one column of x or y for `{}`", w.name), column, most)),
        columns => Ok(columns.min(brief(w, caps))),
    }
}

/// Batch columns whose products with one shard are few enough.
fn brief(w: &Weight, caps: &Caps) -> usize {
    let rows = w.shards.iter().map(|s| s.rows.len()).max().unwrap_or(0).min(w.rows);
    let products = if caps.software { SOFTWARE_PRODUCTS } else { PRODUCTS };
    (products / (rows * w.cols).max(1)).max(FEW_COLUMNS)
}

/// Rows of f32 that fit one binding and one folded grid.
fn row_limit(w: &Weight, config: &KernelConfig, caps: &Caps) -> Result<usize> {
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
fn grid_limit(w: &Weight, config: &KernelConfig, caps: &Caps) -> usize {
    let row_groups =
        w.shards.iter().map(|s| s.rows.len()).max().unwrap_or(0).div_ceil(config.rows as usize).max(1);
    (most_groups(caps) / row_groups).max(1) * config.columns as usize
}

/// Workgroups of a folded grid of which no dispatch should have more.
pub(super) fn most_groups(caps: &Caps) -> usize {
    (caps.max_groups as usize).saturating_mul(caps.max_groups as usize).min(1 << 24)
}

/// `groups` workgroups as a grid of two dimensions.
pub(super) fn fold(name: &str, groups: u32, caps: &Caps) -> Result<[u32; 2]> {
    let x = groups.clamp(1, caps.max_groups);
    let y = groups.div_ceil(x).max(1);
    if y > caps.max_groups {
        let limit = u64::from(caps.max_groups) * u64::from(caps.max_groups);
        return Err(Error::LimitExceeded {
            what: format!("workgroups for `{name}`"),
            wanted: groups.into(),
            limit,
        });
    }
    Ok([x, y])
}

/// Chunks that one dispatch may sum before the driver stops its loops.
fn chunk_limit(config: &KernelConfig, caps: &Caps) -> u32 {
    match caps.max_loops {
        None => u32::MAX,
        Some(loops) => (loops / config.loops_per_chunk).max(1).saturating_mul(config.lanes_along_k),
    }
}

/// The aligned window around words `range` of a buffer, and the word in it where the range starts.
pub(super) fn window(buffer: Buffer, range: Range<usize>, caps: &Caps) -> (Window, u32) {
    let alignment = u64::from(caps.binding_alignment);
    let start = range.start as u64 * 4;
    let offset = start / alignment * alignment;
    let size = (range.end as u64 * 4 - offset).max(4);
    (Window { buffer, offset, size }, ((start - offset) / 4) as u32)
}
