//! Encoders on the device against those on the CPU: the same bytes.

use crate::common::report;
use crate::device::{VARIANTS, families, pipelines};
use qmatmul::check::{self, Random};
use qmatmul::error::Error;
use qmatmul::format::recipe::FourBitConfig;
use qmatmul::{Options, PackedTensor, Recipe, format, wgpu};

const BLOCKS: [usize; 8] = [32, 64, 128, 256, 512, 1024, 2048, 4096];

/// Pivots of NF4 and FP4 and their neighbours: what ties, and what nearly does.
const PIVOTS: &[f32] = &[
    -0.848_096_4,
    -0.610_632_93,
    -0.459_995_27,
    -0.339_679_43,
    -0.234_607_41,
    -0.137_911_73,
    -0.045_525_018,
    0.039_790_15,
    0.120_255_25,
    0.203_521_25,
    0.292_013_77,
    0.389_312_54,
    0.501_663_4,
    0.642_786_9,
    0.861_478_4,
    0.002_604_166_7,
    0.085_937_5,
    0.208_333_34,
    0.291_666_7,
    0.416_666_7,
    0.583_333_4,
    0.833_333_4,
];

/// Scales that are tried: subnormal (with an infinite reciprocal and without), the smallest normal,
/// common, huge (with a subnormal reciprocal), the largest; with a small odd reciprocal, where
/// products end half-way between two numbers of f32.
fn scale(random: &mut Random) -> f32 {
    let exponent = |random: &mut Random, low: f32, high: f32| (low + (high - low) * random.uniform()).exp2();
    match (random.uniform() * 9.0) as u32 {
        0 => f32::from_bits(1 + (random.next_u64() & 0x3f_ffff) as u32),
        1 => exponent(random, -128.0, -124.0),
        2 => exponent(random, 124.0, 127.99),
        3 => f32::MAX,
        4 => exponent(random, -126.0, 126.0),
        5 => 1.0 / (3 + 2 * (random.next_u64() % 20)) as f32,
        _ => exponent(random, -12.0, 2.0),
    }
}

/// A block's weights from -1 to 1.
fn block(random: &mut Random, kind: u32, len: usize) -> Vec<f32> {
    let mut weights: Vec<f32> = match kind {
        0 => vec![0.0; len],
        1 => (0..len).map(|i| if i % 2 == 0 { -0.0 } else { 0.0 }).collect(),
        2..5 => (0..len).map(|_| random.uniform() * 2.0 - 1.0).collect(),
        5..8 => {
            let normals: Vec<_> = (0..len).map(|_| random.normal()).collect();
            let top = normals.iter().fold(0f32, |top, w| top.max(w.abs()));
            normals.iter().map(|w| w / top).collect()
        }
        _ => (0..len).map(|_| tie(random)).collect(),
    };
    let at = (random.uniform() * len as f32) as usize;
    weights[at] = if kind > 1 { [1.0, -1.0][at % 2] } else { weights[at] };
    weights
}

/// A pivot of either sign, at most two steps off, or a zero of either sign.
fn tie(random: &mut Random) -> f32 {
    let pivot = PIVOTS[(random.uniform() * PIVOTS.len() as f32) as usize];
    let step = (random.uniform() * 5.0) as u32;
    match (random.uniform() * 16.0) as u32 {
        0 => 0.0,
        1 => -0.0,
        2 => f32::from_bits(step),
        3 => -f32::from_bits(step),
        i => f32::from_bits(pivot.to_bits() - 2 + step) * [1.0, -1.0][i as usize % 2],
    }
}

/// Weights whose blocks are of all kinds and scales. Products may leave the pivots by a step: those
/// are the ones to get right.
fn weights(count: usize, block_len: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        let kind = (random.uniform() * 16.0) as u32;
        let scale = if kind == 15 { 1.0 } else { scale(&mut random) };
        let len = block_len.min(count - all.len());
        all.extend(block(&mut random, kind, len).iter().map(|w| w * scale));
    }
    all
}

