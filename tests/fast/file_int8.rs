//! Checkpoints of LLM.int8 as files: one test for every way to lie, and what `quantize` writes.

use crate::common::{Golden, Raw, f32_tensor, write_tensors};
use qmatmul::file::{Captures, Keep, Model, OpenOptions, QuantizeOptions, Target, quantize_checkpoint};
use qmatmul::{Error, PackedTensor, Recipe};
use safetensors::Dtype;
use std::path::Path;

/// A vector of bitsandbytes: 33 x 100 weights.
fn golden() -> Golden {
    Golden::folder("int8").into_iter().find(|g| g.name == "edge").expect("the vector is in the repository")
}

/// The three tensors of its weight.
fn parts() -> Vec<Raw> {
    let golden = golden();
    let part = |(suffix, dtype): (&str, Dtype)| {
        let (shape, bytes) = golden.tensor(&format!("packed{suffix}"));
        (format!("a{suffix}"), dtype, shape, bytes)
    };
    [(".weight", Dtype::I8), (".SCB", Dtype::F32), (".weight_format", Dtype::U8)].map(part).into()
}

fn open(parts: &[Raw]) -> Result<Model, Error> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("lie.safetensors");
    write_tensors(&path, parts);
    Model::from_bytes("lie.safetensors", std::fs::read(path).expect("it was written"))
}

/// Opening must fail with this tensor and these words.
#[track_caller]
fn refused(parts: &[Raw], tensor: &str, words: &[&str]) {
    match open(parts).expect_err("a lie") {
        Error::Malformed { file, what, problem, .. } => {
            assert_eq!((&*file, what), ("lie.safetensors", format!("tensor `{tensor}`")), "{problem}");
            assert!(words.iter().all(|word| problem.contains(word)), "{problem}: {words:?}");
        }
        other => panic!("{other}"),
    }
}

/// The tensor `name` changed.
fn with(mut parts: Vec<Raw>, name: &str, change: impl FnOnce(&mut Raw)) -> Vec<Raw> {
    change(parts.iter_mut().find(|p| p.0 == name).expect("it is there"));
    parts
}

fn without(mut parts: Vec<Raw>, name: &str) -> Vec<Raw> {
    parts.retain(|p| p.0 != name);
    parts
}

/// The tensor with so many elements, zeros at the end if need be.
fn resized(parts: Vec<Raw>, name: &str, shape: &[usize]) -> Vec<Raw> {
    with(parts, name, |(_, dtype, its, bytes)| {
        *its = shape.to_vec();
        bytes.resize(shape.iter().product::<usize>() * dtype.bitsize() / 8, 0);
    })
}

#[test]
fn the_truth_is_accepted() {
    let model = open(&parts()).expect("nothing was changed");
    assert_eq!(model.tensors().len(), 1, "one weight, not three tensors");
    let info = model.find("a").expect("by the module's name");
    assert_eq!((info.dtype.name(), &info.shape[..]), ("INT8", &[33, 100][..]));
    assert_eq!(model.tensor(info).expect("valid").dequantize(), golden().f32s("dequant_f32"));
    // What writes no order writes rows.
    let model = open(&without(parts(), "a.weight_format")).expect("bitsandbytes once wrote none");
    assert_eq!(model.tensors().len(), 1);
}

#[test]
fn missing_parts_are_named() {
    refused(&without(parts(), "a.weight"), "a.SCB", &["lacks `a.weight`"]);
    refused(&without(parts(), "a.SCB"), "a.weight", &["lacks `a.SCB`", "I8"]);
    // With nothing that speaks of LLM.int8 it is a matrix of integers, as any other.
    let bare = without(without(parts(), "a.SCB"), "a.weight_format");
    assert_eq!(open(&bare).expect("one tensor").find("a").expect("there").dtype.name(), "I8");
    // Settings do: without scales its codes would be multiplied as they are.
    let folder = tempfile::tempdir().expect("a folder");
    write_tensors(&folder.path().join("model.safetensors"), &bare);
    let config = r#"{"quantization_config":{"quant_method":"bitsandbytes","load_in_8bit":true}}"#;
    std::fs::write(folder.path().join("config.json"), config).expect("room");
    let error = Model::open(folder.path(), &OpenOptions::default()).expect_err("no scales").to_string();
    assert!(error.contains("tensor `a.weight`") && error.contains("lacks `a.SCB`"), "{error}");
}

