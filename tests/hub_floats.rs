//! FP8 as checkpoints hold it: vectors by other packages, every layout, and files that lie.

mod common;

use common::{Golden, VARIANTS, open as open_runtime, report};
use qmatmul::check::{self, NMSE_F32, compare, compare_bits};
use qmatmul::file::{Model, OpenOptions};
use qmatmul::gpu::Upload;
use qmatmul::kernel::{MatmulOptions, reference};
use qmatmul::{Error, Options, PackedTensor};
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::{Value, json};
use std::path::Path;
use tempfile::TempDir;

/// Tensors of a checkpoint: name, type, shape, bytes.
type Tensors = Vec<(String, Dtype, Vec<usize>, Vec<u8>)>;

fn golden(folder: &str, name: &str) -> Golden {
    Golden::folder(folder).into_iter().find(|g| g.name == name).expect("the vector is in the repository")
}

/// The packed tensors of a vector, by name and type.
fn packed(file: &Golden, parts: &[(&str, Dtype)]) -> Tensors {
    let part = |(name, dtype): &(&str, Dtype)| {
        let (shape, bytes) = file.tensor(&format!("packed.{name}"));
        (format!("packed.{name}"), *dtype, shape, bytes)
    };
    parts.iter().map(part).collect()
}

fn write(path: &Path, tensors: &[(String, Dtype, Vec<usize>, Vec<u8>)]) {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap_or_else(|e| panic!("{name}: {e}")))
    });
    std::fs::write(path, serialize(views, None).expect("valid")).expect("room");
}

/// A checkpoint of these tensors, with settings if there are any.
fn checkpoint(tensors: &Tensors, settings: &Value) -> Result<Model, Error> {
    let dir = TempDir::new().expect("a temporary folder");
    write(&dir.path().join("model.safetensors"), tensors);
    let config = json!({"quantization_config": settings}).to_string();
    std::fs::write(dir.path().join("config.json"), config).expect("room");
    // Mapped, it outlives the folder.
    Model::open(dir.path(), &OpenOptions { mmap: true })
}

fn load(tensors: &Tensors, settings: &Value) -> PackedTensor {
    let model = checkpoint(tensors, settings).unwrap_or_else(|e| panic!("{e}"));
    model.tensor(model.find(module(tensors)).expect("by its name")).expect("its parts are there")
}

/// The name of the weight whose codes come first.
fn module(tensors: &Tensors) -> &str {
    tensors[0].0.strip_suffix(".weight").unwrap_or(&tensors[0].0)
}

/// Weights bit for bit on the CPU and on every variant, products within the bound.
fn holds(file: &Golden, packed: &PackedTensor) {
    let weights = file.f32s("dequant_f32");
    let comparison = compare_bits(&packed.dequantize(), &weights);
    assert!(comparison.passed, "{}: {comparison}", file.name);
    let (x, want) = (file.f32s("x_f32"), file.f64s("y_f64"));
    let cpu = reference::matmul(packed, &x).expect("shapes fit");
    for ((got, want), scale) in cpu.iter().zip(&want).zip(file.f64s("yabs_f64")) {
        assert!((got - want).abs() <= 1e-13 * scale, "{}: got {got}, want {want}", file.name);
    }
    for variant in &VARIANTS {
        let runtime = variant.runtime();
        let w = runtime.upload(packed).expect("small");
        let bits = compare_bits(&runtime.dequantize(&w).expect("small"), &weights);
        assert!(bits.passed, "{} on {}: {bits}", file.name, variant.name);
        let y = compare(&runtime.matmul(&w, &x).expect("small"), &want, NMSE_F32);
        assert!(y.passed, "{} on {}: {y}", file.name, variant.name);
    }
}

/// One tensor on both families of kernels, with subgroups or (where `i` is odd) without: pipelines take their time. Lines about
/// what failed.
fn both_families(
    (i, why): (usize, &str),
    packed: &PackedTensor,
    batches: &[usize],
    failures: &mut Vec<String>,
) -> usize {
    let mut done = 0;
    for variant in VARIANTS.iter().skip(i % 2).step_by(2) {
        let options = MatmulOptions::default();
        let outcomes = check::tensor(variant.runtime(), packed, batches, &options, 3).expect("small");
        let bad = outcomes.iter().filter(|o| !o.comparison.passed);
        failures.extend(
            bad.map(|o| format!("{why} on {}: {} n={} {}", variant.name, o.operation, o.n, o.comparison)),
        );
        done += outcomes.len();
    }
    done
}