/// Makes weights so small that their scales have a finite sum: without, there is nothing to
/// quantize the scales by.
fn with_mean(weights: &mut [f32]) {
    weights.iter_mut().for_each(|w| *w /= 65_536.0);
}

/// What is different, part by part, if anything is.
fn difference(got: &PackedTensor, want: &PackedTensor) -> Option<String> {
    let (got, want) = (got.parts(), want.parts());
    let parts = got.iter().zip(&want).find(|(got, want)| got != want);
    let (got, want) = parts.or((got.len() != want.len()).then(|| (&got[0], &want[0])))?;
    let at = got.bytes.iter().zip(&want.bytes).position(|(a, b)| a != b);
    let lengths = (got.bytes.len(), want.bytes.len());
    Some(format!("part `{}`, byte {at:?} of {lengths:?} differs", got.suffix))
}

/// Rows and columns, with a reason.
const SHAPES: &[(usize, usize, &str)] = &[
    (96, 4096, "whole blocks of every size"),
    (1, 1, "one weight"),
    (3, 5, "an odd number, less than a word"),
    (7, 33, "blocks across rows, an odd number"),
    (5, 4099, "the largest block is cut short; odd rows"),
    (129, 515, "rows that no block divides"),
];

#[test]
fn the_device_gives_the_bytes_of_the_cpu() {
    let _stated = pipelines(45);
    let (mut failures, mut done) = (vec![], 0);
    for block in BLOCKS {
        for (i, &(m, k, why)) in SHAPES.iter().enumerate() {
            let mut weights = weights(m * k, block, (block + i) as u64);
            let config = FourBitConfig { block, double: i % 2 == 1, ..FourBitConfig::default() };
            if config.double {
                with_mean(&mut weights);
            }
            for name in ["NF4", "FP4"] {
                let format = format::by_name(name).expect("a format of the table");
                let want = PackedTensor::encode("w", [m, k], &weights, &Recipe::four_bit(format, config))
                    .expect("finite");
                for variant in families() {
                    let got =
                        variant.runtime().encode("w", [m, k], &weights, &Recipe::four_bit(format, config));
                    let wrong = difference(&got.expect("small"), &want);
                    let cell = format!("{name} {m}x{k} by {block} ({why}), {}", variant.name);
                    failures.extend(wrong.map(|wrong| format!("{cell}: {wrong}")));
                    done += 1;
                }
            }
        }
    }
    report(&failures, done);
}

/// Millions of weights in one tensor, several workgroups of each dimension and several windows of a
/// binding.
#[test]
fn large_tensors_go_in_windows() {
    let _stated = pipelines(10);
    let (m, k) = (2050, 1027);
    let weights = weights(m * k, 64, 7);
    for name in ["NF4", "FP4"] {
        let format = format::by_name(name).expect("a format of the table");
        let want = PackedTensor::encode("w", [m, k], &weights, &Recipe::new(format)).expect("finite");
        for variant in families() {
            let got = variant.runtime().encode("w", [m, k], &weights, &Recipe::new(format)).expect("8 MB");
            assert_eq!(difference(&got, &want), None, "{name}, {}", variant.name);
        }
        let options = Options { max_binding: Some(1 << 20), ..VARIANTS[0].options() };
        let got = crate::device::open(&options)
            .encode("w", [m, k], &weights, &Recipe::new(format))
            .expect("nine windows");
        assert_eq!(difference(&got, &want), None, "{name} in windows");
        let options = Options { max_binding: Some(1 << 13), ..VARIANTS[0].options() };
        let error = crate::device::open(&options)
            .encode("w", [m, k], &weights, &Recipe::new(format))
            .expect_err("a block is 16 KiB");
        assert!(matches!(error, Error::LimitExceeded { .. }), "{error}");
    }
}

