//! What a bound program promises beside its numbers: slices of any buffer, misuse as values,
//! threads that do not wait for each other, and losses that are reported soon.

use crate::common::report;
use crate::device::{VARIANTS, attach, families, host_adapter, on_a_host_device, open, pipelines, read};
use crate::programs::{CANARY, buffer, floats, numbers, run, tensor};
use half::f16;
use qmatmul::check;
use qmatmul::gpu::{BoundProgram, Element, Program, Slice, Tokens, Upload, View};
use qmatmul::kernel::reference;
use qmatmul::{Activations, Error, MatmulOptions, PackedTensor, Runtime, Weights, wgpu};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// In which a loss must be reported.
const SOON: Duration = Duration::from_secs(2);

/// Slots in one buffer: where each starts, and canaries everywhere else.
struct Arena {
    bytes: Vec<u8>,
    alignment: usize,
}

impl Arena {
    fn new(runtime: &Runtime) -> Self {
        let alignment = runtime.device().limits().min_storage_buffer_offset_alignment as usize;
        Self { bytes: vec![], alignment }
    }

    /// Adds a slot, between canaries.
    fn add(&mut self, bytes: &[u8]) -> std::ops::Range<u64> {
        let canaries = |bytes: &mut Vec<u8>, end: usize| {
            while bytes.len() < end {
                bytes.extend(CANARY.to_le_bytes());
            }
        };
        let start = self.bytes.len().next_multiple_of(self.alignment) + self.alignment;
        canaries(&mut self.bytes, start);
        self.bytes.extend(bytes);
        let end = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(end, 0);
        canaries(&mut self.bytes, end + 16);
        start as u64..end as u64
    }