/// Opening must fail with this tensor and these words.
#[track_caller]
fn refused(tensors: &Tensors, settings: &Value, tensor: &str, words: &[&str]) {
    match checkpoint(tensors, settings).map(drop).expect_err("a lie") {
        Error::Malformed { what, problem, .. } => {
            assert_eq!(what, format!("tensor `{tensor}`"), "{problem}");
            assert!(words.iter().all(|word| problem.contains(word)), "{problem}: {words:?}");
        }
        other => panic!("{other}"),
    }
}

/// Tensors, one of them with another type and shape.
fn changed(tensors: &Tensors, name: &str, dtype: Dtype, shape: &[usize]) -> Tensors {
    let mut all = tensors.clone();
    let tensor = all.iter_mut().find(|t| t.0 == name).expect("it is there");
    (tensor.1, tensor.2) = (dtype, shape.to_vec());
    tensor.3.resize(shape.iter().product::<usize>() * dtype.bitsize() / 8, 1);
    all
}

fn without(tensors: &Tensors, name: &str) -> Tensors {
    tensors.iter().filter(|t| t.0 != name).cloned().collect()
}

/// Bytes of which none is among those left out.
fn bytes(count: usize, seed: u64, fits: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut random = check::Random::new(seed);
    std::iter::repeat_with(|| random.next_u64() as u8).filter(|byte| fits(*byte)).take(count).collect()
}

fn floats(count: usize) -> Vec<f32> {
    (0..count).map(|i| 0.003 + i as f32 * 1.7e-4).collect()
}

/// Numbers as tensors of any type of floats.
fn stored(values: &[f32], dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::F16 => values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect(),
        Dtype::BF16 => values.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    }
}

mod fp8 {
    use super::*;

    const E4M3: Dtype = Dtype::F8_E4M3;
    const E5M2: Dtype = Dtype::F8_E5M2;

    fn block() -> (Golden, Tensors) {
        let file = golden("fp8", "block128");
        let tensors = packed(&file, &[("weight", E4M3), ("weight_scale_inv", Dtype::F32)]);
        (file, tensors)
    }

    fn settings(size: Value) -> Value {
        json!({"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": size})
    }

    #[test]
    fn blocks_with_ragged_edges_are_those_of_the_vector() {
        let (file, tensors) = block();
        holds(&file, &load(&tensors, &settings(json!([128, 128]))));
        let alone = load(&tensors, &Value::Null);
        assert!(compare_bits(&alone.dequantize(), &file.f32s("dequant_f32")).passed, "without settings");
        let model = checkpoint(&tensors, &Value::Null).expect("valid");
        assert_eq!(model.tensors().len(), 1);
        let info = model.find("packed").expect("by its name");
        assert_eq!((info.dtype.name(), &info.shape[..]), ("FP8_E4M3", &[200, 300][..]));
        assert_eq!(info.bits_per_weight(), 8.0 + 6.0 * 32.0 / 60_000.0);
        let text = info.module.as_ref().expect("two tensors").description();
        assert_eq!(text, "FP8, 8 bits, blocks of 128 x 128");
        let rows = model.rows(info, 127..130).expect("200 rows");
        assert_eq!(rows.dequantize(), file.f32s("dequant_f32")[127 * 300..130 * 300]);
    }

