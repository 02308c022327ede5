//! Bound programs: what a replay computes, for any number of tokens, wherever inputs and outputs
//! lie. Results are held against the CPU reference, never only against another path of the device.

use crate::common::{Golden, report};
use crate::device::{Variant, families, open, pipelines, read, side_by_side};
use half::f16;
use qmatmul::check::{self, activations, random_tensor};
use qmatmul::gpu::{BoundProgram, Element, Program, Slice, Tokens, Upload, View};
use qmatmul::kernel::{Threshold, reference};
use qmatmul::{
    Activations, Error, Linear, MatmulOptions, Options, OutlierColumns, PackedTensor, Recipe, Runtime,
    Weights, format, wgpu,
};

/// What no dispatch may touch.
pub const CANARY: f32 = 12_345.679;

/// A buffer with these bytes that programs may use.
pub fn buffer(runtime: &Runtime, bytes: &[u8]) -> wgpu::Buffer {
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let size = bytes.len().next_multiple_of(4) as u64;
    let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
    let buffer = runtime.device().create_buffer(&descriptor);
    let padded = [bytes, &[0; 3]].concat();
    runtime.queue().write_buffer(&buffer, 0, &padded[..size as usize]);
    buffer
}

pub fn floats(runtime: &Runtime, values: &[f32]) -> wgpu::Buffer {
    buffer(runtime, &bytes_of(Element::F32, values))
}

