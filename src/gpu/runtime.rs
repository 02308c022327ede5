//! The runtime: a device, its pipelines, and the operations on weights that lie on it.

use super::adapters::{self, AdapterSummary};
use super::device::{self, Options};
use super::errors::{DeviceErrors, panicked};
use super::hooks::{Hook, Point};
use super::memory::{self, Buffer, MemoryBudget};
use super::pipelines::Pipelines;
use super::probe;
use super::record::{BoundProgram, Io};
use super::time::{self, Timing};
use super::transfer;
use super::tuning::Tuning;
use super::weights::{self, Upload, Weights};
use crate::error::{Error, Result};
use crate::format::Format;
use crate::kernel::shard::DeviceLayout;
use crate::kernel::types::Batch;
use crate::kernel::{
    self, Candidate, Caps, Kernel, KernelConfig, MatmulOptions, Problem, limits, op, plan, shapes,
};
use crate::tensor::{PackedTensor, check_finite};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A device and everything compiled for it. Cheap to clone, `Send` and `Sync`; all methods may be called from several threads.
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

struct Inner {
    /// Told apart from other runtimes: buffers of one mean something else on another.
    id: u64,
    device: wgpu::Device,
    /// Until it is dropped.
    queue: Option<wgpu::Queue>,
    adapter: AdapterSummary,
    caps: Caps,
    pipelines: Pipelines,
    tuning: Tuning,
    errors: DeviceErrors,
    budget: Arc<MemoryBudget>,
    /// How the device was opened, if it was not the host's.
    options: Option<Options>,
}

impl Drop for Inner {
    /// wgpu waits for the work of a queue that is dropped, without bound: one that does not answer keeps what it has until the
    /// process ends. And it panics there over commands that a driver failed to record.
    fn drop(&mut self) {
        let queue = self.queue.take();
        match self.errors.is_silent() {
            true => std::mem::forget((self.device.clone(), queue)),
            false => drop(catch_unwind(AssertUnwindSafe(|| drop(queue)))),
        }
    }
}

