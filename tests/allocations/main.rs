//! The gpu lane, in a process of its own: recording a bound program allocates what wgpu allocates for
//! the same calls, and nothing else.

#[path = "../common/device.rs"]
mod device;

use device::{VARIANTS, open, pipelines};
use qmatmul::check::random_tensor;
use qmatmul::gpu::{BoundProgram, Tokens};
use qmatmul::{MatmulOptions, Runtime, format, wgpu};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::{Mutex, MutexGuard, PoisonError};

thread_local! {
    /// Of this thread: drivers have threads of their own, which do not record.
    static ALLOCATIONS: Cell<Count> = const { Cell::new(Count { calls: 0, bytes: 0 }) };
}

/// What a thread has asked the allocator for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Count {
    calls: usize,
    bytes: usize,
}

/// The system's allocator, counted.
struct Counted;

fn count(bytes: usize) {
    // A thread that ends allocates, too, and has no counter any more.
    let _ = ALLOCATIONS.try_with(|count| {
        let Count { calls, bytes: all } = count.get();
        count.set(Count { calls: calls + 1, bytes: all + bytes });
    });
}

// SAFETY: the system's allocator does it all.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// One test at a time: the memory of the process is of both.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

/// What `call` asks the allocator for on this thread.
fn allocations(call: impl FnOnce()) -> Count {
    let before = ALLOCATIONS.get();
    call();
    let after = ALLOCATIONS.get();
    Count { calls: after.calls - before.calls, bytes: after.bytes - before.bytes }
}

/// The least of some runs. One replay in half a second looks at the device, which may allocate;
/// all others must do without, and vectors of wgpu's that are reused have grown after the first.
fn least(mut run: impl FnMut() -> Count) -> Count {
    (0..20).map(|_| run()).min().expect("some runs")
}

/// Recording into a pass that somebody else has begun, ended after the counting.
fn in_a_pass(runtime: &Runtime, record: impl FnOnce(&mut wgpu::ComputePass)) -> Count {
    let mut encoder = runtime.device().create_command_encoder(&Default::default());
    let mut pass = encoder.begin_compute_pass(&Default::default());
    let count = allocations(|| record(&mut pass));
    drop(pass);
    runtime.queue().submit([encoder.finish()]);
    runtime.wait().expect("the device works");
    count
}

/// A kernel that does nothing, twice, and a bind group of it with one dynamic offset.
struct ByHand {
    pipelines: [wgpu::ComputePipeline; 2],
    group: wgpu::BindGroup,
}

impl ByHand {
    fn new(runtime: &Runtime) -> Self {
        let device = runtime.device();
        let text = "@group(0) @binding(0) var<uniform> span: vec2<u32>;
            @compute @workgroup_size(1) fn main() { _ = span.x; }";
        let source = wgpu::ShaderSource::Wgsl(text.into());
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
        let ty = wgpu::BindingType::Buffer {
            ty: wgpu::BufferBindingType::Uniform,
            has_dynamic_offset: true,
            min_binding_size: wgpu::BufferSize::new(8),
        };
        let visibility = wgpu::ShaderStages::COMPUTE;
        let entry = wgpu::BindGroupLayoutEntry { binding: 0, visibility, ty, count: None };
        let layout = device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &[entry] });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            bind_group_layouts: &[Some(&layout)],
            ..Default::default()
        });
        let pipeline = || {
            device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: None,
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: Default::default(),
                cache: None,
            })
        };
        let pipelines = [pipeline(), pipeline()];
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 1024,
            usage: wgpu::BufferUsages::UNIFORM,
            mapped_at_creation: false,
        });
        let resource = wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &buffer,
            offset: 0,
            size: wgpu::BufferSize::new(8),
        });
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &layout,
            entries: &[wgpu::BindGroupEntry { binding: 0, resource }],
        });
        Self { pipelines, group }
    }

    /// The calls of a replay of as many dispatches, each of another pipeline than the one before: wgpu
    /// does not record a pipeline that is set already.
    fn record(&self, pass: &mut wgpu::ComputePass, dispatches: usize) {
        for i in 0..dispatches {
            pass.set_pipeline(&self.pipelines[i % 2]);
            pass.set_bind_group(0, &self.group, &[0]);
            pass.dispatch_workgroups(1, 1, 1);
        }
    }
}

