//! Independent truth: blocks, weights and products made by ggml and gguf-py, on the CPU and on the
//! GPU.

use crate::common::{Golden, report};
use crate::device::{VARIANTS, families, is_full, pipelines, side_by_side};
use qmatmul::check::{NMSE_F32, compare, compare_bits};
use qmatmul::file::{Model, OpenOptions};
use qmatmul::format::{self, FORMATS, Format};
use qmatmul::gpu::Upload;
use qmatmul::kernel::reference;
use qmatmul::{PackedTensor, Runtime};

/// A golden block file as a tensor with its expected weights.
struct Vector {
    file: Golden,
    format: &'static Format,
    packed: PackedTensor,
    weights: Vec<f32>,
}

fn vectors(folder: &str) -> Vec<Vector> {
    Golden::folder(folder).into_iter().map(vector).collect()
}

fn vector(file: Golden) -> Vector {
    let stem = file.name.split('.').next().expect("split yields one part").to_owned();
    let format = format::by_name(&stem).unwrap_or_else(|| panic!("{}: no such format", file.name));
    let (shape, _) = file.tensor("dequant_f32");
    let packed = PackedTensor::new(&file.name, format, shape[0], shape[1], file.tensor("packed.data").1)
        .expect("the vector's shape fits its bytes");
    let weights = file.f32s("dequant_f32");
    Vector { file, format, packed, weights }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn every_packed_format_has_vectors() {
    let names: Vec<_> = vectors("gguf").iter().map(|v| v.file.name.to_lowercase()).collect();
    for format in FORMATS.iter().filter(|f| f.blocks().is_some() && !f.is_plain()) {
        for kind in ["odd", "fuzz"] {
            let wanted = format!("{}.{kind}", format.stem);
            assert!(names.contains(&wanted), "tests/golden/gguf lacks {wanted}");
        }
    }
}

#[test]
fn cpu_decodes_bit_for_bit() {
    for v in vectors("gguf") {
        assert_eq!(bits(&v.packed.dequantize()), bits(&v.weights), "{}", v.file.name);
    }
}

#[test]
fn cpu_reference_gives_the_golden_products() {
    for v in vectors("gguf") {
        let got = reference::matmul(&v.packed, &v.file.f32s("x_f32")).expect("shapes fit");
        for ((got, want), scale) in got.iter().zip(v.file.f64s("y_f64")).zip(v.file.f64s("yabs_f64")) {
            assert!((got - want).abs() <= 1e-14 * scale, "{}: got {got}, want {want}", v.file.name);
        }
    }
}

#[test]
fn encoders_give_the_bytes_of_ggml() {
    let mut done = 0;
    for folder in ["gguf", "encode"] {
        for v in vectors(folder) {
            let encode = v.format.blocks().and_then(|blocks| blocks.encode);
            let Some(encode) = encode.filter(|_| v.file.has("w_f32")) else { continue };
            let (w, want) = (v.file.f32s("w_f32"), v.packed.data());
            // `PackedTensor::encode` would refuse the vectors of weights beyond their format.
            let mut got = vec![0; want.len()];
            let rows = got.chunks_mut(want.len() / v.packed.rows()).zip(w.chunks(v.packed.cols()));
            rows.for_each(|(row, w)| encode(w, row));
            let wrong = got.iter().zip(&want).position(|(a, b)| a != b);
            assert_eq!(wrong, None, "{}: first different byte", v.file.name);
            done += 1;
        }
    }
    let encoders =
        FORMATS.iter().filter(|f| f.has_encoder() && f.blocks().is_some() && !f.is_plain()).count();
    assert!(done >= 2 * encoders, "only {done} vectors for {encoders} encoders");
}

#[test]
fn gpu_decodes_bit_for_bit() {
    let _stated = pipelines(40);
    let runtime = VARIANTS[0].runtime();
    let all = vectors("gguf");
    let failures = all.iter().filter_map(|v| {
        let got = runtime.upload(&v.packed).and_then(|w| runtime.dequantize(&w)).expect("small tensors fit");
        let comparison = compare_bits(&got, &v.weights);
        (!comparison.passed).then(|| format!("{}: {comparison}", v.file.name))
    });
    report(&failures.collect::<Vec<_>>(), all.len());
}

#[test]
fn gpu_multiplies_within_the_bound() {
    let _stated = pipelines(70);
    let all = vectors("gguf");
    let (failures, done) = side_by_side(0..VARIANTS.len(), |v| {
        let variant = &VARIANTS[v];
        // A variant for each vector; the grid has all of them.
        let here: Vec<_> = all.iter().enumerate().filter(|(i, _)| i % 4 == v || is_full()).collect();
        let failures = here.iter().filter_map(|(_, v)| {
            let got = product(variant.runtime(), v);
            let comparison = compare(&got, &v.file.f64s("y_f64"), NMSE_F32);
            (!comparison.passed).then(|| format!("{} on {}: {comparison}", v.file.name, variant.name))
        });
        (failures.collect(), here.len())
    });
    report(&failures, done);
}

fn product(runtime: &Runtime, v: &Vector) -> Vec<f32> {
    let w = runtime.upload(&v.packed).expect("small tensors fit");
    runtime.matmul(&w, &v.file.f32s("x_f32")).expect("shapes fit")
}

/// Around every power of two: what rounds down, up, to even, and into the next exponent.
fn integers() -> Vec<i64> {
    let near = |p: u32| {
        let (one, half) = (1i64 << p, (1i64 << p) >> 24);
        let around = [one, one + half, one + 3 * half, (one - 1) + one];
        around.into_iter().flat_map(move |v| [-half, -1, 0, 1, half].map(|d| v.wrapping_add(d)))
    };
    let positive: Vec<_> = [0, i64::MAX, i64::MIN].into_iter().chain((0..63).flat_map(near)).collect();
    positive.iter().flat_map(|v| [*v, v.wrapping_neg()]).collect()
}

/// The same for every exponent of f64, wherever the rounding bit lies; subnormal, huge and infinite
/// results among them.
fn doubles() -> Vec<f64> {
    let ones = (1u64 << 52) - 1;
    let bits = (0..52).map(|b| 1 << b);
    let mantissas: Vec<_> =
        bits.chain([0, 3 << 28, ones, ones - (1 << 28) + 1, 0x5_5555_5555_5555]).collect();
    let near = |m: u64| [m.saturating_sub(1), m, (m + 1) & ones];
    let all = (0..2047u64).flat_map(|e| mantissas.iter().copied().flat_map(near).map(move |m| e << 52 | m));
    all.flat_map(|bits| [bits, bits | 1 << 63]).map(f64::from_bits).collect()
}

/// Holds the weights of plain numbers against `want`, on the CPU and on GPUs.
fn decodes_to(name: &str, bytes: impl Iterator<Item = u8>, want: &[f32]) {
    let format = format::by_name(name).expect("a format of the table");
    let bytes: Vec<u8> = bytes.collect();
    let packed = PackedTensor::new(name, format, 1, want.len(), bytes).expect("whole numbers");
    assert_eq!(bits(&packed.dequantize()), bits(want), "{name} on the CPU");
    for variant in families() {
        let upload = Upload { allow_non_finite: true, ..Upload::default() };
        let runtime = variant.runtime();
        let got = runtime.upload_with(&packed, upload).and_then(|w| runtime.dequantize(&w));
        let comparison = compare_bits(&got.expect("small tensors fit"), want);
        assert!(comparison.passed, "{name}, {}: {comparison}", variant.name);
    }
}

/// Plain numbers wider than f32 round as Rust's `as f32`.
#[test]
fn wide_numbers_round_to_nearest_even() {
    let _stated = pipelines(20);
    let i64s = integers();
    let i32s: Vec<_> = i64s.iter().flat_map(|v| [*v as i32, (*v >> 32) as i32]).collect();
    let f64s = doubles();
    let want: Vec<_> = i64s.iter().map(|v| *v as f32).collect();
    decodes_to("I64", i64s.iter().flat_map(|v| v.to_le_bytes()), &want);
    let want: Vec<_> = i32s.iter().map(|v| *v as f32).collect();
    decodes_to("I32", i32s.iter().flat_map(|v| v.to_le_bytes()), &want);
    let want: Vec<_> = f64s.iter().map(|v| *v as f32).collect();
    decodes_to("F64", f64s.iter().flat_map(|v| v.to_le_bytes()), &want);
}

/// A whole file by gguf-py: every type it can hold, plain tensors of several dimensions.
#[test]
fn a_file_of_every_type_reads_as_its_writer_meant() {
    let _stated = pipelines(40);
    let path = crate::common::path("golden/gguf_files/types_align32.gguf");
    let model = Model::open(&path, &OpenOptions::default()).expect("the file is valid");
    let expected = Golden::folder("gguf_files").into_iter().find(|g| g.name == "types_align32.expected");
    let expected = expected.expect("the expected values are in the repository");
    let runtime = VARIANTS[0].runtime();
    let mut done = vec![];
    for info in model.tensors() {
        let Some(format) = info.dtype.format() else { continue };
        let packed = model.tensor(info).expect("a supported tensor");
        let want = expected.f32s(&info.name);
        assert_eq!(bits(&packed.dequantize()), bits(&want), "{} on the CPU", info.name);
        let got = runtime.upload(&packed).and_then(|w| runtime.dequantize(&w)).expect("small tensors fit");
        assert_eq!(bits(&got), bits(&want), "{} on the GPU", info.name);
        done.push(format.name);
    }
    assert!(done.len() >= 8, "only {done:?} were read");
}

/// A whole Q4_K_M file by llama-quantize: the outputs of every matrix, computed from gguf-py's
/// weights, for one input.
#[test]
fn a_real_mix_of_types_gives_the_golden_outputs() {
    let _stated = pipelines(15);
    let model =
        Model::open(crate::common::path("golden/checkpoints/gguf/tiny-Q4_K_M.gguf"), &OpenOptions::default());
    let model = model.expect("the file is valid");
    let files = Golden::folder("checkpoints/gguf");
    let file = |name: &str| files.iter().find(|g| g.name == name).expect("the vectors are in the repository");
    let (x, expected) = (file("x256").f32s("x"), file("tiny-Q4_K_M.expected"));
    let mut done = vec![];
    for info in model.tensors().iter().filter(|t| expected.has(&format!("{}.y", t.name))) {
        let want = expected.f64s(&format!("{}.y", info.name));
        let packed = model.tensor(info).expect("a supported tensor");
        let cpu = reference::matmul(&packed, &x).expect("shapes fit");
        let near = cpu.iter().zip(&want).all(|(got, want)| (got - want).abs() <= 1e-12 * want.abs().max(1.0));
        assert!(near, "{} on the CPU", info.name);
        for variant in families() {
            let runtime = variant.runtime();
            let got =
                runtime.upload(&packed).and_then(|w| runtime.matmul(&w, &x)).expect("small tensors fit");
            let comparison = compare(&got, &want, NMSE_F32);
            assert!(comparison.passed, "{} on {}: {comparison}", info.name, variant.name);
        }
        done.push(info.dtype.name());
    }
    assert!(done.len() == 30 && done.contains(&"Q4_K") && done.contains(&"Q6_K"), "{done:?}");
}