/// What `save_file(linear.state_dict())` writes: no module has a name.
#[test]
fn a_layer_alone_has_no_name() {
    let alone = |parts: Vec<Raw>| -> Vec<Raw> {
        parts.into_iter().map(|(name, a, b, c)| (name.replace("a.", ""), a, b, c)).collect()
    };
    let model = open(&alone(kept())).expect("a module");
    assert_eq!(model.tensors().len(), 1, "one weight, not five tensors");
    let info = model.find("weight").expect("there");
    assert_eq!(model.tensor(info).expect("valid").dequantize(), golden().f32s("dequant_f32"));
    assert!(model.linear(info).expect("valid").kept().is_some());
    refused(&without(alone(parts()), "SCB"), "weight", &["lacks `SCB`"]);
    refused(&without(alone(parts()), "weight"), "SCB", &["lacks `weight`"]);
}

#[test]
fn scales_that_do_not_fit_are_told() {
    refused(&resized(parts(), "a.SCB", &[32]), "a.SCB", &["33 scales", "got 32"]);
    refused(&resized(parts(), "a.SCB", &[34]), "a.SCB", &["33 scales", "got 34"]);
    refused(&resized(parts(), "a.SCB", &[]), "a.SCB", &["33 scales", "got 1"]);
    let halves = with(parts(), "a.SCB", |(_, dtype, _, bytes)| {
        *dtype = Dtype::F16;
        bytes.truncate(66);
    });
    refused(&halves, "a.SCB", &["should be F32", "it is F16"]);
}

#[test]
fn weights_that_are_no_matrix_of_bytes_are_told() {
    let unsigned = with(parts(), "a.weight", |(_, dtype, ..)| *dtype = Dtype::U8);
    refused(&unsigned, "a.weight", &["should be I8", "it is U8"]);
    let floats = with(without(parts(), "a.weight_format"), "a.weight", |t| {
        *t = f32_tensor("a.weight", &[33, 1], &[0.0; 33]);
    });
    refused(&floats, "a.weight", &["should be I8", "it is F32"]);
    for shape in [&[3, 11, 100][..], &[3300]] {
        let other = resized(parts(), "a.weight", shape);
        refused(&other, "a.weight", &["a matrix", &format!("{shape:?}")]);
    }
    refused(&resized(parts(), "a.weight", &[100, 33]), "a.SCB", &["100 scales", "got 33"]);
}

#[test]
fn other_orders_are_refused_by_name() {
    let order = |byte: u8| with(parts(), "a.weight_format", |t| t.3 = vec![byte]);
    for (byte, name) in [(1, "col32"), (2, "col_turing"), (3, "col_ampere"), (4, "unknown"), (255, "unknown")]
    {
        refused(&order(byte), "a.weight_format", &[&format!("{byte} ({name})"), "only 0 (row)"]);
    }
    refused(&resized(parts(), "a.weight_format", &[2]), "a.weight_format", &["1 number", "got 2"]);
    refused(&resized(parts(), "a.weight_format", &[0]), "a.weight_format", &["1 number", "got 0"]);
    // A vector of one is what older versions wrote.
    assert!(open(&resized(parts(), "a.weight_format", &[1])).is_ok());
}

/// Scales that are no numbers are seen at upload.
#[test]
fn scales_that_are_not_finite_are_refused() {
    let lie = with(parts(), "a.SCB", |t| t.3[40..44].copy_from_slice(&f32::NAN.to_le_bytes()));
    let packed = open(&lie).and_then(|m| m.tensor(m.find("a")?)).expect("lengths are right");
    match packed.check_finite().expect_err("a scale is no number") {
        Error::NonFinite { count, first, .. } => assert_eq!((count, first), (1, 10)),
        other => panic!("{other}"),
    }
}

