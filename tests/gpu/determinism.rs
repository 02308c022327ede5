//! The same bits: run after run, thread beside thread, and wherever in a batch a column stands.

use crate::common::report;
use crate::device::{VARIANTS, Variant, first, open, pipelines, side_by_side};
use qmatmul::check::{activations, random_tensor};
use qmatmul::gpu::Upload;
use qmatmul::kernel::{self, Activations, Candidate, Problem};
use qmatmul::{MatmulOptions, Options, PackedTensor, Runtime, Weights, format};

/// Blocks, a codebook, rounded activations; in the full lane super-blocks, a table and plain
/// floats, too.
const CASES: &[(&str, Activations)] = &[
    ("Q4_0", Activations::F32),
    ("NF4", Activations::F32),
    ("Q4_0", Activations::Q8),
    ("Q4_0", Activations::F16),
    ("Q6_K", Activations::F32),
    ("IQ2_XS", Activations::F32),
    ("F16", Activations::F32),
];

fn cases() -> &'static [(&'static str, Activations)] {
    first(CASES, 3)
}

/// Every kernel is a candidate of both, with subgroups and without.
fn runtimes() -> [&'static Variant; 2] {
    [&VARIANTS[0], &VARIANTS[3]]
}

fn tensor(format: &str, m: usize, k: usize, seed: u64) -> PackedTensor {
    let format = format::by_name(format).expect("a format");
    random_tensor(format.name, format, m, k, seed).expect("whole blocks")
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// All that a device has for these weights, whatever it would choose.
fn candidates(
    runtime: &Runtime,
    w: &Weights,
    packed: &PackedTensor,
    n: usize,
    activations: Activations,
) -> Vec<Candidate> {
    let layout = packed.layout();
    let request = Problem {
        rows: w.rows(),
        cols: w.cols(),
        batch: n,
        activations,
        codes: layout.codes,
        looked_up: layout.is_looked_up(),
        ..Problem::default()
    };
    kernel::candidates(runtime.caps(), &request)
}

fn with(candidate: &Candidate, activations: Activations) -> MatmulOptions {
    MatmulOptions {
        kernel: Some(candidate.kernel),
        variant: Some(candidate.config.variant.clone()),
        ..MatmulOptions::with(activations)
    }
}

/// One of each kernel: its first configuration.
fn kernels(candidates: Vec<Candidate>) -> Vec<Candidate> {
    let mut seen = std::collections::HashSet::new();
    candidates.into_iter().filter(|c| seen.insert(c.kernel.name)).collect()
}

#[test]
fn fifty_runs_of_every_kernel_give_the_same_bits() {
    let _stated = pipelines(65);
    let (failures, done) = side_by_side(runtimes(), |variant| {
        let (mut failures, mut done) = (vec![], 0);
        let runtime = variant.runtime();
        for &(format, taken) in cases() {
            let packed = tensor(format, 100, 768, 1);
            let w = runtime.upload(&packed).expect("small");
            for n in [1, 33] {
                let x = activations(n * 768, 4);
                for candidate in kernels(candidates(runtime, &w, &packed, n, taken)) {
                    let options = with(&candidate, taken);
                    let run = || runtime.matmul_with(&w, &x, &options).expect("small");
                    let first = run();
                    let same = (1..50).filter(|_| same_bits(&run(), &first)).count();
                    done += 1;
                    if same != 49 {
                        let (name, taken) = (candidate.name(), taken.name());
                        failures
                            .push(format!("{}: {format} {name} {taken} n = {n}: {same} of 49", variant.name));
                    }
                }
            }
        }
        (failures, done)
    });
    eprintln!("{done} cells, 50 runs each");
    report(&failures, done);
}

/// The same column at every position of a batch of random others, by every kernel.
#[test]
fn a_column_does_not_depend_on_its_position() {
    let _stated = pipelines(45);
    let (m, k, n) = (70, 512, 33);
    let (failures, done) = side_by_side(runtimes(), |variant| {
        let (mut failures, mut done) = (vec![], 0);
        let runtime = variant.runtime();
        for &(format, taken) in cases() {
            let packed = tensor(format, m, k, 1);
            let w = runtime.upload(&packed).expect("small");
            for candidate in kernels(candidates(runtime, &w, &packed, n, taken)) {
                let options = with(&candidate, taken);
                let at = |position: usize| {
                    let mut x = activations(n * k, 100 + position as u64);
                    x[position * k..(position + 1) * k].copy_from_slice(&activations(k, 9));
                    let y = runtime.matmul_with(&w, &x, &options).expect("small");
                    y[position * m..(position + 1) * m].to_vec()
                };
                // The last columns of a batch are another kernel's where it is no multiple of the
                // tile.
                let whole = n / candidate.config.columns as usize * candidate.config.columns as usize;
                let last = if whole == 0 { n } else { whole };
                let first = at(0);
                let wrong: Vec<_> = (1..last).filter(|p| !same_bits(&at(*p), &first)).collect();
                done += 1;
                if !wrong.is_empty() {
                    let (name, taken) = (candidate.name(), taken.name());
                    failures.push(format!("{}: {format} {name} {taken}: at {wrong:?}", variant.name));
                }
            }
        }
        (failures, done)
    });
    eprintln!("{done} cells");
    report(&failures, done);
}

/// Weights of one thread, and what a runtime makes of them.
struct Job {
    packed: PackedTensor,
    x: Vec<f32>,
    n: usize,
}

#[derive(PartialEq)]
struct Results {
    y: Vec<u32>,
    experts: Vec<u32>,
    weights: Vec<u32>,
    rows: Vec<u32>,
}

impl Job {
    fn new(i: usize) -> Self {
        const NAMES: [&str; 8] = ["Q4_0", "Q6_K", "NF4", "IQ2_XS", "F16", "Q8_0", "INT4", "Q4_K"];
        let (m, k, n) = (64 + 6 * i, 256 * (1 + i % 3), [1, 3, 8, 33][i % 4]);
        Self { packed: tensor(NAMES[i], m, k, i as u64), x: activations(n * k, i as u64), n }
    }

    /// Upload, multiply, dequantize, look up, drop.
    fn run(&self, runtime: &Runtime) -> Results {
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
        let w = runtime.upload(&self.packed).expect("small");
        let stack =
            runtime.upload_with(&self.packed, Upload { experts: 2, ..Upload::default() }).expect("small");
        let chosen: Vec<u32> = (0..self.n as u32).map(|i| i % 2).collect();
        let options = MatmulOptions::default();
        Results {
            y: bits(runtime.matmul(&w, &self.x).expect("small")),
            experts: bits(runtime.matmul_experts(&stack, &self.x, &chosen, &options).expect("small")),
            weights: bits(runtime.dequantize(&w).expect("small")),
            rows: bits(runtime.get_rows(&w, &[5, 0, 5]).expect("small")),
        }
    }
}

#[test]
fn eight_threads_on_one_runtime_give_the_bits_of_one() {
    let _stated = pipelines(75);
    for variant in first(&runtimes(), 1) {
        let jobs: Vec<_> = first(&[0, 1, 2, 3, 4, 5, 6, 7], 4).iter().map(|i| Job::new(*i)).collect();
        let alone: Vec<_> = jobs.iter().map(|job| job.run(variant.runtime())).collect();
        // A new one, so that threads compile at once what they share.
        let runtime = open(&Options { disk_cache: false, ..variant.options() });
        std::thread::scope(|scope| {
            for first in 0..8 {
                let (jobs, alone, runtime) = (&jobs, &alone, &runtime);
                scope.spawn(move || {
                    for i in (first..first + jobs.len()).map(|i| i % jobs.len()) {
                        let same = jobs[i].run(runtime) == alone[i];
                        assert!(same, "{}: {} differs", variant.name, jobs[i].packed.name());
                    }
                });
            }
        });
    }
}
