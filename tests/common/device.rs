//! The runtimes under test, and how many pipelines a test may compile on them.
#![allow(dead_code)]

use qmatmul::gpu::{Capability, Point, TuningCache};
use qmatmul::wgpu;
use qmatmul::{Options, Runtime};
use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

thread_local! {
    /// What the test of this thread has compiled.
    static COMPILED: RefCell<Option<Arc<AtomicUsize>>> = const { RefCell::new(None) };
}

/// True in the full lane, which takes all formats and shapes where the gpu lane takes some.
pub fn is_full() -> bool {
    std::env::var("QMATMUL_LANE").is_ok_and(|lane| lane == "full")
}

/// The first of these in the gpu lane, all of them in the full lane.
pub fn first<T>(of: &[T], count: usize) -> &[T] {
    if is_full() { of } else { &of[..count] }
}

/// A test's statement of how many pipelines it compiles at most. Compiling is most of the time that
/// a test takes on a software driver.
#[must_use]
pub struct Pipelines {
    at_most: usize,
    compiled: Arc<AtomicUsize>,
}

/// The test of this thread compiles `at_most` pipelines when it runs alone. It fails when it
/// compiles more. A test that opens a runtime without having said so fails, too.
pub fn pipelines(at_most: usize) -> Pipelines {
    let compiled = Arc::<AtomicUsize>::default();
    COMPILED.set(Some(compiled.clone()));
    Pipelines { at_most, compiled }
}

impl Drop for Pipelines {
    fn drop(&mut self) {
        COMPILED.set(None);
        let compiled = self.compiled.load(Ordering::Relaxed);
        eprintln!("pipelines: {compiled} of {}", self.at_most);
        if !std::thread::panicking() && !is_full() {
            assert!(compiled <= self.at_most, "{compiled} pipelines compiled, {} stated", self.at_most);
        }
    }
}

fn stated() -> Arc<AtomicUsize> {
    let compiled = COMPILED.with_borrow(Clone::clone);
    compiled
        .expect("a test with a device states how many pipelines it compiles: `let _stated = pipelines(…);`")
}

/// Counts what `runtime` compiles for the test of the thread that compiles, or for `owner` on
/// threads that belong to no test.
/// `change` sees each shader before that.
fn count(
    runtime: &Runtime,
    owner: Option<Arc<AtomicUsize>>,
    change: impl Fn(&mut String) + Send + Sync + 'static,
) {
    runtime.set_hook(Box::new(move |point| {
        let Point::Compiling(text) = point else { return };
        change(text);
        if let Some(compiled) = COMPILED.with_borrow(Clone::clone).as_ref().or(owner.as_ref()) {
            compiled.fetch_add(1, Ordering::Relaxed);
        }
    }));
}

/// One way to run: the switches of a runtime, by name.
pub struct Variant {
    pub name: &'static str,
    software: bool,
    pub subgroups: bool,
    cell: OnceLock<Runtime>,
}

const fn variant(name: &'static str, software: bool, subgroups: bool) -> Variant {
    Variant { name, software, subgroups, cell: OnceLock::new() }
}

/// Both families of kernels, with and without subgroup operations, whatever the adapter is.
pub static VARIANTS: [Variant; 4] = [
    variant("software", true, true),
    variant("software, no subgroups", true, false),
    variant("gpu", false, true),
    variant("gpu, no subgroups", false, false),
];

impl Variant {
    /// The runtime, opened once per process. Fails the test if there is no adapter: a test that
    /// cannot run has not passed.
    pub fn runtime(&self) -> &Runtime {
        stated();
        self.cell.get_or_init(|| {
            let runtime = open_uncounted(&self.options());
            count(&runtime, None, |_| ());
            runtime
        })
    }

    pub fn options(&self) -> Options {
        Options {
            software: Some(self.software),
            without: if self.subgroups { vec![] } else { vec![Capability::Subgroups] },
            tuning: TuningCache::Off,
            ..Options::default()
        }
    }
}

/// One of the variants for cell `i` of a test that goes through both families, in the full lane one
/// of each family; with subgroups or, where `i` is odd, without.
pub fn one_or_both(i: usize) -> impl Iterator<Item = &'static Variant> {
    let step = if is_full() { 2 } else { VARIANTS.len() };
    VARIANTS.iter().skip(i % step).step_by(step)
}

/// A variant of each family, one with subgroups and one without, for tests whose subject is not the
/// kernels; in the full lane all variants. Two tests that run at a time begin with another family
/// each: a software driver compiles with one core for a device.
pub fn families() -> Vec<&'static Variant> {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let mut families: Vec<_> = VARIANTS.iter().step_by(if is_full() { 1 } else { 3 }).collect();
    if CALLS.fetch_add(1, Ordering::Relaxed) % 2 == 1 {
        families.reverse();
    }
    families
}