    /// All 256 codes; those that are no numbers are seen before they reach a device.
    #[test]
    fn every_code_is_that_of_the_tables() {
        let tables = golden("fp8", "tables");
        for (dtype, name, bad) in [(E4M3, "e4m3fn_f32", 2), (E5M2, "e5m2_f32", 8)] {
            let want = tables.f32s(name);
            let all = tables.tensor("packed.bytes").1;
            let one = load(&vec![("a.weight".into(), dtype, vec![8, 32], all.clone())], &Value::Null);
            assert!(compare_bits(&one.dequantize(), &want).passed, "{name}");
            let finite: Vec<u8> = all.iter().copied().filter(|q| want[usize::from(*q)].is_finite()).collect();
            assert_eq!(finite.len(), 256 - bad);
            let good = vec![("a.weight".into(), dtype, vec![1, finite.len()], finite)];
            let good = load(&good, &Value::Null);
            good.check_finite().expect("numbers");
            for variant in &VARIANTS {
                let runtime = variant.runtime();
                let error = runtime.upload(&one).map(drop).expect_err("NaN");
                assert!(matches!(error, Error::NonFinite { .. }), "{error}");
                let upload = Upload { allow_non_finite: true, ..Upload::default() };
                for (packed, what) in [(&one, "all"), (&good, "finite")] {
                    let upload = Upload { progress: None, ..upload };
                    let got = runtime.upload_with(packed, upload).and_then(|w| runtime.dequantize(&w));
                    let comparison = compare_bits(&got.expect("small"), &packed.dequantize());
                    assert!(comparison.passed, "{name}, {what}, {}: {comparison}", variant.name);
                }
            }
        }
    }

    /// A weight with scales of any shape.
    fn weight(dtype: Dtype, shape: &[usize], scale: &str, of: Dtype, scales: &[usize]) -> Tensors {
        let top = if dtype == E4M3 { 0x7f } else { 0x7c };
        let codes = bytes(shape.iter().product(), 5, |q| q & 0x7f < top);
        let values = stored(&floats(scales.iter().product()), of);
        vec![
            ("a.weight".into(), dtype, shape.to_vec(), codes),
            (format!("a.{scale}"), of, scales.to_vec(), values),
        ]
    }

