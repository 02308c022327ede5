//! Checkpoints of bitsandbytes as files: one test for every way to lie, and what `quantize` writes.

use crate::common::Golden;
use qmatmul::check;
use qmatmul::file::{Keep, Model, OpenOptions, QuantizeOptions, Target, quantize_checkpoint};
use qmatmul::format;
use qmatmul::format::recipe::FourBitConfig;
use qmatmul::{Error, PackedTensor, Recipe};
use safetensors::tensor::{Dtype, TensorView, serialize};
use std::path::Path;

/// A tensor by name: type, shape, bytes.
type Parts = Vec<(String, Dtype, Vec<usize>, Vec<u8>)>;

/// The golden checkpoint of one weight whose scales are quantized, 96 x 256 by 64.
fn parts() -> Parts {
    let golden = golden("nf4.b64.dq");
    let part = |(suffix, dtype): (&str, Dtype)| {
        let (shape, bytes) = golden.tensor(&format!("packed.weight{suffix}"));
        (format!("a.weight{suffix}"), dtype, shape, bytes)
    };
    let u8s = ["", ".absmax", STATE].map(|s| (s, Dtype::U8));
    let f32s = [".quant_map", ".nested_absmax", ".nested_quant_map"].map(|s| (s, Dtype::F32));
    u8s.into_iter().chain(f32s).map(part).collect()
}

const STATE: &str = ".quant_state.bitsandbytes__nf4";

fn golden(name: &str) -> Golden {
    Golden::folder("bnb").into_iter().find(|g| g.name == name).expect("the vector is in the repository")
}

fn file(parts: &Parts) -> Vec<u8> {
    let view = |(name, dtype, shape, bytes): &(String, Dtype, Vec<usize>, Vec<u8>)| {
        (
            name.clone(),
            TensorView::new(*dtype, shape.clone(), bytes).expect("lengths fit").data().to_vec(),
            *dtype,
            shape.clone(),
        )
    };
    let owned: Vec<_> = parts.iter().map(view).collect();
    let views = owned.iter().map(|(name, data, dtype, shape)| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), data).expect("lengths fit"))
    });
    serialize(views, None).expect("tensors of a file")
}

fn open(parts: &Parts) -> Result<Model, Error> {
    Model::from_bytes("lie.safetensors", file(parts))
}

/// Opening must fail with this tensor and these words.
#[track_caller]
fn refused(parts: &Parts, tensor: &str, words: &[&str]) {
    match open(parts).expect_err("a lie") {
        Error::Malformed { file, what, problem, .. } => {
            assert_eq!((&*file, what), ("lie.safetensors", format!("tensor `{tensor}`")), "{problem}");
            assert!(words.iter().all(|word| problem.contains(word)), "{problem}: {words:?}");
        }
        other => panic!("{other}"),
    }
}

fn part<'a>(parts: &'a mut Parts, suffix: &str) -> &'a mut (String, Dtype, Vec<usize>, Vec<u8>) {
    parts.iter_mut().find(|p| p.0 == format!("a.weight{suffix}")).expect("it is there")
}

fn without(suffix: &str) -> Parts {
    parts().into_iter().filter(|p| p.0 != format!("a.weight{suffix}")).collect()
}

/// The part cut or grown to so many elements.
fn resized(suffix: &str, elements: usize) -> Parts {
    let mut all = parts();
    let (_, dtype, shape, bytes) = part(&mut all, suffix);
    *shape = vec![elements];
    bytes.resize(elements * dtype.bitsize() / 8, 0);
    all
}

/// The text with one of its words for another.
fn said(old: &str, new: &str) -> Parts {
    let mut all = parts();
    let (_, _, shape, bytes) = part(&mut all, STATE);
    let text = String::from_utf8(bytes.clone()).expect("a text");
    assert!(text.contains(old), "{text}");
    *bytes = text.replace(old, new).into_bytes();
    *shape = vec![bytes.len()];
    all
}

