//! What is compiled ahead, what is measured and kept, and weights that share their activations.

use crate::device::{VARIANTS, open, pipelines, read};
use qmatmul::check::{activations, random_tensor};
use qmatmul::gpu::{Tuned, TuningCache, Upload};
use qmatmul::kernel::{Activations, Problem};
use qmatmul::tune::{Effort, Stop, Subject, tune};
use qmatmul::{Error, MatmulOptions, Options, PackedTensor, Runtime, format, wgpu};
use std::path::Path;

fn packed(format: &str, m: usize, k: usize, seed: u64) -> PackedTensor {
    random_tensor("w", format::by_name(format).expect("a format"), m, k, seed).expect("the shape fits")
}

fn kept_in(folder: &Path) -> Runtime {
    open(&Options { tuning: TuningCache::Folder(folder.into()), ..VARIANTS[0].options() })
}

const REQUEST: Problem = Problem {
    rows: 64,
    cols: 64,
    batch: 2,
    activations: Activations::F32,
    experts: false,
    codes: qmatmul::format::Codes::Integers,
    looked_up: false,
    raw_values: false,
    gathered: false,
    half: false,
    unaligned: false,
    silu: false,
};

#[test]
fn warm_up_compiles_each_pipeline_once() {
    let _stated = pipelines(10);
    let runtime = open(&VARIANTS[0].options());
    let w = runtime.upload(&packed("Q8_0", 40, 64, 1)).expect("small");
    let requests = [(&w, 1), (&w, 1), (&w, 2)];
    let warm = || runtime.warm_up_all(&requests, &MatmulOptions::default()).expect("compiles");
    std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(warm))));
    let count = runtime.compiled_pipelines();
    assert!((1..=2).contains(&count), "{count}");
    for n in [1, 2] {
        let x = activations(n * 64, 3);
        let other = VARIANTS[0].runtime();
        let there = other.upload(&packed("Q8_0", 40, 64, 1)).expect("small");
        assert_eq!(runtime.matmul(&w, &x).expect("small"), other.matmul(&there, &x).expect("small"));
    }
    assert_eq!(runtime.compiled_pipelines(), count);
}

/// Chunks that end within a block of rows, shards of odd counts.
#[test]
fn uploads_of_many_chunks_keep_every_weight() {
    let _stated = pipelines(5);
    let runtime = open(&Options { max_binding: Some(20_000_003), ..VARIANTS[0].options() });
    for (format, m, k) in [("Q4_0", 100_003, 1024), ("Q6_K", 9_973, 4096), ("Q4_K", 77_777, 256)] {
        let packed = packed(format, m, k, 2);
        let w = runtime.upload(&packed).expect("some MB");
        let rows: Vec<u32> = (0..m as u32).step_by(97).chain(m as u32 - 300..m as u32).collect();
        let wanted: Vec<usize> = rows.iter().map(|row| *row as usize).collect();
        let want = packed.select_rows(&wanted).expect("rows exist").dequantize();
        assert!(runtime.get_rows(&w, &rows).expect("rows exist") == want, "{format}");
    }
}

#[test]
fn stacked_weights_give_what_each_gives() {
    let _stated = pipelines(5);
    let runtime = VARIANTS[0].runtime();
    let (a, b, n) = (packed("Q4_0", 40, 64, 1), packed("Q4_0", 24, 64, 2), 2);
    let x = activations(n * 64, 3);
    let matmul = |t| runtime.matmul(&runtime.upload(t).expect("small"), &x).expect("small");
    let (ya, yb) = (matmul(&a), matmul(&b));
    let stack = PackedTensor::stack("ab", &[&a, &b]).expect("the same format");
    let want: Vec<f32> = ya.chunks(40).zip(yb.chunks(24)).flat_map(|(a, b)| [a, b].concat()).collect();
    assert_eq!(matmul(&stack), want);
    let refused = |tensors: &[&PackedTensor]| PackedTensor::stack("no", tensors).expect_err("do not stack");
    assert!(matches!(refused(&[]), Error::Argument(_)));
    assert!(matches!(refused(&[&a, &packed("Q8_0", 8, 64, 1)]), Error::Argument(_)));
    assert!(matches!(refused(&[&a, &packed("Q4_0", 8, 96, 1)]), Error::Shape { .. }));
}

