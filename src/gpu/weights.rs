//! A weight on the device: its planes in one buffer a shard, its codebook, and how an upload goes.

use super::memory::{Buffer, Reservation};
use crate::error::{Error, Result};
use crate::format::Format;
use crate::kernel::program::WeightHandle;
use crate::kernel::shard::{DeviceLayout, Shard, Weight};
use std::fmt;

/// A weight `[rows, cols]` that lies packed in device memory. Cheap to clone; the memory is freed
/// with the last clone.
///
/// ```no_run
/// # use qmatmul::{PackedTensor, Result, Runtime};
/// # fn upload(gpu: &Runtime, packed: &PackedTensor) -> Result<()> {
/// let w = gpu.upload(packed)?;
/// let (rows, cols, format) = (w.rows(), w.cols(), w.format().name);
/// println!("{}: {rows} x {cols}, {} bytes of {format}", w.name(), w.device_bytes());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Weights {
    /// Which runtime the buffers belong to.
    pub(super) owner: u64,
    pub(super) name: std::sync::Arc<str>,
    pub(super) layout: std::sync::Arc<DeviceLayout>,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) shards: std::sync::Arc<[Shard]>,
    pub(super) buffers: std::sync::Arc<[Buffer]>,
    /// The codebook, if the layout has one.
    pub(super) book: Option<Buffer>,
    pub(super) experts: usize,
    /// Of a device with kernels that round weights to f16.
    pub(super) row_scales: std::sync::Arc<std::sync::OnceLock<Vec<Buffer>>>,
}

impl WeightHandle for Weights {
    fn shape(&self) -> Weight<'_> {
        Weight {
            index: 0,
            name: &self.name,
            layout: &self.layout,
            rows: self.rows,
            cols: self.cols,
            experts: self.experts,
            shards: &self.shards,
        }
    }
}

/// How an upload goes.
pub struct Upload<'a> {
    /// Matrices that the tensor is a stack of: the experts of a mixture, which columns of a batch
    /// are sent to one each. 1 for a plain matrix.
    pub experts: usize,
    /// Called with (bytes done, bytes in all) after each chunk.
    pub progress: Option<&'a mut (dyn FnMut(u64, u64) + Send)>,
    /// Take weights with NaN or infinite scales. What comes of them depends on the driver.
    pub allow_non_finite: bool,
}

impl Default for Upload<'_> {
    fn default() -> Self {
        Self { experts: 1, progress: None, allow_non_finite: false }
    }
}

impl fmt::Debug for Upload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload")
            .field("experts", &self.experts)
            .field("progress", &self.progress.is_some())
            .field("allow_non_finite", &self.allow_non_finite)
            .finish()
    }
}

impl fmt::Debug for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Weights")
            .field("name", &self.name)
            .field("rows", &self.rows)
            .field("cols", &self.cols)
            .field("experts", &self.experts)
            .field("format", &self.format())
            .finish_non_exhaustive()
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
        self.buffers.iter().chain(&self.book).map(|buffer| buffer.reservation().clone())
    }

    /// The power of two of each row that makes its weights fit f16, one buffer a shard.
    ///
    /// # Errors
    /// [`Error::Argument`] if the device has no kernel that asks for them: then none were made.
    pub(super) fn row_scales(&self) -> Result<&[Buffer]> {
        let missing = || Error::Argument(format!("`{}` was uploaded without scales of its rows", self.name));
        self.row_scales.get().map(|scales| &scales[..]).ok_or_else(missing)
    }
}