/// A request with one result.
pub(crate) enum Task<'a> {
    /// Activations `[n, k]`.
    Matmul(&'a [f32], &'a MatmulOptions),
    /// Activations `[n, k]`, and the experts `[n, per]` of each.
    Experts(&'a [f32], &'a [u32], &'a MatmulOptions),
    /// Rows to decode.
    Dequantize(Range<usize>),
    /// Row numbers to look up.
    GetRows(&'a [u32]),
}

/// The value behind a result's end that must still be there afterwards.
pub(crate) const CANARY: f32 = 12_345.679;

/// f32 elements of x or y that one submission of [`Runtime::matmul`] moves at most (256 MiB).
const BATCH_ELEMENTS: usize = 64 << 20;

/// f32 elements of x or y that a plan is made for at most: more than any buffer holds, and few enough for a list of dispatches.
const PLANNED_ELEMENTS: usize = 1 << 36;

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
    /// # Errors
    /// As [`Runtime::new`].
    pub fn with_options(options: &Options) -> Result<Self> {
        Self::open(&adapters::choose(&options.select)?, options)
    }

    fn open(adapter: &wgpu::Adapter, options: &Options) -> Result<Self> {
        let open = || {
            let (device, queue) = device::open(adapter, options)?;
            Self::assemble(device, queue, adapter, options, Some(options.clone()))
        };
        // wgpu panics where a driver refuses what no driver should.
        catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|panic| {
            Err(Error::Gpu { doing: device::opening(adapter), message: panicked(&panic) })
        })
    }

    /// Works on a device of the caller's. The features that qmatmul uses where it finds them are `SUBGROUP`, `SHADER_F16`,
    /// `SHADER_INT64`, `EXPERIMENTAL_COOPERATIVE_MATRIX`, `TIMESTAMP_QUERY` and `PIPELINE_CACHE`; ask for the adapter's limits, or matrices are split at WebGPU's defaults.
    ///
    /// Under DirectX 12 the shader compiler is the one that the host's `wgpu::Instance` was made with (`Dx12BackendOptions::shader_compiler`): with
    /// FXC the device has none of the first three features.
    ///
    /// The device's lost callback is replaced, and errors of qmatmul's own calls are caught in scopes; the handler of
    /// uncaught errors stays the host's.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] if a shader may have fewer storage buffers than are used here, [`Error::Gpu`] if the driver refuses.
    pub fn with_device(
        device: wgpu::Device,
        queue: wgpu::Queue,
        adapter: &wgpu::Adapter,
        options: &Options,
    ) -> Result<Self> {
        Self::assemble(device, queue, adapter, options, None)
    }

    /// A new device with the options of this one, after this one was lost. Weights belong to the runtime that they were uploaded
    /// to: calls with them name the tensor and refuse it, and it is uploaded anew from the [`PackedTensor`], which is still on
    /// the host. The same calls then give the same bits. The old runtime and its weights may be dropped in any order.
    ///
    /// # Errors
    /// As [`Runtime::with_options`]; [`Error::NoAdapter`] if the adapter is gone, even if there is another;
    /// [`Error::Argument`] for a runtime on a device of the host's, who has to open another.
    pub fn rebuild(&self) -> Result<Self> {
        match &self.inner.options {
            Some(options) => {
                let new = Self::open(&adapters::again(&options.select, &self.inner.adapter)?, options)?;
                // Another process may have measured other kernels, whose sums differ.
                new.inner.tuning.take_over(&self.inner.tuning);
                Ok(new)
            }
            None => Err(Error::Argument(
                "the device is the host's: open another and give it to Runtime::with_device".into(),
            )),
        }
    }

    fn assemble(
        device: wgpu::Device,
        queue: wgpu::Queue,
        adapter: &wgpu::Adapter,
        options: &Options,
        reopen: Option<Options>,
    ) -> Result<Self> {
        let info = adapter.get_info();
        let errors = DeviceErrors::watch(&device, device::timeout(&info, options));
        if reopen.is_some() {
            errors.keep_uncaught(&device);
        }
        let mut caps = device::caps(&device, &info, options);
        let usable = options.cooperative
            && caps.f16
            && caps.subgroup.is_some()
            && device.features().contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX);
        if usable {
            caps.cooperative = device::cooperative_edge(adapter)
                .filter(|e| probe::cooperative(&device, &queue, &errors, *e));
        }
        let pipelines = Pipelines::new(&device, &info, &errors, options)?;
        let adapter = adapters::summary(adapter);
        let tuning = Tuning::open(&adapter, &caps, &options.tuning);
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let budget = MemoryBudget::new(options.memory_limit);
        let (options, queue) = (reopen, Some(queue));
        let inner = Inner { id, device, queue, adapter, caps, pipelines, tuning, errors, budget, options };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The adapter, for people.
    pub fn adapter(&self) -> &AdapterSummary {
        &self.inner.adapter
    }

    /// The adapter, for the choice of kernels.
    pub fn caps(&self) -> &Caps {
        &self.inner.caps
    }

    /// The device.
    pub fn device(&self) -> &wgpu::Device {
        &self.inner.device
    }

    /// Its queue.
    pub fn queue(&self) -> &wgpu::Queue {
        self.inner.queue.as_ref().expect("it is there until the runtime is dropped")
    }

    /// Bytes of device memory in buffers of this runtime: weights, code books, and what calls use until their work has ended.
    pub fn memory_used(&self) -> u64 {
        self.inner.budget.used()
    }

    /// Most bytes that they may be: [`Options::memory_limit`].
    pub fn memory_limit(&self) -> Option<u64> {
        self.inner.budget.limit()
    }

    /// Puts a weight into device memory, packed as it is.
    ///
    /// # Errors
    /// [`Error::NonFinite`] if a scale is NaN or infinite, [`Error::LimitExceeded`], [`Error::OutOfMemory`], [`Error::DeviceLost`].
    pub fn upload(&self, tensor: &PackedTensor) -> Result<Weights> {
        self.upload_with(tensor, Upload::default())
    }

    /// [`Runtime::upload`] with a progress callback and switches.
    ///
    /// # Errors
    /// As [`Runtime::upload`].
    pub fn upload_with(&self, tensor: &PackedTensor, options: Upload) -> Result<Weights> {
        weights::upload(self, tensor, options)
    }

    /// `y[n, m] = x[n, k] · w[m, k]ᵀ` in f32; `n = x.len() / k`.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` is not a whole number of columns, [`Error::NonFinite`] if it holds NaN or infinity, and
    /// the device's errors.
    pub fn matmul(&self, w: &Weights, x: &[f32]) -> Result<Vec<f32>> {
        self.matmul_with(w, x, &MatmulOptions::default())
    }

    /// [`Runtime::matmul`] with activations or a kernel of the caller's choice.
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

    /// Mixture of experts: `y[i, t] = x[i] · w[experts[i, t]]ᵀ` for activations `[n, k]` and the numbers of `per` experts for
    /// each, `experts[n, per]`; y is `[n, per, m / Weights::experts()]`. Every expert's weights are read once for all of its
    /// columns.
    ///
    /// # Errors
    /// As [`Runtime::matmul`], and [`Error::Shape`] if an expert does not exist or their count is no multiple of n.
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
            y.append(&mut self.run_async(w, &Task::Matmul(part, &MatmulOptions::default())).await?);
        }
        Ok(y)
    }

    /// Adds `y[n, m] = x[n, k] · w[m, k]ᵀ` to the caller's encoder: f32 buffers, densely packed, no readback. Both need
    /// the usage `STORAGE`. The caller vouches for finite activations.
    ///
    /// # Errors
    /// [`Error::Shape`] if a buffer is too small, [`Error::Argument`] if x and y are the same, and the device's errors.
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

    /// [`Runtime::record_matmul`] for several weights that share their activations, as the projections of an attention do, in
    /// one pass without a barrier between them. Weights of one format can go further and be one dispatch: see
    /// [`PackedTensor::stack`].
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
        let prepare = |(w, y): &(&Weights, &wgpu::Buffer)| {
            self.owns(w)?;
            check_buffers(w, (x, n.saturating_mul(w.cols())), (y, n.saturating_mul(w.rows())))?;
            let plan = self.plan_matmul(w, n, options)?;
            BoundProgram::new(self, w, &Io { x, y, experts: None }, &plan)
        };
        let prepared: Vec<BoundProgram> = outputs.iter().map(prepare).collect::<Result<_>>()?;
        BoundProgram::encode_all(&prepared, encoder);
        Ok(())
    }

    /// Adds [`Runtime::matmul_experts`] to the caller's encoder: x `[n, k]`, `experts` `[n, per]` as u32, y `[n, per, m]` for
    /// the m rows of one expert. Where an expert does not exist, y keeps its value.
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
        self.owns(w)?;
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
        let plan = self.plan_experts(w, slots, per, options)?;
        BoundProgram::new(self, w, &Io { x, y, experts: Some(experts) }, &plan)?.encode(encoder);
        Ok(())
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
        self.owns(w)?;
        let mut out = vec![];
        for rows in self.row_steps(w, 0..w.rows()) {
            out.append(&mut self.run_async(w, &Task::Dequantize(rows)).await?);
        }
        Ok(out)
    }

    /// Rows `rows` as f32 `[rows.len(), k]`, decoded on the device.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are not so many rows, and the device's errors.
    pub fn dequantize_rows(&self, w: &Weights, rows: Range<usize>) -> Result<Vec<f32>> {
        self.owns(w)?;
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
            out.append(&mut self.run_async(w, &Task::GetRows(part)).await?);
        }
        Ok(out)
    }

    /// Times a matmul with `n` columns over `weights` in turn, for at least `least` seconds (an hour at most). All columns
    /// must fit one buffer.
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
        time::matmul(self, weights, n, options, least)
    }

    /// The same for activations `x[n, k]` of one's own: with LLM.int8 the time depends on them. The weights have one width.
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
        time::matmul_of(self, weights, (x, n), options, least)
    }

    /// The kernels and variants that a matmul with `n` columns runs, in order, each once: `quantize_activations_q8+gemm:64x64+gemv:2x64`.
    ///
    /// # Errors
    /// As [`Runtime::record_matmul`].
    pub fn kernels(&self, w: &Weights, n: usize, options: &MatmulOptions) -> Result<String> {
        self.owns(w)?;
        Ok(names(&self.plan_matmul(w, n, options)?))
    }

    /// The same for any task.
    pub(crate) fn task_kernels(&self, w: &Weights, task: &Task) -> Result<String> {
        Ok(names(&self.plan(w, task)?.0))
    }

    /// True if a kernel of this task rounds weights to f16.
    pub(crate) fn rounds_weights(&self, w: &Weights, task: &Task) -> Result<bool> {
        Ok(self.plan(w, task)?.0.iter().any(|d| d.kernel.rounds_weights))
    }

    /// How many pipelines this runtime has compiled.
    pub fn compiled_pipelines(&self) -> usize {
        self.inner.pipelines.count()
    }

    /// `x` in parts that one submission moves.
    pub(crate) fn batches<'x>(&self, w: &Weights, x: &'x [f32]) -> Result<Vec<&'x [f32]>> {
        self.check()?;
        let n = shapes::batch(w.name(), w.cols(), x.len())?;
        check_finite(&format!("activations for `{}`", w.name()), x)?;
        let columns = columns_at_once(w.rows(), w.cols());
        Ok(if n == 0 { vec![] } else { x.chunks(columns * w.cols()).collect() })
    }

    /// Runs one task, waiting for it. The result is followed by `margin` elements that no kernel may touch: they held
    /// [`CANARY`] before, as did the rest, so that a result that was not written shows.
    pub(crate) fn run(&self, w: &Weights, task: &Task, margin: usize) -> Result<Vec<f32>> {
        let (encoder, staging, count) = self.commands(w, task, margin)?;
        transfer::submit_and_read_blocking(self, encoder, &staging, count)
    }

    async fn run_async(&self, w: &Weights, task: &Task<'_>) -> Result<Vec<f32>> {
        let (encoder, staging, count) = self.commands(w, task, 0)?;
        transfer::submit_and_read(self, encoder, &staging, count).await
    }

    /// An encoder with the task and the copy of its results, where they will be read, and how many there are.
    fn commands(
        &self,
        w: &Weights,
        task: &Task,
        margin: usize,
    ) -> Result<(wgpu::CommandEncoder, Buffer, usize)> {
        let (plan, count) = self.plan(w, task)?;
        let named = |what: &str| format!("{what} for `{}`", w.name());
        let x = match task {
            Task::Matmul(x, _) | Task::Experts(x, ..) => transfer::filled(self, &named("activations"), x)?,
            Task::Dequantize(_) => transfer::filled(self, &named("no activations"), &[0u32])?,
            Task::GetRows(rows) => transfer::filled(self, &named("row numbers"), rows)?,
        };
        let experts = match task {
            Task::Experts(_, experts, _) => Some(transfer::filled(self, &named("experts"), experts)?),
            _ => None,
        };
        let inputs: Vec<_> = [Some(&x), experts.as_ref()].into_iter().flatten().collect();
        self.encode_result((w, &inputs), count, margin, |y| {
            let io = Io { x: &x, y, experts: experts.as_deref() };
            BoundProgram::new(self, w, &io, &plan).map(|prepared| vec![prepared])
        })
    }

    /// The same for `count` results of `w` and `inputs`, of what `prepare` makes ready to write them.
    pub(super) fn encode_result(
        &self,
        (w, inputs): (&Weights, &[&Buffer]),
        count: usize,
        margin: usize,
        prepare: impl FnOnce(&wgpu::Buffer) -> Result<Vec<BoundProgram>>,
    ) -> Result<(wgpu::CommandEncoder, Buffer, usize)> {
        let count = count + margin;
        let what = format!("results of `{}`", w.name());
        let y = transfer::buffer(self, &what, count as u64 * 4, transfer::OUTPUT)?;
        if margin > 0 {
            let canaries = vec![CANARY; count];
            let write = || self.queue().write_buffer(&y, 0, bytemuck::cast_slice(&canaries));
            self.catch_errors(|| format!("clearing {what}"), 0, write)?;
        }
        let mut encoder = self.encoder();
        BoundProgram::encode_all(&prepare(&y)?, &mut encoder);
        let staging = transfer::stage(self, &mut encoder, &what, &y, count as u64 * 4)?;
        memory::hold(&encoder, inputs.iter().copied().chain([&y]).map(|b| b.reservation().clone()).collect());
        Ok((encoder, staging, count))
    }

    /// The dispatches of a task and the number of its results.
    fn plan(&self, w: &Weights, task: &Task) -> Result<(Vec<plan::Dispatch>, usize)> {
        self.owns(w)?;
        let caps = self.caps();
        Ok(match task {
            Task::Matmul(x, options) => {
                let n = shapes::batch(w.name(), w.cols(), x.len())?;
                (self.plan_matmul(w, n, options)?, n * w.rows())
            }
            Task::Experts(x, experts, options) => {
                let n = shapes::batch(w.name(), w.cols(), x.len())?;
                let per = experts.len() / n.max(1);
                (self.plan_experts(w, experts.len(), per, options)?, experts.len() * (w.rows() / w.experts()))
            }
            Task::Dequantize(rows) => {
                (op::dequantize::plan(w.shape(), rows.clone(), caps)?, rows.len() * w.cols())
            }
            Task::GetRows(rows) => (op::get_rows::plan(w.shape(), rows.len(), caps)?, rows.len() * w.cols()),
        })
    }

    pub(super) fn plan_matmul(
        &self,
        w: &Weights,
        n: usize,
        options: &MatmulOptions,
    ) -> Result<Vec<plan::Dispatch>> {
        self.plan_adding(w, (n, false), options)
    }

    /// [`Runtime::plan_matmul`], of a product that is added to what y holds if the second of `batch` is true.
    pub(super) fn plan_adding(
        &self,
        w: &Weights,
        batch: (usize, bool),
        options: &MatmulOptions,
    ) -> Result<Vec<plan::Dispatch>> {
        let (columns, edge) = (batch.0, w.rows().max(w.cols()));
        if columns.saturating_mul(edge) > PLANNED_ELEMENTS {
            let what = format!("a matmul with `{}` and {columns} columns of {edge} elements", w.name());
            let (wanted, limit) = (columns.saturating_mul(edge) as u64, PLANNED_ELEMENTS as u64);
            return Err(Error::LimitExceeded { what, wanted, limit });
        }
        let choose = |request: &Problem| self.choose(w.format(), request, options);
        let batch = Batch { columns, accumulate: batch.1 };
        op::matmul::plan(w.shape(), batch, options.activations, &choose, self.caps())
    }

    fn plan_experts(
        &self,
        w: &Weights,
        slots: usize,
        per: usize,
        options: &MatmulOptions,
    ) -> Result<Vec<plan::Dispatch>> {
        let choose = |request: &Problem| self.choose(w.format(), request, options);
        let slots = op::experts::Slots { count: slots, per };
        op::experts::plan(w.shape(), slots, options.activations, &choose, self.caps())
    }

    /// The kernel for a request: of those that `options` allow the one that was measured to be the fastest, else the first.
    fn choose(
        &self,
        format: &'static Format,
        request: &Problem,
        options: &MatmulOptions,
    ) -> Result<Candidate> {
        let best = self.inner.tuning.get(format, request);
        kernel::choose(self.caps(), format, request, options, best.as_deref())
    }

    /// What was measured on this adapter, and is preferred from then on.
    pub fn tuning(&self) -> &Tuning {
        &self.inner.tuning
    }

    /// `rows` in parts that one submission moves.
    fn row_steps(&self, w: &Weights, rows: Range<usize>) -> Vec<Range<usize>> {
        let step = (BATCH_ELEMENTS / w.cols().max(1)).max(1);
        rows.clone().step_by(step).map(|first| first..rows.end.min(first + step)).collect()
    }

    fn row_numbers<'r>(&self, w: &Weights, rows: &'r [u32]) -> Result<Vec<&'r [u32]>> {
        self.check()?;
        if let Some(at) = rows.iter().position(|row| *row as usize >= w.rows()) {
            let what = format!("row number {at} for `{}`", w.name());
            return Err(Error::shape(what, format!("below {}", w.rows()), rows[at]));
        }
        Ok(rows.chunks((BATCH_ELEMENTS / w.cols().max(1)).max(1)).collect())
    }

    pub(super) fn encoder(&self) -> wgpu::CommandEncoder {
        self.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("qmatmul") })
    }

    pub(super) fn submit(&self, encoder: wgpu::CommandEncoder) -> Result<wgpu::SubmissionIndex> {
        self.at(Point::Submitting);
        self.inner.errors.count(&encoder);
        self.submit_all(|| "submitting work".into(), 0, [encoder.finish()])
    }

    /// Hands commands to the queue, and starts what was written to it before. wgpu runs callbacks there: a panic in one is the host's.
    pub(super) fn submit_all(
        &self,
        doing: impl Fn() -> String,
        bytes: u64,
        commands: impl IntoIterator<Item = wgpu::CommandBuffer>,
    ) -> Result<wgpu::SubmissionIndex> {
        let submit = || self.queue().submit(commands);
        let submitted = self.catch_errors(doing, bytes, || catch_unwind(AssertUnwindSafe(submit)))?;
        submitted.map_err(|panic| self.inner.errors.lost_or_panic(self.device(), panic))
    }

    /// Waits until everything submitted is done.
    ///
    /// # Errors
    /// [`Error::DeviceLost`]; [`Error::TimedOut`] if nothing of this runtime's own ended for [`Options::timeout`].
    ///
    /// # Panics
    /// If a callback of the host's does, which wgpu runs here.
    pub fn wait(&self) -> Result<()> {
        self.inner.errors.wait(self.device())
    }

    pub(super) fn wait_for(&self, submission: &wgpu::SubmissionIndex) -> Result<()> {
        self.inner.errors.wait_for(self.device(), Some(submission))
    }

    /// Bytes that the limit leaves.
    pub(super) fn memory_left(&self) -> u64 {
        self.memory_limit().unwrap_or(u64::MAX).saturating_sub(self.memory_used())
    }

    pub(super) fn timeout(&self) -> Duration {
        self.inner.errors.timeout()
    }

    pub(super) fn budget(&self) -> &Arc<MemoryBudget> {
        &self.inner.budget
    }

    pub(super) fn at(&self, point: Point) {
        self.inner.errors.at(point);
    }

    /// Calls `hook` at each [`Point`], for tests; the first that is set stays.
    #[doc(hidden)]
    pub fn set_hook(&self, hook: Hook) {
        self.inner.errors.set_hook(hook);
    }

    pub(super) fn pipeline(
        &self,
        kernel: &'static Kernel,
        config: &KernelConfig,
        layout: &DeviceLayout,
    ) -> Result<Arc<wgpu::ComputePipeline>> {
        self.inner.pipelines.get(self.device(), &self.inner.errors, kernel, config, layout)
    }

    pub(super) fn save_pipelines(&self) {
        self.inner.pipelines.save();
    }

    pub(super) fn id(&self) -> u64 {
        self.inner.id
    }

    /// Refuses weights of another runtime.
    pub(super) fn owns(&self, w: &Weights) -> Result<()> {
        match w.owner == self.inner.id {
            true => self.check(),
            false => {
                let name = w.name();
                Err(Error::Argument(format!(
                    "the weights `{name}` were uploaded to another runtime: upload them to this one"
                )))
            }
        }
    }

    pub(super) fn book(&self, layout: &DeviceLayout) -> Result<Buffer> {
        self.inner.pipelines.book(self, layout)
    }

    pub(super) fn bindings(&self) -> &wgpu::BindGroupLayout {
        &self.inner.pipelines.bindings
    }

    pub(super) fn check_alive(&self) -> Result<()> {
        self.inner.errors.check_alive(self.device())
    }

    pub(super) fn check(&self) -> Result<()> {
        self.inner.errors.check()
    }

    pub(super) fn catch_errors<T>(
        &self,
        doing: impl Fn() -> String,
        bytes: u64,
        call: impl FnOnce() -> T,
    ) -> Result<T> {
        self.inner.errors.catch_errors(self.device(), doing, bytes, call)
    }
}