/// Several weights in one pass, of which two have nothing in common but their activations.
#[test]
fn weights_that_share_activations_share_a_pass() {
    let _stated = pipelines(5);
    use wgpu::util::DeviceExt;
    let runtime = VARIANTS[0].runtime();
    let weights =
        [packed("Q4_0", 40, 64, 1), packed("Q8_0", 24, 64, 2)].map(|t| runtime.upload(&t).expect("small"));
    let x = activations(2 * 64, 3);
    let usage = wgpu::BufferUsages::STORAGE;
    let contents = bytemuck::cast_slice(&x);
    let input = runtime.device().create_buffer_init(&wgpu::util::BufferInitDescriptor {
        label: None,
        contents,
        usage,
    });
    let outputs = weights.each_ref().map(|w| {
        let (size, usage) = (w.rows() as u64 * 8, usage | wgpu::BufferUsages::COPY_SRC);
        let d = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        runtime.device().create_buffer(&d)
    });
    let mut encoder = runtime.device().create_command_encoder(&Default::default());
    let pairs: Vec<_> = weights.iter().zip(&outputs).collect();
    runtime.record_matmuls(&mut encoder, &pairs, &input, 2, &MatmulOptions::default()).expect("recorded");
    runtime.queue().submit([encoder.finish()]);
    for (w, y) in pairs {
        assert_eq!(read(runtime, y), runtime.matmul(w, &x).expect("small"), "{}", w.format().name);
    }
}

/// The f32 values of a buffer.
#[test]
fn choices_are_kept_for_their_driver_only() {
    let _stated = pipelines(5);
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = kept_in(folder.path());
    let q4_0 = format::Q4_0;
    let tuned = Tuned { kernel: "gemv:odd".into(), micros: 1.0, ..Tuned::class(q4_0, &REQUEST) };
    runtime.tuning().set(tuned.clone()).expect("writable");
    let path = runtime.tuning().path().expect("a file").to_owned();
    let again = kept_in(folder.path());
    assert_eq!(again.tuning().list(), [tuned]);
    assert_eq!(again.tuning().get(q4_0, &REQUEST).as_deref(), Some("gemv:odd"));
    let text = std::fs::read_to_string(&path).expect("written");
    let driver = again.adapter().driver.clone();
    for bad in [text.replace(&driver, "another"), text[..text.len() / 2].into(), String::new()] {
        std::fs::write(&path, bad).expect("writable");
        assert!(kept_in(folder.path()).tuning().list().is_empty());
    }
    again.tuning().clear().expect("removable");
    assert!(!path.exists() && again.tuning().list().is_empty());
    again.tuning().clear().expect("nothing to remove");
    assert_eq!(VARIANTS[0].runtime().tuning().path(), None);
}

/// Of two processes that measured the same, the later is believed, and what only one measured
/// stays.
#[test]
fn choices_of_several_processes_are_kept_together() {
    let _stated = pipelines(5);
    let folder = tempfile::tempdir().expect("a folder");
    let q4_0 = format::Q4_0;
    let choice = |batch, kernel: &str| Tuned {
        kernel: kernel.into(),
        ..Tuned::class(q4_0, &Problem { batch, ..REQUEST })
    };
    let (a, b) = (kept_in(folder.path()), kept_in(folder.path()));
    a.tuning().set(choice(1, "first")).expect("writable");
    b.tuning().set(choice(1, "second")).expect("writable");
    a.tuning().set(choice(2, "third")).expect("writable");
    let kept = kept_in(folder.path()).tuning().list();
    assert_eq!(kept, [choice(1, "second"), choice(2, "third")]);
    assert_eq!(a.tuning().list(), kept, "what it read while it wrote");
    std::thread::scope(|scope| {
        for (runtime, first) in [(&a, 3), (&b, 4)] {
            scope.spawn(move || {
                for n in (first..40).step_by(2) {
                    let class = Tuned { n, ..choice(1, "many") };
                    runtime.tuning().set(class).expect("writable");
                }
            });
        }
    });
    assert_eq!(kept_in(folder.path()).tuning().list().len(), 39, "none was lost");
    // Whoever keeps the lock keeps nobody waiting for long.
    let lock = std::fs::File::open(folder.path().join("tuning.lock")).expect("it is there");
    lock.lock().expect("nobody has it");
    a.tuning().set(choice(64, "unlocked")).expect("writable");
    assert_eq!(kept_in(folder.path()).tuning().list().len(), 40);
}