/// Finite weights whose scales have no mean: the sum overflows.
#[test]
fn scales_that_overflow_are_refused() {
    let _stated = pipelines(5);
    let format = format::NF4;
    let weights = vec![3e38; 4 * 64];
    for double in [false, true] {
        let config = FourBitConfig { double, ..FourBitConfig::default() };
        let cpu = PackedTensor::encode("w", [4, 64], &weights, &Recipe::four_bit(format, config));
        let gpu = VARIANTS[0].runtime().encode("w", [4, 64], &weights, &Recipe::four_bit(format, config));
        for made in [cpu, gpu] {
            match made {
                Ok(packed) => assert!(!double && packed.dequantize() == weights),
                Err(error) => assert!(double && matches!(error, Error::NonFinite { .. }), "{error}"),
            }
        }
    }
}

/// Rows of weights with all the magnitudes of halves: common, subnormal as halves and as f32, the
/// largest, zeros; and ties, which are common among halves.
fn rows(m: usize, k: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    let row = |i: usize| {
        let top = match i % 8 {
            0 => 0.0,
            1 => 3e-6,
            2 => 1e-40,
            3 => 65_000.0,
            4 => 2e-8,
            _ => random.uniform(),
        };
        let weights = (0..k).map(|_| top * (random.uniform() * 2.0 - 1.0)).collect::<Vec<_>>();
        let halves = weights.iter().map(|w| half::f16::from_f32(*w).to_f32()).collect();
        if i.is_multiple_of(3) { weights } else { halves }
    };
    (0..m).flat_map(row).collect()
}

#[test]
fn int8_is_encoded_to_the_bytes_of_the_cpu() {
    let _stated = pipelines(20);
    let format = format::INT8;
    let shapes = [(9, 1), (9, 2), (17, 31), (40, 32), (33, 33), (8, 100), (65, 257), (9, 4100), (3, 14_336)];
    let (mut failures, mut done) = (vec![], 0);
    for (m, k) in shapes {
        let weights = rows(m, k, (m * k) as u64);
        let want = PackedTensor::encode("w", [m, k], &weights, &Recipe::new(format)).expect("finite");
        for variant in families() {
            let got = variant.runtime().encode("w", [m, k], &weights, &Recipe::new(format)).expect("small");
            let wrong = difference(&got, &want);
            failures.extend(wrong.map(|wrong| format!("INT8 {m}x{k}, {}: {wrong}", variant.name)));
            done += 1;
        }
        let options = Options { max_binding: Some(64 << 10), max_groups: Some(3), ..VARIANTS[0].options() };
        let got = crate::device::open(&options)
            .encode("w", [m, k], &weights, &Recipe::new(format))
            .expect("rows fit");
        failures.extend(difference(&got, &want).map(|wrong| format!("INT8 {m}x{k} in windows: {wrong}")));
    }
    report(&failures, done);
}

#[test]
fn int8_refuses_what_the_cpu_refuses() {
    let _stated = pipelines(5);
    let format = format::INT8;
    let runtime = VARIANTS[0].runtime();
    let encode = |weights: &[f32]| {
        let by_cpu = PackedTensor::encode("w", [2, 3], weights, &Recipe::new(format));
        (runtime.encode("w", [2, 3], weights, &Recipe::new(format)), by_cpu)
    };
    // The largest half, what rounds to it, and what rounds to more.
    for (top, fits) in [(65_504.0, true), (65_519.99, true), (65_520.0, false), (1e9, false)] {
        let (got, want) = encode(&[1.0, 2.0, 3.0, 0.0, -top, 1.0]);
        match (got, want) {
            (Ok(got), Ok(want)) if fits => assert_eq!(difference(&got, &want), None),
            (Err(got), Err(want)) if !fits => assert_eq!(got.to_string(), want.to_string()),
            (got, want) => panic!("{top}: {got:?} {want:?}"),
        }
    }
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let (got, want) = encode(&[1.0, bad, 3.0, 0.0, bad, 1.0]);
        assert_eq!(got.expect_err("no number").to_string(), want.expect_err("no number").to_string());
    }
    assert!(matches!(encode(&[1.0]).0, Err(Error::Shape { .. })));
    let none = runtime.encode("w", [0, 64], &[], &Recipe::new(format)).expect("a tensor without rows");
    assert_eq!((none.rows(), none.cols()), (0, 64));
}

