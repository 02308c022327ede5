//! The runtime: a device, its pipelines, and the operations on weights that lie on it.

use super::adapters::{self, AdapterSummary};
use super::context::Context;
use super::device::{self, Options};
use super::errors::panicked;
use super::hooks::Hook;
use super::off_thread::off_thread;
use super::program::{BoundProgram, Program, Slice};
use super::run::{Task, TaskProgram, check_buffers};
use super::time::{self, Timing};
use super::transfer;
use super::tuning::Tuning;
use super::upload;
use super::weights::{Upload, Weights};
use crate::error::{Error, Result};
use crate::kernel::program::{Element, Tokens, View};
use crate::kernel::{Caps, MatmulOptions, limits, shapes};
use crate::tensor::{PackedTensor, check_finite};
use std::future::Future;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// A device and everything compiled for it. Cheap to clone, `Send` and `Sync`; all methods may be
/// called from several threads.
///
/// ```no_run
/// use qmatmul::{PackedTensor, Recipe, Runtime, format};
///
/// # fn main() -> qmatmul::Result<()> {
/// let gpu = Runtime::new()?;
/// println!("{}", gpu.adapter());
/// let packed = PackedTensor::encode("w", [2, 32], &[0.5; 64], &Recipe::new(format::Q4_0))?;
/// let w = gpu.upload(&packed)?;
/// let y = gpu.matmul(&w, &[1.0; 3 * 32])?; // three tokens, [n, m]
/// assert_eq!(y.len(), 3 * 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Runtime {
    context: Context,
    /// How the device was opened, if it was not the host's.
    options: Option<Arc<Options>>,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime")
            .field("adapter", &format_args!("{}", self.adapter()))
            .field("memory_used", &self.memory_used())
            .finish_non_exhaustive()
    }
}

/// f32 elements of x or y that one submission of [`Runtime::matmul`] moves at most (256 MiB).
const BATCH_ELEMENTS: usize = 64 << 20;

