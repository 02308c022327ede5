//! The async forms of the calls that wait. Natively each runs on a thread of its own; in a browser it
//! waits for the browser.
//!
//! All futures are `Send`. Where no lifetime stands in the signature, a future is also `'static`: it
//! owns what it works with, and can be spawned. A future does nothing before its first poll; if it
//! is dropped after that, what it has begun goes on to its end without it (in a browser only what
//! the device has been given).

use super::device::Options;
use super::encode::{self, EncodeInput};
use super::layer::{self, Layer};
use super::peak::{self, MemorySpeed, Peak};
use super::program::Slice;
use super::runtime::Runtime;
use super::time::{self, Timing};
use super::waiting::in_background;
use super::weights::{Upload, Weights};
use super::{calls, int8, upload, warm_up};
use crate::error::Result;
use crate::format::Recipe;
use crate::kernel::llm_int8::Staged;
use crate::kernel::{MatmulOptions, Threshold};
use crate::linear::Linear;
use crate::tensor::PackedTensor;
use std::future::Future;
use std::ops::Range;

impl Runtime {
    /// [`Runtime::new`] for an async caller.
    ///
    /// ```no_run
    /// use qmatmul::{PackedTensor, Result, Runtime};
    ///
    /// async fn product(packed: &PackedTensor, x: &[f32]) -> Result<Vec<f32>> {
    ///     let gpu = Runtime::new_async().await?;
    ///     let w = gpu.upload_async(packed).await?;
    ///     gpu.matmul_async(&w, x).await
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`Runtime::new`].
    pub fn new_async() -> impl Future<Output = Result<Self>> + Send + use<> {
        in_background(Self::open(Options::default()))
    }

    /// [`Runtime::with_options`] for an async caller.
    ///
    /// # Errors
    /// As [`Runtime::with_options`].
    pub fn with_options_async(options: &Options) -> impl Future<Output = Result<Self>> + Send + use<> {
        in_background(Self::open(options.clone()))
    }

    /// [`Runtime::rebuild`] for an async caller.
    ///
    /// # Errors
    /// As [`Runtime::rebuild`].
    pub fn rebuild_async(&self) -> impl Future<Output = Result<Self>> + Send + use<> {
        let gpu = self.clone();
        in_background(async move { gpu.reopen().await })
    }

    /// [`Runtime::upload`] for an async caller. If the future is dropped, the upload ends after the
    /// chunk that is under way, and its memory is freed.
    ///
    /// # Errors
    /// As [`Runtime::upload`].
    pub fn upload_async(
        &self,
        tensor: &PackedTensor,
    ) -> impl Future<Output = Result<Weights>> + Send + use<> {
        self.upload_with_async(tensor, Upload::default())
    }

    /// [`Runtime::upload_with`] for an async caller. The task that awaits the future calls
    /// [`Upload::progress`]. If the future is dropped, the upload ends after the chunk that is under
    /// way, and its memory is freed.
    ///
    /// ```no_run
    /// use qmatmul::{PackedTensor, Result, Runtime, Weights, gpu::Upload};
    ///
    /// async fn upload(gpu: &Runtime, packed: &PackedTensor) -> Result<Weights> {
    ///     let mut show = |done: u64, all: u64| eprint!("\r{done} of {all} bytes");
    ///     let options = Upload { progress: Some(&mut show), ..Upload::default() };
    ///     gpu.upload_with_async(packed, options).await
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`Runtime::upload_with`].
    pub fn upload_with_async<'a>(
        &self,
        tensor: &PackedTensor,
        options: Upload<'a>,
    ) -> impl Future<Output = Result<Weights>> + Send + use<'a> {
        upload::upload_async(self.context().clone(), tensor.clone(), options)
    }

    /// [`Runtime::upload_layer`] for an async caller.
    ///
    /// # Errors
    /// As [`Runtime::upload_layer`].
    pub fn upload_layer_async(&self, linear: &Linear) -> impl Future<Output = Result<Layer>> + Send + use<> {
        let (gpu, linear) = (self.clone(), linear.clone());
        in_background(async move {
            let layer = gpu.upload_layer(&linear)?;
            gpu.context().settle().await?;
            Ok(layer)
        })
    }

    /// [`Runtime::wait`] for an async caller.
    ///
    /// # Errors
    /// As [`Runtime::wait`].
    ///
    /// # Panics
    /// As [`Runtime::wait`], in the task that awaits the future.
    pub fn wait_async(&self) -> impl Future<Output = Result<()>> + Send + use<> {
        let gpu = self.clone();
        in_background(async move { gpu.context().wait().await })
    }

    /// [`Runtime::warm_up_all`] for an async caller.
    ///
    /// # Errors
    /// As [`Runtime::warm_up_all`].
    pub fn warm_up_all_async(
        &self,
        requests: &[(&Weights, usize)],
        options: &MatmulOptions,
    ) -> impl Future<Output = Result<()>> + Send + use<> {
        let requests: Vec<(Weights, usize)> = requests.iter().map(|(w, n)| ((*w).clone(), *n)).collect();
        let (gpu, options) = (self.clone(), options.clone());
        in_background(async move {
            let requests: Vec<_> = requests.iter().map(|(w, n)| (w, *n)).collect();
            warm_up::all(gpu.context(), &requests, &options).await
        })
    }

    /// [`Runtime::matmul_with`] for an async caller. The activations are copied.
    ///
    /// # Errors
    /// As [`Runtime::matmul_with`].
    pub fn matmul_with_async(
        &self,
        w: &Weights,
        x: &[f32],
        options: &MatmulOptions,
    ) -> impl Future<Output = Result<Vec<f32>>> + Send + use<> {
        let (gpu, w, x, options) = (self.clone(), w.clone(), x.to_vec(), options.clone());
        in_background(async move { calls::matmul(gpu.context(), &w, &x, &options).await })
    }

    /// [`Runtime::matmul_experts`] for an async caller. The activations are copied.
    ///
    /// # Errors
    /// As [`Runtime::matmul_experts`].
    pub fn matmul_experts_async(
        &self,
        w: &Weights,
        x: &[f32],
        experts: &[u32],
        options: &MatmulOptions,
    ) -> impl Future<Output = Result<Vec<f32>>> + Send + use<> {
        let (gpu, w, options) = (self.clone(), w.clone(), options.clone());
        let (x, experts) = (x.to_vec(), experts.to_vec());
        in_background(async move { calls::matmul_experts(gpu.context(), &w, &x, &experts, &options).await })
    }

    /// [`Runtime::matmul_layer`] for an async caller. The activations are copied.
    ///
    /// # Errors
    /// As [`Runtime::matmul_layer`].
    pub fn matmul_layer_async(
        &self,
        layer: &Layer,
        x: &[f32],
        options: &MatmulOptions,
    ) -> impl Future<Output = Result<Vec<f32>>> + Send + use<> {
        let (gpu, layer, x, options) = (self.clone(), layer.clone(), x.to_vec(), options.clone());
        in_background(async move { layer::matmul(&gpu, &layer, &x, &options).await })
    }

    /// [`Runtime::dequantize_rows`] for an async caller.
    ///
    /// # Errors
    /// As [`Runtime::dequantize_rows`].
    pub fn dequantize_rows_async(
        &self,
        w: &Weights,
        rows: Range<usize>,
    ) -> impl Future<Output = Result<Vec<f32>>> + Send + use<> {
        let (gpu, w) = (self.clone(), w.clone());
        in_background(async move { calls::dequantize_rows(gpu.context(), &w, rows).await })
    }

    /// [`Runtime::encode`] for an async caller. Weights in memory of the host are copied, 4 bytes
    /// each; those in a buffer are not.
    ///
    /// # Errors
    /// As [`Runtime::encode`].
    pub fn encode_async<'a>(
        &self,
        name: impl Into<String>,
        shape: [usize; 2],
        weights: impl Into<EncodeInput<'a>>,
        recipe: &Recipe,
    ) -> impl Future<Output = Result<PackedTensor>> + Send {
        let (gpu, name, recipe) = (self.clone(), name.into(), *recipe);
        let (host, buffer) = match weights.into() {
            EncodeInput::Host(weights) => (weights.to_vec(), None),
            EncodeInput::Device(buffer) => (vec![], Some(buffer.clone())),
        };
        in_background(async move {
            let weights = buffer.as_ref().map_or(EncodeInput::Host(&host), EncodeInput::Device);
            encode::encode(&gpu, name, shape, weights, &recipe).await
        })
    }

    /// The codes, largest magnitudes and outlier features of activations `x[n, k]` for INT8 weights
    /// `w[m, k]`, as [`Activations::Int8`](crate::Activations::Int8) multiplies them. The
    /// activations are copied.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if `x` is not a whole number of columns,
    /// [`Error::NonFinite`](crate::Error::NonFinite),
    /// [`Error::LimitExceeded`](crate::Error::LimitExceeded) if x exceeds one binding, and the
    /// device's errors.
    pub fn quantize_activations_async(
        &self,
        w: &Weights,
        x: &[f32],
        threshold: Threshold,
    ) -> impl Future<Output = Result<Staged>> + Send + use<> {
        let (gpu, w, x) = (self.clone(), w.clone(), x.to_vec());
        in_background(async move { int8::quantize_activations(gpu.context(), &w, &x, threshold).await })
    }

    /// Times a matmul with `n` columns over `weights` in turn, for at least `least` seconds (an
    /// hour at most). All columns must fit one buffer. In a browser without GPU timestamps the times
    /// hold what the browser takes to tell of the end.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) without weights,
    /// [`Error::LimitExceeded`](crate::Error::LimitExceeded), and the device's errors.
    pub fn time_matmul_async(
        &self,
        weights: &[Weights],
        n: usize,
        options: &MatmulOptions,
        least: f64,
    ) -> impl Future<Output = Result<Timing>> + Send + use<> {
        let (gpu, weights, options) = (self.clone(), weights.to_vec(), options.clone());
        in_background(async move { time::matmul(gpu.context(), &weights, n, &options, least).await })
    }

    /// [`Runtime::time_matmul_async`] for activations `x[n, k]` of one's own: with LLM.int8 the time
    /// depends on them. The weights have one width. The activations are copied.
    ///
    /// # Errors
    /// As there, and [`Error::Shape`](crate::Error::Shape) if `x` is not a whole number of columns.
    pub fn time_matmul_of_async(
        &self,
        weights: &[Weights],
        x: &[f32],
        options: &MatmulOptions,
        least: f64,
    ) -> impl Future<Output = Result<Timing>> + Send + use<> {
        let (gpu, weights, x, options) = (self.clone(), weights.to_vec(), x.to_vec(), options.clone());
        in_background(
            async move { calls::time_matmul_of(gpu.context(), &weights, &x, &options, least).await },
        )
    }

    /// Times layers with `n` columns in turn, as [`Runtime::time_matmul_async`] does.
    ///
    /// # Errors
    /// As there.
    pub fn time_layer_async(
        &self,
        layers: &[Layer],
        n: usize,
        options: &MatmulOptions,
        least: f64,
    ) -> impl Future<Output = Result<Timing>> + Send + use<> {
        let (gpu, layers, options) = (self.clone(), layers.to_vec(), options.clone());
        in_background(async move { layer::time(gpu.context(), &layers, n, &options, least).await })
    }

    /// Compiles ahead what layers with these numbers of columns will need, as
    /// [`Runtime::warm_up_all_async`] does.
    ///
    /// # Errors
    /// As there.
    pub fn warm_up_layers_async(
        &self,
        requests: &[(&Layer, usize)],
        options: &MatmulOptions,
    ) -> impl Future<Output = Result<()>> + Send + use<> {
        let requests: Vec<(Layer, usize)> = requests.iter().map(|(l, n)| ((*l).clone(), *n)).collect();
        let (gpu, options) = (self.clone(), options.clone());
        in_background(async move {
            let requests: Vec<_> = requests.iter().map(|(l, n)| (l, *n)).collect();
            layer::warm_up(gpu.context(), &requests, &options).await
        })
    }

    /// [`Peak::copy_gb_per_s`] alone, measured for about `seconds`.
    ///
    /// # Errors
    /// As [`Runtime::peak_async`].
    pub fn copy_gb_per_s_async(&self, seconds: f64) -> impl Future<Output = Result<f64>> + Send + use<> {
        let gpu = self.clone();
        in_background(async move { peak::copy(gpu.context(), seconds).await })
    }

    /// How fast memory is read and copied, each measured for about `seconds`.
    ///
    /// # Errors
    /// As [`Runtime::peak_async`].
    pub fn memory_gb_per_s_async(
        &self,
        seconds: f64,
    ) -> impl Future<Output = Result<MemorySpeed>> + Send + use<> {
        let gpu = self.clone();
        in_background(async move { peak::memory(gpu.context(), seconds).await })
    }

    /// Measures the device, each figure for about `seconds` (a minute at most).
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory), [`Error::Gpu`](crate::Error::Gpu) also
    /// where the device computes something wrong, and the device's other errors.
    pub fn peak_async(&self, seconds: f64) -> impl Future<Output = Result<Peak>> + Send + use<> {
        let gpu = self.clone();
        in_background(async move { peak::all(gpu.context(), seconds).await })
    }

    /// What a buffer, or a part of it, holds when all that was submitted before has ended: f32, u32
    /// or `half::f16`. The buffer needs the usage `COPY_SRC`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the buffer has not so many bytes,
    /// [`Error::Argument`](crate::Error::Argument) if they are not whole words, and the device's
    /// errors.
    pub fn read_async<T: bytemuck::AnyBitPattern + bytemuck::NoUninit + Send>(
        &self,
        slice: &Slice,
    ) -> impl Future<Output = Result<Vec<T>>> + Send + use<T> {
        let (gpu, slice) = (self.clone(), slice.clone());
        in_background(async move { calls::read(gpu.context(), &slice).await })
    }

    /// `y[n, m] = x[n, k] · w[m, k]ᵀ` in f32; `n = x.len() / k`. The activations are copied.
    ///
    /// # Errors
    /// As [`Runtime::matmul_with_async`].
    pub fn matmul_async(
        &self,
        w: &Weights,
        x: &[f32],
    ) -> impl Future<Output = Result<Vec<f32>>> + Send + use<> {
        self.matmul_with_async(w, x, &MatmulOptions::default())
    }

    /// All weights as f32 `[m, k]`, decoded on the device.
    ///
    /// # Errors
    /// The device's errors.
    pub fn dequantize_async(&self, w: &Weights) -> impl Future<Output = Result<Vec<f32>>> + Send + use<> {
        self.dequantize_rows_async(w, 0..w.rows())
    }

    /// Rows `rows[i]` of `w` as f32 `[rows.len(), k]`: the look-up of token embeddings.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if a row number is not below `m`, and the device's
    /// errors.
    pub fn get_rows_async(
        &self,
        w: &Weights,
        rows: &[u32],
    ) -> impl Future<Output = Result<Vec<f32>>> + Send + use<> {
        let (gpu, w, rows) = (self.clone(), w.clone(), rows.to_vec());
        in_background(async move { calls::get_rows(gpu.context(), &w, &rows).await })
    }
}