#[test]
fn the_truth_is_accepted() {
    let model = open(&parts()).expect("nothing was changed");
    assert_eq!(model.tensors().len(), 1, "one weight, not six tensors");
    let info = model.find("a").expect("by the module's name");
    assert_eq!((info.dtype.name(), &info.shape[..]), ("NF4", &[96, 256][..]));
    let bits = 4.0 + 8.0 / 64.0 + (2.0 + 256.0 + 16.0) * 32.0 / 24576.0;
    assert!((info.bits_per_weight() - bits).abs() < 0.06, "{}", info.bits_per_weight());
    let text = info.module.as_ref().expect("several tensors").description();
    assert!(
        text.contains("blocks of 64") && text.contains("8 bits by 256") && text.contains("float32"),
        "{text}"
    );
    let error = model.bytes(info).expect_err("of which tensor?");
    assert!(error.to_string().contains("6 tensors"), "{error}");
    let rows = model.rows(info, 3..5).expect("96 rows");
    assert_eq!(rows.dequantize(), model.tensor(info).expect("whole").dequantize()[3 * 256..5 * 256]);
}

#[test]
fn missing_parts_are_named() {
    for suffix in ["", ".absmax", ".quant_map"] {
        refused(&without(suffix), &format!("a.weight{STATE}"), &[&format!("lacks `a.weight{suffix}`")]);
    }
    refused(&without(".nested_absmax"), &format!("a.weight{STATE}"), &["quantized", "nested_absmax"]);
    refused(&without(".nested_quant_map"), &format!("a.weight{STATE}"), &["quantized", "nested_quant_map"]);
    // Without the text the codes would pass for a matrix of bytes.
    refused(&without(STATE), "a.weight.nested_absmax", &["lacks", "quant_state"]);
}

#[test]
fn lengths_that_disagree_are_told_with_both_numbers() {
    refused(&resized("", 12_289), "a.weight", &["12288 bytes of codes", "got 12289"]);
    refused(&resized("", 12_287), &format!("a.weight{STATE}"), &["[96, 256]", "12287 bytes"]);
    refused(&resized(".absmax", 383), "a.weight.absmax", &["384 scales of 64 weights", "got 383"]);
    refused(&resized(".quant_map", 15), "a.weight.quant_map", &["16 entries", "got 15"]);
    refused(&resized(".quant_map", 256), "a.weight.quant_map", &["16 entries", "got 256"]);
    refused(&resized(".nested_absmax", 3), "a.weight.nested_absmax", &["2 scales of 256 scales", "got 3"]);
    refused(&resized(".nested_quant_map", 255), "a.weight.nested_quant_map", &["256 entries", "got 255"]);
}

#[test]
fn types_that_disagree_are_told() {
    for (suffix, wanted) in
        [(".absmax", "U8"), (".quant_map", "F32"), (".nested_absmax", "F32"), (".nested_quant_map", "F32")]
    {
        let mut all = parts();
        let (_, dtype, shape, bytes) = part(&mut all, suffix);
        *dtype = Dtype::F16;
        bytes.truncate(bytes.len() / 2 * 2);
        *shape = vec![bytes.len() / 2];
        refused(&all, &format!("a.weight{suffix}"), &[&format!("should be {wanted}"), "it is F16"]);
    }
}

#[test]
fn texts_that_lie_are_refused() {
    let state = format!("a.weight{STATE}");
    let mut all = parts();
    part(&mut all, STATE).3.fill(b'{');
    refused(&all, &state, &["no JSON of bitsandbytes"]);
    part(&mut all, STATE).3.fill(0xff);
    refused(&all, &state, &["no JSON of bitsandbytes"]);
    refused(&resized(STATE, 5000), &state, &["5000", "4096"]);
    let lies: &[(&str, &str, &[&str])] = &[
        ("\"nf4\"", "\"fp4\"", &["type `fp4`"]),
        ("\"nf4\"", "\"int8\"", &["type `int8`", "nf4 and fp4"]),
        ("\"blocksize\": 64", "\"blocksize\": 48", &["blocksize 48"]),
        ("\"blocksize\": 64", "\"blocksize\": 0", &["blocksize 0"]),
        ("\"blocksize\": 64", "\"blocksize\": 8192", &["blocksize 8192"]),
        ("\"blocksize\": 64", "\"blocksize\": -64", &["no JSON of bitsandbytes"]),
        ("\"float32\", \"shape\"", "\"float8\", \"shape\"", &["dtype `float8`"]),
        ("[96, 256]", "[96, 257]", &["[96, 257]", "12288 bytes"]),
        ("[96, 256]", "[95, 256]", &["12160 bytes of codes", "got 12288"]),
        ("[96, 256]", "[18446744073709551615, 18446744073709551615]", &["does not fit"]),
        ("[96, 256]", "[]", &["does not fit"]),
        (", \"nested_offset\": 0.1304505318403244", "", &["no nested_offset"]),
        ("0.1304505318403244", "\"x\"", &["no JSON of bitsandbytes"]),
        ("\"nested_blocksize\": 256", "\"nested_blocksize\": 0", &["nested_blocksize is 0"]),
        ("\"nested_blocksize\": 256, ", "", &["no nested_blocksize"]),
        ("\"nested_dtype\": \"float32\"", "\"nested_dtype\": \"float16\"", &["nested_dtype"]),
    ];
    for (old, new, words) in lies {
        let tensor = if words[0].contains("bytes of codes") { "a.weight" } else { &*state };
        // A shape that is too small makes the codes the liar.
        refused(&said(old, new), tensor, words);
    }
}

