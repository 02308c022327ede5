//! Devices that fail: lost, full, silent, or refusing a shader. Every failure is a value, comes
//! soon, and says what it was about.

use crate::device::{VARIANTS, families, open, open_uncounted, pipelines};
use qmatmul::check::{activations, random_tensor};
use qmatmul::error::{Error, Result};
use qmatmul::gpu::{Point, Tuned, TuningCache, Upload};
use qmatmul::kernel::MatmulOptions;
use qmatmul::{Options, PackedTensor, Recipe, Runtime, Weights, format, wgpu};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

/// In which a call on a lost device must return.
const SOON: Duration = Duration::from_secs(2);

fn tensor(name: &str, m: usize, k: usize) -> PackedTensor {
    random_tensor(name, format::Q4_0, m, k, 1).expect("k is a multiple of 32")
}

fn runtime() -> Runtime {
    open(&VARIANTS[0].options())
}

fn limited(bytes: u64) -> Runtime {
    open(&Options { memory_limit: Some(bytes), ..VARIANTS[0].options() })
}

/// The result of a call, which must come soon.
fn soon<T>(what: &str, call: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = call();
    assert!(start.elapsed() < SOON, "{what} took {:?}", start.elapsed());
    result
}

/// Fails unless the call returns soon and says that the device is lost.
fn lost<T>(what: &str, call: impl FnOnce() -> Result<T>) {
    match soon(what, call).map(drop) {
        Err(Error::DeviceLost(_)) => {}
        other => panic!("{what}: {other:?}"),
    }
}

/// What anybody can ask of a runtime, by name.
type Call = (&'static str, fn(&Runtime, &Weights) -> Result<()>);

const CALLS: &[Call] = &[
    ("upload", |r, _| r.upload(&tensor("another", 8, 64)).map(drop)),
    ("matmul", |r, w| r.matmul(w, &activations(2 * w.cols(), 1)).map(drop)),
    ("matmul_async", |r, w| pollster::block_on(r.matmul_async(w, &activations(w.cols(), 1))).map(drop)),
    ("matmul_experts", |r, w| {
        r.matmul_experts(w, &activations(w.cols(), 1), &[0], &MatmulOptions::default()).map(drop)
    }),
    ("dequantize", |r, w| r.dequantize(w).map(drop)),
    ("dequantize_async", |r, w| pollster::block_on(r.dequantize_async(w)).map(drop)),
    ("get_rows", |r, w| r.get_rows(w, &[0]).map(drop)),
    ("get_rows_async", |r, w| pollster::block_on(r.get_rows_async(w, &[0])).map(drop)),
    ("upload_async", |r, _| pollster::block_on(r.upload_async(&tensor("another", 8, 64))).map(drop)),
    ("matmul_with_async", |r, w| {
        let (x, options) = (activations(w.cols(), 1), MatmulOptions::default());
        pollster::block_on(r.matmul_with_async(w, &x, &options)).map(drop)
    }),
    ("wait_async", |r, _| pollster::block_on(r.wait_async())),
    ("warm_up", |r, w| r.warm_up(w, 1)),
    ("time_matmul", |r, w| {
        r.time_matmul(std::slice::from_ref(w), 1, &MatmulOptions::default(), 0.0).map(drop)
    }),
    ("time_host", |r, w| r.time_host(w, 1, &MatmulOptions::default()).map(drop)),
    ("encode", |r, _| {
        let nf4 = format::NF4;
        r.encode("e", [4, 64], &activations(256, 1), &Recipe::new(nf4)).map(drop)
    }),
    ("copy_gb_per_s", |r, _| r.copy_gb_per_s(0.0).map(drop)),
    ("record_matmul", |r, w| {
        let buffer = || {
            let (size, usage) = (1 << 16, wgpu::BufferUsages::STORAGE);
            r.device().create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size,
                usage,
                mapped_at_creation: false,
            })
        };
        let mut encoder = r.device().create_command_encoder(&Default::default());
        r.record_matmul(&mut encoder, w, &buffer(), &buffer(), 1)?;
        r.queue().submit([encoder.finish()]);
        r.wait()
    }),
    ("wait", |r, _| r.wait()),
];

fn by_name(name: &str) -> Call {
    *CALLS.iter().find(|call| call.0 == name).expect("a call")
}