#[test]
fn weights_of_a_buffer_are_encoded_where_they_lie() {
    let _stated = pipelines(5);
    let runtime = VARIANTS[0].runtime();
    let (m, k) = (33, 70);
    let format = format::NF4;
    let config = FourBitConfig { block: 32, double: true, ..FourBitConfig::default() };
    let mut weights = weights(m * k, 32, 3);
    with_mean(&mut weights);
    let buffer = |size: u64| {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        runtime.device().create_buffer(&descriptor)
    };
    let bytes = (m * k * 4) as u64;
    let full = buffer(bytes.next_multiple_of(16));
    let write = |weights: &[f32]| {
        let bytes: Vec<u8> = weights.iter().flat_map(|w| w.to_le_bytes()).collect();
        runtime.queue().write_buffer(&full, 0, &bytes);
    };
    write(&weights);
    let got = runtime.encode("w", [m, k], &full, &Recipe::four_bit(format, config)).expect("small");
    let want =
        PackedTensor::encode("w", [m, k], &weights, &Recipe::four_bit(format, config)).expect("finite");
    assert_eq!(difference(&got, &want), None);
    let error = runtime
        .encode("w", [m, k], &buffer(bytes), &Recipe::four_bit(format, config))
        .expect_err("8 bytes short");
    assert!(matches!(error, Error::Shape { .. }), "{error}");
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        weights[100] = bad;
        write(&weights);
        let error =
            runtime.encode("w", [m, k], &full, &Recipe::four_bit(format, config)).expect_err("not finite");
        assert!(matches!(error, Error::NonFinite { count: 1, first: 3, .. }), "{error}");
    }
}

/// The same errors as on the CPU, and the same bytes where only the CPU has an encoder.
#[test]
fn what_cannot_be_encoded_is_refused() {
    let _stated = pipelines(5);
    let runtime = VARIANTS[0].runtime();
    let mut weights = check::activations(4 * 64, 1);
    let q8_0 =
        runtime.encode("w", [4, 64], &weights, &Recipe::new(format::Q8_0)).expect("the CPU has an encoder");
    let want = PackedTensor::encode("w", [4, 64], &weights, &Recipe::new(format::Q8_0)).expect("the same");
    assert_eq!(difference(&q8_0, &want), None);
    let error = runtime.encode("w", [1, 256], &weights, &Recipe::new(format::IQ1_S)).expect_err("nobody has");
    assert!(matches!(error, Error::Argument(_)), "{error}");
    let error = runtime.encode("w", [5, 64], &weights, &Recipe::new(format::NF4)).expect_err("320 weights");
    assert!(matches!(error, Error::Shape { .. }), "{error}");
    for (format, block) in [(format::NF4, 48), (format::NF4, 16), (format::FP4, 8192), (format::Q8_0, 64)] {
        let config = FourBitConfig { block, ..FourBitConfig::default() };
        let error = runtime.encode("w", [4, 64], &weights, &Recipe::four_bit(format, config));
        assert!(matches!(error, Err(Error::Argument(_))), "{format:?} by {block}");
    }
    (weights[70], weights[99]) = (f32::NAN, f32::INFINITY);
    let error = runtime.encode("w", [4, 64], &weights, &Recipe::new(format::NF4)).expect_err("not finite");
    assert!(matches!(error, Error::NonFinite { count: 2, first: 70, .. }), "{error}");
    let none = runtime.encode("w", [0, 64], &[], &Recipe::new(format::NF4)).expect("a tensor without rows");
    assert_eq!(
        difference(&none, &PackedTensor::encode("w", [0, 64], &[], &Recipe::new(format::NF4)).expect("too")),
        None
    );
}