/// bitsandbytes views the same bytes as other types where weights are to be sharded, and had them
/// the other way round once.
#[test]
fn codes_may_be_of_any_type_and_shape() {
    let want = open(&parts()).and_then(|m| m.tensor(m.find("a")?)).expect("valid").dequantize();
    for (dtype, size) in [(Dtype::BF16, 2), (Dtype::F16, 2), (Dtype::F32, 4), (Dtype::I8, 1)] {
        let mut all = parts();
        let (_, its, shape, bytes) = part(&mut all, "");
        (*its, *shape) = (dtype, vec![1, bytes.len() / size]);
        let got = open(&all).and_then(|m| m.tensor(m.find("a")?)).expect("valid").dequantize();
        assert_eq!(got, want, "{dtype:?}");
    }
}

/// A book of the user's own is used, not the one that the name stands for.
#[test]
fn a_custom_book_is_honoured() {
    let mut all = parts();
    let book: Vec<f32> = (0..16).map(|i| (i as f32 - 7.0) / 8.0).collect();
    part(&mut all, ".quant_map").3 = book.iter().flat_map(|v| v.to_le_bytes()).collect();
    let model = open(&all).expect("any sixteen numbers will do");
    let packed = model.tensor(model.find("a").expect("there")).expect("valid");
    let codes = &parts()[0].3;
    let plain = open(&parts()).and_then(|m| m.tensor(m.find("a")?)).expect("valid").dequantize();
    let (got, nf4_one) = (packed.dequantize(), 15u8);
    for (i, w) in got.iter().enumerate() {
        let code = if i % 2 == 0 { codes[i / 2] >> 4 } else { codes[i / 2] & 15 };
        if code == nf4_one {
            assert_eq!(*w, plain[i], "code 15 is 1 in both books");
        }
        assert_eq!(*w == 0.0, code == 7, "code 7 is 0");
    }
}

/// Scales that are no numbers are seen at upload, wherever they come from.
#[test]
fn scales_that_are_not_finite_are_refused() {
    let mut all = parts();
    part(&mut all, ".nested_absmax").3[4..].copy_from_slice(&f32::INFINITY.to_le_bytes());
    let packed = open(&all).and_then(|m| m.tensor(m.find("a")?)).expect("lengths are right");
    // The second group of 256 scales is that of rows 64 to 95.
    match packed.check_finite().expect_err("infinite scales") {
        Error::NonFinite { count, first, .. } => assert_eq!((count, first), (32, 64)),
        other => panic!("{other}"),
    }
}

#[test]
fn no_truncation_of_a_checkpoint_panics() {
    let bytes = file(&parts());
    for len in (0..bytes.len()).step_by(61) {
        assert!(Model::from_bytes("cut.safetensors", bytes[..len].to_vec()).is_err(), "{len} bytes");
    }
}