#[test]
fn calls_work_as_long_as_the_device_does() {
    let _stated = pipelines(10);
    let runtime = runtime();
    let w = runtime.upload(&tensor("w", 8, 64)).expect("small");
    for (name, call) in CALLS {
        call(&runtime, &w).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

/// Whichever call is the first after the loss: nobody has polled, so the loss was not yet heard of.
#[test]
fn every_call_hears_of_a_lost_device_and_goes_on_saying_so() {
    let _stated = pipelines(20);
    for (name, call) in CALLS {
        let runtime = runtime();
        let w = runtime.upload(&tensor("w", 8, 64)).expect("small");
        // Compiled before, so that the loss is what is new.
        runtime.matmul(&w, &activations(64, 1)).expect("small");
        runtime.device().destroy();
        lost(name, || call(&runtime, &w));
        for (name, call) in CALLS {
            lost(name, || call(&runtime, &w));
        }
    }
}

/// On a host's device no callback of ours tells of the loss.
#[test]
fn every_call_hears_of_a_lost_device_of_the_hosts() {
    let _stated = pipelines(20);
    for (name, call) in CALLS {
        let runtime = crate::device::on_a_host_device();
        let w = runtime.upload(&tensor("w", 8, 64)).expect("small");
        runtime.matmul(&w, &activations(64, 1)).expect("small");
        runtime.device().destroy();
        lost(name, || call(&runtime, &w));
        // The host's callback may come later, and says why.
        runtime.device_lost("the host destroyed it");
        match runtime.matmul(&w, &activations(64, 1)) {
            Err(Error::DeviceLost(reason)) => assert_eq!(reason, "the host destroyed it", "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

/// The device itself still works: the host's word counts.
#[test]
fn a_loss_that_the_host_tells_of_is_reported_by_every_call() {
    let _stated = pipelines(10);
    let runtime = crate::device::on_a_host_device();
    let w = runtime.upload(&tensor("w", 8, 64)).expect("small");
    for (name, call) in CALLS {
        call(&runtime, &w).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    runtime.clone().device_lost("unplugged");
    runtime.device_lost("the first reason stays");
    let check: Call = ("check_device", |runtime, _| runtime.check_device());
    for (name, call) in CALLS.iter().chain([&check]) {
        match soon(name, || call(&runtime, &w)) {
            Err(Error::DeviceLost(reason)) => assert_eq!(reason, "unplugged", "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

/// As a replay does that waits for nothing: nobody polls.
#[test]
fn a_loss_is_reported_soon_though_nobody_waits() {
    let _stated = pipelines(5);
    for runtime in [runtime(), crate::device::on_a_host_device()] {
        runtime.check_device().expect("it works");
        runtime.device().destroy();
        let start = Instant::now();
        let error = loop {
            assert!(start.elapsed() < SOON, "not reported");
            if let Err(error) = runtime.check_device() {
                break error;
            }
        };
        assert!(matches!(error, Error::DeviceLost(_)), "{error:?}");
        lost("the next", || runtime.check_device());
    }
}

#[test]
fn a_loss_within_an_async_upload() {
    let _stated = pipelines(5);
    let packed = tensor("w", 40_000, 1024);
    let runtime = runtime();
    let mut progress = |_, _| runtime.device().destroy();
    let options = Upload { progress: Some(&mut progress), ..Upload::default() };
    lost("upload", || pollster::block_on(runtime.upload_with_async(&packed, options)));
    drop(packed);
    assert_eq!(runtime.memory_used(), 0, "what was uploaded is freed");
}

#[test]
fn a_loss_within_an_upload() {
    let _stated = pipelines(5);
    let packed = tensor("w", 40_000, 1024);
    for at in 1..4 {
        let runtime = runtime();
        let mut chunks = 0;
        let mut progress = |_, _| {
            chunks += 1;
            if chunks == at {
                runtime.device().destroy();
            }
        };
        let options = Upload { progress: Some(&mut progress), ..Upload::default() };
        let result = soon("upload", || runtime.upload_with(&packed, options));
        // After the last chunk there is nothing left to fail.
        match (at, result.map(drop)) {
            (_, Err(Error::DeviceLost(_))) => {}
            (3, Ok(())) => {}
            (_, other) => panic!("lost after chunk {at}: {other:?}"),
        }
        lost("wait", || runtime.wait());
    }
}

/// Loses the device at each point of a call.
#[test]
fn a_loss_at_any_point_of_a_matmul() {
    let _stated = pipelines(5);
    for wanted in ["compiling", "submitting", "mapping", "waiting", "polling", "reading"] {
        let runtime = open_uncounted(&VARIANTS[0].options());
        let w = runtime.upload(&tensor("w", 64, 64)).expect("small");
        let device = runtime.device().clone();
        let armed = std::sync::Arc::new(AtomicBool::new(true));
        let hook_armed = armed.clone();
        runtime.set_hook(Box::new(move |point| {
            if name(&point) == wanted && hook_armed.swap(false, Ordering::Relaxed) {
                device.destroy();
            }
        }));
        let x = activations(64, 1);
        match soon(wanted, || runtime.matmul(&w, &x)).map(drop) {
            Err(Error::DeviceLost(_)) => {}
            // The result had arrived.
            Ok(()) if wanted == "reading" => {}
            other => panic!("lost when {wanted}: {other:?}"),
        }
        assert!(!armed.load(Ordering::Relaxed), "nobody came to {wanted}");
        lost("the next call", || runtime.matmul(&w, &x));
    }
}

fn name(point: &Point) -> &'static str {
    match point {
        Point::Compiling(_) => "compiling",
        Point::Submitting => "submitting",
        Point::Mapping(_) => "mapping",
        Point::Waiting => "waiting",
        Point::Polling => "polling",
        Point::Reading => "reading",
        _ => "elsewhere",
    }
}

/// wgpu panics where a driver reports the loss while it is waited for.
#[test]
fn a_panic_in_the_wait_for_a_device_that_is_lost() {
    let _stated = pipelines(5);
    let runtime = open_uncounted(&VARIANTS[0].options());
    let w = runtime.upload(&tensor("w", 64, 64)).expect("small");
    let device = runtime.device().clone();
    runtime.set_hook(Box::new(move |point| {
        if let Point::Polling = point {
            device.destroy();
            resume_unwind(Box::new("as wgpu does"));
        }
    }));
    lost("matmul", || runtime.matmul(&w, &activations(64, 1)));
    lost("dequantize", || runtime.dequantize(&w));
}

/// wgpu runs the callbacks of all while anybody waits.
#[test]
fn a_panic_of_the_hosts_callback_is_the_hosts() {
    let _stated = pipelines(5);
    let runtime = runtime();
    let w = runtime.upload(&tensor("w", 64, 64)).expect("small");
    let x = activations(64, 1);
    let y = runtime.matmul(&w, &x).expect("small");
    for (name, call) in ["upload", "matmul", "matmul_async", "wait_async"].map(by_name) {
        runtime.queue().on_submitted_work_done(|| resume_unwind(Box::new("the host's")));
        let panic = catch_unwind(AssertUnwindSafe(|| {
            call(&runtime, &w)?;
            // For a call that does not wait.
            runtime.wait()
        }));
        let panic = panic.expect_err("nobody else can handle it");
        assert_eq!(panic.downcast_ref(), Some(&"the host's"), "{name}");
    }
    assert_eq!(runtime.matmul(&w, &x).expect("the device is not to blame"), y);
}

#[test]
fn a_loss_while_many_threads_run() {
    let _stated = pipelines(25);
    for delay in [0, 3, 17, 60] {
        let runtime = runtime();
        let w = runtime.upload(&tensor("w", 512, 1024)).expect("small");
        runtime.warm_up(&w, 1).expect("compiles");
        let gone = OnceLock::new();
        let work = |i: usize| {
            loop {
                let (was_gone, (name, call)) = (gone.get().is_some(), CALLS[i]);
                let result = call(&runtime, &w);
                // Those that were under way, too.
                let late = gone.get().map_or(Duration::ZERO, Instant::elapsed);
                assert!(late < SOON, "{name} returned {late:?} after the loss");
                match result {
                    Ok(()) if was_gone => panic!("{name} on a lost device"),
                    Ok(()) => {}
                    Err(Error::DeviceLost(_)) => return,
                    Err(other) => panic!("{name}: {other}"),
                }
            }
        };
        std::thread::scope(|scope| {
            for i in 0..CALLS.len() {
                scope.spawn(move || work(i));
            }
            std::thread::sleep(Duration::from_millis(delay));
            runtime.device().destroy();
            gone.set(Instant::now()).expect("once");
        });
    }
}

#[test]
fn what_was_lost_can_be_dropped_in_any_order() {
    let _stated = pipelines(10);
    for order in 0..6 {
        let runtime = runtime();
        let w = runtime.upload(&tensor("w", 64, 64)).expect("small");
        runtime.matmul(&w, &activations(64, 1)).expect("small");
        let clone = (runtime.clone(), w.clone());
        if order % 2 == 0 {
            runtime.device().destroy();
        }
        match order / 2 {
            0 => drop((w, runtime, clone)),
            1 => drop((runtime, clone, w)),
            _ => drop((clone, runtime, w)),
        }
    }
}

#[test]
fn a_runtime_is_rebuilt_with_the_same_options_and_gives_the_same_bits() {
    let _stated = pipelines(10);
    for variant in families() {
        let options =
            Options { memory_limit: Some(64 << 20), max_binding: Some(1 << 20), ..variant.options() };
        let old = open(&options);
        let packed = tensor("blk.7.up", 2000, 1024);
        let w = old.upload(&packed).expect("small");
        let x = activations(9 * 1024, 3);
        let y = old.matmul(&w, &x).expect("small");
        old.device().destroy();
        lost(variant.name, || old.matmul(&w, &x));
        let new = old.rebuild().expect("the adapter is still there");
        assert_eq!(format!("{:?}", new.caps()), format!("{:?}", old.caps()), "{}", variant.name);
        assert_eq!((new.memory_limit(), new.memory_used()), (Some(64 << 20), 0));
        match new.matmul(&w, &x) {
            Err(Error::Argument(text)) => assert!(text.contains("`blk.7.up`"), "{text}"),
            other => panic!("weights of the old device: {other:?}"),
        }
        drop(old);
        let again = new.upload(&packed).expect("small");
        drop(w);
        let same =
            new.matmul(&again, &x).expect("small").iter().zip(&y).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "{}: other bits", variant.name);
    }
}

/// What another process measures meanwhile changes which kernel runs, and so the order of its sums.
#[test]
fn a_rebuilt_runtime_prefers_the_same_kernels() {
    let _stated = pipelines(5);
    let folder = tempfile::tempdir().expect("a folder");
    let options = Options { tuning: TuningCache::Folder(folder.path().into()), ..VARIANTS[0].options() };
    let class = |n| Tuned {
        format: "Q4_0".into(),
        activations: "f32".into(),
        experts: false,
        m: 64,
        k: 64,
        n,
        kernel: "gemv:odd".into(),
        micros: 1.0,
    };
    let (old, other) = (open(&options), open(&options));
    old.tuning().set(class(1)).expect("writable");
    other.tuning().set(class(2)).expect("writable");
    assert_eq!(open(&options).tuning().list(), [class(1), class(2)]);
    old.device().destroy();
    assert_eq!(old.rebuild().expect("the adapter is still there").tuning().list(), [class(1)]);
}

/// A shader of ours reads more buffers than the smallest devices allow.
#[test]
fn a_device_with_too_few_bindings_is_refused() {
    let _stated = pipelines(5);
    let limits = wgpu::Limits { max_storage_buffers_per_shader_stage: 4, ..Default::default() };
    match crate::device::on_a_device_of(limits).map(drop) {
        Err(Error::LimitExceeded { wanted: 7, limit: 4, .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn more_columns_than_any_memory_holds_are_refused() {
    let _stated = pipelines(5);
    let runtime = runtime();
    let w = runtime.upload(&tensor("w", 8, 64)).expect("small");
    let options = MatmulOptions::default();
    for n in [1 << 40, usize::MAX] {
        for result in [runtime.kernels(&w, n, &options).map(drop), runtime.warm_up(&w, n)] {
            assert!(
                matches!(&result, Err(Error::LimitExceeded { limit, .. }) if *limit == 1 << 36),
                "{result:?}"
            );
        }
    }
}

#[test]
fn a_device_of_the_host_is_not_rebuilt() {
    let _stated = pipelines(5);
    let runtime = crate::device::on_a_host_device();
    match runtime.rebuild().map(drop) {
        Err(Error::Argument(text)) => assert!(text.contains("with_device"), "{text}"),
        other => panic!("{other:?}"),
    }
}

/// Wanted and left bytes of a refusal by the limit, which must name `tensor`.
fn refused<T>(result: Result<T>, tensor: &str) -> (u64, u64) {
    match result.map(drop) {
        Err(error @ Error::OutOfMemory { bytes, left: Some(left), .. }) => {
            let text = error.to_string();
            assert!(text.contains(&format!("`{tensor}`")), "{text}");
            assert!(text.contains(&bytes.to_string()) && text.contains(&left.to_string()), "{text}");
            assert!(left < bytes, "{text}");
            (bytes, left)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_upload_beyond_the_limit_is_refused_and_leaves_nothing() {
    let _stated = pipelines(5);
    let runtime = limited(4 << 20);
    let large = tensor("large", 4096, 2048); // 4.5 MiB
    assert_eq!(refused(runtime.upload(&large), "large"), (large.data().len() as u64, 4 << 20));
    assert_eq!(runtime.memory_used(), 0);
    let w = runtime.upload(&tensor("small", 64, 64)).expect("it fits");
    let used = runtime.memory_used();
    assert!(used >= w.device_bytes(), "{used}");
    let x = activations(64, 1);
    runtime.matmul(&w, &x).expect("still usable");
    assert_eq!(runtime.memory_used(), used, "what the call needed is given back");
    drop(w);
    assert!(runtime.memory_used() < 1024, "{} bytes are more than a code book", runtime.memory_used());
}

/// Of a tensor in several shards the whole is asked for before the first is uploaded.
#[test]
fn an_upload_that_is_refused_is_not_begun() {
    let _stated = pipelines(5);
    let options =
        Options { memory_limit: Some(4 << 20), max_binding: Some(1 << 20), ..VARIANTS[0].options() };
    let runtime = open(&options);
    let mut most = 0;
    let mut progress = |_, _| most = runtime.memory_used();
    let large = tensor("large", 4096, 2048);
    let result = runtime.upload_with(&large, Upload { progress: Some(&mut progress), ..Upload::default() });
    let (bytes, left) = refused(result, "large");
    assert_eq!((most, left, runtime.memory_used()), (0, 4 << 20, 0));
    assert!(bytes > 4 << 20, "{bytes} are all of it");
    let fits = runtime.upload(&tensor("fits", 3000, 2048)).expect("3.3 MiB");
    assert!(fits.shard_count() > 1);
}

#[test]
fn activations_and_results_count() {
    let _stated = pipelines(5);
    let packed = tensor("w", 256, 256);
    let runtime = limited(packed.data().len() as u64 + (1 << 20));
    let w = runtime.upload(&packed).expect("it fits");
    let used = runtime.memory_used();
    let small = activations(256, 1);
    let y = runtime.matmul(&w, &small).expect("it fits");
    for n in [400, 600, 2000] {
        refused(runtime.matmul(&w, &activations(n * 256, 1)), "w");
        assert_eq!(runtime.memory_used(), used, "n = {n}");
    }
    refused(runtime.get_rows(&w, &[0; 2000]), "w");
    assert_eq!(runtime.matmul(&w, &small).expect("still usable"), y);
    assert_eq!(runtime.memory_used(), used);
}

/// As long as the host's encoder holds buffers of ours, they count.
#[test]
fn recorded_work_counts_until_it_has_run() {
    let _stated = pipelines(5);
    let runtime = runtime();
    let w = runtime.upload(&tensor("w", 64, 64)).expect("small");
    let used = runtime.memory_used();
    let buffer = || {
        let usage = wgpu::BufferUsages::STORAGE;
        let descriptor = wgpu::BufferDescriptor { label: None, size: 4096, usage, mapped_at_creation: false };
        runtime.device().create_buffer(&descriptor)
    };
    let mut encoder = runtime.device().create_command_encoder(&Default::default());
    runtime.record_matmul(&mut encoder, &w, &buffer(), &buffer(), 3).expect("fits");
    assert!(runtime.memory_used() > used);
    runtime.queue().submit([encoder.finish()]);
    runtime.wait().expect("the device works");
    assert_eq!(runtime.memory_used(), used);
    let mut encoder = runtime.device().create_command_encoder(&Default::default());
    runtime.record_matmul(&mut encoder, &w, &buffer(), &buffer(), 3).expect("fits");
    assert!(runtime.memory_used() > used);
    drop(encoder);
    assert_eq!(runtime.memory_used(), used, "dropped without being submitted");
    let mut encoder = runtime.device().create_command_encoder(&Default::default());
    runtime.record_matmul(&mut encoder, &w, &buffer(), &buffer(), 3).expect("fits");
    drop(w);
    assert!(runtime.memory_used() > used, "the encoder needs the weights, too");
    runtime.queue().submit([encoder.finish()]);
    runtime.wait().expect("the device works");
    assert!(runtime.memory_used() < 1024, "{} bytes are more than a code book", runtime.memory_used());
}

/// Nobody waits for the result, but the device goes on and holds the memory.
#[test]
fn a_future_that_is_dropped_gives_its_memory_back_in_the_end() {
    let _stated = pipelines(5);
    let runtime = runtime();
    let w = runtime.upload(&tensor("w", 2048, 2048)).expect("2 MB");
    let x = activations(64 * 2048, 1);
    let y = runtime.matmul(&w, &x).expect("small");
    let used = runtime.memory_used();
    for _ in 0..4 {
        let mut future = Box::pin(runtime.matmul_async(&w, &x));
        let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending(), "some milliseconds of work");
    }
    // Each works on a thread of its own, which goes on to its end.
    let until = |what: &str, is_so: &dyn Fn() -> bool| {
        let start = Instant::now();
        while !is_so() {
            assert!(start.elapsed() < Duration::from_secs(60), "{what}");
            std::thread::yield_now();
        }
    };
    until("they take memory", &|| runtime.memory_used() > used);
    runtime.wait().expect("the device works");
    assert_eq!(runtime.matmul(&w, &x).expect("still usable"), y);
    until("they give it back", &|| runtime.memory_used() == used);
}

/// The driver's own refusal: the test runs itself with so little address space that an allocation
/// fails.
#[test]
#[cfg(target_os = "linux")]
fn the_drivers_refusal_is_out_of_memory_and_leaves_the_runtime_usable() {
    const INSIDE: &str = "QMATMUL_TEST_SMALL_SPACE";
    if std::env::var_os(INSIDE).is_some() {
        return in_a_small_space();
    }
    let test = "faults::the_drivers_refusal_is_out_of_memory_and_leaves_the_runtime_usable";
    let output = std::process::Command::new(std::env::current_exe().expect("a test"))
        .args([test, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("the test starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("the device has no room"), "{text}");
}

#[cfg(target_os = "linux")]
fn in_a_small_space() {
    let _stated = pipelines(10);
    let runtime = runtime();
    let w = runtime.upload(&tensor("w", 64, 1024)).expect("small");
    let x = activations(1024, 1);
    let y = runtime.matmul(&w, &x).expect("small");
    let used = runtime.memory_used();
    let more = crate::common::status("VmSize") + (512 << 20);
    let pid = std::process::id().to_string();
    let limit = std::process::Command::new("prlimit").args(["--pid", &pid, &format!("--as={more}")]).status();
    assert!(limit.expect("util-linux is there").success());
    // Buffers only, a gigabyte for x: nothing of it on the host.
    let error = runtime.time_host(&w, 1 << 18, &MatmulOptions::default()).expect_err("beyond the space");
    assert!(matches!(error, Error::OutOfMemory { left: None, .. }), "{error:?}");
    eprintln!("{error}");
    assert_eq!(runtime.memory_used(), used);
    assert_eq!(runtime.matmul(&w, &x).expect("still usable"), y);
}

#[test]
fn a_device_that_does_not_answer_in_time() {
    let _stated = pipelines(5);
    let options = Options { timeout: Some(Duration::from_millis(1)), ..VARIANTS[0].options() };
    let runtime = open(&options);
    let packed = tensor("w", 4096, 4096);
    // Work for a tenth of a second and more: this thread may be kept from running for as long as a
    // few milliseconds.
    let x = activations(256 * 4096, 1);
    let w = again(|| runtime.upload(&packed));
    again(|| runtime.wait());
    let used = runtime.memory_used();
    let error = runtime.matmul(&w, &x).map(drop).expect_err("more than a millisecond of work");
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    assert!(error.to_string().contains("0.001 s"), "{error}");
    let late = pollster::block_on(runtime.matmul_async(&w, &x)).map(drop);
    let error = late.expect_err("more than a millisecond of work");
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    assert!(runtime.memory_used() > used, "the device holds what it works with");
    // It was late, not lost.
    again(|| runtime.wait());
    assert_eq!(runtime.memory_used(), used);
    let rows = again(|| runtime.dequantize_rows(&w, 0..1));
    assert_eq!(rows, packed.select_rows(&[0]).expect("a row").dequantize());
}

/// wgpu would wait for the work of a queue that is dropped, and for ever if it does not end.
#[test]
fn what_is_late_is_not_waited_for_when_it_is_dropped() {
    let _stated = pipelines(5);
    let runtime = runtime_with(Duration::from_millis(1));
    let w = again(|| runtime.upload(&tensor("w", 4096, 4096)));
    let x = activations(64 * 4096, 1);
    again(|| runtime.wait());
    for _ in 0..8 {
        assert!(matches!(runtime.matmul(&w, &x).map(drop), Err(Error::TimedOut { .. })));
    }
    // A test must not end with work on the way.
    let device = runtime.device().clone();
    let start = Instant::now();
    drop((w, runtime));
    let dropped = start.elapsed();
    device.poll(wgpu::PollType::wait_indefinitely()).expect("it ends");
    let worked = start.elapsed();
    assert!(dropped < worked / 4, "dropped in {dropped:?} of {worked:?}");
}

/// wgpu panics where a driver refuses what it never should, as to begin a list of commands.
#[test]
fn a_call_that_panics_is_an_error() {
    let _stated = pipelines(5);
    let runtime = open_uncounted(&VARIANTS[0].options());
    let packed = tensor("w", 8, 64);
    let w = runtime.upload(&packed).expect("small");
    let armed = std::sync::Arc::new(AtomicBool::new(true));
    let arm = armed.clone();
    runtime.set_hook(Box::new(move |point| {
        if matches!(point, Point::Calling) && armed.swap(false, Ordering::Relaxed) {
            panic!("out of hooks");
        }
    }));
    for (_, call) in ["upload", "matmul", "dequantize"].map(by_name) {
        arm.store(true, Ordering::Relaxed);
        let error = call(&runtime, &w).expect_err("it panics");
        assert!(matches!(&error, Error::Gpu { .. }) && error.to_string().contains("out of hooks"), "{error}");
        call(&runtime, &w).expect("once only");
    }
    assert_eq!(runtime.dequantize(&w).expect("once only"), packed.dequantize());
}

fn runtime_with(timeout: Duration) -> Runtime {
    open(&Options { timeout: Some(timeout), ..VARIANTS[0].options() })
}

/// What a call returns that is not in time at first.
fn again<T>(call: impl Fn() -> Result<T>) -> T {
    let start = Instant::now();
    loop {
        match call() {
            Ok(value) => return value,
            Err(Error::TimedOut { .. }) if start.elapsed() < Duration::from_secs(60) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

/// Time counts from the last submission that ended, not from the first.
#[test]
fn many_submissions_that_end_in_time_may_take_longer_together() {
    let _stated = pipelines(5);
    let (packed, x) = (tensor("w", 4096, 4096), activations(64 * 4096, 1));
    let one = |runtime: &Runtime, w: &Weights| {
        let start = Instant::now();
        (runtime.matmul(w, &x).expect("in time"), start.elapsed())
    };
    let patient = runtime_with(Duration::from_secs(100));
    let w = patient.upload(&packed).expect("9 MB");
    // The first compiles.
    let (y, _) = one(&patient, &w);
    let patience = 4 * one(&patient, &w).1;
    let runtime = runtime_with(patience);
    let w = again(|| runtime.upload(&packed));
    let start = Instant::now();
    // All are submitted before the first is waited for: the last has all others before it.
    let mut futures: Vec<_> = (0..12).map(|_| Box::pin(runtime.matmul_async(&w, &x))).collect();
    let mut context = Context::from_waker(Waker::noop());
    futures.iter_mut().for_each(|future| assert!(future.as_mut().poll(&mut context).is_pending()));
    for future in futures {
        assert!(pollster::block_on(future).expect("in time") == y);
    }
    let took = start.elapsed();
    assert!(took > patience, "{took:?} is no test of {patience:?}");
}

#[test]
fn a_result_that_cannot_be_mapped() {
    let _stated = pipelines(5);
    let runtime = open_uncounted(&VARIANTS[0].options());
    let w = runtime.upload(&tensor("w", 64, 64)).expect("small");
    let x = activations(64, 1);
    let y = runtime.matmul(&w, &x).expect("small");
    let used = runtime.memory_used();
    let times = AtomicUsize::new(0);
    runtime.set_hook(Box::new(move |point| {
        if let Point::Mapping(buffer) = point {
            match times.fetch_add(1, Ordering::Relaxed) {
                0 => buffer.destroy(),
                1 => buffer.map_async(wgpu::MapMode::Read, .., |_| {}),
                _ => {}
            }
        }
    }));
    for why in ["destroyed", "mapped already"] {
        let error = soon(why, || runtime.matmul(&w, &x)).expect_err(why);
        assert!(matches!(&error, Error::Gpu { doing, .. } if doing.contains("reading")), "{why}: {error:?}");
    }
    assert_eq!(runtime.matmul(&w, &x).expect("still usable"), y);
    assert_eq!(runtime.memory_used(), used);
}

#[test]
fn a_shader_that_does_not_compile_is_named_with_its_file_and_line() {
    let _stated = pipelines(5);
    let runtime = open_uncounted(&VARIANTS[0].options());
    let w = runtime.upload(&tensor("w", 64, 64)).expect("small");
    let broken = std::sync::Arc::new(AtomicBool::new(true));
    let breaks = broken.clone();
    runtime.set_hook(Box::new(move |point| {
        if let Point::Compiling(text) = point
            && breaks.load(Ordering::Relaxed)
        {
            *text = text.replacen("fn main(", "fn broken( -> }", 1);
        }
    }));
    let x = activations(64, 1);
    for _ in 0..2 {
        let error = runtime.matmul(&w, &x).expect_err("the shader is broken");
        let text = error.to_string();
        assert!(matches!(error, Error::Gpu { .. }), "{text}");
        let kernel = runtime.kernels(&w, 1, &MatmulOptions::default()).expect("small");
        let kernel = kernel.split([':', '+']).next().expect("a name");
        let line = line_of(&format!("shaders/op/{kernel}.wgsl"), "fn main(");
        let want = format!("shaders/op/{kernel}.wgsl:{line}: ");
        assert!(text.contains(&want) && text.contains("Q4_0"), "wanted {want}, got {text}");
    }
    broken.store(false, Ordering::Relaxed);
    let y = runtime.matmul(&w, &x).expect("usable again");
    assert_eq!(
        y,
        VARIANTS[0]
            .runtime()
            .matmul(&VARIANTS[0].runtime().upload(&tensor("w", 64, 64)).expect("small"), &x)
            .expect("small")
    );
}

/// Line (from 1) of a file of the repository that holds `text`.
fn line_of(file: &str, text: &str) -> usize {
    let file =
        std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("a file");
    file.lines().position(|line| line.contains(text)).expect("the text is there") + 1
}

/// An entry point that is missing is found when the pipeline is made, which names no line.
#[test]
fn a_pipeline_that_cannot_be_made_names_its_kernel() {
    let _stated = pipelines(5);
    let runtime = open_uncounted(&VARIANTS[0].options());
    let w = runtime.upload(&tensor("w", 64, 64)).expect("small");
    let times = AtomicUsize::new(0);
    runtime.set_hook(Box::new(move |point| {
        if let Point::Compiling(text) = point
            && times.fetch_add(1, Ordering::Relaxed) == 0
        {
            *text = text.replacen("fn main(", "fn other(", 1);
        }
    }));
    let error = runtime.matmul(&w, &activations(64, 1)).expect_err("no entry point");
    let text = error.to_string();
    assert!(matches!(error, Error::Gpu { .. }) && text.contains("matmul_software for Q4_0"), "{text}");
    runtime.matmul(&w, &activations(64, 1)).expect("usable again");
}

#[test]
fn errors_of_other_threads_reach_the_next_call() {
    let _stated = pipelines(5);
    let runtime = runtime();
    let w = runtime.upload(&tensor("w", 64, 64)).expect("small");
    let x = activations(64, 1);
    let y = runtime.matmul(&w, &x).expect("small");
    // On another thread, in nobody's scope.
    let misuse = || {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::MAP_WRITE;
        let label = Some("impossible");
        runtime.device().create_buffer(&wgpu::BufferDescriptor {
            label,
            size: 16,
            usage,
            mapped_at_creation: false,
        })
    };
    std::thread::scope(|scope| scope.spawn(misuse).join().map(drop)).expect("no panic");
    let error = runtime.matmul(&w, &x).expect_err("the other thread's error");
    assert!(matches!(error, Error::Gpu { .. }) && error.to_string().contains("impossible"), "{error}");
    assert_eq!(runtime.matmul(&w, &x).expect("it was reported once"), y);
}

/// Scopes of errors are a thread's own: of eight that compile at the same time, the one that fails
/// hears of it.
#[test]
fn an_error_of_one_thread_is_no_other_threads() {
    let _stated = pipelines(5);
    let runtime = open_uncounted(&VARIANTS[0].options());
    runtime.set_hook(Box::new(|point| {
        if let Point::Compiling(text) = point
            && std::thread::current().name() == Some("unlucky")
        {
            *text = text.replacen("fn main(", "fn broken( -> }", 1);
        }
    }));
    let multiply = |name: &str| {
        let format = format::by_name(name).expect("a format");
        let packed = random_tensor(name, format, 64, 256, 1).expect("whole blocks");
        runtime.matmul(&runtime.upload(&packed)?, &activations(256, 1)).map(drop)
    };
    let formats = ["Q4_0", "Q5_0", "Q6_K", "Q8_0", "NF4", "IQ4_NL", "MXFP4", "F16"];
    std::thread::scope(|scope| {
        let threads = formats.map(|name| {
            let of = if name == "Q6_K" { "unlucky" } else { name };
            std::thread::Builder::new()
                .name(of.into())
                .spawn_scoped(scope, || multiply(name))
                .expect("a thread")
        });
        for (name, thread) in formats.into_iter().zip(threads) {
            match thread.join().expect("no panic") {
                Err(Error::Gpu { doing, .. }) if name == "Q6_K" => assert!(doing.contains("Q6_K"), "{doing}"),
                Ok(()) if name != "Q6_K" => {}
                other => panic!("{name}: {other:?}"),
            }
        }
    });
}
