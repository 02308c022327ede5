//! FP8, MXFP4, NVFP4 and HQQ as checkpoints hold them: vectors by other packages, every layout, and
//! files that lie.

use crate::common::{Golden, report};
use crate::device::{VARIANTS, families, one_or_both, open as open_runtime, pipelines};
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
    for variant in families() {
        let runtime = variant.runtime();
        let w = runtime.upload(packed).expect("small");
        let bits = compare_bits(&runtime.dequantize(&w).expect("small"), &weights);
        assert!(bits.passed, "{} on {}: {bits}", file.name, variant.name);
        let y = compare(&runtime.matmul(&w, &x).expect("small"), &want, NMSE_F32);
        assert!(y.passed, "{} on {}: {y}", file.name, variant.name);
    }
}

/// One tensor on a family of kernels, both in turn, and in the full lane on both: with subgroups or
/// (where `i` is odd) without. Lines about what failed.
fn both_families(
    (i, why): (usize, &str),
    packed: &PackedTensor,
    batches: &[usize],
    failures: &mut Vec<String>,
) -> usize {
    let mut done = 0;
    for variant in one_or_both(i) {
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

/// Opening must go well, and the weight must be of a scheme that is not supported, with these
/// words.
#[track_caller]
fn unsupported(tensors: &Tensors, settings: &Value, weight: &str, words: &[&str]) {
    let model = checkpoint(tensors, settings).unwrap_or_else(|e| panic!("{e}"));
    let error = model.find(weight).and_then(|info| model.tensor(info)).map(drop).expect_err("no numbers");
    assert!(matches!(error, Error::UnsupportedFormat { .. }), "{error}");
    assert!(words.iter().all(|word| error.to_string().contains(word)), "{error}: {words:?}");
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
        let _stated = pipelines(15);
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
        let _stated = pipelines(15);
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
            for variant in families() {
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

    /// Type, shape of the weight, name, type and shape of the scales, settings, rows and columns
    /// that share a scale, batch.
    type Case = (Dtype, &'static [usize], &'static str, Dtype, &'static [usize], Value, [usize; 2], usize);

    #[test]
    fn every_layout_of_scales() {
        let _stated = pipelines(80);
        let (f32, f16, bf16, no) = (Dtype::F32, Dtype::F16, Dtype::BF16, Value::Null);
        let blocks = |r: usize, c: usize| settings(json!([r, c]));
        let grouped = |weights: Value| {
            let groups = json!({"group_0": {"weights": weights, "targets": ["Linear"]}});
            json!({"quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": groups})
        };
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
            (E4M3, &[7, 100], "weight_scale", f32, &[7, 4], grouped(json!({"group_size": 32})), [1, 32], 4),
            (
                E4M3,
                &[9, 100],
                "weight_scale",
                bf16,
                &[2, 3],
                grouped(json!({"block_structure": [8, 48]})),
                [8, 48],
                1,
            ),
            (
                E4M3,
                &[9, 100],
                "weight_scale",
                bf16,
                &[9, 1],
                grouped(json!({"strategy": "channel"})),
                [1, 100],
                1,
            ),
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
        let _stated = pipelines(10);
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

    /// Scales without end or number are found on the host, and so are those that only the largest
    /// code makes infinite.
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
        let _stated = pipelines(10);
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

    /// Scales whose names are unknown, or that are missing, and settings that speak of others.
    #[test]
    fn scales_that_are_lost_are_missed() {
        let alone = weight(E4M3, &[4, 256], "weight_scale", Dtype::F32, &[4, 1])[..1].to_vec();
        let (no, w) = (Value::Null, "a.weight");
        for method in ["fp8", "compressed-tensors", "modelopt", "fbgemm_fp8"] {
            refused(&alone, &json!({"quant_method": method}), w, &["no scale", method]);
        }
        let beside = |name: &str| {
            let mut all = alone.clone();
            all.push((name.into(), Dtype::F32, vec![], vec![0; 4]));
            all
        };
        for name in ["a.weights_scaling_factor", "a.weight.scale", "a.block_scale", "a.SCALES"] {
            unsupported(&beside(name), &no, w, &[name, "F8_E4M3"]);
        }
        for name in ["a.input_scale", "a.activation_scale", "a.k_scale", "a.output_scale", "b.scale"] {
            assert!(checkpoint(&beside(name), &no).is_ok(), "{name}");
        }
        let way = |way: Value| json!({"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": way}}});
        let rows = weight(E4M3, &[4, 256], "weight_scale", Dtype::F32, &[4, 1]);
        refused(
            &rows,
            &way(json!({"group_size": 64})),
            "a.weight_scale",
            &["4 x 4 scales", "1 x 64", "[4, 1]"],
        );
        let mut smooth = rows.clone();
        smooth.push(("a.pre_quant_scale".into(), Dtype::F32, vec![256], vec![0; 1024]));
        unsupported(&smooth, &no, "a.weight", &["pre_quant_scale", "activations", "not supported"]);
        // A layer saved alone.
        smooth.iter_mut().for_each(|t| t.0 = t.0.trim_start_matches("a.").to_owned());
        unsupported(&smooth, &no, "weight", &["pre_quant_scale", "activations", "not supported"]);
    }

    /// The names of DeepSeek's newer files, and groups of which one size of several fits.
    #[test]
    fn scales_by_other_names_and_ways() {
        let mut tensors = weight(E4M3, &[4, 8], "scale", Dtype::F8_E8M0, &[1, 1]);
        (tensors[0].3, tensors[1].3) = (vec![0x38; 32], vec![0x80]);
        assert_eq!(load(&tensors, &settings(json!([128, 128]))).dequantize(), [2.0; 32]);
        let group = |size: u64| json!({"weights": {"group_size": size}});
        let ways = |a, b| json!({"quant_method": "compressed-tensors", "config_groups": {"a": group(a), "b": group(b)}});
        let mut tensors = weight(E4M3, &[1, 160], "weight_scale", Dtype::F32, &[1, 3]);
        (tensors[0].3, tensors[1].3) = (vec![0x38; 160], stored(&[1.0, 2.0, 3.0], Dtype::F32));
        let row = load(&tensors, &ways(64, 128)).dequantize();
        assert_eq!(row.chunk_by(|a, b| a == b).map(<[f32]>::len).collect::<Vec<_>>(), [64, 64, 32]);
        refused(&tensors, &ways(60, 64), "a.weight_scale", &["1 x 60", "1 x 64"]);
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
        // Groups of 100, or longer ones of which the last is short.
        let lie = [without(&good, s), vec![(s.into(), Dtype::F32, vec![200, 3], vec![0; 2400])]].concat();
        refused(&lie, &no, s, &["2 x 3 scales", "[200, 3]"]);
        let groups = json!({"group_0": {"weights": {"group_size": 64}}});
        let groups = json!({"quant_method": "compressed-tensors", "config_groups": groups});
        let lie = [
            without(&good, s),
            vec![("packed.weight_scale".into(), Dtype::F32, vec![200, 3], vec![0; 2400])],
        ];
        refused(&lie.concat(), &groups, "packed.weight_scale", &["200 x 5 scales", "1 x 64", "[200, 3]"]);
        // One for all, where the settings have blocks.
        refused(&changed(&good, s, Dtype::F32, &[1]), &blocks, s, &["2 x 3 scales", "[1]"]);
        refused(&good, &settings(json!([64, 128])), s, &["4 x 3 scales", "64 x 128", "[2, 3]"]);
        for size in
            [json!([128]), json!([128, 128, 1]), json!([0, 128]), json!("128"), json!([128, -1]), json!(7)]
        {
            let error =
                checkpoint(&good, &settings(size.clone())).map(drop).expect_err("no block").to_string();
            assert!(error.contains("config.json"), "{size}: {error}");
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

mod float4 {
    use super::*;
    use qmatmul::Activations;

    const E2M1: [f32; 16] =
        [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

    fn gpt_oss() -> (Golden, Tensors) {
        let file = golden("mxfp4", "gptoss");
        let parts = [("gate_up_proj_blocks", Dtype::U8), ("gate_up_proj_scales", Dtype::U8)];
        let tensors = packed(&file, &parts);
        (file, tensors)
    }

    fn ct(name: &str) -> (Golden, Tensors, Value) {
        let file = golden("ct", name);
        let mut parts = vec![("weight_packed", Dtype::U8)];
        match name {
            "nvfp4" => parts.extend([("weight_scale", Dtype::F8_E4M3), ("weight_global_scale", Dtype::F32)]),
            _ => parts.push(("weight_scale", Dtype::U8)),
        }
        let tensors = packed(&file, &parts);
        let format = format!("{name}-pack-quantized");
        (file, tensors, json!({"quant_method": "compressed-tensors", "format": format}))
    }

    /// What ModelOpt would write for the same codes and scales.
    fn modelopt(scale: f32) -> Tensors {
        let (_, mut tensors, _) = ct("nvfp4");
        tensors[0].0 = "packed.weight".into();
        tensors[2] = ("packed.weight_scale_2".into(), Dtype::F32, vec![], scale.to_le_bytes().to_vec());
        tensors
    }

    fn find(tensors: &Tensors, settings: &Value, name: &str) -> PackedTensor {
        let model = checkpoint(tensors, settings).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(model.tensors().len(), 1);
        model.find(name).and_then(|info| model.tensor(info)).expect("by its name")
    }

    /// The formula, number by number; `scale` of a group by its byte.
    fn by_hand(codes: &[u8], scales: &[u8], group: usize, scale: impl Fn(u8) -> f32) -> Vec<f32> {
        let code = |i: usize| codes[i / 2] >> (i % 2 * 4) & 15;
        (0..2 * codes.len()).map(|i| E2M1[usize::from(code(i))] * scale(scales[i / group])).collect()
    }

    #[test]
    fn vectors_decode_bit_for_bit_and_multiply_within_the_bound() {
        let _stated = pipelines(30);
        for settings in [Value::Null, json!({"quant_method": "mxfp4"})] {
            let (file, tensors) = gpt_oss();
            let packed = find(&tensors, &settings, "packed.gate_up_proj");
            assert_eq!(packed.format().name, "MXFP4");
            holds(&file, &packed);
        }
        for (name, format) in [("mxfp4", "MXFP4"), ("nvfp4", "NVFP4_GLOBAL")] {
            let (file, tensors, settings) = ct(name);
            let packed = find(&tensors, &settings, "packed");
            assert_eq!(packed.format().name, format);
            holds(&file, &packed);
            assert_eq!(find(&tensors, &Value::Null, "packed.weight").dequantize(), packed.dequantize());
        }
    }

    #[test]
    fn descriptions_and_bits_are_told() {
        let told = |tensors: &Tensors| {
            let model = checkpoint(tensors, &Value::Null).expect("valid");
            let info = &model.tensors()[0];
            let text = info.module.as_ref().expect("several tensors").description();
            (info.name.clone(), info.shape.clone(), info.bits_per_weight(), text)
        };
        let (name, shape, bits, text) = told(&gpt_oss().1);
        assert_eq!((&*name, &shape[..], bits), ("packed.gate_up_proj", &[2, 6, 128][..], 4.25));
        assert_eq!(text, "MXFP4 of GPT-OSS, 4 bits, groups of 32");
        let (name, shape, bits, text) = told(&ct("nvfp4").1);
        let global = 32.0 / (64.0 * 256.0);
        assert_eq!((&*name, &shape[..], bits), ("packed.weight", &[64, 256][..], 4.5 + global));
        assert_eq!(text, "NVFP4 of compressed-tensors, 4 bits, groups of 16, one global scale");
        assert_eq!(told(&ct("mxfp4").1).3, "MXFP4 of compressed-tensors, 4 bits, groups of 32");
        assert_eq!(told(&modelopt(1.0)).3, "NVFP4 of ModelOpt, 4 bits, groups of 16, one global scale");
    }

    /// A matrix without experts, the names of OpenAI's own files, and every number of experts'
    /// rows.
    #[test]
    fn layouts_of_gpt_oss() {
        let _stated = pipelines(20);
        let (mut failures, mut done) = (vec![], 0);
        let powers = golden("fp8", "tables").f32s("e8m0_f32");
        let cases: [(&[usize], &str, usize); 4] =
            [(&[70, 3], "_", 1), (&[33, 1], ".", 4), (&[3, 11, 5], "_", 9), (&[4, 2, 7, 2], "_", 4)];
        for (i, (outer, dot, n)) in cases.into_iter().enumerate() {
            let blocks: usize = outer.iter().product();
            let codes = bytes(blocks * 16, 1, |_| true);
            let scales = bytes(blocks, 2, |e| (110..140).contains(&e));
            let shape = [outer, &[16]].concat();
            let tensors: Tensors = vec![
                (format!("a{dot}blocks"), Dtype::U8, shape, codes.clone()),
                (format!("a{dot}scales"), Dtype::U8, outer.to_vec(), scales.clone()),
            ];
            let packed = find(&tensors, &Value::Null, "a");
            let want = by_hand(&codes, &scales, 32, |e| powers[usize::from(e)]);
            assert!(compare_bits(&packed.dequantize(), &want).passed, "{outer:?}");
            let (rows, cols) = (outer[..outer.len() - 1].iter().product(), outer[outer.len() - 1] * 32);
            assert_eq!((packed.rows(), packed.cols()), (rows, cols));
            done += both_families((i, &format!("{outer:?}")), &packed, &[n], &mut failures);
        }
        report(&failures, done);
    }

    /// Experts are sent columns of their own.
    #[test]
    fn experts_multiply() {
        let _stated = pipelines(10);
        let codes = bytes(3 * 10 * 2 * 16, 1, |_| true);
        let scales = bytes(3 * 10 * 2, 2, |e| (120..130).contains(&e));
        let tensors: Tensors = vec![
            ("a_blocks".into(), Dtype::U8, vec![3, 10, 2, 16], codes),
            ("a_scales".into(), Dtype::U8, vec![3, 10, 2], scales),
        ];
        let packed = find(&tensors, &Value::Null, "a");
        for variant in [&VARIANTS[0], &VARIANTS[3]] {
            let options = MatmulOptions::default();
            let outcome = check::experts(variant.runtime(), &packed, (3, 9), &options, 5).expect("small");
            assert!(outcome.comparison.passed, "{}: {}", variant.name, outcome.comparison);
        }
    }

    /// Columns and rows that leave tails, all bytes of scales that are numbers, both kinds of
    /// global scales, rounded activations.
    #[test]
    fn layouts_of_nvfp4() {
        let _stated = pipelines(30);
        let (mut failures, mut done) = (vec![], 0);
        let e4m3 = golden("fp8", "tables").f32s("e4m3fn_f32");
        let cases = [
            (70, 96, 1, true),
            (33, 16, 4, false),
            (5, 48, 9, true),
            (9, 1040, 4, false),
            (66, 272, 33, true),
        ];
        for (i, (m, k, n, divides)) in cases.into_iter().enumerate() {
            let (codes, scales) = (bytes(m * k / 2, 3, |_| true), bytes(m * k / 16, 4, |d| d & 0x7f != 0x7f));
            let (name, suffix, global) = match divides {
                true => ("a.weight_packed", "global_scale", 1234.5f32),
                false => ("a.weight", "scale_2", 0.000_812_3),
            };
            let tensors: Tensors = vec![
                (name.into(), Dtype::U8, vec![m, k / 2], codes.clone()),
                ("a.weight_scale".into(), Dtype::F8_E4M3, vec![m, k / 16], scales.clone()),
                (format!("a.weight_{suffix}"), Dtype::F32, vec![1], global.to_le_bytes().to_vec()),
            ];
            let packed = find(&tensors, &Value::Null, "a");
            let scale = |d: u8| match divides {
                true => e4m3[usize::from(d)] / global,
                false => e4m3[usize::from(d)] * global,
            };
            let why = format!("{m} x {k}, divides = {divides}");
            assert!(compare_bits(&packed.dequantize(), &by_hand(&codes, &scales, 16, scale)).passed, "{why}");
            done += both_families((i, &why), &packed, &[n], &mut failures);
            let q8 = MatmulOptions::with(Activations::Q8);
            for o in check::tensor(VARIANTS[i % 4].runtime(), &packed, &[n], &q8, 3).expect("small") {
                done += 1;
                if !o.comparison.passed {
                    failures.push(format!(
                        "{why}, q8 on {}: {} {}",
                        VARIANTS[i % 4].name,
                        o.operation,
                        o.comparison
                    ));
                }
            }
        }
        report(&failures, done);
    }

    /// The factor of ModelOpt multiplies the scale before the weight is rounded.
    #[test]
    fn modelopt_multiplies() {
        let (file, _, _) = ct("nvfp4");
        let (_, codes) = file.tensor("packed.weight_packed");
        let (_, scales) = file.tensor("packed.weight_scale");
        let e4m3 = golden("fp8", "tables").f32s("e4m3fn_f32");
        let packed =
            find(&modelopt(0.000_37), &json!({"quant_method": "modelopt", "quant_algo": "NVFP4"}), "packed");
        let want = by_hand(&codes, &scales, 16, |d| e4m3[usize::from(d)] * 0.000_37);
        assert!(compare_bits(&packed.dequantize(), &want).passed);
    }

    /// Exponents and scales that no number has.
    #[test]
    fn scales_that_are_no_numbers_are_found() {
        let (_, mut mx) = gpt_oss();
        mx[1].3[5] = 255;
        let (_, mut nv, _) = ct("nvfp4");
        nv[1].3[17] = 0x7f;
        for (tensors, row) in [(mx, 1), (nv, 1)] {
            let name = if tensors.len() == 2 { "packed.gate_up_proj" } else { "packed" };
            let error = find(&tensors, &Value::Null, name).check_finite().expect_err("no number");
            assert!(matches!(error, Error::NonFinite { count: 1, first, .. } if first == row), "{error}");
        }
        for (global, divides) in
            [(0.0f32, true), (f32::INFINITY, true), (f32::NAN, false), (f32::INFINITY, false)]
        {
            let mut tensors = if divides { ct("nvfp4").1 } else { modelopt(global) };
            tensors[2].3 = global.to_le_bytes().to_vec();
            let error = find(&tensors, &Value::Null, "packed").check_finite().expect_err("no number");
            assert!(matches!(error, Error::NonFinite { .. }), "{error}");
        }
    }

    #[test]
    fn small_bindings_and_files_of_their_own() {
        let _stated = pipelines(5);
        for (name, (file, tensors)) in
            [("packed.gate_up_proj", gpt_oss()), ("packed.weight", (ct("nvfp4").0, ct("nvfp4").1))]
        {
            let dir = TempDir::new().expect("a temporary folder");
            let mut map = serde_json::Map::new();
            for (i, tensor) in tensors.iter().enumerate() {
                write(&dir.path().join(format!("{i}.safetensors")), std::slice::from_ref(tensor));
                map.insert(tensor.0.clone(), format!("{i}.safetensors").into());
            }
            let index = dir.path().join("model.safetensors.index.json");
            std::fs::write(index, json!({"weight_map": map}).to_string()).expect("room");
            let model = Model::open(dir.path(), &OpenOptions { mmap: false }).expect("a file a tensor");
            let packed = model.find(name).and_then(|info| model.tensor(info)).expect("valid");
            // Little more than a row of f32.
            let limit = packed.cols() as u64 * 4 + 288;
            let runtime = open_runtime(&Options { max_binding: Some(limit), ..Options::default() });
            let w = runtime.upload(&packed).expect("rows fit");
            assert!(w.shard_count() > 1, "{name}");
            assert!(compare_bits(&runtime.dequantize(&w).expect("small"), &file.f32s("dequant_f32")).passed);
        }
    }

    #[test]
    fn lies_about_mxfp4_are_told() {
        let (_, good) = gpt_oss();
        let (b, s) = ("packed.gate_up_proj_blocks", "packed.gate_up_proj_scales");
        let (no, said) = (Value::Null, json!({"quant_method": "mxfp4"}));
        refused(&changed(&good, s, Dtype::U8, &[2, 6, 3]), &no, s, &["[2, 6, 4]", "[2, 6, 3]"]);
        refused(&changed(&good, s, Dtype::U8, &[12, 4]), &no, s, &["[2, 6, 4]", "[12, 4]"]);
        refused(&changed(&good, s, Dtype::F16, &[2, 6, 4]), &no, s, &["U8 or F8_E8M0", "F16"]);
        refused(&changed(&good, b, Dtype::U8, &[2, 6, 8, 8]), &no, b, &["blocks of 16", "[2, 6, 8, 8]"]);
        refused(&changed(&good, b, Dtype::U8, &[16]), &no, b, &["blocks of 16", "[16]"]);
        refused(&without(&good, s), &said, b, &["lacks `packed.gate_up_proj_scales`"]);
        refused(&without(&good, b), &said, s, &["lacks `packed.gate_up_proj_blocks`"]);
        refused(&changed(&good, b, Dtype::I8, &[2, 6, 4, 16]), &said, b, &["U8", "I8"]);
        let (_, good, settings) = ct("mxfp4");
        let (w, s) = ("packed.weight_packed", "packed.weight_scale");
        refused(&changed(&good, s, Dtype::U8, &[64, 7]), &no, s, &["[64, 8]", "[64, 7]"]);
        refused(&changed(&good, w, Dtype::U8, &[64, 120]), &no, w, &["240 columns", "groups of 32"]);
        refused(&changed(&good, w, Dtype::U8, &[8192]), &no, w, &["a matrix", "[8192]"]);
        refused(&changed(&good, s, Dtype::BF16, &[64, 8]), &no, s, &["U8 or F8_E8M0 or F8_E4M3", "BF16"]);
        refused(&without(&good, s), &settings, w, &["lacks `packed.weight_scale`"]);
        let other = json!({"quant_method": "compressed-tensors", "format": "mxfp6-pack-quantized"});
        refused(&good, &other, s, &["mxfp4-pack-quantized", "mxfp6-pack-quantized"]);
        let mut global = good.clone();
        global.push(("packed.weight_global_scale".into(), Dtype::F32, vec![1], vec![0; 4]));
        refused(&global, &no, "packed.weight_global_scale", &["F8_E4M3", "U8"]);
    }

    /// Tensors of no bytes may claim any shape; that of their weight must be one, too.
    #[test]
    fn shapes_beyond_counting_are_refused() {
        let empty = |name: &str, dtype, shape: &[usize]| (name.to_owned(), dtype, shape.to_vec(), vec![]);
        let (u8, e4m3) = (Dtype::U8, Dtype::F8_E4M3);
        let cases = [
            vec![empty("a_blocks", u8, &[0, 1 << 59, 16]), empty("a_scales", u8, &[0, 1 << 59])],
            vec![empty("a.weight_packed", u8, &[0, 1 << 63]), empty("a.weight_scale", u8, &[0, 1 << 59])],
            vec![
                empty("a.weight", u8, &[0, 1 << 63]),
                empty("a.weight_scale", e4m3, &[0, 1 << 60]),
                ("a.weight_scale_2".into(), Dtype::F32, vec![], vec![0; 4]),
            ],
        ];
        for tensors in cases {
            refused(&tensors, &Value::Null, &tensors[0].0, &["overflow 64 bits"]);
        }
    }

    #[test]
    fn lies_about_nvfp4_are_told() {
        let (_, good, _) = ct("nvfp4");
        let (w, s, g) = ("packed.weight_packed", "packed.weight_scale", "packed.weight_global_scale");
        let no = Value::Null;
        refused(&changed(&good, s, Dtype::F8_E4M3, &[64, 17]), &no, s, &["[64, 16]", "[64, 17]"]);
        refused(&changed(&good, w, Dtype::U8, &[64, 124]), &no, w, &["248 columns", "groups of 16"]);
        refused(&changed(&good, g, Dtype::F16, &[1]), &no, g, &["F32", "F16"]);
        refused(&changed(&good, g, Dtype::F32, &[2]), &no, g, &["1 scale", "[2]"]);
        refused(&without(&good, g), &no, w, &["lacks `packed.weight_global_scale`"]);
        refused(&without(&good, w), &no, g, &["lacks `packed.weight_packed`"]);
        let other = json!({"quant_method": "compressed-tensors", "format": "mxfp4-pack-quantized"});
        refused(&good, &other, s, &["nvfp4-pack-quantized", "mxfp4-pack-quantized"]);
        let good = modelopt(0.5);
        let (w, g) = ("packed.weight", "packed.weight_scale_2");
        refused(&without(&good, s), &no, w, &["lacks `packed.weight_scale`"]);
        refused(&without(&good, w), &no, g, &["lacks `packed.weight`"]);
        refused(&changed(&good, w, Dtype::F8_E4M3, &[64, 128]), &no, w, &["U8", "F8_E4M3"]);
        unsupported(&changed(&good, s, Dtype::F32, &[64, 16]), &no, w, &["ModelOpt", "weight_scale_2"]);
        refused(&changed(&good, g, Dtype::F32, &[64]), &no, g, &["1 scale", "[64]"]);
    }
}

mod hqq {
    use super::*;

    fn i64s(values: &[i64]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    fn shape(rows: usize, cols: usize) -> (String, Dtype, Vec<usize>, Vec<u8>) {
        ("packed.shape".into(), Dtype::I64, vec![2], i64s(&[rows as i64, cols as i64]))
    }

    /// The vector, which has no shape, with one.
    fn vector() -> (Golden, Tensors) {
        let file = golden("hqq", "b4.g64.axis1");
        let mut tensors = packed(&file, &[("W_q", Dtype::U8), ("scale", Dtype::F32), ("zero", Dtype::F32)]);
        tensors.push(shape(64, 256));
        (file, tensors)
    }

    fn settings(bits: f64, group: Value, axis: u64) -> Value {
        let weights = json!({"nbits": bits, "group_size": group, "axis": axis, "channel_wise": true});
        json!({"quant_method": "hqq", "quant_config": {"weight_quant_params": weights, "scale_quant_params": null}})
    }

    fn weight(tensors: &Tensors, settings: &Value) -> PackedTensor {
        let model = checkpoint(tensors, settings).unwrap_or_else(|e| panic!("{e}"));
        model.find("packed").and_then(|info| model.tensor(info)).expect("by its name")
    }

    #[test]
    fn the_vector_decodes_bit_for_bit_and_multiplies_within_the_bound() {
        let _stated = pipelines(15);
        let (file, tensors) = vector();
        let packed = weight(&tensors, &settings(4.0, json!(64), 1));
        assert_eq!(packed.format().name, "UINT4");
        holds(&file, &packed);
        assert_eq!(weight(&tensors, &Value::Null).dequantize(), packed.dequantize(), "without settings");
        let flat = json!({"quant_method": "hqq", "bits": 4, "group_size": 64, "axis": 1});
        assert_eq!(weight(&tensors, &flat).dequantize(), packed.dequantize());
    }

    /// All that a state_dict has beside a weight belongs to it.
    #[test]
    fn numbers_beside_the_codes_are_parts() {
        let (file, mut tensors) = vector();
        let number =
            |name: &str, v: i32| (format!("packed.{name}"), Dtype::I32, vec![], v.to_le_bytes().to_vec());
        tensors.extend([number("nbits", 4), number("group_size", 64), number("axis", 1)]);
        tensors.push(("packed.packing".into(), Dtype::U8, vec![7], b"4bit_u8".to_vec()));
        tensors.push(("packed.quant_zero".into(), Dtype::U8, vec![], vec![0]));
        let model = checkpoint(&tensors, &Value::Null).expect("valid");
        assert_eq!(model.tensors().len(), 1);
        let info = model.find("packed").expect("by its name");
        assert_eq!(
            (&*info.name, info.dtype.name(), &info.shape[..]),
            ("packed.weight", "UINT4", &[64, 256][..])
        );
        let text = info.module.as_ref().expect("several tensors").description();
        assert_eq!(text, "HQQ, 4 bits, groups of 64, zeros that are floats");
        assert!((5.0..5.1).contains(&info.bits_per_weight()), "{}", info.bits_per_weight());
        assert_eq!(model.tensor(info).expect("valid").dequantize(), file.f32s("dequant_f32"));
        let lie = |name: &str, v: i32| {
            let mut lie = tensors.clone();
            let tensor = lie.iter_mut().find(|t| t.0 == format!("packed.{name}")).expect("it is there");
            *tensor = number(name, v);
            lie
        };
        let (w, s) = ("packed.W_q", "packed.scale");
        refused(&lie("nbits", 8), &Value::Null, w, &["8 bits", "16384 bytes", "8192"]);
        refused(&lie("group_size", 32), &Value::Null, s, &["groups of 32", "256 scales", "64"]);
        refused(&lie("axis", 0), &Value::Null, s, &["[1, 256]", "[256, 1]"]);
        unsupported(&lie("quant_zero", 1), &Value::Null, "packed.weight", &["HQQ", "quantized"]);
    }

    /// Codes of these bits, packed by the rule, and the weights that they stand for.
    fn made(bits: usize, (m, k): (usize, usize), group: usize, of: Dtype) -> (Tensors, Vec<f32>) {
        let groups = m * k / group;
        let codes = bytes(m * k, 7, |_| true).iter().map(|q| q & (0xff >> (8 - bits))).collect::<Vec<_>>();
        let scales = floats(groups);
        let zeros: Vec<f32> = (0..groups).map(|g| 0.37 + g as f32 * 0.731 % 3.0).collect();
        let (parts, word) = if bits == 3 { (10, 4) } else { (8 / bits, 1) };
        let step = groups.div_ceil(parts);
        let mut words = vec![0u32; step * group];
        for (i, q) in codes.iter().enumerate() {
            let (row, col) = (i / group, i % group);
            words[row % step * group + col] |= u32::from(*q) << (bits * (parts - 1 - row / step));
        }
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()[..word].to_vec()).collect();
        let dtype = if bits == 3 { Dtype::I32 } else { Dtype::U8 };
        let tensors: Tensors = vec![
            ("packed.W_q".into(), dtype, vec![step, group], bytes),
            ("packed.scale".into(), of, vec![groups, 1], stored(&scales, of)),
            ("packed.zero".into(), of, vec![groups, 1], stored(&zeros, of)),
            shape(m, k),
        ];
        let round = |v: f32| match of {
            Dtype::F16 => half::f16::from_f32(v).to_f32(),
            Dtype::BF16 => half::bf16::from_f32(v).to_f32(),
            _ => v,
        };
        let weight = |(i, q): (usize, &u8)| {
            let group = i / group;
            (f32::from(*q) - round(zeros[group])) * round(scales[group])
        };
        let want = codes.iter().enumerate().map(weight).collect();
        (tensors, want)
    }

    #[test]
    fn every_number_of_bits_and_groups() {
        let _stated = pipelines(45);
        let (f32, f16, bf16) = (Dtype::F32, Dtype::F16, Dtype::BF16);
        let cases = [
            (8, (5, 96), 32, f32, 1),
            (4, (10, 128), 64, f16, 4),
            (4, (34, 192), 64, bf16, 9),
            (4, (6, 100), 20, f32, 4),
            (3, (7, 128), 64, f16, 1),
            (3, (10, 64), 64, f32, 9),
            (2, (8, 160), 32, bf16, 4),
            (2, (12, 144), 16, f16, 1),
            (1, (8, 64), 64, f32, 9),
            (4, (8, 32), 64, f32, 4),
        ];
        let (mut failures, mut done) = (vec![], 0);
        for (i, (bits, (m, k), group, of, n)) in cases.into_iter().enumerate() {
            let why = format!("{bits} bits, {m} x {k}, groups of {group}, {of:?}");
            let (tensors, want) = made(bits, (m, k), group, of);
            for settings in [Value::Null, settings(bits as f64, json!(group), 1)] {
                assert!(compare_bits(&weight(&tensors, &settings).dequantize(), &want).passed, "{why}");
            }
            done += both_families((i, &why), &weight(&tensors, &Value::Null), &[n], &mut failures);
        }
        report(&failures, done);
    }

    /// Without its shape a weight is known only where a bias or a group that is a whole row says
    /// it.
    #[test]
    fn shapes_that_are_not_said() {
        let (tensors, want) = made(4, (10, 128), 64, Dtype::F32);
        let blind = without(&tensors, "packed.shape");
        let said = settings(4.0, json!(64), 1);
        refused(&blind, &said, "packed.W_q", &["lacks `packed.shape`"]);
        let mut biased = blind.clone();
        biased.push(("packed.bias".into(), Dtype::F32, vec![10], vec![0; 40]));
        let packed = weight(&biased, &said);
        assert_eq!((packed.rows(), packed.cols(), packed.dequantize()), (10, 128, want));
        let (tensors, want) = made(4, (10, 96), 96, Dtype::F32);
        let packed = weight(&without(&tensors, "packed.shape"), &settings(4.0, Value::Null, 1));
        assert_eq!((packed.rows(), packed.cols(), packed.dequantize()), (10, 96, want));
        // 1.58 bits are stored as two.
        let (tensors, want) = made(2, (8, 32), 16, Dtype::F32);
        assert_eq!(weight(&tensors, &settings(1.58, json!(16), 1)).dequantize(), want);
        // Five to seven take eight.
        let (tensors, want) = made(8, (8, 32), 16, Dtype::F32);
        assert_eq!(weight(&tensors, &settings(6.0, json!(16), 1)).dequantize(), want);
    }

    /// As hqq saves them with `view_as_float`.
    #[test]
    fn bytes_may_be_viewed_as_floats() {
        let (file, tensors) = vector();
        let viewed = changed(&tensors, "packed.W_q", Dtype::F16, &[128, 32]);
        assert_eq!(weight(&viewed, &Value::Null).dequantize(), file.f32s("dequant_f32"));
    }

    #[test]
    fn lies_are_told_with_names_and_numbers() {
        let (_, good) = vector();
        let (w, s, z) = ("packed.W_q", "packed.scale", "packed.zero");
        let no = Value::Null;
        refused(&without(&good, s), &no, w, &["lacks `packed.scale`"]);
        refused(&without(&good, z), &no, w, &["lacks `packed.zero`"]);
        refused(&changed(&good, z, Dtype::F32, &[255, 1]), &no, z, &["[256, 1]", "[255, 1]"]);
        refused(&changed(&good, z, Dtype::U8, &[256, 1]), &no, z, &["F32 or F16 or BF16", "U8"]);
        refused(&changed(&good, s, Dtype::F64, &[256, 1]), &no, s, &["F32 or F16 or BF16", "F64"]);
        let both = |shape: &[usize]| changed(&changed(&good, s, Dtype::F32, shape), z, Dtype::F32, shape);
        refused(&both(&[256]), &no, s, &["[256, 1]", "[256]"]);
        refused(&both(&[1, 256]), &no, w, &["[32, 256]", "[128, 64]"]);
        refused(&both(&[255, 1]), &no, s, &["64 x 256", "255 groups"]);
        refused(&both(&[512, 1]), &no, w, &["[256, 32]", "[128, 64]"]);
        refused(
            &changed(&good, w, Dtype::U8, &[127, 64]),
            &no,
            w,
            &["256 rows of 64", "1 to 4 or 8 bits", "8128 of U8"],
        );
        refused(&changed(&good, w, Dtype::U8, &[64, 128]), &no, w, &["[128, 64]", "[64, 128]"]);
        refused(&changed(&good, w, Dtype::I64, &[128, 8]), &no, w, &["U8 or I32", "I64"]);
        refused(&good, &settings(3.0, json!(64), 1), w, &["3 bits", "6656", "8192"]);
        refused(&good, &settings(9.0, json!(64), 1), w, &["9 bits", "no whole number"]);
        refused(&good, &settings(4.0, json!(128), 1), s, &["groups of 128", "256 scales", "64"]);
        refused(&good, &settings(4.0, json!(64), 0), s, &["[1, 256]", "[256, 1]"]);
        for dims in [&[0i64, 256][..], &[-64, 256], &[1 << 40, 256]] {
            let mut lie = good.clone();
            lie[3].3 = i64s(dims);
            refused(&lie, &no, "packed.shape", &["no shape of a matrix"]);
        }
        let mut lie = good.clone();
        lie[3] = ("packed.shape".into(), Dtype::F32, vec![2], stored(&[64.5, 256.0], Dtype::F32));
        refused(&lie, &no, "packed.shape", &["64.5", "no shape of a matrix"]);
        for (name, value, words) in
            [("nbits", -4, "-4 bits"), ("group_size", -64, "-64"), ("axis", -1, "neither 0 nor 1")]
        {
            let mut lie = good.clone();
            lie.push((format!("packed.{name}"), Dtype::I64, vec![], i64s(&[value])));
            match name {
                "axis" => unsupported(&lie, &no, "packed", &[words]),
                _ => refused(&lie, &no, if name == "nbits" { w } else { s }, &[words]),
            }
        }
        let mut lie = good.clone();
        lie[3].3 = i64s(&[63, 256]);
        unsupported(&lie, &no, "packed", &["groups of 63", "rows of 256"]);
        let (tensors, _) = made(4, (6, 96), 64, Dtype::F32);
        unsupported(&tensors, &no, "packed", &["groups of 64", "rows of 96"]);
    }
}
