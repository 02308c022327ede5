//! The blocking forms of the calls that wait. In a browser, where nothing may block, they do not
//! exist: the async forms do, [`Runtime::new_async`] and the others.

use super::device::Options;
use super::encode::EncodeInput;
use super::layer::Layer;
use super::peak::{MemorySpeed, Peak};
use super::program::Slice;
use super::runtime::Runtime;
use super::time::Timing;
use super::waiting::block_on;
use super::weights::Weights;
use super::{calls, encode, int8, layer, peak, time, warm_up};
use crate::error::Result;
use crate::format::Recipe;
use crate::kernel::llm_int8::Staged;
use crate::kernel::{MatmulOptions, Threshold};
use crate::tensor::PackedTensor;
use std::ops::Range;

impl Runtime {
    /// Opens the best adapter of this machine.
    ///
    /// # Errors
    /// [`Error::NoAdapter`](crate::Error::NoAdapter) with what to install,
    /// [`Error::Gpu`](crate::Error::Gpu) if the driver refuses.
    pub fn new() -> Result<Self> {
        Self::with_options(&Options::default())
    }

    /// Opens the adapter that `options` select.
    ///
    /// ```no_run
    /// use qmatmul::{Options, Runtime};
    ///
    /// # fn main() -> qmatmul::Result<()> {
    /// let select = "dx12:radeon".parse().unwrap_or_default();
    /// let gpu = Runtime::with_options(&Options { select, ..Options::default() })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Runtime::new`].
    pub fn with_options(options: &Options) -> Result<Self> {
        block_on(Self::open(options.clone()))
    }