/// A checkpoint of two layers, an embedding, a head and a norm.
fn source(folder: &Path) -> Vec<f32> {
    let golden = golden("nf4.b64.dq").tensor("w_f32").1;
    let half = |n: usize| vec![0x3c; 2 * n];
    let parts: Parts = vec![
        ("layers.0.mlp.up_proj.weight".into(), Dtype::F32, vec![96, 256], golden),
        ("layers.0.mlp.gate_proj.weight".into(), Dtype::BF16, vec![3, 33], half(99)),
        ("embed_tokens.weight".into(), Dtype::F16, vec![7, 5], half(35)),
        ("lm_head.weight".into(), Dtype::F16, vec![7, 5], half(35)),
        ("layers.0.norm.weight".into(), Dtype::F16, vec![5], half(5)),
        ("layers.0.mlp.up_proj.bias".into(), Dtype::F32, vec![1], vec![0; 4]),
        ("ids".into(), Dtype::I64, vec![2], vec![1; 16]),
        ("mask".into(), Dtype::U8, vec![3], vec![1; 3]),
    ];
    std::fs::write(folder.join("model.safetensors"), file(&parts)).expect("room");
    std::fs::write(folder.join("config.json"), r#"{"model_type":"llama","dtype":"float16"}"#).expect("room");
    std::fs::write(folder.join("tokenizer.json"), "{}").expect("room");
    std::fs::write(folder.join("pytorch_model.bin"), "old").expect("room");
    golden_f32s()
}

fn golden_f32s() -> Vec<f32> {
    golden("nf4.b64.dq").f32s("w_f32")
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

#[test]
fn quantize_writes_what_bitsandbytes_would() {
    let dir = tempfile::tempdir().expect("a folder");
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    std::fs::create_dir(&from).expect("a folder");
    source(&from);
    let model = Model::open(&from, &OpenOptions::default()).expect("valid");
    let nf4 = format::NF4;
    let config = FourBitConfig { double: true, ..FourBitConfig::default() };
    let target = Target::FourBit(nf4, config);
    let report =
        quantize_checkpoint(&model, &to, &target, &PLAIN, &encode_on_cpu, |_, _| ()).expect("written");
    let encoded: Vec<_> =
        report.tensors.iter().filter(|t| t.left_because.is_none()).map(|t| &*t.name).collect();
    assert_eq!(encoded.len(), 2, "{encoded:?}");
    let written = Model::open(&to, &OpenOptions::default()).expect("a checkpoint again");
    // Byte for byte what bitsandbytes made of the same weights, but for the spaces behind its text.
    let packed = written.tensor(written.find("layers.0.mlp.up_proj").expect("there")).expect("valid");
    let golden = golden("nf4.b64.dq");
    for part in packed.parts() {
        let (shape, bytes) = golden.tensor(&format!("packed.weight{}", part.suffix));
        if part.suffix.contains("quant_state") {
            let json = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).expect("a text");
            assert_eq!(json(&part.bytes), json(&bytes));
            continue;
        }
        assert_eq!((part.shape, &part.bytes[..]), (shape, &bytes[..]), "{}", part.suffix);
    }
    let odd = written.find("layers.0.mlp.gate_proj").expect("there");
    assert_eq!((odd.dtype.name(), &odd.shape[..]), ("NF4", &[3, 33][..]));
    assert!(odd.module.as_ref().expect("several tensors").description().contains("bfloat16"));
    for name in [
        "embed_tokens.weight",
        "lm_head.weight",
        "layers.0.norm.weight",
        "layers.0.mlp.up_proj.bias",
        "ids",
        "mask",
    ] {
        let (old, new) = (model.find(name).expect(name), written.find(name).expect(name));
        assert_eq!((old.dtype, &old.shape), (new.dtype, &new.shape));
        assert_eq!(model.bytes(old).expect(name), written.bytes(new).expect(name), "{name}");
    }
    assert_aligned(&written);
    let config = &written.config().expect("a config")["quantization_config"];
    assert_eq!(config["bnb_4bit_quant_type"], "nf4");
    assert_eq!(config["bnb_4bit_use_double_quant"], true);
    assert_eq!(config["llm_int8_skip_modules"], serde_json::json!(["embed_tokens", "lm_head"]));
    assert_eq!(written.config().expect("a config")["model_type"], "llama");
    let mut names: Vec<_> =
        std::fs::read_dir(&to).expect("there").map(|e| e.expect("readable").file_name()).collect();
    names.sort();
    assert_eq!(names, ["config.json", "model.safetensors", "tokenizer.json"]);
}

/// Every tensor lies where its type can be read.
fn assert_aligned(model: &Model) {
    for part in model.tensors().iter().flat_map(|t| model.parts(t)) {
        let size = (part.dtype.bits_per_weight() / 8.0) as u64;
        let (name, dtype, offset) = (&part.name, part.dtype, part.offset);
        assert!(offset.is_multiple_of(size), "`{name}` of {dtype} at byte {offset}");
    }
}

#[test]
fn quantize_refuses_before_it_writes() {
    let dir = tempfile::tempdir().expect("a folder");
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    std::fs::create_dir(&from).expect("a folder");
    source(&from);
    let model = Model::open(&from, &OpenOptions::default()).expect("valid");
    let to_target = |out: &Path, target: Target| {
        quantize_checkpoint(&model, out, &target, &PLAIN, &encode_on_cpu, |_, _| ())
    };
    let run = |out: &Path, format: &str, config: FourBitConfig| {
        let format = format::by_name(format).expect("a format of the table");
        to_target(out, Target::FourBit(format, config)).map(drop)
    };
    let error = |result: Result<(), Error>| result.expect_err("refused").to_string();
    let plain = FourBitConfig::default();
    assert!(error(run(&from, "NF4", plain)).contains("of the model itself"));
    assert!(error(run(&to, "Q4_0", plain)).contains("Q4_0"));
    assert!(error(run(&to, "FP4", FourBitConfig { block: 100, ..plain })).contains("blocksize 100"));
    for threshold in [-1.0, f32::NAN, f32::INFINITY] {
        let text = error(to_target(&to, Target::Int8 { threshold, keep: Keep::Nothing }).map(drop));
        assert!(text.contains("threshold") && text.contains(&threshold.to_string()), "{text}");
    }
    assert!(!to.exists());
    std::fs::create_dir(&to).expect("a folder");
    std::fs::write(to.join("model.safetensors.index.json"), "{}").expect("room");
    assert!(error(run(&to, "NF4", plain)).contains("model.safetensors.index.json"));
    let failing = |_: &str, _: [usize; 2], _: &[f32], _: &Recipe| {
        Err::<PackedTensor, _>(Error::Argument("stop".into()))
    };
    let out = dir.path().join("stopped");
    let nf4 = format::NF4;
    assert!(
        quantize_checkpoint(&model, &out, &Target::FourBit(nf4, plain), &PLAIN, &failing, |_, _| ()).is_err()
    );
    assert!(!out.exists(), "nothing is left half-written");
    std::fs::create_dir(&out).expect("a folder");
    assert!(
        quantize_checkpoint(&model, &out, &Target::FourBit(nf4, plain), &PLAIN, &failing, |_, _| ()).is_err()
    );
    assert_eq!(std::fs::read_dir(&out).expect("still there").count(), 0, "nothing is left half-written");
}

/// transformers would take what it finds for what the new configuration says.
#[test]
fn quantize_refuses_models_that_are_quantized() {
    let dir = tempfile::tempdir().expect("a folder");
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    std::fs::create_dir(&from).expect("a folder");
    let refused = |words: [&str; 2]| {
        let model = Model::open(&from, &OpenOptions::default()).expect("valid");
        let nf4 = format::NF4;
        let result = quantize_checkpoint(
            &model,
            &to,
            &Target::FourBit(nf4, FourBitConfig::default()),
            &PLAIN,
            &encode_on_cpu,
            |_, _| (),
        );
        let text = result.expect_err("quantized already").to_string();
        assert!(words.iter().all(|w| text.contains(w)) && !to.exists(), "{text}");
    };
    std::fs::write(from.join("model.safetensors"), file(&parts())).expect("room");
    refused(["already", "`a.weight` is NF4"]);
    let int8: Parts = vec![
        ("a.weight".into(), Dtype::I8, vec![2, 3], vec![1; 6]),
        ("a.SCB".into(), Dtype::F32, vec![2], vec![0; 8]),
    ];
    std::fs::write(from.join("model.safetensors"), file(&int8)).expect("room");
    refused(["already", "`a.weight` is INT8"]);
    source(&from);
    std::fs::write(from.join("config.json"), r#"{"quantization_config":{"quant_method":"gptq"}}"#)
        .expect("room");
    refused(["already", "gptq"]);
}

/// A folder in which a run was killed is written again; links into the model are not followed.
#[test]
fn quantize_looks_at_what_is_in_the_folder() {
    let dir = tempfile::tempdir().expect("a folder");
    let [from, to, links, other] = ["from", "to", "links", "other"].map(|name| dir.path().join(name));
    [&from, &to, &links, &other].iter().for_each(|path| std::fs::create_dir(path).expect("a folder"));
    source(&from);
    std::fs::write(from.join("tf_model.h5"), "the same weights").expect("room");
    let model = Model::open(&from, &OpenOptions::default()).expect("valid");
    let nf4 = format::NF4;
    let run = |out: &Path| {
        quantize_checkpoint(
            &model,
            out,
            &Target::FourBit(nf4, FourBitConfig::default()),
            &PLAIN,
            &encode_on_cpu,
            |_, _| (),
        )
        .map(drop)
    };
    std::fs::write(to.join(".qmatmul-AbC123.partial"), "half").expect("room");
    std::fs::write(to.join("training_args.bin"), "of another program").expect("room");
    std::fs::write(from.join("tokenizer.json"), "tokens").expect("room");
    for name in ["config.json", "tokenizer.json"] {
        std::fs::write(to.join(name), "old").expect("room");
        let text = run(&to).expect_err("another file").to_string();
        assert!(text.contains(&format!("`{name}` there is another file")), "{text}");
        assert_eq!(std::fs::read(to.join(name)).expect("there"), b"old");
        std::fs::remove_file(to.join(name)).expect("there");
    }
    // To the folder of the model by way of one that is not there yet, and to no folder at all.
    let before = std::fs::read(from.join("model.safetensors")).expect("there");
    for (out, why) in [
        (dir.path().join("new/../from"), "the folder of the model"),
        ("".into(), "no folder"),
        (from.join("config.json"), "no folder"),
    ] {
        let text = run(&out).expect_err("no target").to_string();
        assert!(text.contains(why), "{text}");
    }
    assert_eq!(std::fs::read(from.join("model.safetensors")).expect("there"), before);
    run(&to).expect("nothing of another checkpoint is there");
    std::fs::remove_file(to.join("model.safetensors")).expect("there");
    run(&to).expect("what a run left that was killed is the same");
    std::fs::remove_file(to.join("model.safetensors")).expect("there");
    for (name, path) in [("model.safetensors", &to), ("pytorch_model.bin", &other)] {
        std::fs::write(path.join(name), "old").expect("room");
        let text = run(path).expect_err("another checkpoint").to_string();
        assert!(text.contains("holds weights already") && text.contains(name), "{text}");
        assert_eq!(std::fs::read(path.join(name)).expect("there"), b"old");
        std::fs::remove_file(path.join(name)).expect("there");
    }
    run(&to).expect("only the weights matter");
    assert!(Model::open(&to, &OpenOptions::default()).is_ok() && !to.join("tf_model.h5").exists());
    #[cfg(unix)]
    for name in ["model.safetensors", "config.json"] {
        let before = std::fs::read(from.join(name)).expect("there");
        std::os::unix::fs::symlink(from.join(name), links.join(name)).expect("a link");
        let text = run(&links).expect_err("the model itself").to_string();
        assert!(text.contains("links to files of the model"), "{text}");
        assert_eq!(std::fs::read(from.join(name)).expect("there"), before);
        std::fs::remove_file(links.join(name)).expect("there");
    }
}

/// The weights come last, so that what fails before leaves no checkpoint, and no configuration of
/// one that was there.
#[test]
fn quantize_writes_all_or_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let [from, to, taken] = ["from", "to", "taken"].map(|name| dir.path().join(name));
    std::fs::create_dir(&from).expect("a folder");
    source(&from);
    let run = |out: &Path| {
        let model = Model::open(&from, &OpenOptions::default())?;
        let nf4 = format::NF4;
        let target = Target::FourBit(nf4, FourBitConfig::default());
        // As soon as the tensors are read, a file beside them is gone.
        let read = model.tensors().len();
        quantize_checkpoint(&model, out, &target, &PLAIN, &encode_on_cpu, |i, _| {
            if i + 1 == read {
                std::fs::remove_file(from.join("tokenizer.json")).expect("there");
            }
        })
        .map(drop)
    };
    for name in ["config.json", "tokenizer.json"] {
        std::fs::create_dir_all(taken.join(name)).expect("a folder");
        let text = run(&taken).expect_err("no place for a file").to_string();
        assert!(text.contains(name) && text.contains("where a file belongs"), "{text}");
        assert_eq!(std::fs::read_dir(&taken).expect("there").count(), 1, "nothing was written");
        std::fs::remove_dir(taken.join(name)).expect("empty");
    }
    for out in [&to, &taken] {
        std::fs::write(from.join("tokenizer.json"), "{}").expect("room");
        let text = run(out).expect_err("a file is gone").to_string();
        assert!(text.contains("tokenizer.json") && !out.join("model.safetensors").exists(), "{text}");
    }
    assert!(!to.exists() && std::fs::read_dir(&taken).expect("there").count() == 0);
    for config in ["[null,null,null]", "[]", "7"] {
        std::fs::write(from.join("config.json"), config).expect("room");
        let text = run(&to).expect_err("no object").to_string();
        assert!(text.contains("config.json") && text.contains("object") && !to.exists(), "{text}");
    }
}

/// bitsandbytes encodes no empty tensors, and needs not.
#[test]
fn quantize_keeps_what_is_empty() {
    let dir = tempfile::tempdir().expect("a folder");
    let shapes = [("a.weight", vec![0, 64]), ("b.weight", vec![64, 0])];
    let mut parts = shapes.map(|(name, shape)| (name.to_owned(), Dtype::F32, shape, vec![])).to_vec();
    parts.push(("c.weight".to_owned(), Dtype::F32, vec![1, 64], vec![0; 256]));
    let nf4 = format::NF4;
    let (model, to) = (open(&parts).expect("valid"), dir.path().join("to"));
    quantize_checkpoint(
        &model,
        &to,
        &Target::FourBit(nf4, FourBitConfig::default()),
        &BARE,
        &encode_on_cpu,
        |_, _| (),
    )
    .expect("written");
    let written = Model::open(&to, &OpenOptions::default()).expect("valid");
    assert!(written.tensors().iter().all(|t| (t.dtype.name() == "F32") == (t.elements() == 0)));
}

#[test]
fn weights_without_elements_read_back() {
    let nf4 = format::NF4;
    for (shape, double) in [([0, 64], false), ([64, 0], false), ([0, 33], true)] {
        let config = FourBitConfig { double, ..FourBitConfig::default() };
        let packed =
            PackedTensor::encode("a", shape, &[], &Recipe::four_bit(nf4, config)).expect("nothing to do");
        let model = open(&as_file(&packed)).expect("our own");
        let again = model.tensor(model.find("a").expect("there")).expect("valid");
        assert_eq!(([again.rows(), again.cols()], again.parts()), (shape, packed.parts()));
    }
    refused(
        &said("[96, 256]", "[0, 9999999999]"),
        "a.weight.quant_state.bitsandbytes__nf4",
        &["does not fit"],
    );
}

#[test]
fn parts_of_two_weights_are_refused() {
    // Both types claim the codes.
    let mut both = parts();
    let text = String::from_utf8(part(&mut both, STATE).3.clone()).expect("JSON").replace("nf4", "fp4");
    both.push(("a.weight.quant_state.bitsandbytes__fp4".into(), Dtype::U8, vec![text.len()], text.into()));
    refused(&both, "a.weight", &["part of two weights"]);
    // The scales of one are the codes of another.
    let mut nested = parts();
    let text = r#"{"quant_type":"nf4","blocksize":64,"dtype":"float32","shape":[12,64]}"#.as_bytes().to_vec();
    nested.extend([
        (format!("a.weight.absmax{STATE}"), Dtype::U8, vec![text.len()], text),
        ("a.weight.absmax.absmax".into(), Dtype::F32, vec![12], vec![0; 48]),
        ("a.weight.absmax.quant_map".into(), Dtype::F32, vec![16], vec![0; 64]),
    ]);
    refused(&nested, "a.weight.absmax", &["part of two weights"]);
    // The codes are INT8, too.
    let mut int8 = parts();
    let codes = part(&mut int8, "");
    let rows = codes.3.len();
    (codes.1, codes.2) = (Dtype::I8, vec![rows, 1]);
    int8.push(("a.SCB".into(), Dtype::F32, vec![rows], vec![0; 4 * rows]));
    refused(&int8, "a.weight", &["part of two weights"]);
}

/// An INT8 weight of 2 x 3.
fn int8_parts() -> Parts {
    vec![
        ("a.weight".into(), Dtype::I8, vec![2, 3], vec![0x80, 0xff, 0, 1, 2, 127]),
        ("a.SCB".into(), Dtype::F32, vec![2], [127f32, 254.0].iter().flat_map(|v| v.to_le_bytes()).collect()),
        ("a.weight_format".into(), Dtype::U8, vec![], vec![0]),
    ]
}

#[test]
fn int8_weights_are_accepted_with_their_order_or_without() {
    for kept in [3, 2] {
        let parts: Parts = int8_parts().into_iter().take(kept).collect();
        let model = open(&parts).expect("valid");
        let info = model.find("a").expect("there");
        assert_eq!((model.tensors().len(), info.bytes), (1, 14 + u64::from(kept == 3)));
        let weight = model.tensor(info).expect("valid");
        assert_eq!(weight.dequantize(), [-128.0, -1.0, 0.0, 2.0, 4.0, 254.0]);
        let row = model.rows(info, 1..2).expect("there");
        assert_eq!(row.dequantize(), [2.0, 4.0, 254.0]);
    }
}

#[test]
fn int8_weights_that_lie_are_refused() {
    let with = |at: usize, dtype: Dtype, shape: &[usize], bytes: Vec<u8>| {
        let mut parts = int8_parts();
        (parts[at].1, parts[at].2, parts[at].3) = (dtype, shape.to_vec(), bytes);
        parts
    };
    refused(&int8_parts().split_off(1), "a.SCB", &["lacks `a.weight`"]);
    refused(&with(0, Dtype::I8, &[6], vec![0; 6]), "a.weight", &["a matrix", "[6]"]);
    refused(&with(0, Dtype::U8, &[2, 3], vec![0; 6]), "a.weight", &["I8", "U8"]);
    refused(&with(1, Dtype::F16, &[2], vec![0; 4]), "a.SCB", &["F32", "F16"]);
    refused(&with(1, Dtype::F32, &[3], vec![0; 12]), "a.SCB", &["2 scales", "got 3"]);
    refused(&with(2, Dtype::U8, &[2], vec![0; 2]), "a.weight_format", &["1 number", "got 2"]);
    refused(&with(2, Dtype::U8, &[1], vec![2]), "a.weight_format", &["2 (col_turing)"]);
    refused(&with(2, Dtype::U8, &[], vec![9]), "a.weight_format", &["9 (unknown)"]);
    let scales = [f32::NAN, 1.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let model = open(&with(1, Dtype::F32, &[2], scales)).expect("only numbers are wrong");
    let weight = model.tensor(model.find("a").expect("there")).expect("valid");
    assert!(matches!(weight.check_finite(), Err(Error::NonFinite { count: 1, first: 0, .. })));
}

/// A weight's text may lie in another shard than its codes, and its scales in a third.
#[test]
fn parts_may_lie_in_several_shards() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut map = serde_json::Map::new();
    for (i, part) in parts().into_iter().enumerate() {
        let shard = format!("model-{}.safetensors", i % 3);
        map.insert(part.0, shard.into());
    }
    for i in 0..3 {
        let shard: Parts = parts().into_iter().skip(i).step_by(3).collect();
        std::fs::write(dir.path().join(format!("model-{i}.safetensors")), file(&shard)).expect("room");
    }
    let index = serde_json::json!({ "weight_map": map }).to_string();
    std::fs::write(dir.path().join("model.safetensors.index.json"), index).expect("room");
    for mmap in [true, false] {
        let model = Model::open(dir.path(), &OpenOptions { mmap }).expect("valid");
        assert_eq!(model.tensors().len(), 1);
        let whole = open(&parts()).expect("valid");
        let load = |model: &Model| model.tensor(model.find("a").expect("there")).expect("valid").parts();
        assert_eq!(load(&model), load(&whole));
    }
}

/// The tensors of a weight in a file.
fn as_file(packed: &PackedTensor) -> Parts {
    let dtype = |name: &str| if name == "U8" { Dtype::U8 } else { Dtype::F32 };
    let parts = packed.parts().into_iter();
    parts.map(|p| (format!("a.weight{}", p.suffix), dtype(p.dtype), p.shape, p.bytes.to_vec())).collect()
}

/// Every size of block, one of the vectors that the golden files do not have.
#[test]
fn parts_read_back_as_they_were_made() {
    let weights = check::activations(37 * 41, 5);
    for name in ["NF4", "FP4"] {
        for (block, double) in [
            (32, false),
            (64, true),
            (128, false),
            (256, true),
            (512, false),
            (1024, true),
            (2048, false),
            (4096, true),
        ] {
            let format = format::by_name(name).expect("a format of the table");
            let config = FourBitConfig { block, double, ..FourBitConfig::default() };
            let packed = PackedTensor::encode("a", [37, 41], &weights, &Recipe::four_bit(format, config))
                .expect("finite");
            let model = open(&as_file(&packed)).expect("our own");
            let again = model.tensor(model.find("a").expect("there")).expect("valid");
            assert_eq!(again.dequantize(), packed.dequantize(), "{name} by {block}");
            assert_eq!((again.rows(), again.cols(), again.parts()), (37, 41, packed.parts()));
        }
    }
}
