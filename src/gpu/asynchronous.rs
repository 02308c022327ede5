//! Async forms of the calls that wait. Each runs the blocking form on a thread of its own, so that
//! what a call does is written once; an upload goes a chunk at a time.
//!
//! All futures are `Send`. Where no lifetime stands in the signature, a future is also `'static`: it
//! owns what it works with, and can be spawned. A future does nothing before its first poll; if it
//! is dropped after that, what it has begun goes on to its end without it.

use super::device::Options;
use super::encode::EncodeInput;
use super::layer::Layer;
use super::off_thread::off_thread;
use super::runtime::Runtime;
use super::upload;
use super::weights::{Upload, Weights};
use crate::error::Result;
use crate::format::Recipe;
use crate::kernel::MatmulOptions;
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
    pub fn new_async() -> impl Future<Output = Result<Self>> + Send {
        off_thread(Self::new)
    }

    /// [`Runtime::with_options`] for an async caller.
    ///
    /// # Errors
    /// As [`Runtime::with_options`].
    pub fn with_options_async(options: &Options) -> impl Future<Output = Result<Self>> + Send + use<> {
        let options = options.clone();
        off_thread(move || Self::with_options(&options))
    }

    /// [`Runtime::rebuild`] for an async caller.
    ///
    /// # Errors
    /// As [`Runtime::rebuild`].
    pub fn rebuild_async(&self) -> impl Future<Output = Result<Self>> + Send + use<> {
        let gpu = self.clone();
        off_thread(move || gpu.rebuild())
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
        off_thread(move || gpu.upload_layer(&linear))
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
        off_thread(move || gpu.wait())
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
        off_thread(move || {
            let requests: Vec<_> = requests.iter().map(|(w, n)| (w, *n)).collect();
            gpu.warm_up_all(&requests, &options)
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
        off_thread(move || gpu.matmul_with(&w, &x, &options))
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
        off_thread(move || gpu.matmul_experts(&w, &x, &experts, &options))
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
        off_thread(move || gpu.matmul_layer(&layer, &x, &options))
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
        off_thread(move || gpu.dequantize_rows(&w, rows))
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
        off_thread(move || {
            let weights = buffer.as_ref().map_or(EncodeInput::Host(&host), EncodeInput::Device);
            gpu.encode(name, shape, weights, &recipe)
        })
    }
}