pub fn numbers(runtime: &Runtime, values: &[u32]) -> wgpu::Buffer {
    buffer(runtime, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
}

/// Values as a slot of such elements holds them.
fn bytes_of(element: Element, values: &[f32]) -> Vec<u8> {
    match element {
        Element::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    }
}

/// The first `count` values of a buffer of such elements.
fn values_of(runtime: &Runtime, buffer: &wgpu::Buffer, element: Element, count: usize) -> Vec<f32> {
    let words = read(runtime, buffer);
    if element == Element::F32 {
        return words[..count].to_vec();
    }
    let halves = words.iter().flat_map(|w| [w.to_bits() as u16, (w.to_bits() >> 16) as u16]);
    halves.take(count).map(|bits| f16::from_bits(bits).to_f32()).collect()
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Runs a program for `tokens` tokens as an engine does: in a pass of its own encoder.
pub fn run(runtime: &Runtime, bound: &BoundProgram, tokens: usize) {
    let mut encoder = runtime.device().create_command_encoder(&Default::default());
    let mut pass = encoder.begin_compute_pass(&Default::default());
    bound.record(&mut pass, tokens).expect("it is for so many");
    drop(pass);
    runtime.queue().submit([encoder.finish()]);
}

pub fn tensor(name: &str, format: &str, m: usize, k: usize) -> PackedTensor {
    let format = format::by_name(format).expect("a format of the table");
    random_tensor(name, format, m, k, 7).expect("the shape fits")
}

fn int8(threshold: f32) -> Activations {
    Activations::Int8(Threshold::new(threshold).expect("not negative"))
}

/// Activations with features that are outliers in one token each, early and late ones.
fn with_outliers(n: usize, k: usize) -> Vec<f32> {
    let mut x = activations(n * k, 3);
    for (token, feature) in [(0, 5), (1, k - 1), (7, 70), (15, 6), (16, 7), (32, 8), (66, 9)] {
        if token < n {
            x[token * k + feature] = 40.0 + token as f32;
        }
    }
    x
}

/// Where a program's values lie in a slot: features from `first` on of a token of `stride`.
#[derive(Clone, Copy, Debug)]
struct Place {
    stride: usize,
    first: usize,
    element: Element,
}

fn dense(width: usize) -> Place {
    Place { stride: width, first: 0, element: Element::F32 }
}

impl Place {
    fn of(self, element: Element) -> Self {
        Self { element, ..self }
    }

    /// A view of a slot that has room for more.
    fn view(self, program: &mut Program, name: &str, width: usize) -> View {
        let all = program.slot_of(name, self.stride, self.element);
        all.features(self.first..self.first + width)
    }

    /// A slot with these values `[n, width]`, and canaries between them and behind.
    fn fill(self, width: usize, values: &[f32]) -> Vec<f32> {
        let n = values.len() / width;
        let mut all = vec![CANARY; n * self.stride + 8];
        values.chunks(width).enumerate().for_each(|(token, values)| {
            all[token * self.stride + self.first..][..width].copy_from_slice(values);
        });
        all
    }

    /// A canary as the slot holds it.
    fn canary(self) -> f32 {
        if self.element == Element::F16 { f16::from_f32(CANARY).to_f32() } else { CANARY }
    }

    /// The values `[n, width]` of a slot; none if a canary has changed.
    fn take(self, width: usize, n: usize, all: &[f32]) -> Option<Vec<f32>> {
        let canary = self.canary();
        let is_inside =
            |i: usize| i < n * self.stride && (self.first..self.first + width).contains(&(i % self.stride));
        let intact = all.iter().enumerate().all(|(i, v)| is_inside(i) || v.to_bits() == canary.to_bits());
        intact.then(|| (0..all.len()).filter(|i| is_inside(*i)).map(|i| all[i]).collect())
    }
}

/// What is done with a product.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Overwrite,
    Add,
    Gate,
}

/// A product of a program, and where all that it takes lies.
#[derive(Clone, Debug)]
struct Job {
    kind: Kind,
    x: Place,
    y: Place,
    gate: Place,
    options: MatmulOptions,
}

impl Job {
    fn dense(w: &PackedTensor, kind: Kind, activations: Activations) -> Self {
        let options = MatmulOptions::with(activations);
        Self { kind, x: dense(w.cols()), y: dense(w.rows()), gate: dense(w.rows()), options }
    }

    fn program(&self, runtime: &Runtime, w: &Weights, tokens: Tokens) -> (Program, [View; 3]) {
        let mut program = runtime.program(tokens);
        let x = self.x.view(&mut program, "x", w.cols());
        let y = self.y.view(&mut program, "y", w.rows());
        let gate = self.gate.view(&mut program, "gate", w.rows());
        match self.kind {
            Kind::Overwrite => program.matmul(w, x, y, &self.options),
            Kind::Add => program.matmul_add(w, x, y, &self.options),
            Kind::Gate => program.matmul_gated(w, x, gate, y, &self.options),
        }
        .expect("a product");
        (program, [x, y, gate])
    }

    /// What a program for `tokens` gives for n of them: y, or what is wrong about it. The slots are
    /// as large as n tokens need, if the program is for no more.
    fn run(&self, runtime: &Runtime, w: &Weights, tokens: Tokens, given: &Given) -> Result<Vec<f32>, String> {
        let (program, [x, y, gate]) = self.program(runtime, w, tokens);
        let most = tokens.most();
        let slot = |place: Place, width: usize, values: &[f32]| {
            let mut all = place.fill(width, values);
            all.resize(all.len() + (most - given.n) * place.stride, CANARY);
            buffer(runtime, &bytes_of(place.element, &all))
        };
        let [bx, by, bg] = [
            slot(self.x, w.cols(), &given.x),
            slot(self.y, w.rows(), &given.old),
            slot(self.gate, w.rows(), &given.gate),
        ];
        let slots = [(x, (&bx).into()), (y, (&by).into()), (gate, (&bg).into())];
        let bound = runtime.bind(&program, &slots).map_err(|e| e.to_string())?;
        run(runtime, &bound, given.n);
        let count = most * self.y.stride + 8;
        let all = values_of(runtime, &by, self.y.element, count);
        self.y.take(w.rows(), given.n, &all).ok_or_else(|| "a canary of y has changed".to_owned())
    }

    /// What is right for y, in f64.
    fn want(&self, packed: &PackedTensor, given: &Given) -> Vec<f64> {
        let x: Vec<f32> = match self.x.element {
            Element::F16 => given.x.iter().map(|v| f16::from_f32(*v).to_f32()).collect(),
            _ => given.x.clone(),
        };
        let y = reference::matmul_with(packed, &x, self.options.activations).expect("shapes fit");
        let old = given.old.iter().map(|v| match self.y.element {
            Element::F16 => f16::from_f32(*v).to_f64(),
            _ => f64::from(*v),
        });
        let finish = |((y, old), gate): ((&f64, f64), &f32)| match self.kind {
            Kind::Overwrite => *y,
            Kind::Add => y + old,
            Kind::Gate => y * f64::from(*gate) / (1.0 + (-f64::from(*gate)).exp()),
        };
        y.iter().zip(old).zip(&given.gate).map(finish).collect()
    }

    /// A line about a product that is not right. Results of f16 are those of f32, rounded.
    fn wrong(&self, runtime: &Runtime, packed: &PackedTensor, w: &Weights, given: &Given) -> Option<String> {
        let tokens = Tokens::Exactly(given.n);
        let failed = |what: String| Some(format!("n = {}, {self:?}: {what}", given.n));
        let y = match self.run(runtime, w, tokens, given) {
            Ok(y) => y,
            Err(what) => return failed(what),
        };
        let want = self.want(packed, given);
        if self.y.element == Element::F32 {
            let comparison = check::compare(&y, &want, check::NMSE_F32);
            return if comparison.passed { None } else { failed(comparison.to_string()) };
        }
        // Of sums that are right, the nearest half.
        let kind = if self.kind == Kind::Add { Kind::Overwrite } else { self.kind };
        let exact = Self { y: dense(w.rows()), kind, ..self.clone() };
        let sums = match exact.run(runtime, w, tokens, given) {
            Ok(sums) => sums,
            Err(what) => return failed(what),
        };
        let comparison = check::compare(&sums, &exact.want(packed, given), check::NMSE_F32);
        if !comparison.passed {
            return failed(comparison.to_string());
        }
        let rounded = sums.iter().zip(&given.old).map(|(sum, old)| match self.kind {
            Kind::Add => f16::from_f32(f16::from_f32(*old).to_f32() + sum).to_f32(),
            _ => f16::from_f32(*sum).to_f32(),
        });
        let rounded: Vec<f32> = rounded.collect();
        let at = y.iter().zip(&rounded).position(|(a, b)| a.to_bits() != b.to_bits())?;
        failed(format!("element {at} is {}, rounded it is {}, right is {}", y[at], rounded[at], want[at]))
    }
}

/// Values of n tokens.
struct Given {
    n: usize,
    x: Vec<f32>,
    old: Vec<f32>,
    gate: Vec<f32>,
}

fn given(packed: &PackedTensor, n: usize) -> Given {
    let (m, k) = (packed.rows(), packed.cols());
    let mut gate: Vec<f32> = activations(n * m, 5).iter().map(|v| 4.0 * v).collect();
    // exp(-gate) is beyond f32, or next to nothing.
    gate[..6].copy_from_slice(&[-200.0, 200.0, -89.0, 0.0, -0.0, -20.0]);
    Given { n, x: activations(n * k, 3), old: activations(n * m, 4), gate }
}

/// Numbers of tokens about which kernels differ.
const NUMBERS: [usize; 10] = [1, 2, 3, 8, 9, 16, 17, 33, 64, 70];

/// Bound once, recorded for every number: the bits of a call for that number, and right. Nothing is
/// compiled after the binding.
#[test]
fn any_number_of_tokens_is_right_without_another_bind() {
    let _stated = pipelines(125);
    let cells = [
        ("Q4_0", Activations::F32),
        ("Q4_0", Activations::F16),
        ("Q4_0", Activations::Q8),
        ("Q6_K", Activations::F32),
        ("IQ4_NL", Activations::F32),
        ("INT8", int8(0.0)),
        ("INT8", int8(6.0)),
    ];
    let (most, m, k) = (70, 70, 256);
    let (failures, done) = side_by_side(families(), |variant| {
        let runtime = variant.runtime();
        let (mut failures, mut done) = (vec![], 0);
        for (name, activations) in cells {
            let packed = tensor("w", name, m, k);
            let w = runtime.upload(&packed).expect("small");
            let job = Job::dense(&packed, Kind::Overwrite, activations);
            let (program, [x, y, _]) = job.program(runtime, &w, Tokens::UpTo(most));
            let values = match activations {
                Activations::Int8(_) => with_outliers(most, k),
                _ => check::activations(most * k, 3),
            };
            let (bx, by) = (floats(runtime, &values), floats(runtime, &vec![CANARY; most * m]));
            let bound = runtime.bind(&program, &[(x, (&bx).into()), (y, (&by).into())]).expect("fits");
            let again = floats(runtime, &vec![CANARY; most * m]);
            for n in NUMBERS {
                runtime.queue().write_buffer(&by, 0, &bytes_of(Element::F32, &vec![CANARY; most * m]));
                run(runtime, &bound, n);
                let got = read(runtime, &by);
                let label = format!("{name} {activations:?} on {}, n = {n}", variant.name);
                let (y, rest) = got.split_at(n * m);
                if rest.iter().any(|v| *v != CANARY) {
                    failures.push(format!("{label}: tokens behind were written"));
                }
                let x = &values[..n * k];
                let judged = check::judge(y, &packed, x, activations, false).expect("shapes fit");
                if !judged.passed {
                    failures.push(format!("{label}: {judged}"));
                }
                let called = runtime.matmul_with(&w, x, &job.options).expect("small");
                if bits(y) != bits(&called) {
                    failures.push(format!("{label}: other bits than a call"));
                }
                done += 1;
            }
            // Numbers of tokens that differ in one encoder, and in one pass.
            let mut encoder = runtime.device().create_command_encoder(&Default::default());
            bound.encode(&mut encoder, 3).expect("three");
            encoder.copy_buffer_to_buffer(&by, 0, &again, 0, 3 * m as u64 * 4);
            bound.encode(&mut encoder, 17).expect("seventeen");
            let mut pass = encoder.begin_compute_pass(&Default::default());
            bound.record(&mut pass, 1).expect("one");
            bound.record(&mut pass, 7).expect("seven");
            drop(pass);
            runtime.queue().submit([encoder.finish()]);
            for (buffer, n) in [(&again, 3), (&by, 7)] {
                let got = &read(runtime, buffer)[..n * m];
                let judged = check::judge(got, &packed, &values[..n * k], activations, false).expect("fits");
                if !judged.passed {
                    failures.push(format!("{name} {activations:?}, {n} of several: {judged}"));
                }
                done += 1;
            }
        }
        (failures, done)
    });
    report(&failures, done);
}

/// Compiling, if need be, happens as a program is bound.
#[test]
fn recording_compiles_nothing() {
    let _stated = pipelines(25);
    for variant in families() {
        let runtime = open(&variant.options());
        let packed = tensor("w", "Q4_0", 70, 256);
        let w = runtime.upload(&packed).expect("small");
        let job = Job::dense(&packed, Kind::Overwrite, Activations::F32);
        let (program, [x, y, _]) = job.program(&runtime, &w, Tokens::UpTo(70));
        let [bx, by] = [256, 70].map(|width| floats(&runtime, &vec![1.0; 70 * width]));
        let bound = runtime.bind(&program, &[(x, (&bx).into()), (y, (&by).into())]).expect("fits");
        let compiled = runtime.compiled_pipelines();
        (1..=70).for_each(|n| run(&runtime, &bound, n));
        assert_eq!(runtime.compiled_pipelines(), compiled, "{}", variant.name);
    }
}

/// f16 in and out, rows further apart than they are wide, windows that begin anywhere, odd widths:
/// for gemv, for tiles, and what is left of them.
#[test]
fn slots_of_every_kind() {
    let _stated = pipelines(125);
    let (m, k) = (37, 96);
    let packed = tensor("w", "Q4_0", m, k);
    let half = |stride: usize, first: usize| Place { stride, first, element: Element::F16 };
    let at = |stride: usize, first: usize| Place { stride, first, element: Element::F32 };
    let xs = [at(k, 0), at(k + 8, 4), at(k + 8, 1), at(k + 5, 4), half(k, 0), half(k + 8, 4), half(k + 3, 1)];
    let ys = [at(m, 0), at(m + 5, 3), half(m + 1, 0), half(m + 5, 4)];
    let (failures, done) = side_by_side(families(), |variant| {
        let runtime = variant.runtime();
        let w = runtime.upload(&packed).expect("small");
        let (mut failures, mut done) = (vec![], 0);
        let mut cell = |job: &Job, n: usize| {
            let line = job.wrong(runtime, &packed, &w, &given(&packed, n));
            failures.extend(line.map(|line| format!("{}: {line}", variant.name)));
            done += 1;
        };
        for n in [1, 5, 19] {
            for (i, x) in xs.into_iter().enumerate() {
                let kind = [Kind::Overwrite, Kind::Add][i % 2];
                let job = Job::dense(&packed, kind, Activations::F32);
                cell(&Job { x, y: ys[(i / 2) % ys.len()], ..job.clone() }, n);
                cell(&Job { x, y: ys[(i / 2 + 2) % ys.len()], ..job }, n);
            }
            for activations in [Activations::F16, Activations::Q8] {
                let job = Job::dense(&packed, Kind::Add, activations);
                for x in [at(k + 8, 1), half(k + 8, 4), half(k + 3, 1)] {
                    cell(&Job { x, y: ys[3], ..job.clone() }, n);
                    cell(&Job { x, y: ys[1], ..job.clone() }, n);
                }
            }
        }
        (failures, done)
    });
    report(&failures, done);
}

/// The same for LLM.int8, whose activations several kernels read.
#[test]
fn slots_of_every_kind_with_outliers() {
    let _stated = pipelines(70);
    let (m, k) = (37, 99);
    let packed = tensor("w", "INT8", m, k);
    let (failures, done) = side_by_side(families(), |variant| {
        let runtime = variant.runtime();
        let w = runtime.upload(&packed).expect("small");
        let (mut failures, mut done) = (vec![], 0);
        for (n, element, threshold) in [
            (1, Element::F32, 6.0),
            (1, Element::F16, 6.0),
            (2, Element::F16, 0.0),
            (9, Element::F32, 6.0),
            (19, Element::F16, 6.0),
        ] {
            let y = Place { stride: m + 5, first: 4, element };
            for first in [4, 1] {
                let x = Place { stride: k + 9, first, element };
                let job = Job { x, y, ..Job::dense(&packed, Kind::Add, int8(threshold)) };
                let given = Given { x: with_outliers(n, k), ..given(&packed, n) };
                let line = job.wrong(runtime, &packed, &w, &given);
                failures.extend(line.map(|line| format!("{}: {line}", variant.name)));
                done += 1;
            }
        }
        (failures, done)
    });
    report(&failures, done);
}

/// Queries, keys and values of one slot, of weights of two formats that share activations.
#[test]
fn weights_of_two_formats_share_activations_and_a_slot() {
    let _stated = pipelines(60);
    let k = 256;
    let weights = [("q", "Q4_K", 70), ("k", "Q6_K", 33), ("v", "Q4_K", 33)];
    let packed = weights.map(|(name, format, m)| tensor(name, format, m, k));
    let width: usize = packed.iter().map(PackedTensor::rows).sum();
    for variant in families() {
        let runtime = variant.runtime();
        for activations in [Activations::F32, Activations::Q8] {
            let mut program = runtime.program(Tokens::UpTo(20));
            let (x, all) = (program.slot("x", k), program.slot("qkv", width));
            let mut first = 0;
            for packed in &packed {
                let w = runtime.upload(packed).expect("small");
                let y = all.features(first..first + packed.rows());
                program.matmul(&w, x, y, &MatmulOptions::with(activations)).expect("fits");
                first += packed.rows();
            }
            let values = check::activations(20 * k, 3);
            let (bx, by) = (floats(runtime, &values), floats(runtime, &vec![CANARY; 20 * width]));
            let bound = runtime.bind(&program, &[(x, (&bx).into()), (all, (&by).into())]).expect("fits");
            for n in [1, 6, 20] {
                run(runtime, &bound, n);
                let got = read(runtime, &by);
                let mut first = 0;
                for packed in &packed {
                    let of = |token: usize| got[token * width + first..][..packed.rows()].to_vec();
                    let y: Vec<f32> = (0..n).flat_map(of).collect();
                    let x = &values[..n * k];
                    let judged = check::judge(&y, packed, x, activations, false).expect("shapes fit");
                    assert!(judged.passed, "{} {activations:?}, n = {n}: {judged}", variant.name);
                    first += packed.rows();
                }
            }
        }
    }
}

/// Activations that were made ready for a kernel are made again once they have changed.
#[test]
fn operations_read_what_those_before_them_wrote() {
    let _stated = pipelines(25);
    let (a, b) = (tensor("a", "Q4_0", 64, 64), tensor("b", "Q8_0", 64, 64));
    for variant in families() {
        let runtime = variant.runtime();
        let [wa, wb] = [&a, &b].map(|packed| runtime.upload(packed).expect("small"));
        let options = MatmulOptions::with(Activations::Q8);
        let mut program = runtime.program(Tokens::UpTo(5));
        let [x, y, z] = ["x", "y", "z"].map(|name| program.slot(name, 64));
        let between = program.scratch("between", 64);
        // x is made ready, used, overwritten, and used again; y too, by way of scratch.
        program.matmul(&wa, x, y, &options).expect("fits");
        program.matmul(&wb, y, between, &options).expect("fits");
        program.matmul_add(&wa, between, x, &options).expect("fits");
        program.matmul(&wb, x, z, &options).expect("fits");
        for n in [1, 5] {
            let old = activations(n * 64, 3);
            let values = [old.clone(), vec![0.0; (5 - n) * 64]].concat();
            let buffers = [&values[..], &[CANARY; 320], &[CANARY; 320]].map(|v| floats(runtime, v));
            let slots = [x, y, z].into_iter().zip(buffers.iter().map(Slice::from)).collect::<Vec<_>>();
            let bound = runtime.bind(&program, &slots).expect("fits");
            run(runtime, &bound, n);
            let [x, y, z] = buffers.each_ref().map(|b| read(runtime, b)[..n * 64].to_vec());
            let twin = |packed, x: &[f32]| reference::matmul_with(packed, x, Activations::Q8).expect("fits");
            let near = |got: &[f32], want: &[f64]| check::compare(got, want, check::NMSE_F32);
            assert!(near(&y, &twin(&a, &old)).passed, "{}: {}", variant.name, near(&y, &twin(&a, &old)));
            assert!(near(&z, &twin(&b, &x)).passed, "{}: {}", variant.name, near(&z, &twin(&b, &x)));
            // Not the twin of `between`, which nobody reads: its codes may differ by a rounding.
            let middle: Vec<f32> = twin(&b, &y).iter().map(|v| *v as f32).collect();
            let sum: Vec<f64> =
                twin(&a, &middle).iter().zip(&old).map(|(v, old)| v + f64::from(*old)).collect();
            let compared = check::compare(&x, &sum, check::NMSE_Q8);
            assert!(compared.passed, "{}: {compared}", variant.name);
        }
    }
}

/// SiLU of a gate in the kernel that multiplies, in the one that adds up splits, in the last of
/// several ranges of k.
#[test]
fn gated_products() {
    let _stated = pipelines(125);
    let few = |variant: &Variant| Options { max_loops: Some(120), ..variant.options() };
    let pieces = families().into_iter().flat_map(|variant| [(variant, false), (variant, true)]);
    let (failures, done) = side_by_side(pieces, |(variant, is_limited)| {
        let limited = is_limited.then(|| open(&few(variant)));
        let runtime = limited.as_ref().unwrap_or_else(|| variant.runtime());
        let (m, k) = if is_limited { (35, 4096) } else { (35, 2336) };
        let packed = tensor("w", "Q4_0", m, k);
        let w = runtime.upload(&packed).expect("small");
        let (mut failures, mut done) = (vec![], 0);
        let gate = Place { stride: m + 4, first: 3, element: Element::F32 };
        let [floats, halves] = [dense(m), Place { stride: m + 3, first: 2, element: Element::F16 }];
        for (activations, n, y) in [
            (Activations::F32, 1, floats),
            (Activations::F32, 9, halves),
            (Activations::F32, 33, floats),
            (Activations::F16, 33, halves),
            (Activations::Q8, 1, floats),
            (Activations::Q8, 33, floats),
        ] {
            let job = Job { gate, y, ..Job::dense(&packed, Kind::Gate, activations) };
            let line = job.wrong(runtime, &packed, &w, &given(&packed, n));
            let label = format!("{}, limited = {is_limited}", variant.name);
            failures.extend(line.map(|line| format!("{label}: {line}")));
            done += 1;
        }
        (failures, done)
    });
    report(&failures, done);
}

/// Halves are read as they are by the kernel that multiplies, too, whatever it reads of a row.
#[test]
fn gated_products_of_halves() {
    let _stated = pipelines(45);
    let packed = tensor("w", "Q6_K", 35, 512);
    let (failures, done) = side_by_side(families(), |variant| {
        let runtime = variant.runtime();
        let w = runtime.upload(&packed).expect("small");
        let (mut failures, mut done) = (vec![], 0);
        for n in [1, 9, 33] {
            let x = dense(512).of(Element::F16);
            let job = Job { x, ..Job::dense(&packed, Kind::Gate, Activations::F32) };
            let line = job.wrong(runtime, &packed, &w, &given(&packed, n));
            failures.extend(line.map(|line| format!("{}: {line}", variant.name)));
            done += 1;
        }
        (failures, done)
    });
    report(&failures, done);
}

#[test]
fn a_gate_does_not_go_with_llm_int8() {
    let _stated = pipelines(5);
    for variant in families() {
        let runtime = variant.runtime();
        let w = runtime.upload(&tensor("up", "INT8", 8, 64)).expect("small");
        let mut program = runtime.program(Tokens::UpTo(4));
        let (x, gate, y) = (program.slot("x", 64), program.slot("gate", 8), program.slot("y", 8));
        for threshold in [0.0, 6.0] {
            let options = MatmulOptions::with(int8(threshold));
            match program.matmul_gated(&w, x, gate, y, &options) {
                Err(Error::Argument(text)) => assert!(text.contains("`up`"), "{text}"),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Columns whose expert does not exist keep their values; so do those of tokens that do not run.
#[test]
fn experts_of_any_number_of_tokens() {
    let _stated = pipelines(70);
    let (stack, m, k, most) = (5, 33, 256, 20);
    let packed = tensor("experts", "Q4_K", stack * m, k);
    let (failures, done) = side_by_side(families(), |variant| {
        let runtime = variant.runtime();
        let upload = Upload { experts: stack, ..Upload::default() };
        let w = runtime.upload_with(&packed, upload).expect("small");
        let (mut failures, mut done) = (vec![], 0);
        for (per, activations, element) in [
            (1, Activations::F32, Element::F32),
            (2, Activations::Q8, Element::F32),
            (3, Activations::F32, Element::F32),
            (3, Activations::F32, Element::F16),
        ] {
            let mut program = runtime.program(Tokens::UpTo(most));
            let place = Place { stride: m + 5, first: 2, element };
            let (x, y) = (program.slot("x", k), place.view(&mut program, "y", m));
            let experts = program.slot_of("experts", per, Element::U32);
            program.matmul_experts(&w, x, experts, y, &MatmulOptions::with(activations)).expect("fits");
            let (values, columns) = (check::activations(most * k, 3), most * per);
            let mut random = check::Random::new(per as u64);
            let ids: Vec<u32> = (0..columns).map(|_| (random.next_u64() % 7) as u32).collect();
            let ids: Vec<u32> = ids.iter().map(|id| if *id == 6 { u32::MAX } else { *id }).collect();
            let canaries = bytes_of(element, &vec![CANARY; columns * place.stride]);
            let (bx, by) = (floats(runtime, &values), buffer(runtime, &canaries));
            let slots = [(x, (&bx).into()), (y, (&by).into()), (experts, (&numbers(runtime, &ids)).into())];
            let bound = runtime.bind(&program, &slots).expect("fits");
            for n in [20, 1, 2, 9] {
                runtime.queue().write_buffer(&by, 0, &canaries);
                run(runtime, &bound, n);
                let got = values_of(runtime, &by, element, columns * place.stride);
                // All of what exists, as one expert for each token of the reference.
                let there: Vec<usize> = (0..n * per).filter(|i| ids[*i] < stack as u32).collect();
                let x: Vec<f32> = there.iter().flat_map(|i| values[i / per * k..][..k].to_vec()).collect();
                let chosen: Vec<u32> = there.iter().map(|i| ids[*i]).collect();
                let want =
                    reference::matmul_experts(&packed, stack, &x, &chosen, activations).expect("they exist");
                let y: Vec<f32> =
                    there.iter().flat_map(|i| got[i * place.stride + 2..][..m].to_vec()).collect();
                let label = format!("{}, {per} each, {activations:?}, n = {n}", variant.name);
                let bound = if element == Element::F16 { check::NMSE_F16 } else { check::NMSE_F32 };
                let comparison = check::compare(&y, &want, bound);
                if !comparison.passed {
                    failures.push(format!("{label}: {comparison}"));
                }
                let is_written = |i: usize| {
                    there.contains(&(i / place.stride)) && (2..2 + m).contains(&(i % place.stride))
                };
                let canary = place.canary();
                if (0..got.len()).any(|i| !is_written(i) && got[i] != canary) {
                    failures.push(format!("{label}: what no expert writes was written"));
                }
                done += 1;
            }
        }
        (failures, done)
    });
    report(&failures, done);
}

/// Rows that do not exist are not written; halves are the nearest.
#[test]
fn rows_by_their_numbers() {
    let _stated = pipelines(20);
    let (m, k, most) = (40, 256, 9);
    let packed = tensor("w", "Q6_K", m, k);
    let decoded = packed.dequantize();
    for variant in families() {
        let runtime = variant.runtime();
        let w = runtime.upload(&packed).expect("small");
        let ids = [39, 0, 40, 7, u32::MAX, 7, 1, 38, 1 << 31];
        for element in [Element::F32, Element::F16] {
            let mut program = runtime.program(Tokens::UpTo(most));
            let rows = program.slot_of("rows", 1, Element::U32);
            let place = Place { stride: k + 6, first: 2, element };
            let y = place.view(&mut program, "y", k);
            program.get_rows(&w, rows, y).expect("fits");
            let all = vec![CANARY; most * place.stride];
            let by = buffer(runtime, &bytes_of(element, &all));
            let bound =
                runtime.bind(&program, &[(rows, (&numbers(runtime, &ids)).into()), (y, (&by).into())]);
            let bound = bound.expect("fits");
            for n in [9, 1, 2, 6] {
                runtime.queue().write_buffer(&by, 0, &bytes_of(element, &all));
                run(runtime, &bound, n);
                let got = values_of(runtime, &by, element, all.len());
                for (token, id) in ids.iter().enumerate() {
                    let row = &got[token * place.stride..][..place.stride];
                    let want =
                        match decoded.get(*id as usize * k..).filter(|rest| token < n && !rest.is_empty()) {
                            Some(rest) => rest[..k].to_vec(),
                            None => vec![CANARY; k],
                        };
                    let canary = place.canary();
                    let want = match element {
                        Element::F16 => want.iter().map(|v| f16::from_f32(*v).to_f32()).collect(),
                        _ => want,
                    };
                    let compared = check::compare_bits(&row[2..2 + k], &want);
                    assert!(compared.passed, "{} {element:?}, token {token}: {compared}", variant.name);
                    assert!(row[..2].iter().chain(&row[2 + k..]).all(|v| *v == canary), "{}", variant.name);
                }
            }
        }
    }
}

/// Layers with all that belongs to them, for several numbers of tokens of one program.
#[test]
fn layers_of_any_number_of_tokens() {
    let _stated = pipelines(125);
    let exact = crate::lora::linear("Q4_K", (70, 256), true, &[8, 3]);
    let columns = vec![3, 64, 65, 255];
    let kept = check::activations(33 * 4, 8).iter().map(|v| v * 4.0).collect::<Vec<_>>();
    let kept = PackedTensor::encode("kept", [33, 4], &kept, &Recipe::new(format::F32)).expect("finite");
    let kept = OutlierColumns::new(columns, kept).expect("in order");
    let kept = Linear::new(tensor("w", "INT8", 33, 256)).with_kept(kept).expect("fits");
    let layers = [
        (&exact, Activations::F32),
        (&exact, Activations::Q8),
        (&kept, Activations::F32),
        (&kept, int8(6.0)),
    ];
    let (failures, done) = side_by_side(families(), |variant| {
        let runtime = variant.runtime();
        let (mut failures, mut done) = (vec![], 0);
        for (linear, activations) in layers {
            let layer = runtime.upload_layer(linear).expect("small");
            let (m, k, most) = (linear.weight().rows(), 256, 20);
            let mut program = runtime.program(Tokens::UpTo(most));
            let (x, y) = (program.slot("x", k), program.slot("y", m));
            program.layer(&layer, x, y, &MatmulOptions::with(activations)).expect("fits");
            let values = with_outliers(most, k);
            let (bx, by) = (floats(runtime, &values), floats(runtime, &vec![CANARY; most * m]));
            let bound = runtime.bind(&program, &[(x, (&bx).into()), (y, (&by).into())]).expect("fits");
            for n in [20, 1, 2, 9] {
                let canaries = bytes_of(Element::F32, &vec![CANARY; most * m]);
                runtime.queue().write_buffer(&by, 0, &canaries);
                run(runtime, &bound, n);
                let got = read(runtime, &by);
                let want = reference::linear(linear, &values[..n * k], activations).expect("shapes fit");
                let comparison = check::compare(&got[..n * m], &want, check::NMSE_F32);
                if !comparison.passed || got[n * m..].iter().any(|v| *v != CANARY) {
                    failures.push(format!("{}, {activations:?}, n = {n}: {comparison}", variant.name));
                }
                done += 1;
            }
        }
        (failures, done)
    });
    report(&failures, done);
}

/// Weights in several shards and tokens in several blocks, of which one number takes all and
/// another a few.
#[test]
fn shards_and_blocks_of_tokens() {
    let _stated = pipelines(105);
    let pieces =
        families().into_iter().flat_map(|variant| [Activations::F32, Activations::Q8].map(|a| (variant, a)));
    let (failures, done) = side_by_side(pieces, |(variant, activations)| {
        let runtime = open(&Options { max_binding: Some(16 << 10), ..variant.options() });
        let (mut failures, mut done) = (vec![], 0);
        for (m, k) in [(1031, 96), (3, 1024)] {
            let packed = tensor("w", "Q4_0", m, k);
            let w = runtime.upload(&packed).expect("rows fit");
            assert!(m < 100 || w.shard_count() > 1);
            for kind in [Kind::Overwrite, Kind::Add, Kind::Gate] {
                let y = Place { stride: m + 5, first: 3, element: Element::F32 };
                let job = Job { y, ..Job::dense(&packed, kind, activations) };
                for n in [1, 5, 40] {
                    let given = given_small(&packed, n);
                    let result = job.run(&runtime, &w, Tokens::UpTo(40), &given);
                    let comparison =
                        result.map(|y| check::compare(&y, &job.want(&packed, &given), check::NMSE_F32));
                    match comparison {
                        Ok(c) if c.passed => {}
                        Ok(c) => failures.push(format!("{} n = {n}, {job:?}: {c}", variant.name)),
                        Err(e) => failures.push(format!("{} n = {n}, {job:?}: {e}", variant.name)),
                    }
                    done += 1;
                }
            }
        }
        (failures, done)
    });
    report(&failures, done);
}

/// With fewer outputs than special gates.
fn given_small(packed: &PackedTensor, n: usize) -> Given {
    let (m, k) = (packed.rows(), packed.cols());
    let [old, gate] = [4, 5].map(|seed| activations(n * m, seed));
    Given { n, x: activations(n * k, 3), old, gate }
}

/// Products by ggml, through a program for more tokens than there are.
#[test]
fn golden_products_of_a_bound_program() {
    let _stated = pipelines(35);
    let (mut failures, mut done) = (vec![], 0);
    for name in ["q4_K.odd", "q6_K.odd", "iq4_nl.odd"] {
        let file = Golden::open(&crate::common::path(&format!("golden/gguf/{name}.safetensors")));
        let format = format::by_name(name.split('.').next().expect("one part")).expect("a format");
        let (shape, _) = file.tensor("dequant_f32");
        let packed = PackedTensor::new(name, format, shape[0], shape[1], file.tensor("packed.data").1);
        let packed = packed.expect("the vector's shape fits its bytes");
        let values = file.f32s("x_f32");
        let (m, k, n) = (shape[0], shape[1], values.len() / shape[1]);
        for variant in families() {
            let runtime = variant.runtime();
            let w = runtime.upload(&packed).expect("small");
            let job = Job::dense(&packed, Kind::Overwrite, Activations::F32);
            let given = Given { n, x: values.clone(), old: vec![CANARY; n * m], gate: vec![0.0; n * m] };
            let got = job.run(runtime, &w, Tokens::UpTo(n + 9), &given).expect("fits");
            let comparison = check::compare(&got, &file.f64s("y_f64"), check::NMSE_F32);
            if !comparison.passed {
                failures.push(format!("{name}, k = {k}, on {}: {comparison}", variant.name));
            }
            done += 1;
        }
    }
    report(&failures, done);
}