#[test]
fn the_fastest_that_is_right_is_used() {
    let _stated = pipelines(20);
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = kept_in(folder.path());
    let q4_0 = format::Q4_0;
    let effort = Effort { seconds: 0.001, footprint: 1, ..Effort::default() };
    let search = tune(&runtime, q4_0, &REQUEST, &effort).expect("kernels apply");
    let (trials, left_out) = (search.trials, search.left_out);
    assert_eq!((left_out, search.stop), (0, None), "nothing ends the search");
    let chosen: Vec<_> = trials.iter().filter(|t| t.chosen).collect();
    assert!(chosen.len() == 1 && chosen[0].failure.is_none(), "{trials:?}");
    let w = runtime.upload(&packed("Q4_0", 64, 64, 1)).expect("small");
    let kernels = runtime.kernels(&w, 2, &MatmulOptions::default()).expect("kernels apply");
    assert!(kernels.contains(&chosen[0].kernel), "{kernels}: {trials:?}");
}

/// A candidate that reaches what memory allows ends the search, as does the end of the time.
#[test]
fn searches_end_early() {
    let _stated = pipelines(20);
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = kept_in(folder.path());
    let packed = packed("Q4_0", 64, 64, 1);
    let effort = Effort { seconds: 0.001, footprint: 1, ..Effort::default() };
    let subject = Subject::new(&runtime, &packed, &effort).expect("small");
    let search = |effort| subject.tune(&REQUEST, &effort).expect("kernels apply");
    let all = search(effort).trials.len();
    assert!(all > 2, "{all}");
    // Memory so slow that everything reaches it, and so fast that nothing does.
    let slow = search(Effort { memory_gb_per_s: Some(1e-9), ..effort });
    assert_eq!((slow.trials.len(), slow.left_out, slow.stop), (1, all - 1, Some(Stop::Memory)));
    assert!(slow.chosen().is_some_and(|trial| runtime.tuning().list()[0].kernel == trial.kernel));
    let fast = search(Effort { memory_gb_per_s: Some(1e12), ..effort });
    assert_eq!((fast.trials.len(), fast.left_out, fast.stop), (all, 0, None));
    let fastest = fast.chosen().expect("kernels are right").kernel.clone();
    let hurried = search(Effort { budget: Some(0.0), ..effort });
    assert_eq!((hurried.trials.len(), hurried.left_out, hurried.stop), (1, all - 1, Some(Stop::Budget)));
    assert_eq!(hurried.trials[0].kernel, fastest, "what was found before is tried first");
}

#[test]
fn experts_at_the_edges() {
    let _stated = pipelines(5);
    let runtime = open(&Options { max_groups: Some(6), ..VARIANTS[0].options() });
    let stack = packed("Q4_0", 4 * 8, 64, 1);
    let w = runtime.upload_with(&stack, Upload { experts: 4, ..Upload::default() }).expect("small");
    let options = MatmulOptions::default();
    assert!(runtime.matmul_experts(&w, &[], &[], &options).expect("nothing to do").is_empty());
    // More tiles than one grid holds.
    let (x, ids): (_, Vec<u32>) = (activations(100 * 64, 1), (0..200).map(|i| i * 3 % 4).collect());
    let c = qmatmul::check::matmul_experts(&runtime, &stack, &w, &x, &ids, &options).expect("split");
    assert!(c.passed, "{c}");
    let usage = wgpu::BufferUsages::STORAGE;
    let buffer = || {
        let size = 4096;
        let d = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        runtime.device().create_buffer(&d)
    };
    let (x, ids, y) = (buffer(), buffer(), buffer());
    let mut encoder = runtime.device().create_command_encoder(&Default::default());
    let mut record = |ids, n| runtime.record_matmul_experts(&mut encoder, &w, &x, ids, &y, (n, 2), &options);
    assert!(matches!(record(&y, 1), Err(Error::Argument(_))));
    assert!(matches!(record(&ids, usize::MAX), Err(Error::Shape { .. })));
}