/// A checkpoint of a layer, its bias, a head and what else there is.
fn source(folder: &Path) {
    let half = |name: &str, shape: &[usize]| {
        let bytes = vec![0x3c; 2 * shape.iter().product::<usize>()];
        (name.to_owned(), Dtype::F16, shape.to_vec(), bytes)
    };
    let tensors = [
        f32_tensor("layers.0.mlp.up_proj.weight", &[33, 100], &golden().f32s("w_f32")),
        half("layers.0.mlp.up_proj.bias", &[33]),
        half("lm_head.weight", &[7, 5]),
        half("layers.0.norm.weight", &[5]),
        ("ids".into(), Dtype::I64, vec![2], vec![1; 16]),
        ("mask".into(), Dtype::U8, vec![3], vec![1; 3]),
    ];
    std::fs::create_dir_all(folder).expect("a folder");
    write_tensors(&folder.join("model.safetensors"), &tensors);
    let config = r#"{"model_type":"llama","factor":1.5699999332427979}"#;
    std::fs::write(folder.join("config.json"), config).expect("room");
}

const PLAIN: QuantizeOptions = QuantizeOptions { pure: false, bare: false, allow_requantize: false };
const BARE: QuantizeOptions = QuantizeOptions { bare: true, ..PLAIN };

fn encode_on_cpu(
    name: &str,
    shape: [usize; 2],
    weights: &[f32],
    recipe: &Recipe,
) -> Result<PackedTensor, Error> {
    PackedTensor::encode(name, shape, weights, recipe)
}

fn quantize(from: &Path, to: &Path, target: &Target) -> Model {
    let model = Model::open(from, &OpenOptions::default()).expect("valid");
    quantize_checkpoint(&model, to, target, &PLAIN, &encode_on_cpu, |_, _| ()).expect("written");
    Model::open(to, &OpenOptions::default()).expect("a checkpoint again")
}

#[test]
fn quantize_writes_what_bitsandbytes_would() {
    let folder = tempfile::tempdir().expect("a folder");
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    source(&from);
    let written = quantize(&from, &to, &Target::Int8 { threshold: 4.3, keep: Keep::Nothing });
    let parts = written.parts(written.find("layers.0.mlp.up_proj").expect("there"));
    let golden = golden();
    let file = std::fs::read(to.join("model.safetensors")).expect("it was written");
    let file = safetensors::SafeTensors::deserialize(&file).expect("a safetensors file");
    for (part, dtype) in [("weight", Dtype::I8), ("SCB", Dtype::F32), ("weight_format", Dtype::U8)] {
        let view = file.tensor(&format!("layers.0.mlp.up_proj.{part}")).expect("bitsandbytes' name");
        let want = golden.tensor(&format!("packed.{part}"));
        assert_eq!((view.dtype(), view.shape(), view.data()), (dtype, &want.0[..], &want.1[..]), "{part}");
    }
    assert_eq!((parts.len(), file.len()), (3, 8));
    for part in parts {
        let size = (part.dtype.bits_per_weight() / 8.0) as u64;
        assert!(part.offset.is_multiple_of(size), "`{}` at byte {}", part.name, part.offset);
    }
    let text = std::fs::read_to_string(to.join("config.json")).expect("it was written");
    assert!(text.contains("\"factor\": 1.5699999332427979"), "numbers stay what they are: {text}");
    let config = &written.config().expect("a config")["quantization_config"];
    assert_eq!(config["quant_method"], "bitsandbytes");
    assert_eq!((&config["load_in_8bit"], &config["load_in_4bit"]), (&true.into(), &false.into()));
    assert_eq!(config["llm_int8_threshold"].to_string(), "4.3");
    assert_eq!(config["llm_int8_skip_modules"], serde_json::json!(["lm_head"]));
}

/// Of which the weight would be made again with other columns.
#[test]
fn quantize_copies_nothing_that_would_be_kept_columns() {
    let folder = tempfile::tempdir().expect("a folder");
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    std::fs::create_dir(&from).expect("a folder");
    let tensors = [
        crate::common::f32_tensor("a.weight", &[2, 64], &[1.0; 128]),
        crate::common::f32_tensor("a.outlier_weight", &[2, 1], &[3.0; 2]),
    ];
    crate::common::write_tensors(&from.join("model.safetensors"), &tensors);
    let model = Model::open(&from, &OpenOptions::default()).expect("valid");
    let target = Target::Int8 { threshold: 6.0, keep: Keep::Nothing };
    let error = quantize_checkpoint(&model, &to, &target, &BARE, &encode_on_cpu, |_, _| ())
        .map(drop)
        .expect_err("taken for");
    assert!(error.to_string().contains("`a.outlier_weight` would be taken for"), "{error}");
    assert!(!to.exists());
    // Weights of four bits have no such columns.
    let nf4 = Target::FourBit(qmatmul::format::NF4, Default::default());
    quantize_checkpoint(&model, &to, &nf4, &BARE, &encode_on_cpu, |_, _| ()).map(drop).expect("copied");
}