    fn add_floats(&mut self, values: &[f32]) -> std::ops::Range<u64> {
        self.add(&values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
    }
}

fn f32_at(words: &[f32], bytes: &std::ops::Range<u64>) -> Vec<f32> {
    words[bytes.start as usize / 4..bytes.end as usize / 4].to_vec()
}

/// All slots of a program in one buffer, of which nothing else changes.
#[test]
fn slots_of_one_buffer() {
    let _stated = pipelines(90);
    let (m, k, most, per) = (35, 64, 20, 2);
    let packed = tensor("w", "Q4_0", m, k);
    let stack = tensor("stack", "Q8_0", 3 * m, k);
    let (mut failures, mut done) = (vec![], 0);
    for variant in families() {
        let runtime = variant.runtime();
        let w = runtime.upload(&packed).expect("small");
        let upload = Upload { experts: 3, ..Upload::default() };
        let ws = runtime.upload_with(&stack, upload).expect("small");
        for activations in [Activations::F32, Activations::Q8] {
            let options = MatmulOptions::with(activations);
            let mut program = runtime.program(Tokens::UpTo(most));
            let (x, gate, y) = (program.slot("x", k), program.slot("gate", m), program.slot("y", m));
            let half = program.slot_of("half", m, Element::F16).with_stride(m + 1);
            let (experts, columns) = (program.slot_of("experts", per, Element::U32), program.slot("e", m));
            let (rows, looked_up) = (program.slot_of("rows", 1, Element::U32), program.slot("rows", k));
            program.matmul_gated(&w, x, gate, y, &options).expect("fits");
            program.matmul_add(&w, x, half, &options).expect("fits");
            program.matmul_experts(&ws, x, experts, columns, &options).expect("fits");
            program.get_rows(&w, rows, looked_up).expect("fits");
            let (values, gates) = (check::activations(most * k, 3), check::activations(most * m, 4));
            let halves: Vec<u8> =
                (0..most * (m + 1)).flat_map(|i| f16::from_f32(i as f32 / 64.0).to_le_bytes()).collect();
            let ids: Vec<u32> = (0..(most * per) as u32).map(|i| i * 7 % 3).collect();
            let mut arena = Arena::new(runtime);
            let in_y = arena.add_floats(&vec![CANARY; most * m]);
            let in_x = arena.add_floats(&values);
            let in_half = arena.add(&halves);
            let in_experts = arena.add(le_bytes(&ids).as_slice());
            let in_columns = arena.add_floats(&vec![CANARY; most * per * m]);
            let in_gate = arena.add_floats(&gates);
            let in_rows = arena.add(le_bytes(&vec![m as u32 - 1; most]).as_slice());
            let in_looked_up = arena.add_floats(&vec![CANARY; most * k]);
            let of_all = buffer(runtime, &arena.bytes);
            let slots = [
                (x, &in_x),
                (gate, &in_gate),
                (y, &in_y),
                (half, &in_half),
                (experts, &in_experts),
                (columns, &in_columns),
                (rows, &in_rows),
                (looked_up, &in_looked_up),
            ];
            let slots = slots.map(|(view, bytes)| (view, Slice::of(&of_all, bytes.clone())));
            let bound = runtime.bind(&program, &slots).expect("aligned");
            for n in [19, 2] {
                runtime.queue().write_buffer(&of_all, 0, &arena.bytes);
                run(runtime, &bound, n);
                let got = read(runtime, &of_all);
                let x = &values[..n * k];
                let product = reference::matmul_with(&packed, x, activations).expect("shapes fit");
                let silu = |g: f32| f64::from(g) / (1.0 + (-f64::from(g)).exp());
                let gated: Vec<f64> = product.iter().zip(&gates).map(|(y, g)| y * silu(*g)).collect();
                let halves_at = in_half.start as usize / 4;
                let half = |i: usize| {
                    let word = got[halves_at + i / 2].to_bits();
                    f16::from_bits((word >> (16 * (i % 2))) as u16).to_f32()
                };
                let in_token = |i: usize| i / m * (m + 1) + i % m;
                let sums: Vec<f32> = (0..n * m).map(|i| half(in_token(i))).collect();
                let old = |i: usize| f16::from_f32(in_token(i) as f32 / 64.0).to_f64();
                let added: Vec<f64> = product.iter().enumerate().map(|(i, y)| y + old(i)).collect();
                let of_experts = reference::matmul_experts(&stack, 3, x, &ids[..n * per], activations)
                    .expect("they exist");
                let last = packed.dequantize()[(m - 1) * k..].to_vec();
                let last: Vec<f64> = (0..n).flat_map(|_| last.iter().map(|v| f64::from(*v))).collect();
                for (what, got, want, bound) in [
                    ("y", f32_at(&got, &in_y), &gated, check::NMSE_F32),
                    ("half", sums, &added, check::NMSE_F16),
                    ("columns", f32_at(&got, &in_columns), &of_experts, check::NMSE_F32),
                    ("rows", f32_at(&got, &in_looked_up), &last, 0.0),
                ] {
                    let compared = check::compare(&got[..want.len()], want, bound);
                    if !compared.passed {
                        failures
                            .push(format!("{what}, {}, {activations:?}, n = {n}: {compared}", variant.name));
                    }
                    done += 1;
                }
                // Words that nobody writes for so many tokens.
                let words = |bytes: &std::ops::Range<u64>, count: usize| {
                    bytes.start as usize / 4..bytes.start as usize / 4 + count
                };
                let written = [
                    words(&in_y, n * m),
                    words(&in_half, n * (m + 1) / 2),
                    words(&in_columns, n * per * m),
                    words(&in_looked_up, n * k),
                ];
                let before: Vec<u32> =
                    arena.bytes.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
                let changed = (0..before.len())
                    .filter(|i| !written.iter().any(|words| words.contains(i)))
                    .filter(|i| got[*i].to_bits() != before[*i]);
                let changed: Vec<_> = changed.collect();
                if !changed.is_empty() {
                    failures.push(format!("{}, {activations:?}, n = {n}: words {changed:?}", variant.name));
                }
                // The half behind an odd token keeps its value.
                let kept = (0..n).all(|token| {
                    let i = token * (m + 1) + m;
                    half(i) == f16::from_f32(i as f32 / 64.0).to_f32()
                });
                if !kept {
                    failures
                        .push(format!("{}, {activations:?}, n = {n}: halves between tokens", variant.name));
                }
            }
        }
    }
    report(&failures, done);
}

fn le_bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

/// One product, and the views of its slots.
fn product(runtime: &Runtime, w: &Weights, tokens: Tokens) -> (Program, View, View) {
    let mut program = runtime.program(tokens);
    let (x, y) = (program.slot("inputs", w.cols()), program.slot("outputs", w.rows()));
    program.matmul(w, x, y, &MatmulOptions::default()).expect("fits");
    (program, x, y)
}

/// The text of an error, which must come without a panic.
fn refused<T>(result: Result<T, Error>, words: &[&str]) {
    let text = match result.map(drop) {
        Err(error @ (Error::Argument(_) | Error::Shape { .. } | Error::LimitExceeded { .. })) => {
            error.to_string()
        }
        other => panic!("{words:?}: {other:?}"),
    };
    assert!(words.iter().all(|word| text.contains(word)), "{words:?}: {text}");
}

#[test]
fn slices_that_do_not_fit_are_refused_with_both_numbers() {
    let _stated = pipelines(10);
    let runtime = VARIANTS[0].runtime();
    let w = runtime.upload(&tensor("w", "Q4_0", 8, 64)).expect("small");
    let (program, x, y) = product(runtime, &w, Tokens::UpTo(4));
    let (bx, by) = (floats(runtime, &[0.0; 4 * 64]), floats(runtime, &[0.0; 4 * 8]));
    let good = [(x, Slice::from(&bx)), (y, Slice::from(&by))];
    let bind = |slots: &[(View, Slice)]| runtime.bind(&program, slots);
    bind(&good).expect("fits");
    refused(bind(&[]), &["`inputs`", "no buffer"]);
    refused(bind(&good[..1]), &["`outputs`", "no buffer"]);
    let short = floats(runtime, &[0.0; 4 * 64 - 1]);
    refused(bind(&[(x, (&short).into()), good[1].clone()]), &["`inputs`", "1024", "1020"]);
    for (bytes, there) in [
        (0..1020, "1020"),
        (256..1280, "768"),
        (2048..4096, " 0 "),
        (std::ops::Range { start: 8, end: 4 }, " 0 "),
    ] {
        refused(bind(&[(x, Slice::of(&bx, bytes)), good[1].clone()]), &["`inputs`", "1024 ", there]);
    }
    let (from, to) = (u64::MAX - 4, u64::MAX);
    refused(bind(&[(x, Slice::of(&bx, from..to)), good[1].clone()]), &["`inputs`", "1024"]);
    refused(bind(&[(x, Slice::of(&bx, 0..to)), good[1].clone()]), &["`inputs`", "1024"]);
    let large = floats(runtime, &[0.0; 1024]);
    let alignment = runtime.device().limits().min_storage_buffer_offset_alignment.to_string();
    let odd = Slice::of(&large, 4..2048);
    refused(bind(&[(x, odd), good[1].clone()]), &["`inputs`", "byte 4", &alignment]);
    // What is read and written overlaps: by one alignment, wholly, or is the same buffer.
    let y_inside = Slice::of(&large, 512..512 + 4 * 8 * 4);
    refused(bind(&[(x, Slice::of(&large, 0..1024)), (y, y_inside)]), &["0..1024", "512..640"]);
    refused(bind(&[(x, (&large).into()), (y, (&large).into())]), &["0..1024", "0..128"]);
    // What is next to each other does not.
    let next = Slice::of(&large, 1024..1024 + 4 * 8 * 4);
    bind(&[(x, Slice::of(&large, 0..1024)), (y, next)]).expect("side by side");
}

/// Buffers that cannot be bound at all: without the usage, destroyed, of another device.
#[test]
fn buffers_that_cannot_be_bound_are_errors() {
    let _stated = pipelines(10);
    let (runtime, other) = (open(&VARIANTS[0].options()), VARIANTS[2].runtime());
    let w = runtime.upload(&tensor("w", "Q4_0", 8, 64)).expect("small");
    let (program, x, y) = product(&runtime, &w, Tokens::UpTo(4));
    let (bx, by) = (floats(&runtime, &[0.0; 4 * 64]), floats(&runtime, &[0.0; 4 * 8]));
    let usage = wgpu::BufferUsages::COPY_DST;
    let descriptor = wgpu::BufferDescriptor { label: None, size: 1024, usage, mapped_at_creation: false };
    let useless = runtime.device().create_buffer(&descriptor);
    let destroyed = floats(&runtime, &[0.0; 4 * 64]);
    destroyed.destroy();
    let foreign = floats(other, &[0.0; 4 * 64]);
    for (what, buffer) in [("no storage", &useless), ("destroyed", &destroyed), ("foreign", &foreign)] {
        let result = runtime.bind(&program, &[(x, buffer.into()), (y, (&by).into())]);
        assert!(matches!(result, Err(Error::Gpu { .. } | Error::Argument(_))), "{what}: {result:?}");
    }
    let bound = runtime.bind(&program, &[(x, (&bx).into()), (y, (&by).into())]).expect("usable as before");
    bound.run(4).expect("usable as before");
}

#[test]
fn views_that_do_not_fit_are_refused_by_name() {
    let _stated = pipelines(10);
    let runtime = VARIANTS[0].runtime();
    let w = runtime.upload(&tensor("w", "Q4_0", 8, 64)).expect("small");
    let upload = Upload { experts: 2, ..Upload::default() };
    let stack = runtime.upload_with(&tensor("stack", "Q4_0", 16, 64), upload).expect("small");
    let options = MatmulOptions::default();
    let mut large = runtime.program(Tokens::UpTo(4));
    let foreign: Vec<_> = (0..40).map(|_| large.slot("far", 64)).collect();
    let mut program = runtime.program(Tokens::UpTo(4));
    let (x, y, wide) = (program.slot("x", 64), program.slot("y", 8), program.slot("wide", 200));
    let pair = program.slot_of("pair", 2, Element::U32);
    let halves = program.slot_of("halves", 8, Element::F16);
    refused(program.matmul(&w, wide, y, &options), &["`w`", "64", "200"]);
    refused(program.matmul(&w, x, wide, &options), &["`w`", "8", "200"]);
    refused(program.matmul(&w, x.with_stride(63), y, &options), &["`w`", "64", "63"]);
    refused(program.matmul(&w, x, y.with_stride(0), &options), &["`w`", "8", "0"]);
    refused(program.matmul(&w, x, pair, &options), &["`w`", "8", "2"]);
    refused(program.matmul_gated(&w, x, halves, y, &options), &["`w`", "F32", "F16"]);
    refused(program.matmul(&w, x, halves.with_stride(9), &options), &["9", "even"]);
    refused(program.matmul(&w, foreign[39], y, &options), &["another program"]);
    // Numbers of rows and of experts have no gaps.
    refused(program.get_rows(&w, pair.features(1..2), x), &["`w`", "2"]);
    refused(program.get_rows(&w, pair, x), &["`w`", "1", "2"]);
    refused(program.get_rows(&w, y, x), &["`w`"]);
    refused(program.matmul_experts(&stack, x, pair.with_stride(3), y, &options), &["`stack`", "2", "3"]);
    refused(program.dequantize(&w, 7..9, x), &["`w`", "0..8", "7..9"]);
    // Strides beyond any buffer.
    for stride in [1 << 40, usize::MAX / 2, usize::MAX] {
        refused(program.matmul(&w, x.with_stride(stride), y, &options), &["`w`"]);
        refused(program.matmul(&w, x, y.with_stride(stride), &options), &["`w`"]);
        refused(program.matmul(&w, x, halves.with_stride(stride - stride % 2), &options), &["`"]);
        refused(program.matmul_gated(&w, x, y.with_stride(stride), y, &options), &["`w`"]);
        refused(program.matmul_experts(&stack, x, pair, y.with_stride(stride), &options), &["`stack`"]);
        refused(program.get_rows(&w, pair.features(0..1), x.with_stride(stride)), &["`w`"]);
        refused(program.dequantize(&w, 0..8, x.with_stride(stride)), &["`w`"]);
    }
}

#[test]
fn numbers_of_tokens_that_a_program_is_not_for_are_refused() {
    let _stated = pipelines(15);
    let runtime = VARIANTS[0].runtime();
    let w = runtime.upload(&tensor("w", "Q4_0", 8, 64)).expect("small");
    let (bx, by) = (floats(runtime, &[0.0; 9 * 64]), floats(runtime, &[0.0; 9 * 8]));
    for (tokens, wrong) in [
        (Tokens::UpTo(8), [0, 9, usize::MAX]),
        (Tokens::Exactly(8), [0, 7, 9]),
        (Tokens::UpTo(0), [0, 1, usize::MAX]),
    ] {
        let (program, x, y) = product(runtime, &w, tokens);
        let bound = runtime.bind(&program, &[(x, (&bx).into()), (y, (&by).into())]).expect("fits");
        let mut encoder = runtime.device().create_command_encoder(&Default::default());
        for n in wrong {
            let words = [&*tokens.to_string(), &*n.to_string()];
            refused(bound.run(n), &words);
            refused(bound.encode(&mut encoder, n), &words);
            refused(bound.record(&mut encoder.begin_compute_pass(&Default::default()), n), &words);
            assert_eq!(
                bound.dispatch_count(n).min(1),
                usize::from(tokens.most() > 0 && n > 0).min(bound.dispatch_count(n))
            );
        }
    }
    let (program, x, y) = product(runtime, &w, Tokens::Exactly(0));
    let bound = runtime.bind(&program, &[(x, (&bx).into()), (y, (&by).into())]).expect("nothing to bind");
    bound.run(0).expect("nothing to do");
    let mut program = runtime.program(Tokens::UpTo(usize::MAX));
    let (x, y) = (program.slot("x", 64), program.slot("y", 8));
    refused(program.matmul(&w, x, y, &MatmulOptions::default()), &["`w`", "columns"]);
}

/// A tensor and what a program of its own makes of it.
struct Worker {
    packed: PackedTensor,
    activations: Activations,
}

impl Worker {
    fn new(i: usize) -> Self {
        let formats = ["Q4_0", "Q8_0", "Q4_0", "Q8_0"];
        let packed = tensor(&format!("w{i}"), formats[i % 4], 33 + i, 64);
        Self { packed, activations: if i.is_multiple_of(2) { Activations::F32 } else { Activations::Q8 } }
    }

