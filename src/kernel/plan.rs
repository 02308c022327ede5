//! A problem as data: which shader, on which shard, with which parameters, how many workgroups. The
//! device layer only carries it out, and a test can print it without a device. The operations in
//! [`op`](super::op) make plans.

use super::limits;
use super::shard::{MAX_PLANES, Shard};
use super::types::{Candidate, Caps, Kernel, KernelConfig, Problem};
use crate::error::Result;
use std::ops::Range;

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

impl Params {
    /// Those that say where the planes of a shard lie.
    pub(super) fn of(shard: &Shard) -> Self {
        Self { plane_offset: shard.plane_offset, plane_stride: shard.plane_stride, ..Self::default() }
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

impl Window {
    /// The first `words` words of a buffer.
    pub(super) fn first(buffer: Buffer, words: usize) -> Self {
        Self { buffer, offset: 0, size: 4 * words as u64 }
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

/// Where a matmul finds its activations.
#[derive(Clone, Copy)]
pub(super) struct Activated {
    pub window: Window,
    pub offset: u32,
    pub stride: u32,
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

    /// The workgroups that `params` ask for of a kernel that reads no weights and, until it is told
    /// what, nothing else. `name` is that of the weight, for messages.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`](crate::Error::LimitExceeded) if a device has not as many
    /// workgroups.
    pub(super) fn new(candidate: Candidate, params: Params, name: &str, caps: &Caps) -> Result<Self> {
        let Candidate { kernel, config } = candidate;
        let grid = limits::fold(name, params.groups, caps)?;
        let (x, y) = (Window::first(Buffer::X, 1), Window::first(Buffer::Y, 1));
        Ok(Self { kernel, config, shard: 0, params, grid, x, y, side: None })
    }

    /// With these weights.
    pub(super) fn on_shard(self, shard: usize) -> Self {
        Self { shard, ..self }
    }

    /// With this besides the weights.
    pub(super) fn reads(self, x: Window) -> Self {
        Self { x, ..self }
    }

    /// With this as the result.
    pub(super) fn writes(self, y: Window) -> Self {
        Self { y, ..self }
    }

    /// With a whole buffer besides.
    pub(super) fn beside(self, side: Option<Buffer>) -> Self {
        Self { side, ..self }
    }
}

/// Bytes that a plan needs of a buffer.
pub fn bytes_of(plan: &[Dispatch], buffer: Buffer) -> u64 {
    let windows = plan.iter().flat_map(|d| [d.x, d.y]);
    windows.filter(|w| w.buffer == buffer).map(|w| w.offset + w.size).max().unwrap_or(0)
}

/// Decides how a problem is carried out.
pub type Choose<'a> = &'a dyn Fn(&Problem) -> Result<Candidate>;