/// A vector with two columns kept: [`parts`] with a list of them and their weights.
fn kept() -> Vec<Raw> {
    let list = [7i32, 99].iter().flat_map(|c| c.to_le_bytes()).collect();
    let weight = (0..66).flat_map(|i| half::f16::from_f32(i as f32).to_le_bytes()).collect();
    let mut all = parts();
    all.push(("a.outlier_columns".into(), Dtype::I32, vec![2], list));
    all.push(("a.outlier_weight".into(), Dtype::F16, vec![33, 2], weight));
    all
}

#[test]
fn kept_columns_are_taken_by_layers_alone() {
    let model = open(&kept()).expect("nothing was changed");
    let info = model.find("a").expect("there");
    assert_eq!(model.tensors().len(), 1, "one weight, not five tensors");
    assert!(info.module.as_ref().expect("several tensors").description().contains("2 columns in F16"));
    let plain = model.tensor(info).expect("valid").dequantize();
    assert_eq!(plain, golden().f32s("dequant_f32"));
    let linear = model.linear(info).expect("valid");
    let columns = linear.kept().expect("two columns");
    assert_eq!(columns.columns(), [7, 99]);
    assert_eq!(columns.weight().dequantize(), (0..66).map(|i| i as f32).collect::<Vec<_>>());
    for (i, (got, plain)) in linear.weight().dequantize().iter().zip(&plain).enumerate() {
        assert_eq!(*got, if [7, 99].contains(&(i % 100)) { 0.0 } else { *plain });
    }
    let model = open(&parts()).expect("nothing was kept");
    assert!(model.linear(model.find("a").expect("there")).expect("valid").kept().is_none());
}

#[test]
fn kept_columns_that_lie_are_refused() {
    let (list, weight) = ("a.outlier_columns", "a.outlier_weight");
    refused(&without(kept(), list), weight, &["lacks its `.outlier_columns`"]);
    refused(&without(kept(), weight), list, &["lacks its `.outlier_weight`"]);
    let columns = |columns: [i32; 2]| {
        with(kept(), list, |t| t.3 = columns.iter().flat_map(|c| c.to_le_bytes()).collect())
    };
    refused(&columns([7, 100]), list, &["column 100", "there are 100"]);
    refused(&columns([-1, 7]), list, &["column -1"]);
    refused(&columns([99, 7]), list, &["99 comes before 7"]);
    refused(&columns([7, 7]), list, &["7 comes before 7"]);
    refused(&resized(kept(), list, &[1]), weight, &["[33, 1] belong", "is [33, 2]"]);
    refused(&resized(kept(), list, &[1, 2]), list, &["a list", "[1, 2]"]);
    refused(&resized(kept(), weight, &[32, 2]), weight, &["[33, 2] belong", "is [32, 2]"]);
    refused(&resized(kept(), weight, &[66]), weight, &["[33, 2] belong", "is [66]"]);
    refused(&resized(resized(kept(), list, &[0]), weight, &[33, 0]), list, &["there are none"]);
    refused(&with(kept(), list, |t| t.1 = Dtype::F32), list, &["should be I32", "it is F32"]);
    refused(&with(kept(), weight, |t| t.1 = Dtype::BF16), weight, &["should be F16", "it is BF16"]);
    // Weights that are no numbers are seen at upload.
    let lie = with(kept(), weight, |t| t.3[..2].copy_from_slice(&[0, 0x7c]));
    let linear = open(&lie).and_then(|m| m.linear(m.find("a")?)).expect("shapes are right");
    assert!(matches!(linear.check_finite(), Err(Error::NonFinite { .. })));
}

/// Activations `[2, 100]` of which these columns reach 4.3, the last of them only as f16 has it.
fn captured(folder: &Path, names: &[&str], k: usize) -> std::path::PathBuf {
    let mut x = vec![1.0; 2 * k];
    (x[3], x[k + 64], x[90]) = (-5.0, 4.5, 4.2999);
    let path = folder.join("captured.safetensors");
    write_tensors(&path, &names.iter().map(|name| f32_tensor(name, &[2, k], &x)).collect::<Vec<_>>());
    path
}

