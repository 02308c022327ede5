//! The runtime: a device, its pipelines, and the operations on weights that lie on it.

use super::adapters::{self, AdapterSummary};
use super::context::Context;
use super::device::{self, Options};
use super::hooks::Hook;
use super::program::{BoundProgram, Program, Slice};
use super::run::{Task, TaskProgram, check_buffers};
use super::tuning::Tuning;
use super::weights::{Upload, Weights};
use super::{calls, upload, waiting};
use crate::error::{Error, Result};
use crate::kernel::program::{Element, Tokens, View};
use crate::kernel::{Caps, MatmulOptions};
use crate::tensor::PackedTensor;
use std::future::Future;
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

impl Runtime {
    /// Opens the adapter that `options` select.
    pub(super) async fn open(options: Options) -> Result<Self> {
        let adapter = adapters::choose(&options.select).await?;
        Self::open_on(&adapter, Arc::new(options)).await
    }

    async fn open_on(adapter: &wgpu::Adapter, options: Arc<Options>) -> Result<Self> {
        let open = async {
            let (device, queue) = device::open(adapter, &options).await?;
            let context = Context::new(device, queue, adapter, &options, true)?;
            Ok(Self { context, options: Some(options.clone()) })
        };
        // wgpu panics where a driver refuses what no driver should.
        let failed = |message| Err(Error::Gpu { doing: device::opening(adapter), message });
        waiting::catch_panics(open).await.unwrap_or_else(failed)
    }

    /// [`Runtime::rebuild`](Self::rebuild_async).
    pub(super) async fn reopen(&self) -> Result<Self> {
        let Some(options) = &self.options else {
            return Err(Error::Argument(
                "the device is the host's: open another and give it to Runtime::with_device".into(),
            ));
        };
        let adapter = adapters::again(&options.select, self.adapter()).await?;
        let new = Self::open_on(&adapter, options.clone()).await?;
        // Another process may have measured other kernels, whose sums differ.
        new.tuning().take_over(self.tuning());
        Ok(new)
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
        waiting::in_background(async move {
            let bound = context.bind(&program, &slots)?;
            context.settle().await?;
            Ok(bound)
        })
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

    /// `x` in parts that one submission moves.
    pub(crate) fn batches<'x>(&self, w: &Weights, x: &'x [f32]) -> Result<Vec<&'x [f32]>> {
        calls::batches(&self.context, w, x)
    }

    /// [`Context::run`].
    pub(crate) async fn run(&self, w: &Weights, task: &Task<'_>, margin: usize) -> Result<Vec<f32>> {
        self.context.run(w, task, margin).await
    }

    /// A product with activations of the caller's choice.
    pub(crate) async fn multiply(&self, w: &Weights, x: &[f32], options: &MatmulOptions) -> Result<Vec<f32>> {
        calls::matmul(&self.context, w, x, options).await
    }

    /// How many pipelines this runtime has compiled.
    pub fn compiled_pipelines(&self) -> usize {
        self.context.pipelines().count()
    }

    /// What was measured on this adapter, and is preferred from then on.
    pub fn tuning(&self) -> &Tuning {
        self.context.tuning()
    }

    /// Calls `hook` at each [`Point`](super::Point), for tests; the first that is set stays.
    #[doc(hidden)]
    pub fn set_hook(&self, hook: Hook) {
        self.context.errors().set_hook(hook);
    }
}
