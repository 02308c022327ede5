//! The ground that everything on the device stands on: the device and its queue, what it can do,
//! its errors, the memory that is taken of it, what is compiled for it and what was measured on it.

use super::adapters::{self, AdapterSummary};
use super::device::{self, Options};
use super::errors::DeviceErrors;
use super::hooks::Point;
use super::memory::{Buffer, MemoryBudget};
use super::pipelines::{self, Cell, Compiled, Pipelines};
#[cfg(not(target_family = "wasm"))]
use super::probe;
use super::tuning::Tuning;
use crate::error::Result;
use crate::kernel::program::Span;
use crate::kernel::shard::DeviceLayout;
use crate::kernel::{Caps, Kernel, KernelConfig};
#[cfg(target_family = "wasm")]
use futures_intrusive::channel::shared::oneshot_channel;
use rayon::prelude::*;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
#[cfg(not(target_family = "wasm"))]
use std::time::Duration;

/// A device and what belongs to it. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

struct Inner {
    /// Told apart from other contexts: buffers of one mean something else on another.
    id: u64,
    device: wgpu::Device,
    /// Until it is dropped.
    queue: Option<wgpu::Queue>,
    adapter: AdapterSummary,
    caps: Arc<Caps>,
    pipelines: Pipelines,
    /// Codebooks on the device, by their words.
    codebooks: Mutex<HashMap<Vec<u32>, Buffer>>,
    spans: SpanTables,
    tuning: Tuning,
    errors: DeviceErrors,
    budget: Arc<MemoryBudget>,
}

/// Tables of spans that bound programs share, by what they hold.
#[derive(Default)]
pub(super) struct SpanTables {
    tables: Mutex<HashMap<Vec<Span>, Weak<Buffer>>>,
}

impl SpanTables {
    /// The table of these, which `make` brings to the device if no program has it.
    pub fn get_or_make(&self, spans: &[Span], make: impl FnOnce() -> Result<Buffer>) -> Result<Arc<Buffer>> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = tables.get(spans).and_then(Weak::upgrade) {
            return Ok(table);
        }
        let table = Arc::new(make()?);
        tables.retain(|_, table| table.strong_count() > 0);
        tables.insert(spans.to_vec(), Arc::downgrade(&table));
        Ok(table)
    }
}

impl Drop for Inner {
    /// wgpu waits for the work of a queue that is dropped, without bound: one that does not answer
    /// keeps what it has until the process ends. And it panics there over commands that a driver
    /// failed to record.
    fn drop(&mut self) {
        let queue = self.queue.take();
        match self.errors.is_silent() {
            true => std::mem::forget((self.device.clone(), queue)),
            false => drop(catch_unwind(AssertUnwindSafe(|| drop(queue)))),
        }
    }
}