    /// Type, shape of the weight, name, type and shape of the scales, settings, rows and columns that share a scale, batch.
    type Case = (Dtype, &'static [usize], &'static str, Dtype, &'static [usize], Value, [usize; 2], usize);

    #[test]
    fn every_layout_of_scales() {
        let (f32, f16, bf16, no) = (Dtype::F32, Dtype::F16, Dtype::BF16, Value::Null);
        let blocks = |r: usize, c: usize| settings(json!([r, c]));
        let cases: Vec<Case> = vec![
            (E4M3, &[70, 96], "weight_scale", f32, &[], no.clone(), [70, 96], 1),
            (E5M2, &[33, 67], "weight_scale", f32, &[1], no.clone(), [33, 67], 9),
            (E4M3, &[33, 67], "scale_weight", f32, &[1, 1], no.clone(), [33, 67], 4),
            (E4M3, &[40, 160], "weight_scale", bf16, &[40, 1], no.clone(), [1, 160], 4),
            (E5M2, &[9, 100], "weight_scale", f16, &[9], no.clone(), [1, 100], 1),
            (E4M3, &[9, 100], "weight_scale_inv", f32, &[9, 1], no.clone(), [1, 100], 4),
            (E4M3, &[300, 1], "weight_scale", f32, &[300, 1], no.clone(), [1, 1], 9),
            (E4M3, &[130, 257], "weight_scale_inv", f32, &[2, 3], blocks(128, 128), [128, 128], 4),
            (E5M2, &[130, 257], "weight_scale_inv", bf16, &[2, 3], no.clone(), [128, 128], 9),
            (E4M3, &[130, 257], "weight_scale", f32, &[2, 3], no.clone(), [128, 128], 1),
            (E4M3, &[50, 97], "weight_scale_inv", f32, &[4, 7], blocks(16, 16), [16, 16], 4),
            (E4M3, &[7, 67], "weight_scale_inv", f32, &[3, 14], blocks(3, 5), [3, 5], 1),
            (E4M3, &[7, 128], "weight_scale", f32, &[7, 4], no.clone(), [1, 32], 33),
            (E4M3, &[7, 40], "weight_scale", f32, &[7, 5], no.clone(), [1, 8], 4),
            (E4M3, &[3, 50, 70], "weight_scale_inv", f32, &[3, 2, 2], blocks(32, 64), [32, 64], 4),
            (E4M3, &[3, 50, 70], "weight_scale", f32, &[3, 50, 1], no.clone(), [1, 70], 4),
            (E4M3, &[3, 50, 70], "weight_scale", f32, &[3, 1, 1], no.clone(), [50, 70], 4),
            (E4M3, &[3, 50, 70], "weight_scale", f32, &[3], no.clone(), [50, 70], 4),
            (E4M3, &[3, 50, 70], "weight_scale", f32, &[1], no, [150, 70], 4),
        ];
        let tables = golden("fp8", "tables");
        let (mut failures, mut done) = (vec![], 0);
        for (i, (dtype, shape, name, of, scales, settings, [r, c], n)) in cases.into_iter().enumerate() {
            let why = format!("{dtype:?} {shape:?} {name} {scales:?} {settings}");
            let tensors = weight(dtype, shape, name, of, scales);
            let packed = load(&tensors, &settings);
            let table = tables.f32s(if dtype == E4M3 { "e4m3fn_f32" } else { "e5m2_f32" });
            let values: Vec<f32> = match of {
                Dtype::F16 => floats(200_000).iter().map(|v| half::f16::from_f32(*v).to_f32()).collect(),
                Dtype::BF16 => floats(200_000).iter().map(|v| half::bf16::from_f32(*v).to_f32()).collect(),
                _ => floats(200_000),
            };
            let (m, k) = (shape[shape.len() - 2], shape[shape.len() - 1]);
            let matrix = if r > m { r } else { m };
            let want = tensors[0].3.iter().enumerate().map(|(i, q)| {
                let (row, col) = (i / k, i % k);
                let block = row / matrix * matrix.div_ceil(r) + row % matrix / r;
                table[usize::from(*q)] * values[block * k.div_ceil(c) + col / c]
            });
            assert!(compare_bits(&packed.dequantize(), &want.collect::<Vec<_>>()).passed, "{why}");
            done += both_families((i, &why), &packed, &[n], &mut failures);
        }
        report(&failures, done);
    }

    /// MXFP8: a byte of exponent for each 32.
    #[test]
    fn scales_may_be_exponents() {
        let mut tensors = weight(E4M3, &[6, 96], "weight_scale", Dtype::U8, &[6, 3]);
        tensors[1].3 = (118..136).collect();
        let packed = load(&tensors, &Value::Null);
        let tables = golden("fp8", "tables");
        let (values, powers) = (tables.f32s("e4m3fn_f32"), tables.f32s("e8m0_f32"));
        let want =
            tensors[0].3.iter().enumerate().map(|(i, q)| values[usize::from(*q)] * powers[118 + i / 32]);
        assert_eq!(packed.dequantize(), want.collect::<Vec<_>>());
        let mut failures = vec![];
        let done = both_families((0, "exponents"), &packed, &[1, 4, 9], &mut failures);
        report(&failures, done);
        // All exponents as scales of their own: the smallest is subnormal, the last is none.
        let ones: Tensors = vec![
            ("a.weight".into(), E4M3, vec![256, 1], vec![0x38; 256]),
            ("a.weight_scale".into(), Dtype::F8_E8M0, vec![256, 1], (0..=255).collect()),
        ];
        assert!(compare_bits(&load(&ones, &Value::Null).dequantize(), &powers).passed);
    }

    /// Scales without end or number are found on the host, and so are those that only the largest code makes infinite.
    #[test]
    fn scales_that_are_no_numbers_are_found() {
        for scale in [f32::NAN, f32::INFINITY, 1e38] {
            let mut tensors = weight(E4M3, &[5, 40], "weight_scale", Dtype::F32, &[5, 1]);
            tensors[1].3[8..12].copy_from_slice(&scale.to_le_bytes());
            let error = load(&tensors, &Value::Null).check_finite().expect_err("one row");
            assert!(matches!(error, Error::NonFinite { count: 1, first: 2, .. }), "{scale}: {error}");
        }
    }

    /// Small bindings cut between the rows of a block; files between a weight and its scales.
    #[test]
    fn shards_of_devices_and_of_files() {
        let (file, tensors) = block();
        let dir = TempDir::new().expect("a temporary folder");
        write(&dir.path().join("a.safetensors"), &tensors[..1]);
        write(&dir.path().join("b.safetensors"), &tensors[1..]);
        let map = json!({"packed.weight": "a.safetensors", "packed.weight_scale_inv": "b.safetensors"});
        let index = dir.path().join("model.safetensors.index.json");
        std::fs::write(index, json!({"weight_map": map}).to_string()).expect("room");
        let model = Model::open(dir.path(), &OpenOptions { mmap: false }).expect("two shards");
        let packed = model.find("packed").and_then(|info| model.tensor(info)).expect("valid");
        for software in [true, false] {
            let small = Options { max_binding: Some(16 << 10), ..Options::default() };
            let runtime = open_runtime(&Options { software: Some(software), ..small });
            let w = runtime.upload(&packed).expect("rows fit");
            assert!(w.shard_count() > 3);
            assert!(compare_bits(&runtime.dequantize(&w).expect("small"), &file.f32s("dequant_f32")).passed);
            let y = runtime.matmul(&w, &file.f32s("x_f32")).expect("small");
            let comparison = compare(&y, &file.f64s("y_f64"), NMSE_F32);
            assert!(comparison.passed, "software = {software}: {comparison}");
        }
    }

    /// Scales of other schemes, which are FP8 themselves, and vectors without a name that says so.
    #[test]
    fn other_tensors_of_fp8_are_listed() {
        let mut tensors = weight(E4M3, &[5, 40], "weight_scale", Dtype::F32, &[5, 1]);
        tensors.push(("b.table".into(), E4M3, vec![4], vec![1; 4]));
        tensors.push(("b.bias".into(), Dtype::F32, vec![1], vec![0; 4]));
        let model = checkpoint(&tensors, &Value::Null).expect("valid");
        let mut names: Vec<_> = model.tensors().iter().map(|t| (&*t.name, t.dtype.name())).collect();
        names.sort_unstable();
        assert_eq!(names, [("a.weight", "FP8_E4M3"), ("b.bias", "F32"), ("b.table", "F8_E4M3")]);
    }

    #[test]
    fn lies_are_told_with_names_and_numbers() {
        let (_, good) = block();
        let (w, s) = ("packed.weight", "packed.weight_scale_inv");
        let (no, blocks) = (Value::Null, settings(json!([128, 128])));
        for shape in [&[3, 3][..], &[2, 2], &[6], &[3, 2], &[2, 3, 1], &[1, 300], &[201, 1]] {
            let lie = changed(&good, s, Dtype::F32, shape);
            let shape = format!("{shape:?}");
            refused(&lie, &no, s, &["[200, 300]", "2 x 3 scales", "128 x 128", &shape]);
            refused(&lie, &blocks, s, &["[200, 300]", "2 x 3 scales", "128 x 128", &shape]);
        }
        // One for all, where the settings have blocks.
        refused(&changed(&good, s, Dtype::F32, &[1]), &blocks, s, &["2 x 3 scales", "[1]"]);
        refused(&good, &settings(json!([64, 128])), s, &["4 x 3 scales", "64 x 128", "[2, 3]"]);
        for size in [json!([128]), json!([128, 128, 1]), json!([0, 128]), json!("128"), json!([128, -1])] {
            refused(&good, &settings(size), w, &["two numbers", "weight_block_size"]);
        }
        for (dtype, name) in [(Dtype::F64, "F64"), (Dtype::I32, "I32"), (E4M3, "F8_E4M3")] {
            refused(&changed(&good, s, dtype, &[2, 3]), &no, s, &["F32 or F16 or BF16", name]);
        }
        for (dtype, name) in [(Dtype::BF16, "BF16"), (Dtype::U8, "U8"), (Dtype::I8, "I8")] {
            refused(&changed(&good, w, dtype, &[200, 300]), &no, w, &["F8_E4M3 or F8_E5M2", name]);
        }
        refused(&changed(&good, w, E4M3, &[60_000]), &no, w, &["2 or 3 dimensions", "[60000]"]);
        refused(&without(&good, w), &no, s, &["lacks `packed.weight`"]);
        let mut two = good.clone();
        two.push(("packed.weight_scale".into(), Dtype::F32, vec![1], vec![0; 4]));
        refused(&two, &no, w, &["both", "packed.weight_scale_inv", "`packed.weight_scale`"]);
        let stack = weight(E4M3, &[3, 50, 70], "weight_scale", Dtype::F32, &[2, 50, 1]);
        refused(&stack, &no, "a.weight_scale", &["[3, 50, 70]", "[2, 50, 1]"]);
    }
}