/// Layers of a small model, one after the other, of three products each; no two that are next to
/// each other have one pipeline.
fn model(runtime: &Runtime, layers: usize) -> BoundProgram {
    let tensor = |format, m| random_tensor("w", format, m, 64, 1).expect("whole blocks");
    let [a, b] = [(format::Q4_0, 64), (format::Q8_0, 64)]
        .map(|(format, m)| runtime.upload(&tensor(format, m)).expect("small"));
    let mut program = runtime.program(Tokens::UpTo(9));
    let (x, y) = (program.slot("x", 64), program.slot("y", 64));
    for _ in 0..layers {
        program.matmul(&a, x, y, &MatmulOptions::default()).expect("fits");
        program.matmul_add(&b, x, y, &MatmulOptions::default()).expect("fits");
        program.matmul_gated(&a, y, y, x, &MatmulOptions::default()).expect("fits");
    }
    let buffer = || {
        let (size, usage) = (9 * 64 * 4, wgpu::BufferUsages::STORAGE);
        let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        runtime.device().create_buffer(&descriptor)
    };
    let (bx, by) = (buffer(), buffer());
    runtime.bind(&program, &[(x, (&bx).into()), (y, (&by).into())]).expect("fits")
}

/// Three products each: as many as a decoder has.
const LAYERS: usize = 75;

#[test]
fn recording_allocates_what_wgpu_does_for_the_same_calls() {
    let _alone = alone();
    let _stated = pipelines(30);
    for variant in [&VARIANTS[0], &VARIANTS[3]] {
        let runtime = open(&variant.options());
        let (bound, by_hand) = (model(&runtime, LAYERS), ByHand::new(&runtime));
        for tokens in [1, 9] {
            let dispatches = bound.dispatch_count(tokens);
            assert!(dispatches >= 3 * LAYERS, "{dispatches} dispatches");
            let by_hand = least(|| in_a_pass(&runtime, |pass| by_hand.record(pass, dispatches)));
            let ours =
                least(|| in_a_pass(&runtime, |pass| bound.record(pass, tokens).expect("it is for so many")));
            let name = variant.name;
            eprintln!("{name}, {tokens} tokens, {dispatches} dispatches: {ours:?}, by hand {by_hand:?}");
            assert!(
                ours.calls <= by_hand.calls && ours.bytes <= by_hand.bytes,
                "{ours:?}, by hand {by_hand:?}"
            );
        }
    }
}

/// The counter counts, or the test above would pass whatever happens.
#[test]
fn allocations_are_counted() {
    let count = allocations(|| drop(std::hint::black_box(vec![0u8; 4096])));
    assert!(count.calls >= 1 && count.bytes >= 4096, "{count:?}");
    assert_eq!(allocations(|| ()), Count { calls: 0, bytes: 0 });
}

/// Bytes of this process in memory.
#[cfg(target_os = "linux")]
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
    let resident = pages.split(' ').nth(1).and_then(|text| text.parse::<u64>().ok());
    resident.expect("the second number") * 4096
}

/// Programs that are bound and dropped leave memory where it was: the device's as it is counted, and
/// the process's. One in ten is recorded and run before.
#[cfg(target_os = "linux")]
#[test]
fn a_thousand_programs_leave_nothing() {
    let _alone = alone();
    let _stated = pipelines(30);
    let runtime = open(&VARIANTS[0].options());
    let make = |count: usize| {
        for i in 0..count {
            let bound = model(&runtime, 2);
            if i % 10 == 0 {
                bound.run(1).expect("it is for one token");
            }
            if i % 100 == 0 {
                // wgpu frees what was dropped when somebody polls.
                runtime.wait().expect("the device works");
            }
        }
        runtime.wait().expect("the device works");
        (runtime.memory_used(), resident())
    };
    let (used, mut before) = make(200);
    // What is lost is lost each time; what a driver keeps for itself, it keeps once.
    let mut grown = vec![];
    while grown.len() < 4 && grown.iter().all(|bytes| *bytes >= MOST_GROWN) {
        let (used_after, after) = make(1000);
        assert_eq!(used_after, used, "bytes of device memory");
        grown.push(after.saturating_sub(before));
        before = after;
    }
    eprintln!("{} MiB in the end, more after 1,000 programs each time: {grown:?} bytes", before >> 20);
    assert!(grown.iter().any(|bytes| *bytes < MOST_GROWN), "{grown:?} bytes more, {MOST_GROWN} at most");
}

/// Bytes that the process may be larger after 1,000 programs: 4 KiB for each, less than one of them
/// takes.
#[cfg(target_os = "linux")]
const MOST_GROWN: u64 = 4 << 20;