    /// Uploads, binds and records again and again, for one number of tokens after the other.
    fn work(&self, runtime: &Runtime, rounds: usize) -> Vec<String> {
        let (m, k, most) = (self.packed.rows(), self.packed.cols(), 9);
        let w = runtime.upload(&self.packed).expect("small");
        let mut program = runtime.program(Tokens::UpTo(most));
        let (x, y) = (program.slot("x", k), program.slot("y", m));
        program.matmul(&w, x, y, &MatmulOptions::with(self.activations)).expect("fits");
        let values = check::activations(most * k, m as u64);
        let mut failures = vec![];
        for round in 0..rounds {
            let (bx, by) = (floats(runtime, &values), floats(runtime, &vec![CANARY; most * m]));
            let bound = runtime.bind(&program, &[(x, (&bx).into()), (y, (&by).into())]).expect("fits");
            for n in [1 + round % most, most] {
                run(runtime, &bound, n);
                let got = read(runtime, &by);
                let x = &values[..n * k];
                let judged =
                    check::judge(&got[..n * m], &self.packed, x, self.activations, false).expect("fits");
                if !judged.passed {
                    failures.push(format!("{}, n = {n}: {judged}", self.packed.name()));
                }
            }
        }
        failures
    }
}

#[test]
fn eight_threads_bind_and_record_at_once() {
    let _stated = pipelines(40);
    let runtime = open(&VARIANTS[0].options());
    let workers: Vec<_> = (0..8).map(Worker::new).collect();
    let failures: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = workers.iter().map(|worker| scope.spawn(|| worker.work(&runtime, 5))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    report(&failures, 8 * 5 * 2);
}

/// One bound program, recorded by all: what a thread records is its own.
#[test]
fn eight_threads_record_one_program() {
    let _stated = pipelines(15);
    let runtime = open(&VARIANTS[0].options());
    let packed = tensor("w", "Q4_0", 33, 64);
    let w = runtime.upload(&packed).expect("small");
    let (program, x, y) = product(&runtime, &w, Tokens::UpTo(9));
    let values = check::activations(9 * 64, 3);
    let (bx, by) = (floats(&runtime, &values), floats(&runtime, &[CANARY; 9 * 33]));
    let bound = runtime.bind(&program, &[(x, (&bx).into()), (y, (&by).into())]).expect("fits");
    let commands: Vec<_> = std::thread::scope(|scope| {
        let one = |n: usize| {
            let (runtime, bound) = (&runtime, bound.clone());
            scope.spawn(move || {
                let mut encoder = runtime.device().create_command_encoder(&Default::default());
                (0..50).for_each(|_| bound.encode(&mut encoder, n).expect("it is for so many"));
                encoder.finish()
            })
        };
        let threads: Vec<_> = (1..=8).map(one).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    for (commands, n) in commands.into_iter().zip(1..) {
        runtime.queue().write_buffer(&by, 0, &[0; 9 * 33 * 4]);
        runtime.queue().submit([commands]);
        let got = read(&runtime, &by);
        let (got, rest) = got.split_at(n * 33);
        let want = reference::matmul(&packed, &values[..n * 64]).expect("shapes fit");
        let compared = check::compare(got, &want, check::NMSE_F32);
        assert!(compared.passed && rest.iter().all(|v| *v == 0.0), "n = {n}: {compared}");
    }
}

/// A thread stands still while it holds a pass with half of its dispatches.
#[test]
fn a_thread_that_stops_while_it_records_blocks_no_other() {
    let _stated = pipelines(15);
    let runtime = open(&VARIANTS[0].options());
    let packed = tensor("w", "Q4_0", 33, 64);
    let w = runtime.upload(&packed).expect("small");
    let (program, x, y) = product(&runtime, &w, Tokens::UpTo(9));
    let values = check::activations(9 * 64, 3);
    let (bx, by) = (floats(&runtime, &values), floats(&runtime, &[CANARY; 9 * 33]));
    let bound = runtime.bind(&program, &[(x, (&bx).into()), (y, (&by).into())]).expect("fits");
    let (stopped, is_stopped) = channel();
    let (go_on, may_go_on) = channel::<()>();
    let (done, is_done) = channel();
    let of_thread = (runtime.clone(), bound.clone());
    let thread = std::thread::spawn(move || {
        let (runtime, bound) = of_thread;
        let mut encoder = runtime.device().create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        bound.record(&mut pass, 3).expect("three");
        stopped.send(()).expect("the test waits");
        may_go_on.recv().expect("the test lets it go on");
        bound.record(&mut pass, 3).expect("three");
        drop(pass);
        runtime.queue().submit([encoder.finish()]);
    });
    is_stopped.recv_timeout(Duration::from_secs(60)).expect("it records");
    // All of this on a thread of its own, so that a block is a failure and not a wait.
    let (of_other, worker) = (runtime.clone(), Worker::new(0));
    let of_bound = bound.clone();
    std::thread::spawn(move || {
        of_bound.run(9).expect("nine");
        done.send(worker.work(&of_other, 2)).expect("the test waits");
    });
    let failures = is_done.recv_timeout(Duration::from_secs(120)).expect("nobody is blocked");
    assert!(failures.is_empty(), "{failures:?}");
    go_on.send(()).expect("the thread waits");
    thread.join().expect("no panic");
    let got = read(&runtime, &by);
    let want = reference::matmul(&packed, &values).expect("shapes fit");
    assert!(check::compare(&got, &want, check::NMSE_F32).passed);
}

/// A program on this device, that worked.
fn working(runtime: &Runtime) -> BoundProgram {
    let w = runtime.upload(&tensor("w", "Q4_0", 8, 64)).expect("small");
    let (program, x, y) = product(runtime, &w, Tokens::UpTo(4));
    let (bx, by) = (floats(runtime, &[1.0; 4 * 64]), floats(runtime, &[0.0; 4 * 8]));
    let bound = runtime.bind(&program, &[(x, (&bx).into()), (y, (&by).into())]).expect("fits");
    bound.run(4).expect("it works");
    bound
}

type Replay = (&'static str, fn(&Runtime, &BoundProgram) -> Result<(), Error>);

const REPLAYS: [Replay; 4] = [
    ("record", |runtime, bound| {
        let mut encoder = runtime.device().create_command_encoder(&Default::default());
        bound.record(&mut encoder.begin_compute_pass(&Default::default()), 2)
    }),
    ("encode", |runtime, bound| {
        bound.encode(&mut runtime.device().create_command_encoder(&Default::default()), 2)
    }),
    ("run", |_, bound| bound.run(2)),
    ("run_async", |_, bound| pollster::block_on(bound.run_async(2))),
];

/// Replays until the loss is reported, which takes no longer than [`SOON`]; from then on every
/// replay reports it.
fn reported(runtime: &Runtime, bound: &BoundProgram, first: Replay) {
    let start = Instant::now();
    let error = loop {
        let called = Instant::now();
        let result = first.1(runtime, bound);
        assert!(called.elapsed() < SOON, "{} took {:?}", first.0, called.elapsed());
        if let Err(error) = result {
            break error;
        }
        assert!(start.elapsed() < SOON, "{}: not reported after {:?}", first.0, start.elapsed());
    };
    eprintln!("{}: reported after {:?}", first.0, start.elapsed());
    assert!(matches!(error, Error::DeviceLost(_)), "{}: {error:?}", first.0);
    for (name, replay) in REPLAYS {
        let result = replay(runtime, bound);
        assert!(matches!(result, Err(Error::DeviceLost(_))), "{name}: {result:?}");
    }
    let bound = bound.clone();
    let (done, is_done) = channel();
    std::thread::spawn(move || done.send(bound.run(1)));
    let result = is_done.recv_timeout(SOON).expect("another thread hears of it as soon");
    assert!(matches!(result, Err(Error::DeviceLost(_))), "{result:?}");
}

#[test]
fn replays_hear_of_a_lost_device() {
    let _stated = pipelines(25);
    for first in REPLAYS {
        for runtime in [open(&VARIANTS[0].options()), on_a_host_device()] {
            let bound = working(&runtime);
            runtime.device().destroy();
            reported(&runtime, &bound, first);
        }
    }
}

/// A host's callback hears of the loss, and the host passes it on; nothing else of the device says
/// so.
#[test]
fn replays_hear_of_a_loss_that_the_host_passes_on() {
    let _stated = pipelines(25);
    for first in REPLAYS {
        let adapter = host_adapter();
        let (device, queue) =
            pollster::block_on(adapter.request_device(&Default::default())).expect("a plain device");
        let (sender, lost) = channel();
        device.set_device_lost_callback(move |reason, message| {
            let _ = sender.send(format!("{reason:?}: {message}"));
        });
        let runtime = attach(device, queue, &adapter).expect("a plain device will do");
        let bound = working(&runtime);
        runtime.device().destroy();
        let _ = runtime.device().poll(wgpu::PollType::Poll);
        let reason = lost.recv_timeout(SOON).expect("the host's callback");
        runtime.device_lost(reason.clone());
        reported(&runtime, &bound, first);
        match first.1(&runtime, &bound) {
            Err(Error::DeviceLost(said)) => assert_eq!(said, reason, "{}", first.0),
            other => panic!("{}: {other:?}", first.0),
        }
    }
}

/// The numbers of rows are the caller's, and may change between replays.
#[test]
fn slots_may_change_between_replays() {
    let _stated = pipelines(10);
    let runtime = VARIANTS[0].runtime();
    let packed = tensor("w", "Q4_0", 8, 64);
    let w = runtime.upload(&packed).expect("small");
    let mut program = runtime.program(Tokens::UpTo(2));
    let (rows, y) = (program.slot_of("rows", 1, Element::U32), program.slot("y", 64));
    program.get_rows(&w, rows, y).expect("fits");
    let (ids, by) = (numbers(runtime, &[0, 0]), floats(runtime, &[0.0; 128]));
    let bound = runtime.bind(&program, &[(rows, (&ids).into()), (y, (&by).into())]).expect("fits");
    drop((program, w));
    for row in [3u32, 7, 0] {
        runtime.queue().write_buffer(&ids, 0, &row.to_le_bytes());
        run(runtime, &bound, 1);
        let want = &packed.dequantize()[row as usize * 64..][..64];
        assert_eq!(&read(runtime, &by)[..64], want, "row {row}");
    }
}

/// What is made of activations once must not be read after another slot has overwritten their bytes.
#[test]
fn bytes_that_two_slots_share_are_not_made_ready_once() {
    let _stated = pipelines(10);
    let runtime = VARIANTS[0].runtime();
    let w = runtime.upload(&tensor("w", "Q4_0", 64, 64)).expect("small");
    for (activations, is_refused) in [(Activations::Q8, true), (Activations::F32, false)] {
        let options = MatmulOptions::with(activations);
        let mut program = runtime.program(Tokens::Exactly(1));
        let [x, same, y, z] = ["x", "same", "y", "z"].map(|name| program.slot(name, 64));
        for (input, output) in [(x, y), (y, same), (x, z)] {
            program.matmul(&w, input, output, &options).expect("fits");
        }
        let buffers = [(); 3].map(|()| floats(runtime, &[0.0; 64]));
        let slots = [(x, 0), (same, 0), (y, 1), (z, 2)].map(|(view, i)| (view, Slice::from(&buffers[i])));
        match is_refused {
            true => refused(runtime.bind(&program, &slots), &["`x`", "`same`", "0..256"]),
            false => drop(runtime.bind(&program, &slots).expect("nothing is made ready")),
        }
        let twice = [slots[0].clone(), slots[0].clone()];
        refused(runtime.bind(&program, &twice), &["`x`", "two buffers"]);
    }
}