impl Context {
    /// A context on an open device. The callbacks of a device of our own are set; those of a
    /// host's device stay the host's.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`](crate::Error::LimitExceeded) if a shader may have fewer storage
    /// buffers than are used here, or the device's errors.
    pub fn new(
        device: wgpu::Device,
        queue: wgpu::Queue,
        adapter: &wgpu::Adapter,
        options: &Options,
        own_device: bool,
    ) -> Result<Self> {
        let info = adapter.get_info();
        let errors = DeviceErrors::new(device::timeout(&info, options));
        if own_device {
            errors.set_callbacks(&device);
        }
        let mut caps = device::caps(&device, adapter, options);
        caps.cooperative = probed(caps.cooperative, &device, &queue, &errors);
        let pipelines = Pipelines::new(&device, &info, &errors, options)?;
        let adapter = adapters::summary(adapter);
        let tuning = Tuning::open(&adapter, &caps, &options.tuning);
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let budget = MemoryBudget::new(options.memory_limit);
        let (queue, codebooks) = (Some(queue), Mutex::default());
        let (caps, spans) = (Arc::new(caps), SpanTables::default());
        let inner =
            Inner { id, device, queue, adapter, caps, pipelines, codebooks, spans, tuning, errors, budget };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub fn id(&self) -> u64 {
        self.inner.id
    }

    pub fn device(&self) -> &wgpu::Device {
        &self.inner.device
    }

    pub fn queue(&self) -> &wgpu::Queue {
        self.inner.queue.as_ref().expect("it is there until the context is dropped")
    }

    pub fn adapter(&self) -> &AdapterSummary {
        &self.inner.adapter
    }

    pub fn caps(&self) -> &Caps {
        &self.inner.caps
    }

    /// The same, to keep.
    pub fn shared_caps(&self) -> Arc<Caps> {
        self.inner.caps.clone()
    }

    pub fn spans(&self) -> &SpanTables {
        &self.inner.spans
    }

    pub fn tuning(&self) -> &Tuning {
        &self.inner.tuning
    }

    pub fn errors(&self) -> &DeviceErrors {
        &self.inner.errors
    }

    pub fn budget(&self) -> &Arc<MemoryBudget> {
        &self.inner.budget
    }

    pub fn pipelines(&self) -> &Pipelines {
        &self.inner.pipelines
    }

    pub fn encoder(&self) -> wgpu::CommandEncoder {
        self.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("qmatmul") })
    }

    pub fn submit(&self, encoder: wgpu::CommandEncoder) -> Result<wgpu::SubmissionIndex> {
        self.at(Point::Submitting);
        #[cfg(not(target_family = "wasm"))]
        self.inner.errors.count(&encoder);
        // Finished where errors are caught.
        self.submit_all(|| "submitting work".into(), 0, std::iter::once_with(|| encoder.finish()))
    }

    /// Hands commands to the queue, and starts what was written to it before. wgpu runs callbacks
    /// there: a panic in one is the host's.
    pub fn submit_all(
        &self,
        doing: impl Fn() -> String,
        bytes: u64,
        commands: impl IntoIterator<Item = wgpu::CommandBuffer>,
    ) -> Result<wgpu::SubmissionIndex> {
        let submit = || self.queue().submit(commands);
        #[cfg(target_family = "wasm")]
        return self.catch_errors(doing, bytes, submit);
        #[cfg(not(target_family = "wasm"))]
        {
            let submitted = self.catch_errors(doing, bytes, || catch_unwind(AssertUnwindSafe(submit)))?;
            submitted.map_err(|panic| self.inner.errors.lost_or_panic(self.device(), panic))
        }
    }

    /// Waits until everything submitted is done.
    #[cfg(not(target_family = "wasm"))]
    pub async fn wait(&self) -> Result<()> {
        self.inner.errors.wait(self.device())
    }

    /// Waits until this submission is done.
    #[cfg(not(target_family = "wasm"))]
    pub async fn wait_for(&self, submission: &wgpu::SubmissionIndex) -> Result<()> {
        self.inner.errors.wait_for(self.device(), Some(submission))
    }

    /// Waits until everything submitted is done.
    #[cfg(target_family = "wasm")]
    pub async fn wait(&self) -> Result<()> {
        self.at(Point::Waiting);
        let (sender, done) = oneshot_channel();
        self.queue().on_submitted_work_done(move || {
            let _ = sender.send(());
        });
        done.receive().await;
        self.settle().await
    }

    /// Waits until this submission is done.
    #[cfg(target_family = "wasm")]
    pub async fn wait_for(&self, _submission: &wgpu::SubmissionIndex) -> Result<()> {
        self.wait().await
    }

    /// Reports the loss of the device with its reason, if it is lost.
    pub fn hear_of_loss(&self) -> Result<()> {
        #[cfg(not(target_family = "wasm"))]
        return self.inner.errors.wait(self.device());
        #[cfg(target_family = "wasm")]
        self.check_alive()
    }

    /// [`DeviceErrors::settle`].
    #[cfg(target_family = "wasm")]
    pub async fn settle(&self) -> Result<()> {
        self.inner.errors.settle().await
    }

    /// Waits until it is known whether the calls so far have failed. Here each has said so itself.
    #[cfg(not(target_family = "wasm"))]
    pub async fn settle(&self) -> Result<()> {
        Ok(())
    }

    /// Bytes that the limit of memory leaves.
    pub fn memory_left(&self) -> u64 {
        self.budget().limit().unwrap_or(u64::MAX).saturating_sub(self.budget().used())
    }

    #[cfg(not(target_family = "wasm"))]
    pub fn timeout(&self) -> Duration {
        self.inner.errors.timeout()
    }

    /// Tells the hook of a test where a call is.
    pub fn at(&self, point: Point) {
        self.inner.errors.at(point);
    }

    /// The pipeline of a kernel, compiled at first use.
    pub fn pipeline(
        &self,
        kernel: &'static Kernel,
        config: &KernelConfig,
        layout: &DeviceLayout,
    ) -> Result<Arc<Compiled>> {
        self.inner.pipelines.get(self.device(), &self.inner.errors, kernel, config, layout)
    }

    /// Compiles those of these that were not compiled before, each once.
    pub(super) fn compile(&self, cells: Vec<Cell>) -> Result<Vec<Arc<Compiled>>> {
        let mut wanted = HashMap::new();
        for cell in cells {
            let key = pipelines::key(cell.kernel, &cell.config, &cell.layout);
            if !self.pipelines().has(&key) {
                wanted.entry(key).or_insert(cell);
            }
        }
        let wanted: Vec<_> = wanted.into_values().collect();
        let compile = |cell: &Cell| self.pipeline(cell.kernel, &cell.config, &cell.layout);
        match &wanted[..] {
            [] => Ok(vec![]),
            [cell] => Ok(vec![compile(cell)?]),
            several => several.par_iter().map(compile).collect(),
        }
    }

    /// The codebook of these words, which `upload` brings to the device at first use.
    pub fn codebook(&self, words: Vec<u32>, upload: impl FnOnce(&[u32]) -> Result<Buffer>) -> Result<Buffer> {
        let mut codebooks = self.inner.codebooks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(codebook) = codebooks.get(&words) {
            return Ok(codebook.clone());
        }
        let codebook = upload(&words)?;
        codebooks.insert(words, codebook.clone());
        Ok(codebook)
    }

    pub fn check_alive(&self) -> Result<()> {
        self.inner.errors.check_alive(self.device())
    }

    /// [`DeviceErrors::check_now_and_then`].
    pub fn check_now_and_then(&self) -> Result<()> {
        self.inner.errors.check_now_and_then(self.device())
    }

    pub fn check(&self) -> Result<()> {
        self.inner.errors.check()
    }

    pub fn catch_errors<T>(
        &self,
        doing: impl Fn() -> String,
        bytes: u64,
        call: impl FnOnce() -> T,
    ) -> Result<T> {
        self.inner.errors.catch_errors(self.device(), doing, bytes, call)
    }
}

/// The edge of cooperative matrices, if a probe finds that they work.
#[cfg(not(target_family = "wasm"))]
fn probed(
    edge: Option<u32>,
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    errors: &DeviceErrors,
) -> Option<u32> {
    edge.filter(|edge| probe::cooperative(device, queue, errors, *edge))
}

/// No browser has cooperative matrices.
#[cfg(target_family = "wasm")]
fn probed(_: Option<u32>, _: &wgpu::Device, _: &wgpu::Queue, _: &DeviceErrors) -> Option<u32> {
    None
}