    /// A new device with the options of this one, after this one was lost. Weights belong to the
    /// runtime that they were uploaded to: calls with them name the tensor and refuse it, and it is
    /// uploaded anew from the [`PackedTensor`], which is still on the host. The same calls then
    /// give the same bits. The old runtime and its weights may be dropped in any order.
    ///
    /// ```no_run
    /// use qmatmul::{Error, PackedTensor, Result, Runtime};
    ///
    /// fn product(gpu: &mut Runtime, packed: &PackedTensor, x: &[f32]) -> Result<Vec<f32>> {
    ///     match gpu.upload(packed).and_then(|w| gpu.matmul(&w, x)) {
    ///         Err(Error::DeviceLost(_)) => {
    ///             *gpu = gpu.rebuild()?;
    ///             gpu.matmul(&gpu.upload(packed)?, x)
    ///         }
    ///         done => done,
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`Runtime::with_options`]; [`Error::NoAdapter`](crate::Error::NoAdapter) if the adapter
    /// is gone, even if there is another; [`Error::Argument`](crate::Error::Argument) for a runtime
    /// on a device of the host's, who has to open another.
    pub fn rebuild(&self) -> Result<Self> {
        block_on(self.reopen())
    }

    /// What a buffer, or a part of it, holds when all that was submitted before has ended: f32, u32
    /// or `half::f16`. The buffer needs the usage `COPY_SRC`.
    ///
    /// ```no_run
    /// use qmatmul::{Result, Runtime, gpu::BoundProgram, wgpu};
    ///
    /// fn one_token(gpu: &Runtime, bound: &BoundProgram, y: &wgpu::Buffer) -> Result<Vec<f32>> {
    ///     bound.run(1)?;
    ///     gpu.read(&y.into())
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the buffer has not so many bytes,
    /// [`Error::Argument`](crate::Error::Argument) if they are not whole words, and the device's
    /// errors.
    pub fn read<T: bytemuck::AnyBitPattern + bytemuck::NoUninit>(&self, slice: &Slice) -> Result<Vec<T>> {
        block_on(calls::read(self.context(), slice))
    }

    /// `y[n, m] = x[n, k] · w[m, k]ᵀ` in f32; `n = x.len() / k`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if `x` is not a whole number of columns,
    /// [`Error::NonFinite`](crate::Error::NonFinite) if it holds NaN or infinity, and the device's
    /// errors.
    pub fn matmul(&self, w: &Weights, x: &[f32]) -> Result<Vec<f32>> {
        self.matmul_with(w, x, &MatmulOptions::default())
    }

    /// [`Runtime::matmul`] with activations or a kernel of the caller's choice.
    ///
    /// ```no_run
    /// use qmatmul::{Activations, MatmulOptions, Result, Runtime, Weights};
    ///
    /// fn rounded(gpu: &Runtime, w: &Weights, x: &[f32]) -> Result<Vec<f32>> {
    ///     gpu.matmul_with(w, x, &MatmulOptions::with(Activations::F16))
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`Runtime::matmul`], and [`Error::Argument`](crate::Error::Argument) if the kernel does
    /// not apply.
    pub fn matmul_with(&self, w: &Weights, x: &[f32], options: &MatmulOptions) -> Result<Vec<f32>> {
        block_on(calls::matmul(self.context(), w, x, options))
    }

    /// Mixture of experts: `y[i, t] = x[i] · w[experts[i, t]]ᵀ` for activations `[n, k]` and the
    /// numbers of `per` experts for each, `experts[n, per]`; y is
    /// `[n, per, m / Weights::experts()]`. Every expert's weights are read once for all of its
    /// columns.
    ///
    /// ```no_run
    /// use qmatmul::{MatmulOptions, PackedTensor, Result, Runtime, gpu::Upload};
    ///
    /// /// A stack of 8 experts; two tokens, each sent to two of them.
    /// fn mixture(gpu: &Runtime, stack: &PackedTensor, x: &[f32]) -> Result<Vec<f32>> {
    ///     let w = gpu.upload_with(stack, Upload { experts: 8, ..Upload::default() })?;
    ///     gpu.matmul_experts(&w, x, &[0, 5, 3, 7], &MatmulOptions::default())
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`Runtime::matmul`], and [`Error::Shape`](crate::Error::Shape) if an expert does not
    /// exist or their count is no multiple of n.
    pub fn matmul_experts(
        &self,
        w: &Weights,
        x: &[f32],
        experts: &[u32],
        options: &MatmulOptions,
    ) -> Result<Vec<f32>> {
        block_on(calls::matmul_experts(self.context(), w, x, experts, options))
    }

    /// All weights as f32 `[m, k]`, decoded on the device.
    ///
    /// # Errors
    /// The device's errors.
    pub fn dequantize(&self, w: &Weights) -> Result<Vec<f32>> {
        self.dequantize_rows(w, 0..w.rows())
    }

    /// Rows `rows` as f32 `[rows.len(), k]`, decoded on the device.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if there are not so many rows, and the device's
    /// errors.
    pub fn dequantize_rows(&self, w: &Weights, rows: Range<usize>) -> Result<Vec<f32>> {
        block_on(calls::dequantize_rows(self.context(), w, rows))
    }

    /// Rows `rows[i]` of `w` as f32 `[rows.len(), k]`: the look-up of token embeddings.
    ///
    /// ```no_run
    /// # use qmatmul::{Result, Runtime, Weights};
    /// fn embed(gpu: &Runtime, embedding: &Weights, tokens: &[u32]) -> Result<Vec<f32>> {
    ///     gpu.get_rows(embedding, tokens) // [tokens, k]
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if a row number is not below `m`, and the device's
    /// errors.
    pub fn get_rows(&self, w: &Weights, rows: &[u32]) -> Result<Vec<f32>> {
        block_on(calls::get_rows(self.context(), w, rows))
    }

    /// Times a matmul with `n` columns over `weights` in turn, for at least `least` seconds (an
    /// hour at most). All columns must fit one buffer.
    ///
    /// ```no_run
    /// # use qmatmul::{MatmulOptions, Result, Runtime, Weights};
    /// fn decode_speed(gpu: &Runtime, w: &[Weights]) -> Result<f64> {
    ///     let timing = gpu.time_matmul(w, 1, &MatmulOptions::default(), 0.5)?;
    ///     Ok(w[0].device_bytes() as f64 / timing.median()) // bytes per second
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) without weights,
    /// [`Error::LimitExceeded`](crate::Error::LimitExceeded), and the device's errors.
    pub fn time_matmul(
        &self,
        weights: &[Weights],
        n: usize,
        options: &MatmulOptions,
        least: f64,
    ) -> Result<Timing> {
        block_on(time::matmul(self.context(), weights, n, options, least))
    }

    /// The same for activations `x[n, k]` of one's own: with LLM.int8 the time depends on them. The
    /// weights have one width.
    ///
    /// # Errors
    /// As there, and [`Error::Shape`](crate::Error::Shape) if `x` is not a whole number of columns.
    pub fn time_matmul_of(
        &self,
        weights: &[Weights],
        x: &[f32],
        options: &MatmulOptions,
        least: f64,
    ) -> Result<Timing> {
        block_on(calls::time_matmul_of(self.context(), weights, x, options, least))
    }

    /// Waits until everything submitted is done.
    ///
    /// # Errors
    /// [`Error::DeviceLost`](crate::Error::DeviceLost); [`Error::TimedOut`](crate::Error::TimedOut)
    /// if nothing of this runtime's own ended for [`Options::timeout`].
    ///
    /// # Panics
    /// If a callback of the host's does, which wgpu runs here.
    pub fn wait(&self) -> Result<()> {
        block_on(self.context().wait())
    }

    /// [`PackedTensor::encode`] with the device's help: the same bytes. NF4, FP4 and LLM.int8's
    /// INT8 have an encoder there; all else is encoded by the CPU, scales of NF4 and FP4 that are
    /// to be quantized themselves among it.
    ///
    /// It pays where the weights already lie on the device ([`EncodeInput::Device`]), or where
    /// copying them there is faster than the processor is: 4 bytes a weight go up, and a little
    /// more than half a byte (INT8: one and a half) comes back.
    /// `docs/lab/2026-11-21-encode-four-bit.md` has figures.
    ///
    /// ```no_run
    /// use qmatmul::{Recipe, Runtime, format};
    ///
    /// # fn main() -> qmatmul::Result<()> {
    /// let (gpu, weights) = (Runtime::new()?, vec![0.5f32; 4096 * 1024]);
    /// let packed = gpu.encode("w", [4096, 1024], &weights, &Recipe::new(format::NF4))?;
    /// let on_device = gpu.upload(&packed)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`PackedTensor::encode`], and the device's errors. Of weights in a buffer:
    /// [`Error::Argument`](crate::Error::Argument) for formats other than NF4 and FP4,
    /// [`Error::Shape`](crate::Error::Shape) if the buffer is too small;
    /// [`Error::NonFinite`](crate::Error::NonFinite) counts blocks.
    pub fn encode<'a>(
        &self,
        name: impl Into<String>,
        shape: [usize; 2],
        weights: impl Into<EncodeInput<'a>>,
        recipe: &Recipe,
    ) -> Result<PackedTensor> {
        block_on(encode::encode(self, name.into(), shape, weights.into(), recipe))
    }

    /// `y[n, m] = x[n, k] · w[m, k]ᵀ + bias + x[n, columns] · keptᵀ + Σ s · (x · aᵀ) · bᵀ`;
    /// `n = x.len() / k`. `options` say how the weight is multiplied; kept columns and adapters
    /// always take the activations as they are.
    ///
    /// # Errors
    /// As [`Runtime::matmul_with`].
    pub fn matmul_layer(&self, layer: &Layer, x: &[f32], options: &MatmulOptions) -> Result<Vec<f32>> {
        block_on(layer::matmul(self, layer, x, options))
    }

    /// The codes, largest magnitudes and outlier features of activations `x[n, k]` for INT8 weights
    /// `w[m, k]`, as [`Activations::Int8`](crate::Activations::Int8) multiplies them.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if `x` is not a whole number of columns,
    /// [`Error::NonFinite`](crate::Error::NonFinite),
    /// [`Error::LimitExceeded`](crate::Error::LimitExceeded) if x exceeds one binding, and the
    /// device's errors.
    pub fn quantize_activations(&self, w: &Weights, x: &[f32], threshold: Threshold) -> Result<Staged> {
        block_on(int8::quantize_activations(self.context(), w, x, threshold))
    }

    /// Compiles ahead what a matmul with `n` columns will need.
    ///
    /// # Errors
    /// The device's errors.
    pub fn warm_up(&self, w: &Weights, n: usize) -> Result<()> {
        self.warm_up_all(&[(w, n)], &MatmulOptions::default())
    }

    /// Compiles ahead what matmuls with these weights and numbers of columns will need, each
    /// pipeline once and in parallel, and keeps them on disk where the backend can.
    ///
    /// # Errors
    /// As [`Runtime::record_matmuls`].
    pub fn warm_up_all(&self, requests: &[(&Weights, usize)], options: &MatmulOptions) -> Result<()> {
        block_on(warm_up::all(self.context(), requests, options))
    }

    /// Measures the device, each figure for about `seconds` (a minute at most).
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory), [`Error::Gpu`](crate::Error::Gpu) also
    /// where the device computes something wrong, and the device's other errors.
    pub fn peak(&self, seconds: f64) -> Result<Peak> {
        block_on(peak::all(self.context(), seconds))
    }

    /// [`Peak::copy_gb_per_s`] alone, measured for about `seconds`.
    ///
    /// A ceiling is the best that was seen. Where others use the machine, too, measure it before
    /// and after what is held against it, and take the larger:
    ///
    /// ```no_run
    /// # fn main() -> qmatmul::Result<()> {
    /// let runtime = qmatmul::Runtime::new()?;
    /// let before = runtime.copy_gb_per_s(0.3)?;
    /// // … whatever is measured …
    /// let ceiling = runtime.copy_gb_per_s(0.3)?.max(before);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Runtime::peak`].
    pub fn copy_gb_per_s(&self, seconds: f64) -> Result<f64> {
        block_on(peak::copy(self.context(), seconds))
    }

    /// How fast memory is read and copied, each measured for about `seconds`: the ceiling of what
    /// [`tune`](crate::tune) tries.
    ///
    /// # Errors
    /// As [`Runtime::peak`].
    pub fn memory_gb_per_s(&self, seconds: f64) -> Result<MemorySpeed> {
        block_on(peak::memory(self.context(), seconds))
    }

    /// Compiles ahead what layers with these numbers of columns will need, as
    /// [`Runtime::warm_up_all`] does.
    ///
    /// # Errors
    /// As [`Runtime::record_matmul`].
    pub fn warm_up_layers(&self, requests: &[(&Layer, usize)], options: &MatmulOptions) -> Result<()> {
        block_on(layer::warm_up(self.context(), requests, options))
    }

    /// Times layers with `n` columns in turn, as [`Runtime::time_matmul`] does.
    ///
    /// # Errors
    /// As [`Runtime::time_matmul`].
    pub fn time_layer(
        &self,
        layers: &[Layer],
        n: usize,
        options: &MatmulOptions,
        least: f64,
    ) -> Result<Timing> {
        block_on(layer::time(self.context(), layers, n, options, least))
    }
}