/// A runtime of its own for a test with special switches.
pub fn open(options: &Options) -> Runtime {
    open_changed(options, |_| ())
}

/// A runtime that compiles what `change` makes of its shaders.
pub fn open_changed(options: &Options, change: impl Fn(&mut String) + Send + Sync + 'static) -> Runtime {
    let owner = stated();
    let runtime = open_uncounted(options);
    count(&runtime, Some(owner), change);
    runtime
}

/// A runtime for a test that sets a hook of its own: a runtime has one.
pub fn open_uncounted(options: &Options) -> Runtime {
    let runtime =
        Runtime::with_options(options).expect("the tests need a GPU adapter, a software one will do");
    let adapter = runtime.adapter();
    eprintln!("adapter: {} ({}, {})", adapter.name, adapter.backend, adapter.driver);
    runtime
}

/// What failed, and how much was done.
pub type Tally = (Vec<String>, usize);

/// Pieces of work, each with a device of its own, two at a time: a software driver compiles with
/// one core for a device.
pub fn side_by_side<T: Send>(pieces: impl IntoIterator<Item = T>, work: impl Fn(T) -> Tally + Sync) -> Tally {
    let pieces = Mutex::new(pieces.into_iter().collect::<Vec<_>>().into_iter());
    let next = || pieces.lock().expect("nothing fails with the lock held").next();
    let compiled = COMPILED.with_borrow(Clone::clone);
    let some = || {
        COMPILED.set(compiled.clone());
        std::iter::from_fn(next).map(&work).collect::<Vec<_>>()
    };
    // A panic there names the test.
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    let tallies = std::thread::scope(|scope| {
        let named = || std::thread::Builder::new().name(name.clone());
        let threads = [named(), named()].map(|thread| thread.spawn_scoped(scope, some).expect("a thread"));
        threads.map(|thread| thread.join().expect("it has said why"))
    });
    total(tallies.into_iter().flatten())
}

/// All of them together.
pub fn total(tallies: impl Iterator<Item = Tally>) -> Tally {
    let (failures, done): (Vec<_>, Vec<_>) = tallies.unzip();
    (failures.concat(), done.into_iter().sum())
}

/// A runtime on a device that its host has opened, with WebGPU's default limits and no feature at
/// all: the least a host may bring.
pub fn on_a_host_device() -> Runtime {
    on_a_device_of(wgpu::Limits::default()).expect("enough for a plain device")
}

/// A runtime on a host's device of these limits.
pub fn on_a_device_of(required_limits: wgpu::Limits) -> qmatmul::error::Result<Runtime> {
    let adapter = host_adapter();
    let descriptor = wgpu::DeviceDescriptor { required_limits, ..Default::default() };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).expect("a plain device");
    attach(device, queue, &adapter)
}

/// The adapter that a host takes.
pub fn host_adapter() -> wgpu::Adapter {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let backends = wgpu::Backends::from_env().unwrap_or(wgpu::Backends::PRIMARY);
    let mut adapters = pollster::block_on(instance.enumerate_adapters(backends)).into_iter();
    adapters.next().expect("the tests need an adapter")
}

/// A runtime on a device that its host has opened.
pub fn attach(
    device: wgpu::Device,
    queue: wgpu::Queue,
    adapter: &wgpu::Adapter,
) -> qmatmul::error::Result<Runtime> {
    let owner = stated();
    let runtime = attach_uncounted(device, queue, adapter)?;
    count(&runtime, Some(owner), |_| ());
    Ok(runtime)
}

/// The same for a test that sets a hook of its own: a runtime has one.
pub fn attach_uncounted(
    device: wgpu::Device,
    queue: wgpu::Queue,
    adapter: &wgpu::Adapter,
) -> qmatmul::error::Result<Runtime> {
    Runtime::with_device(device, queue, adapter, &Options::default())
}

/// What a buffer of f32 holds once everything that was submitted has run. It needs the usage
/// `COPY_SRC`.
pub fn read(runtime: &Runtime, buffer: &wgpu::Buffer) -> Vec<f32> {
    let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
    let descriptor =
        wgpu::BufferDescriptor { label: None, size: buffer.size(), usage, mapped_at_creation: false };
    let staging = runtime.device().create_buffer(&descriptor);
    let mut encoder = runtime.device().create_command_encoder(&Default::default());
    encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, buffer.size());
    runtime.queue().submit([encoder.finish()]);
    staging.map_async(wgpu::MapMode::Read, .., |result| result.expect("mappable"));
    runtime.wait().expect("the device works");
    let view = staging.get_mapped_range(..).expect("mapped");
    view.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}