#[test]
fn quantize_keeps_the_columns_of_outliers() {
    let folder = tempfile::tempdir().expect("a folder");
    let from = folder.path().join("from");
    source(&from);
    let kept_by = |keep: Keep| {
        let to = tempfile::tempdir_in(folder.path()).expect("a folder").keep();
        let model = quantize(&from, &to, &Target::Int8 { threshold: 4.3, keep });
        let linear = model.find("layers.0.mlp.up_proj").and_then(|info| model.linear(info)).expect("valid");
        let config = &model.config().expect("a config")["quantization_config"];
        assert_eq!(config["load_in_8bit"], true);
        linear
    };
    let weights = golden().f32s("w_f32");
    for names in [
        &["layers.0.mlp.up_proj.x"][..],
        &["layers.0.mlp.up_proj"],
        &["x"],
        &["anything"],
        &["x", "y"],
        &["layers.9.mlp.up_proj.x", "x"],
    ] {
        let captures = Captures::open(&captured(folder.path(), names, 100), 4.3).expect("valid");
        let linear = kept_by(Keep::Captured(captures));
        let kept = linear.kept().unwrap_or_else(|| panic!("{names:?}"));
        assert_eq!(kept.columns(), [3, 64, 90], "{names:?}");
        let want =
            weights.chunks(100).flat_map(|row| [3, 64, 90].map(|c| half::f16::from_f32(row[c]).to_f32()));
        assert_eq!(kept.weight().dequantize(), want.collect::<Vec<_>>());
        assert!(linear.bias().is_some());
    }
    // A guess by weights: the columns of the largest magnitudes.
    let linear = kept_by(Keep::Largest(4));
    let tops: Vec<f32> =
        (0..100).map(|c| weights.chunks(100).fold(0f32, |top, w| top.max(w[c].abs()))).collect();
    let columns = linear.kept().expect("four").columns();
    let least = columns.iter().map(|c| tops[*c as usize]).fold(f32::MAX, f32::min);
    assert_eq!((columns.len(), tops.iter().filter(|top| **top >= least).count()), (4, 4));
    assert_eq!(kept_by(Keep::Largest(1000)).kept().expect("all there are").columns().len(), 100);
    assert!(kept_by(Keep::Nothing).kept().is_none());
}

#[test]
fn captures_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    source(&from);
    let model = Model::open(&from, &OpenOptions::default()).expect("valid");
    let refused = |keep: Keep| {
        let target = Target::Int8 { threshold: 4.3, keep };
        let error = quantize_checkpoint(&model, &to, &target, &PLAIN, &encode_on_cpu, |_, _| ()).map(drop);
        assert!(!to.exists());
        error.expect_err("refused").to_string()
    };
    let open = |names: &[&str], k| Captures::open(&captured(folder.path(), names, k), 4.3).expect("valid");
    let text = refused(Keep::Captured(open(&["layers.0.mlp.up_proj.x"], 101)));
    assert!(
        text.contains("layers.0.mlp.up_proj.x") && text.contains("100") && text.contains("101"),
        "{text}"
    );
    for (names, k) in [(&["x"][..], 101), (&["layers.9.mlp.up_proj.x", "other"], 100), (&["lm_head.x"], 100)]
    {
        let text = refused(Keep::Captured(open(names, k)));
        assert!(text.contains("captured.safetensors") && text.contains("4.3"), "{names:?}: {text}");
    }
    assert!(refused(Keep::Largest(0)).contains("at least one"));
    let path = captured(folder.path(), &["x"], 100);
    assert!(Captures::open(&path, 0.0).expect_err("no outliers").to_string().contains("threshold 0"));
    write_tensors(&path, &[f32_tensor("x", &[2], &[1.0, f32::NAN])]);
    assert!(matches!(Captures::open(&path, 6.0), Err(Error::NonFinite { .. })));
    write_tensors(&path, &[("x".into(), Dtype::I8, vec![2], vec![1, 2])]);
    assert!(Captures::open(&path, 6.0).expect_err("no floats").to_string().contains("BF16"));
}
