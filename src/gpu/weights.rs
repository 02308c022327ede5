//! Weights on the device: repacked into aligned planes row by row, uploaded in chunks, split where a binding ends.

use super::memory::{Buffer, Reservation};
use super::record::{BoundProgram, Io};
use super::runtime::Runtime;
use super::{transfer, upload};
use crate::error::{Error, Result};
use crate::format::Format;
use crate::kernel::op::row_scales;
use crate::kernel::shard::{DeviceLayout, Shard, Stack, Weight, shards};
use crate::tensor::PackedTensor;

/// A weight `[rows, cols]` that lies packed in device memory. Cheap to clone; the memory is freed with the last clone.
#[derive(Clone)]
pub struct Weights {
    /// Which runtime the buffers belong to.
    pub(super) owner: u64,
    pub(super) name: std::sync::Arc<str>,
    pub(super) layout: std::sync::Arc<DeviceLayout>,
    rows: usize,
    cols: usize,
    pub(super) shards: std::sync::Arc<[Shard]>,
    pub(super) buffers: std::sync::Arc<[Buffer]>,
    pub(super) book: Buffer,
    experts: usize,
    /// Made when a kernel first needs them.
    row_scales: std::sync::Arc<std::sync::OnceLock<Vec<Buffer>>>,
}

/// How an upload goes.
pub struct Upload<'a> {
    /// Matrices that the tensor is a stack of: the experts of a mixture, which columns of a batch are sent to one each. 1 for
    /// a plain matrix.
    pub experts: usize,
    /// Called with (bytes done, bytes in all) after each chunk.
    pub progress: Option<&'a mut dyn FnMut(u64, u64)>,
    /// Take weights with NaN or infinite scales. What comes of them depends on the driver.
    pub allow_non_finite: bool,
}

impl Default for Upload<'_> {
    fn default() -> Self {
        Self { experts: 1, progress: None, allow_non_finite: false }
    }
}

impl Weights {
    /// Name of the tensor.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How the weights are stored.
    pub fn format(&self) -> &'static Format {
        self.layout.format
    }

    /// Matrices that the rows are a stack of.
    pub fn experts(&self) -> usize {
        self.experts
    }

    /// Outputs, `m`; of all experts.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs, `k`.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes of device memory.
    pub fn device_bytes(&self) -> u64 {
        self.shards.iter().map(Shard::bytes).sum()
    }

    /// Number of buffers the rows are split over.
    pub fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// What the buffers take of the device's memory.
    pub(super) fn reservations(&self) -> impl Iterator<Item = Reservation> {
        self.buffers.iter().chain([&self.book]).map(|buffer| buffer.reservation().clone())
    }

    pub(super) fn shape(&self) -> Weight<'_> {
        Weight {
            name: &self.name,
            layout: &self.layout,
            rows: self.rows,
            cols: self.cols,
            experts: self.experts,
            shards: &self.shards,
        }
    }

    /// The power of two of each row that makes its weights fit f16, one buffer a shard, computed on the device at first use.
    pub(super) fn row_scales(&self, runtime: &Runtime) -> Result<&[Buffer]> {
        if let Some(scales) = self.row_scales.get() {
            return Ok(scales);
        }
        let mut encoder = runtime.encoder();
        let mut buffers = vec![];
        for (i, shard) in self.shards.iter().enumerate() {
            let y = transfer::buffer(
                runtime,
                &format!("row scales of `{}`", self.name),
                shard.rows.len() as u64 * 4,
                wgpu::BufferUsages::STORAGE,
            )?;
            let step = row_scales::plan(self.shape(), i, runtime.caps())?;
            // It reads no activations; any buffer will do.
            let io = Io { x: &self.book, y: &y, experts: None };
            BoundProgram::new(runtime, self, &io, &[step])?.encode(&mut encoder);
            buffers.push(y);
        }
        runtime.submit(encoder)?;
        Ok(self.row_scales.get_or_init(|| buffers))
    }
}

pub(super) fn upload(runtime: &Runtime, tensor: &PackedTensor, mut options: Upload) -> Result<Weights> {
    let mut layout = DeviceLayout::from(tensor.layout());
    let (shape, experts) = ((tensor.rows(), tensor.cols()), options.experts);
    if experts == 0 || !shape.0.is_multiple_of(experts) {
        let name = tensor.name();
        return Err(Error::Argument(format!(
            "the {} rows of `{name}` are no stack of {experts} experts",
            shape.0
        )));
    }
    // Experts stay whole.
    let unit = if experts == 1 { 1 } else { shape.0 / experts };
    let stack = Stack { rows: shape.0, cols: shape.1, unit };
    let shards = shards(tensor.name(), &mut layout, stack, runtime.caps())?;
    let total = shards.iter().map(Shard::bytes).sum();
    let mut done = 0;
    let mut buffers = vec![];
    for shard in &shards {
        let doing = || format!("uploading `{}`", tensor.name());
        let buffer = transfer::create(runtime, doing, tensor.name(), shard.bytes(), transfer::OUTPUT)?;
        let step = upload::step(shard);
        for first in shard.rows.clone().step_by(step) {
            let rows = first..shard.rows.end.min(first + step);
            done += shard.row_bytes() * rows.len().next_multiple_of(shard.tile) as u64;
            let to = (&layout, shard, &*buffer);
            if !upload::rows(runtime, tensor, to, rows, !options.allow_non_finite)? {
                // Counts them.
                tensor.check_finite()?;
            }
            if let Some(progress) = &mut options.progress {
                progress(done, total);
            }
        }
        buffers.push(buffer);
    }
    Ok(Weights {
        owner: runtime.id(),
        name: tensor.name().into(),
        rows: tensor.rows(),
        cols: tensor.cols(),
        shards: shards.into(),
        buffers: buffers.into(),
        book: runtime.book(&layout)?,
        layout: layout.into(),
        experts,
        row_scales: std::sync::Arc::default(),
    })
}