impl Runtime {
    /// Opens the best adapter of this machine.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] with what to install, [`Error::Gpu`] if the driver refuses.
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
        Self::open(&adapters::choose(&options.select)?, options)
    }

    fn open(adapter: &wgpu::Adapter, options: &Options) -> Result<Self> {
        let open = || {
            let (device, queue) = device::open(adapter, options)?;
            let context = Context::new(device, queue, adapter, options, true)?;
            Ok(Self { context, options: Some(Arc::new(options.clone())) })
        };
        // wgpu panics where a driver refuses what no driver should.
        catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|panic| {
            Err(Error::Gpu { doing: device::opening(adapter), message: panicked(&panic) })
        })
    }

    /// Works on a device of the caller's, best one with the features of
    /// [`wanted_features`](super::wanted_features) and the limits of
    /// [`wanted_limits`](super::wanted_limits).
    ///
    /// ```no_run
    /// use qmatmul::{Options, Result, Runtime, wgpu};
    ///
    /// fn attach(host: &(wgpu::Device, wgpu::Queue), adapter: &wgpu::Adapter) -> Result<Runtime> {
    ///     Runtime::with_device(host.0.clone(), host.1.clone(), adapter, &Options::default())
    /// }
    /// ```
    ///
    /// Under DirectX 12 the shader compiler is the one that the host's `wgpu::Instance` was made
    /// with (`Dx12BackendOptions::shader_compiler`): with FXC the device has neither subgroups nor
    /// f16 nor integers of 64 bits.
    ///
    /// The device's callbacks stay the host's, the one for a lost device as well as the handler of
    /// uncaptured errors: errors of qmatmul's own calls are caught in scopes. The host tells of a
    /// loss by [`Runtime::device_lost`]. Without that, the next call that uses the device notices
    /// the loss, but cannot say its reason.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] if a shader may have fewer storage buffers than are used here,
    /// [`Error::Gpu`] if the driver refuses.
    pub fn with_device(
        device: wgpu::Device,
        queue: wgpu::Queue,
        adapter: &wgpu::Adapter,
        options: &Options,
    ) -> Result<Self> {
        Ok(Self { context: Context::new(device, queue, adapter, options, false)?, options: None })
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
    /// As [`Runtime::with_options`]; [`Error::NoAdapter`] if the adapter is gone, even if there is
    /// another; [`Error::Argument`] for a runtime on a device of the host's, who has to open
    /// another.
    pub fn rebuild(&self) -> Result<Self> {
        match &self.options {
            Some(options) => {
                let new = Self::open(&adapters::again(&options.select, self.adapter())?, options)?;
                // Another process may have measured other kernels, whose sums differ.
                new.tuning().take_over(self.tuning());
                Ok(new)
            }
            None => Err(Error::Argument(
                "the device is the host's: open another and give it to Runtime::with_device".into(),
            )),
        }
    }

    /// Tells of the loss of a device that is the host's, whose callback hears of it: every later
    /// call with this runtime, or a clone of it, reports [`Error::DeviceLost`] with this reason.
    /// The first reason stays. A call that is waiting for the device returns when wgpu does. On a
    /// device of its own, the runtime hears of the loss itself.
    ///
    /// ```no_run
    /// use qmatmul::{Runtime, wgpu};
    /// use std::sync::mpsc::{Receiver, channel};
    ///
    /// /// The host's callback. It holds no runtime, which would keep the device that holds it.
    /// fn listen(device: &wgpu::Device) -> Receiver<String> {
    ///     let (sender, lost) = channel();
    ///     device.set_device_lost_callback(move |reason, message| {
    ///         let _ = sender.send(format!("{reason:?}: {message}"));
    ///     });
    ///     lost
    /// }
    ///
    /// /// In the host's main loop.
    /// fn pass_on(lost: &Receiver<String>, gpu: &Runtime) {
    ///     if let Ok(reason) = lost.try_recv() {
    ///         gpu.device_lost(reason);
    ///     }
    /// }
    /// ```
    pub fn device_lost(&self, reason: impl Into<String>) {
        self.context.errors().set_lost(reason.into());
    }

    /// Says whether the device is lost, at so little cost that a host may ask for every token: at
    /// most twice a second this looks at the device, otherwise it reads what is known. A loss is
    /// so reported within a second, even if nobody waits for the device or polls it.
    ///
    /// # Errors
    /// [`Error::DeviceLost`]; on a device of the runtime's own, also an error of an earlier call
    /// that nothing caught, once.
    pub fn check_device(&self) -> Result<()> {
        self.context.check_now_and_then()
    }

    /// What everything on the device stands on.
    pub(super) fn context(&self) -> &Context {
        &self.context
    }

    /// The adapter, for people.
    pub fn adapter(&self) -> &AdapterSummary {
        self.context.adapter()
    }

    /// The adapter, for the choice of kernels.
    pub fn caps(&self) -> &Caps {
        self.context.caps()
    }

    /// The device.
    pub fn device(&self) -> &wgpu::Device {
        self.context.device()
    }

    /// Its queue.
    pub fn queue(&self) -> &wgpu::Queue {
        self.context.queue()
    }

    /// Bytes of device memory in buffers of this runtime: weights, code books, and what calls use
    /// until their work has ended.
    pub fn memory_used(&self) -> u64 {
        self.context.budget().used()
    }

    /// Most bytes that they may be: [`Options::memory_limit`].
    pub fn memory_limit(&self) -> Option<u64> {
        self.context.budget().limit()
    }

    /// Puts a weight into device memory, packed as it is.
    ///
    /// # Errors
    /// [`Error::NonFinite`] if a scale is NaN or infinite, [`Error::LimitExceeded`],
    /// [`Error::OutOfMemory`], [`Error::DeviceLost`].
    pub fn upload(&self, tensor: &PackedTensor) -> Result<Weights> {
        self.upload_with(tensor, Upload::default())
    }

    /// [`Runtime::upload`] with a progress callback and switches.
    ///
    /// ```no_run
    /// use qmatmul::{PackedTensor, Result, Runtime, Weights, gpu::Upload};
    ///
    /// fn upload(gpu: &Runtime, packed: &PackedTensor) -> Result<Weights> {
    ///     let mut show = |done: u64, all: u64| eprint!("\r{done} of {all} bytes");
    ///     gpu.upload_with(packed, Upload { progress: Some(&mut show), ..Upload::default() })
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`Runtime::upload`].
    pub fn upload_with(&self, tensor: &PackedTensor, options: Upload) -> Result<Weights> {
        upload::upload(&self.context, tensor, options)
    }

    /// An empty program for this device.
    pub fn program(&self, tokens: Tokens) -> Program {
        self.context.program(tokens)
    }

    /// Makes a program ready: compiles its pipelines, writes its parameters, makes what it needs in
    /// between, and binds all of it with the buffers that `slots` give. Nothing is submitted.
    ///
    /// ```no_run
    /// use qmatmul::{MatmulOptions, Result, Runtime, Weights, wgpu};
    /// use qmatmul::gpu::{BoundProgram, Tokens};
    ///
    /// fn one_product(gpu: &Runtime, w: &Weights, x: &wgpu::Buffer, y: &wgpu::Buffer) -> Result<BoundProgram> {
    ///     let mut program = gpu.program(Tokens::UpTo(64));
    ///     let (input, output) = (program.slot("x", w.cols()), program.slot("y", w.rows()));
    ///     program.matmul(w, input, output, &MatmulOptions::default())?;
    ///     gpu.bind(&program, &[(input, x.into()), (output, y.into())])
    /// }
    /// ```
    ///
    /// Slots may be parts of one buffer: an arena of the host's. Then each dispatch waits for the
    /// one before it, as the device cannot know that they touch different parts.
    ///
    /// # Errors
    /// [`Error::Argument`] if a slot has no buffer, a slice does not start where the device can bind
    /// it, or what a dispatch reads and writes overlaps; [`Error::Shape`] if a slice is too small
    /// for the most tokens; [`Error::OutOfMemory`], and the device's errors.
    pub fn bind(&self, program: &Program, slots: &[(View, Slice)]) -> Result<BoundProgram> {
        self.context.bind(program, slots)
    }

    /// [`Runtime::bind`] for an async caller: pipelines are compiled on another thread.
    ///
    /// # Errors
    /// As [`Runtime::bind`].
    pub fn bind_async(
        &self,
        program: &Program,
        slots: &[(View, Slice)],
    ) -> impl Future<Output = Result<BoundProgram>> + Send + use<> {
        let (context, program, slots) = (self.context.clone(), program.clone(), slots.to_vec());
        off_thread(move || context.bind(&program, &slots))
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
    /// [`Error::Shape`] if the buffer has not so many bytes, [`Error::Argument`] if they are not
    /// whole words, and the device's errors.
    pub fn read<T: bytemuck::AnyBitPattern + bytemuck::NoUninit>(&self, slice: &Slice) -> Result<Vec<T>> {
        let (encoder, staging, words) = self.context.copy_of(slice)?;
        let words = transfer::submit_and_read_blocking(&self.context, encoder, &staging, words)?;
        Ok(bytemuck::pod_collect_to_vec(&words))
    }

    /// [`Runtime::read`] for an async caller.
    ///
    /// # Errors
    /// As [`Runtime::read`].
    pub async fn read_async<T: bytemuck::AnyBitPattern + bytemuck::NoUninit>(
        &self,
        slice: &Slice,
    ) -> Result<Vec<T>> {
        let (encoder, staging, words) = self.context.copy_of(slice)?;
        let words = transfer::submit_and_read(&self.context, encoder, &staging, words).await?;
        Ok(bytemuck::pod_collect_to_vec(&words))
    }

    /// `y[n, m] = x[n, k] · w[m, k]ᵀ` in f32; `n = x.len() / k`.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` is not a whole number of columns, [`Error::NonFinite`] if it holds
    /// NaN or infinity, and the device's errors.
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
    /// As [`Runtime::matmul`], and [`Error::Argument`] if the kernel does not apply.
    pub fn matmul_with(&self, w: &Weights, x: &[f32], options: &MatmulOptions) -> Result<Vec<f32>> {
        let mut y = vec![];
        for part in self.batches(w, x)? {
            y.append(&mut self.run(w, &Task::Matmul(part, options), 0)?);
        }
        Ok(y)
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
    /// As [`Runtime::matmul`], and [`Error::Shape`] if an expert does not exist or their count is
    /// no multiple of n.
    pub fn matmul_experts(
        &self,
        w: &Weights,
        x: &[f32],
        experts: &[u32],
        options: &MatmulOptions,
    ) -> Result<Vec<f32>> {
        let n = shapes::batch(w.name(), w.cols(), x.len())?;
        check_finite(&format!("activations for `{}`", w.name()), x)?;
        shapes::check_experts(w.name(), w.experts(), n, experts)?;
        self.run(w, &Task::Experts(x, experts, options), 0)
    }

    /// [`Runtime::matmul`] for an async caller.
    ///
    /// # Errors
    /// As [`Runtime::matmul`].
    pub async fn matmul_async(&self, w: &Weights, x: &[f32]) -> Result<Vec<f32>> {
        let mut y = vec![];
        for part in self.batches(w, x)? {
            y.append(&mut self.context.run_async(w, &Task::Matmul(part, &MatmulOptions::default())).await?);
        }
        Ok(y)
    }

    /// Adds `y[n, m] = x[n, k] · w[m, k]ᵀ` to the caller's encoder: f32 buffers, densely packed,
    /// no readback. Both need the usage `STORAGE`. The caller vouches for finite activations.
    ///
    /// What is recorded often is cheaper as a [`Program`], bound once: the
    /// [front page](crate#embedding) has an example.
    ///
    /// # Errors
    /// [`Error::Shape`] if a buffer is too small, [`Error::Argument`] if x and y are the same, and
    /// the device's errors.
    pub fn record_matmul(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        w: &Weights,
        x: &wgpu::Buffer,
        y: &wgpu::Buffer,
        n: usize,
    ) -> Result<()> {
        self.record_matmuls(encoder, &[(w, y)], x, n, &MatmulOptions::default())
    }

    /// [`Runtime::record_matmul`] for several weights that share their activations, as the
    /// projections of an attention do, in one pass without a barrier between them. Weights of one
    /// format can go further and be one dispatch: see [`PackedTensor::stack`].
    ///
    /// ```no_run
    /// # use qmatmul::{MatmulOptions, Result, Runtime, Weights, wgpu};
    /// # fn record(
    /// #     gpu: &Runtime, encoder: &mut wgpu::CommandEncoder,
    /// #     [q, k, v]: [&Weights; 3], x: &wgpu::Buffer, [q_out, k_out, v_out]: [&wgpu::Buffer; 3],
    /// # ) -> Result<()> {
    /// let outputs = [(q, q_out), (k, k_out), (v, v_out)];
    /// gpu.record_matmuls(encoder, &outputs, x, 1, &MatmulOptions::default())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Runtime::record_matmul`].
    pub fn record_matmuls(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        outputs: &[(&Weights, &wgpu::Buffer)],
        x: &wgpu::Buffer,
        n: usize,
        options: &MatmulOptions,
    ) -> Result<()> {
        self.record_shared(encoder, x, n, outputs.iter().copied(), |program, x| {
            let one = |(w, _): &(&Weights, &wgpu::Buffer)| {
                let y = program.slot("y", w.rows());
                program.matmul(w, x, y, options).map(|()| y)
            };
            outputs.iter().map(one).collect()
        })
    }

    /// Records what `add` adds to a program for n tokens: with activations x that all of `outputs`
    /// take, into the views that it returns, one for each.
    pub(super) fn record_shared<'a>(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        x: &wgpu::Buffer,
        n: usize,
        outputs: impl Iterator<Item = (&'a Weights, &'a wgpu::Buffer)>,
        add: impl FnOnce(&mut Program, View) -> Result<Vec<View>>,
    ) -> Result<()> {
        let outputs: Vec<_> = outputs.collect();
        for (w, y) in &outputs {
            self.context.owns(w)?;
            check_buffers(w, (x, n.saturating_mul(w.cols())), (y, n.saturating_mul(w.rows())))?;
        }
        let Some((first, _)) = outputs.first() else { return Ok(()) };
        let mut program = self.program(Tokens::Exactly(n));
        let input = program.slot("x", first.cols());
        let views = add(&mut program, input)?;
        let results = views.into_iter().zip(outputs.iter().map(|(_, y)| Slice::from(*y)));
        let slots: Vec<_> = std::iter::once((input, Slice::from(x))).chain(results).collect();
        self.record_once(encoder, &program, &slots)
    }

    /// Records a program that is bound for this once.
    fn record_once(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        program: &Program,
        slots: &[(View, Slice)],
    ) -> Result<()> {
        let bound = self.bind(program, slots)?;
        if bound.dispatch_count(program.tokens().most()) > 0 {
            bound.encode(encoder, program.tokens().most())?;
            bound.hold(encoder);
        }
        Ok(())
    }

    /// Adds [`Runtime::matmul_experts`] to the caller's encoder: x `[n, k]`, `experts` `[n, per]`
    /// as u32, y `[n, per, m]` for the m rows of one expert. Where an expert does not exist, y
    /// keeps its value.
    ///
    /// # Errors
    /// As [`Runtime::record_matmul`].
    #[allow(clippy::too_many_arguments)] // three buffers and two sizes
    pub fn record_matmul_experts(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        w: &Weights,
        x: &wgpu::Buffer,
        experts: &wgpu::Buffer,
        y: &wgpu::Buffer,
        (n, per): (usize, usize),
        options: &MatmulOptions,
    ) -> Result<()> {
        self.context.owns(w)?;
        let slots = n.saturating_mul(per);
        let outputs = slots.saturating_mul(w.rows() / w.experts());
        check_buffers(w, (x, n.saturating_mul(w.cols())), (y, outputs))?;
        if experts == y {
            let name = w.name();
            return Err(Error::Argument(format!("a matmul with `{name}` cannot write into its own experts")));
        }
        let wanted = (slots as u64).saturating_mul(4);
        if experts.size() < wanted {
            let what = format!("buffer of experts for `{}` with {n} x {per} columns", w.name());
            return Err(Error::shape(what, format!("{wanted} bytes"), format!("{} bytes", experts.size())));
        }
        let mut program = self.program(Tokens::Exactly(n));
        let input = program.slot("x", w.cols());
        let numbers = program.slot_of("experts", per, Element::U32);
        let output = program.slot("y", w.rows() / w.experts());
        program.matmul_experts(w, input, numbers, output, options)?;
        let slots = [(input, x), (numbers, experts), (output, y)];
        self.record_once(encoder, &program, &slots.map(|(view, buffer)| (view, Slice::from(buffer))))
    }

    /// All weights as f32 `[m, k]`, decoded on the device.
    ///
    /// # Errors
    /// The device's errors.
    pub fn dequantize(&self, w: &Weights) -> Result<Vec<f32>> {
        self.dequantize_rows(w, 0..w.rows())
    }

    /// [`Runtime::dequantize`] for an async caller.
    ///
    /// # Errors
    /// As [`Runtime::dequantize`].
    pub async fn dequantize_async(&self, w: &Weights) -> Result<Vec<f32>> {
        self.context.owns(w)?;
        let mut out = vec![];
        for rows in self.row_steps(w, 0..w.rows()) {
            out.append(&mut self.context.run_async(w, &Task::Dequantize(rows)).await?);
        }
        Ok(out)
    }

    /// Rows `rows` as f32 `[rows.len(), k]`, decoded on the device.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are not so many rows, and the device's errors.
    pub fn dequantize_rows(&self, w: &Weights, rows: Range<usize>) -> Result<Vec<f32>> {
        self.context.owns(w)?;
        if rows.start > rows.end || rows.end > w.rows() {
            return Err(Error::shape(
                format!("rows of `{}`", w.name()),
                format!("within 0..{}", w.rows()),
                format!("{rows:?}"),
            ));
        }
        let mut out = vec![];
        for rows in self.row_steps(w, rows) {
            out.append(&mut self.run(w, &Task::Dequantize(rows), 0)?);
        }
        Ok(out)
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
    /// [`Error::Shape`] if a row number is not below `m`, and the device's errors.
    pub fn get_rows(&self, w: &Weights, rows: &[u32]) -> Result<Vec<f32>> {
        let mut out = vec![];
        for part in self.row_numbers(w, rows)? {
            out.append(&mut self.run(w, &Task::GetRows(part), 0)?);
        }
        Ok(out)
    }

    /// [`Runtime::get_rows`] for an async caller.
    ///
    /// # Errors
    /// As [`Runtime::get_rows`].
    pub async fn get_rows_async(&self, w: &Weights, rows: &[u32]) -> Result<Vec<f32>> {
        let mut out = vec![];
        for part in self.row_numbers(w, rows)? {
            out.append(&mut self.context.run_async(w, &Task::GetRows(part)).await?);
        }
        Ok(out)
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
    /// [`Error::Argument`] without weights, [`Error::LimitExceeded`], and the device's errors.
    pub fn time_matmul(
        &self,
        weights: &[Weights],
        n: usize,
        options: &MatmulOptions,
        least: f64,
    ) -> Result<Timing> {
        time::matmul(&self.context, weights, n, options, least)
    }

    /// The same for activations `x[n, k]` of one's own: with LLM.int8 the time depends on them. The
    /// weights have one width.
    ///
    /// # Errors
    /// As there, and [`Error::Shape`] if `x` is not a whole number of columns.
    pub fn time_matmul_of(
        &self,
        weights: &[Weights],
        x: &[f32],
        options: &MatmulOptions,
        least: f64,
    ) -> Result<Timing> {
        let columns = |w: &Weights| shapes::batch(w.name(), w.cols(), x.len());
        let n = weights.iter().map(columns).next().unwrap_or(Ok(0))?;
        for w in weights {
            if columns(w)? != n {
                let what = format!("columns of activations for `{}`", w.name());
                return Err(Error::shape(what, n, columns(w)?));
            }
        }
        time::matmul_of(&self.context, weights, (x, n), options, least)
    }

    /// The kernels and variants that a matmul with `n` columns runs, in order, each once:
    /// `quantize_activations_q8+gemm:64x64+gemv:2x64`.
    ///
    /// # Errors
    /// As [`Runtime::record_matmul`].
    pub fn kernels(&self, w: &Weights, n: usize, options: &MatmulOptions) -> Result<String> {
        self.context.owns(w)?;
        let mut program = self.program(Tokens::Exactly(n));
        let (x, y) = (program.slot("x", w.cols()), program.slot("y", w.rows()));
        program.matmul(w, x, y, options)?;
        Ok(TaskProgram { program, inputs: vec![x], y, count: 0 }.kernels())
    }

    /// The same for any task.
    pub(crate) fn task_kernels(&self, w: &Weights, task: &Task) -> Result<String> {
        Ok(self.context.task(w, task)?.kernels())
    }

    /// True if a kernel of this task rounds weights to f16.
    pub(crate) fn rounds_weights(&self, w: &Weights, task: &Task) -> Result<bool> {
        Ok(self.context.task(w, task)?.rounds_weights())
    }

    /// How many pipelines this runtime has compiled.
    pub fn compiled_pipelines(&self) -> usize {
        self.context.pipelines().count()
    }

    /// `x` in parts that one submission moves.
    pub(crate) fn batches<'x>(&self, w: &Weights, x: &'x [f32]) -> Result<Vec<&'x [f32]>> {
        self.context.check()?;
        let n = shapes::batch(w.name(), w.cols(), x.len())?;
        check_finite(&format!("activations for `{}`", w.name()), x)?;
        let columns = columns_at_once(w.rows(), w.cols());
        Ok(if n == 0 { vec![] } else { x.chunks(columns * w.cols()).collect() })
    }

    /// [`Context::run`].
    pub(crate) fn run(&self, w: &Weights, task: &Task, margin: usize) -> Result<Vec<f32>> {
        self.context.run(w, task, margin)
    }

    /// What was measured on this adapter, and is preferred from then on.
    pub fn tuning(&self) -> &Tuning {
        self.context.tuning()
    }

    /// `rows` in parts that one submission moves.
    fn row_steps(&self, w: &Weights, rows: Range<usize>) -> Vec<Range<usize>> {
        let step = (BATCH_ELEMENTS / w.cols().max(1)).max(1);
        rows.clone().step_by(step).map(|first| first..rows.end.min(first + step)).collect()
    }

    fn row_numbers<'r>(&self, w: &Weights, rows: &'r [u32]) -> Result<Vec<&'r [u32]>> {
        self.context.check()?;
        if let Some(at) = rows.iter().position(|row| *row as usize >= w.rows()) {
            let what = format!("row number {at} for `{}`", w.name());
            return Err(Error::shape(what, format!("below {}", w.rows()), rows[at]));
        }
        Ok(rows.chunks((BATCH_ELEMENTS / w.cols().max(1)).max(1)).collect())
    }

    /// Waits until everything submitted is done.
    ///
    /// # Errors
    /// [`Error::DeviceLost`]; [`Error::TimedOut`] if nothing of this runtime's own ended for
    /// [`Options::timeout`].
    ///
    /// # Panics
    /// If a callback of the host's does, which wgpu runs here.
    pub fn wait(&self) -> Result<()> {
        self.context.wait()
    }

    /// Calls `hook` at each [`Point`](super::Point), for tests; the first that is set stays.
    #[doc(hidden)]
    pub fn set_hook(&self, hook: Hook) {
        self.context.errors().set_hook(hook);
    }
}

/// Columns of a batch that one submission of [`Runtime::matmul`] multiplies with a weight of this
/// shape: no more products than one dispatch may have, so that a driver is never silent for long.
fn columns_at_once(rows: usize, cols: usize) -> usize {
    let by_elements = BATCH_ELEMENTS / cols.max(rows).max(1);
    let by_products = limits::PRODUCTS / cols.saturating_mul(rows).max(1);
    by_elements.min(by_products).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_submission_is_bounded() {
        for (rows, cols) in [(128_256, 4096), (53_248, 16_384), (4096, 4096), (1, 1), (1 << 30, 1), (0, 7)] {
            let columns = columns_at_once(rows, cols);
            assert!(
                columns * rows.max(cols) <= BATCH_ELEMENTS.max(rows.max(cols)),
                "{rows} x {cols}: {columns}"
            );
            assert!(columns * rows * cols <= limits::PRODUCTS, "{rows} x {cols}: {columns}");
        }
        // Products are the bound of a large output matrix, not memory: 65 columns instead of 523.
        assert_eq!(columns_at_once(128_256, 4096), 65);
        // What is larger than all bounds goes a column at a time.
        assert_eq!(columns_at_once(1 << 20, 1 << 20), 1);
    }
}