/// Columns of a batch that one submission of [`Runtime::matmul`] multiplies with a weight of this shape: no more products than one
/// dispatch may have, so that a driver is never silent for long.
fn columns_at_once(rows: usize, cols: usize) -> usize {
    let by_elements = BATCH_ELEMENTS / cols.max(rows).max(1);
    let by_products = limits::PRODUCTS / cols.saturating_mul(rows).max(1);
    by_elements.min(by_products).max(1)
}

/// Refuses buffers that are too small for a matmul with `w`, or the same.
pub(super) fn check_buffers(w: &Weights, x: (&wgpu::Buffer, usize), y: (&wgpu::Buffer, usize)) -> Result<()> {
    if x.0 == y.0 {
        let name = w.name();
        return Err(Error::Argument(format!("a matmul with `{name}` cannot write into its own activations")));
    }
    for (what, (buffer, elements)) in [("x", x), ("y", y)] {
        let wanted = (elements as u64).saturating_mul(4);
        if buffer.size() < wanted {
            let what = format!("buffer {what} of a matmul with `{}`", w.name());
            return Err(Error::shape(what, format!("{wanted} bytes"), format!("{} bytes", buffer.size())));
        }
    }
    Ok(())
}

/// Kernels and variants in order, each once.
fn names(plan: &[plan::Dispatch]) -> String {
    let mut names: Vec<_> = plan.iter().map(plan::Dispatch::name).collect();
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names.join("+")
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
