//! Adapters of low rank: PEFT's folders as they are meant and as they lie, and layers with adapters
//! and a bias on every device.

use crate::common::{Golden, Raw, f32_tensor, lora_config, lora_tensors, path, report, write_adapter};
use crate::device::{VARIANTS, families, first, open, pipelines, read};
use qmatmul::check::{self, activations, random_tensor};
use qmatmul::file::lora::Adapter;
use qmatmul::file::{Model, OpenOptions};
use qmatmul::kernel::reference;
use qmatmul::{
    Activations, Error, Layer, Linear, Lora, MatmulOptions, Options, PackedTensor, Recipe, Runtime, format,
    wgpu,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const MODULE: &str = "model.layers.0.self_attn.q_proj";

fn open_adapter(folder: &std::path::Path) -> Result<Adapter, Error> {
    Adapter::open(folder, &OpenOptions::default())
}

/// The adapter that these two files are.
fn adapter(config: &Value, tensors: &[Raw]) -> Result<Adapter, Error> {
    let folder = TempDir::new().expect("a temporary folder");
    write_adapter(folder.path(), config, tensors);
    open_adapter(folder.path())
}

fn with(mut config: Value, key: &str, value: Value) -> Value {
    config[key] = value;
    config
}

fn scale(config: Value, rank: usize) -> f64 {
    let tensors = lora_tensors(MODULE, (4, 8), rank, 1);
    adapter(&config, &tensors).expect("a valid adapter").modules()[0].scale
}

// Files as they are meant

#[test]
fn the_adapter_of_peft_is_read() {
    let adapter = open_adapter(&path("golden/checkpoints/lora")).expect("the file is valid");
    let shown: Vec<_> = adapter.modules().iter().map(|m| (&*m.name, m.rank, m.scale)).collect();
    let wanted =
        ["mlp.down_proj", "self_attn.q_proj", "self_attn.v_proj"].map(|m| format!("model.layers.0.{m}"));
    assert_eq!(shown, wanted.each_ref().map(|m| (&**m, 8, 2.0)));
    let low_rank = adapter.low_rank(&adapter.modules()[0]).expect("readable");
    assert_eq!((low_rank.a().rows(), low_rank.a().cols()), (8, 512));
    assert_eq!((low_rank.b().rows(), low_rank.b().cols()), (256, 8));
    for name in [MODULE.to_owned(), format!("{MODULE}.weight")] {
        assert_eq!(adapter.find(&name).expect("there").name, MODULE);
    }
    let text = adapter.find("model.layers.0.self_attn.k_proj").expect_err("not there").to_string();
    assert!(text.contains("k_proj") && text.contains("near it") && text.contains("q_proj"), "{text}");
}

/// PEFT's products for x, on a base whose scales were not yet quantized, which the folder beside it
/// holds with quantized ones. That changes its weights by 1e-3 and y by 1e-6 in NMSE; adapters make
/// up 0.7 of y's power and more, so that a scale that is off by one in a thousand shows.
#[test]
fn golden_products_of_an_adapter_on_nf4() {
    let _stated = pipelines(15);
    const DOUBLE_QUANTIZATION: f64 = 1.5e-6;
    let base = Model::open(path("golden/checkpoints/bnb-nf4-dq"), &OpenOptions::default()).expect("valid");
    let adapter = open_adapter(&path("golden/checkpoints/lora")).expect("valid");
    let files = Golden::folder("checkpoints/lora");
    let expected = files.iter().find(|g| g.name == "expected").expect("the vectors are in the repository");
    for module in adapter.modules() {
        let low_rank = adapter.low_rank(module).expect("readable");
        let info = base.find(&module.name).expect("the base has the module");
        let bare = Linear::new(base.tensor(info).expect("NF4 is supported"));
        let linear = bare.clone().with_adapter(low_rank.clone()).expect("fits");
        let (x, y) =
            (expected.f32s(&format!("{}.x", module.name)), expected.f64s(&format!("{}.y", module.name)));
        let near = |linear: &Linear| {
            let got = reference::linear(linear, &x, Activations::F32).expect("shapes fit");
            check::compare(&got.iter().map(|v| *v as f32).collect::<Vec<_>>(), &y, DOUBLE_QUANTIZATION)
        };
        assert!(near(&linear).passed, "{}: {}", module.name, near(&linear));
        let off =
            Lora::new(low_rank.a().clone(), low_rank.b().clone(), module.scale * 1.002).expect("finite");
        assert!(!near(&bare.clone().with_adapter(off).expect("fits")).passed, "{}", module.name);
        for variant in families() {
            let runtime = variant.runtime();
            let layer = runtime.upload_layer(&linear).expect("small");
            let c = check::layer(runtime, &linear, &layer, &x, &MatmulOptions::default()).expect("small");
            assert!(c.passed, "{} on {}: {c}", module.name, variant.name);
        }
    }
}

/// The modules of PEFT and of llama.cpp's converter on their bases, against the products of PEFT;
/// `tests/fast/file_lora.rs` has the deltas.
#[test]
fn golden_products_of_adapters_as_tools_wrote_them() {
    let _stated = pipelines(15);
    let (mut failures, mut done) = (vec![], 0);
    for (folder, base, name) in [
        ("lora-peft", "", "adapter"),
        ("lora-gguf", "base.gguf", "adapter.gguf"),
        ("lora-gguf", "base.gguf", "adapter-peft"),
    ] {
        let folder = path("golden/hub").join(folder);
        let model = Model::open(folder.join(base), &OpenOptions::default()).expect("valid");
        let adapter = open_adapter(&folder.join(name)).expect("valid");
        let fit = adapter.on(&model).expect("the names are known");
        let expected = Golden::open(&folder.join("expected.st"));
        for info in fit.tensors().expect("all are there") {
            let module = info.name.strip_suffix(".weight").expect("a weight");
            if !expected.has(&format!("x.{module}")) {
                continue;
            }
            let added = fit.find(info).expect("readable");
            let linear =
                added.into_iter().try_fold(model.linear(info).expect("supported"), Linear::with_adapter);
            let linear = linear.expect("fits");
            let x = expected.f32s(&format!("x.{module}"));
            let want: Vec<f64> =
                expected.f32s(&format!("y.{module}")).iter().map(|y| f64::from(*y)).collect();
            for variant in families() {
                let runtime = variant.runtime();
                let layer = runtime.upload_layer(&linear).expect("small");
                let y = runtime.matmul_layer(&layer, &x, &MatmulOptions::default()).expect("small");
                let compared = check::compare(&y, &want, check::NMSE_F32);
                if !compared.passed {
                    failures.push(format!("{name}, {module} on {}: {compared}", variant.name));
                }
                done += 1;
            }
        }
    }
    report(&failures, done);
}

#[test]
fn scales_divide_by_the_rank_or_by_its_root() {
    assert_eq!(scale(lora_config(4, 6.0), 4), 1.5);
    assert_eq!(scale(with(lora_config(4, 6.0), "use_rslora", json!(true)), 4), 3.0);
    assert_eq!(scale(with(lora_config(4, 6.0), "use_rslora", json!(false)), 4), 1.5);
    assert_eq!(scale(lora_config(3, 0.5), 3), 0.5 / 3.0);
}

/// The first pattern that matches counts, in each table by itself; the rank of a pattern is that of
/// the scale.
#[test]
fn patterns_decide_about_ranks_and_scales() {
    let mut config = lora_config(2, 8.0);
    config["rank_pattern"] = json!({"self_attn.q_proj": 4, "q_proj": 5, "^up": 3});
    config["alpha_pattern"] = json!({"v_proj": 1, "0.self_attn.q_proj": 32});
    let ranks = [
        ("layers.0.self_attn.q_proj", 4),
        ("layers.1.self_attn.q_proj", 4),
        ("v_proj", 2),
        ("up", 3),
        ("a.up", 2),
    ];
    let tensors: Vec<_> = ranks.iter().flat_map(|(m, r)| lora_tensors(m, (4, 8), *r, 1)).collect();
    let stabilized = with(config.clone(), "use_rslora", json!(true));
    let adapter_of = |config| adapter(config, &tensors).expect("valid");
    let scale = |adapter: &Adapter, name| adapter.find(name).expect("there").scale;
    let plain = adapter_of(&config);
    assert_eq!(ranks.map(|(m, _)| scale(&plain, m)), [8.0, 2.0, 0.5, 8.0 / 3.0, 4.0]);
    assert_eq!(scale(&adapter_of(&stabilized), "layers.0.self_attn.q_proj"), 16.0);
}

#[test]
fn tensors_may_carry_the_adapters_name_and_be_halves() {
    let halves = |side: &str, shape: [usize; 2], dtype, one: [u8; 2]| -> Raw {
        let name = format!("base_model.model.{MODULE}.lora_{side}.default.weight");
        (name, dtype, shape.to_vec(), one.repeat(shape[0] * shape[1]))
    };
    let a = halves("A", [2, 8], safetensors::Dtype::F16, 0x3c00u16.to_le_bytes());
    let b = halves("B", [4, 2], safetensors::Dtype::BF16, 0x3f80u16.to_le_bytes());
    let folder = TempDir::new().expect("a temporary folder");
    write_adapter(folder.path(), &lora_config(2, 2.0), &[a, b]);
    let adapter = open_adapter(folder.path()).expect("valid");
    let low_rank = adapter.low_rank(adapter.find(MODULE).expect("there")).expect("readable");
    assert_eq!(low_rank.a().dequantize(), [1.0; 16]);
    assert_eq!((low_rank.b().format().name, low_rank.b().dequantize()), ("BF16", vec![1.0; 8]));
}

/// What says nothing, or nothing about the product, is taken.
#[test]
fn features_that_are_off_are_no_matter() {
    let off = [
        ("use_dora", json!(false)),
        ("modules_to_save", Value::Null),
        ("modules_to_save", json!([])),
        ("bias", json!("none")),
        ("rank_pattern", Value::Null),
        ("alpha_pattern", json!({})),
        ("init_lora_weights", json!(true)),
        ("init_lora_weights", json!("gaussian")),
        ("lora_dropout", json!(0.1)),
    ];
    for (key, value) in off {
        assert_eq!(scale(with(lora_config(4, 8.0), key, value), 4), 2.0, "{key}");
    }
}

// Files as they lie

/// `what` and words of the problem of a folder that must be refused.
fn refused(
    label: &str,
    result: Result<Adapter, Error>,
    file: &str,
    what: &str,
    words: &[&str],
) -> Option<String> {
    let wrong = match result {
        Err(Error::Malformed { file: f, what: w, problem: p, .. }) => {
            let right = f.ends_with(file) && w.contains(what) && words.iter().all(|word| p.contains(word));
            (!right).then(|| format!("{f}: {w}: {p}"))
        }
        Err(other) => Some(other.to_string()),
        Ok(_) => Some("opened".into()),
    };
    wrong.map(|line| format!("{label}: {line}"))
}

#[test]
fn configurations_that_lie_or_ask_for_more_are_refused_by_name() {
    let good = lora_config(4, 8.0);
    let cases = [
        ("peft_type", json!("LOHA"), &["LOHA", "LORA"][..]),
        ("peft_type", json!(7), &["no text"]),
        ("use_dora", json!(true), &["DoRA"]),
        ("fan_in_fan_out", json!(true), &["transposed"]),
        ("lora_bias", json!(true), &["biases"]),
        ("bias", json!("lora_only"), &["biases"]),
        ("layer_replication", json!([[0, 4]]), &["repeated"]),
        ("target_parameters", json!(["mlp.experts"]), &["parameters"]),
        ("trainable_token_indices", json!([1]), &["embeddings"]),
        ("alora_invocation_tokens", json!([1]), &["tokens"]),
        ("use_qalora", json!(true), &["QA-LoRA"]),
        ("init_lora_weights", json!("pissa_niter_4"), &["pissa_niter_4", "base weights"]),
        ("use_rslora", json!(1), &["true or false", "1"]),
        ("r", json!(0), &["above 0", "got 0"]),
        ("r", json!(-1), &["above 0", "got -1"]),
        ("r", json!(4.5), &["got 4.5"]),
        ("r", json!(1u64 << 40), &["1099511627776"]),
        ("r", Value::Null, &["got null"]),
        ("lora_alpha", json!("16"), &["a number"]),
        ("rank_pattern", json!([1]), &["object", "[…]"]),
        ("lora_alpha", json!([[1]]), &["a number", "[…]"]),
        ("rank_pattern", json!({"q_proj": 0}), &["q_proj", "got 0"]),
        ("rank_pattern", json!({"(?!k)q_proj": 4}), &["regular expression", "(?!k)q_proj", "look-around"]),
        (
            "alpha_pattern",
            json!({"q_proj": 1, "(v_proj": 4}),
            &["regular expression", "`(v_proj`", "unclosed group"],
        ),
        ("alpha_pattern", json!({"q_proj": "4"}), &["q_proj", "a number", "\"4\""]),
    ];
    let tensors = lora_tensors(MODULE, (4, 8), 4, 1);
    assert!(adapter(&good, &tensors).is_ok());
    let mut failures = vec![];
    for (key, value, words) in &cases {
        let label = format!("{key} = {value}");
        let result = adapter(&with(good.clone(), key, value.clone()), &tensors);
        failures.extend(refused(&label, result, "adapter_config.json", &format!("key `{key}`"), words));
    }
    for key in ["peft_type", "r", "lora_alpha"] {
        let mut config = good.clone();
        config.as_object_mut().expect("an object").remove(key);
        let what = format!("key `{key}`");
        failures.extend(refused(key, adapter(&config, &tensors), "adapter_config.json", &what, &["missing"]));
    }
    report(&failures, cases.len() + 3);
}

#[test]
fn texts_that_are_no_configuration_are_refused() {
    let folder = TempDir::new().expect("a temporary folder");
    write_adapter(folder.path(), &lora_config(4, 8.0), &lora_tensors(MODULE, (4, 8), 4, 1));
    let huge = format!(r#"{{"peft_type": "{}"}}"#, "x".repeat(1 << 20));
    let deep = "[".repeat(100_000);
    let overflow = r#"{"peft_type": "LORA", "r": 4, "lora_alpha": 1e999}"#;
    let cases: [(&str, &[u8]); 7] = [
        ("empty", b""),
        ("a list", b"[]"),
        ("cut", br#"{"peft_type": "LORA", "r": 4"#),
        ("no UTF-8", b"{\"a\": \"\xff\"}"),
        ("too long", huge.as_bytes()),
        ("too deep", deep.as_bytes()),
        ("a number beyond f64", overflow.as_bytes()),
    ];
    let mut failures = vec![];
    for (label, text) in cases {
        std::fs::write(folder.path().join("adapter_config.json"), text).expect("overwrite");
        failures.extend(refused(label, open_adapter(folder.path()), "adapter_config.json", "", &[]));
    }
    report(&failures, cases.len());
    std::fs::remove_file(folder.path().join("adapter_config.json")).expect("it is there");
    let error = open_adapter(folder.path()).expect_err("no configuration");
    assert!(
        matches!(&error, Error::Io { .. }) && error.to_string().contains("adapter_config.json"),
        "{error}"
    );
}

fn tensor(name: &str, shape: &[usize]) -> Raw {
    f32_tensor(&format!("base_model.model.{name}"), shape, &vec![1.0; shape.iter().product()])
}

#[test]
fn tensors_that_do_not_belong_are_refused_by_name() {
    let a = || tensor("q.lora_A.weight", &[4, 8]);
    let b = || tensor("q.lora_B.weight", &[6, 4]);
    let integers =
        ("base_model.model.q.lora_A.weight".into(), safetensors::Dtype::I8, vec![4, 8], vec![0; 32]);
    let cases: Vec<(&str, Vec<Raw>, &str, &[&str])> = vec![
        ("b alone", vec![b()], "lora_B", &["no lora_A"]),
        ("a alone", vec![a()], "lora_A", &["no lora_B"]),
        (
            "another rank in both",
            vec![tensor("q.lora_A.weight", &[3, 8]), tensor("q.lora_B.weight", &[6, 3])],
            "lora_A",
            &["rank 3", "says 4"],
        ),
        ("another rank in b", vec![a(), tensor("q.lora_B.weight", &[6, 5])], "lora_B", &["rank 5", "says 4"]),
        (
            "rank 0",
            vec![tensor("q.lora_A.weight", &[0, 8]), tensor("q.lora_B.weight", &[6, 0])],
            "lora_A",
            &["rank 0"],
        ),
        ("b transposed", vec![a(), tensor("q.lora_B.weight", &[4, 6])], "lora_B", &["[4, 6]", "[m, r]"]),
        (
            "a convolution",
            vec![tensor("q.lora_A.weight", &[4, 8, 1, 1]), b()],
            "lora_A",
            &["[4, 8, 1, 1]", "[r, k]"],
        ),
        ("integers", vec![integers, b()], "lora_A", &["I8", "BF16"]),
        ("DoRA", vec![a(), b(), tensor("q.lora_magnitude_vector", &[6])], "lora_magnitude_vector", &["DoRA"]),
        ("a bias of b", vec![a(), b(), tensor("q.lora_B.bias", &[6])], "lora_B.bias", &["biases"]),
        ("two adapters", vec![a(), b(), tensor("q.lora_A.other.weight", &[4, 8])], "lora_A", &["two lora_A"]),
        (
            "no prefix",
            vec![f32_tensor("q.lora_A.weight", &[4, 8], &[1.0; 32])],
            "q.lora_A",
            &["base_model.model"],
        ),
    ];
    let mut failures = vec![];
    let done = cases.len();
    for (label, tensors, what, words) in cases {
        let result = adapter(&lora_config(4, 8.0), &tensors);
        failures.extend(refused(label, result, "adapter_model.safetensors", what, words));
    }
    report(&failures, done);
}

/// `tests/fast/file_bounds.rs` has the time that tables take.
#[test]
fn too_many_patterns_are_refused() {
    let tensors = lora_tensors("m7", (1, 1), 1, 1);
    let with_patterns = |count: u32| {
        let patterns: serde_json::Map<_, _> = (0..count).map(|i| (format!("m{i:x}"), json!(1))).collect();
        adapter(&with(lora_config(1, 1.0), "rank_pattern", patterns.into()), &tensors)
    };
    assert!(with_patterns(4096).is_ok());
    let file = "adapter_config.json";
    let words = ["65536 patterns take more than 8388608 bytes"];
    assert_eq!(refused("compiled", with_patterns(65_536), file, "key `rank_pattern`", &words), None);
    assert_eq!(refused("pairs", with_patterns(65_537), file, "JSON", &["more than 65536"]), None);
}

/// Every prefix and many flipped bits of both real files: an error or an adapter, never a panic.
#[test]
fn mutated_files_never_panic() {
    let folder = TempDir::new().expect("a temporary folder");
    let names = ["adapter_config.json", "adapter_model.safetensors"];
    let real =
        names.map(|n| std::fs::read(path("golden/checkpoints/lora").join(n)).expect("in the repository"));
    let read = || {
        let adapter = open_adapter(folder.path()).ok()?;
        adapter.modules().iter().for_each(|m| drop(adapter.low_rank(m)));
        Some(())
    };
    let mut opened = 0;
    for (name, bytes) in names.iter().zip(&real) {
        for (name, bytes) in names.iter().zip(&real) {
            std::fs::write(folder.path().join(name), bytes).expect("a file");
        }
        let head = bytes.len().min(1_102);
        for at in 0..head {
            std::fs::write(folder.path().join(name), &bytes[..at]).expect("a file");
            assert!(read().is_none(), "{name} cut at {at}");
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 7);
            std::fs::write(folder.path().join(name), &flipped).expect("a file");
            opened += usize::from(read().is_some());
        }
    }
    assert!(opened > 0, "no bit is without a meaning");
}

// Layers

fn plain(name: &str, rows: usize, cols: usize, values: &[f32]) -> PackedTensor {
    let f32 = format::F32;
    PackedTensor::encode(name, [rows, cols], values, &Recipe::new(f32)).expect("finite values of this shape")
}

/// A weight of random blocks with a bias and adapters of these ranks, all about as large as its
/// products.
pub fn linear(format: &str, (m, k): (usize, usize), bias: bool, ranks: &[usize]) -> Linear {
    let format = format::by_name(format).expect("a format of the table");
    let mut linear = Linear::new(random_tensor("w", format, m, k, 5).expect("the shape fits"));
    if bias {
        let values: Vec<f32> = activations(m, 6).iter().map(|v| v * 16.0).collect();
        linear = linear.with_bias(plain("bias", 1, m, &values)).expect("fits");
    }
    for (seed, &rank) in ranks.iter().enumerate() {
        let a = plain("a", rank, k, &activations(rank * k, 7 + seed as u64));
        let b = plain("b", m, rank, &activations(m * rank, 8 + seed as u64));
        linear = linear.with_adapter(Lora::new(a, b, 0.3 + seed as f64).expect("ranks agree")).expect("fits");
    }
    linear
}

/// One layer and batch; a line about it if it failed.
pub fn cell(
    runtime: &Runtime,
    linear: &Linear,
    n: usize,
    options: &MatmulOptions,
    label: &str,
) -> Option<String> {
    let x = activations(n * linear.weight().cols(), 9);
    let outcome =
        runtime.upload_layer(linear).and_then(|layer| check::layer(runtime, linear, &layer, &x, options));
    match outcome {
        Ok(comparison) => (!comparison.passed).then(|| format!("{label}, n = {n}: {comparison}")),
        Err(error) => Some(format!("{label}, n = {n}: {error}")),
    }
}

/// Nothing, a bias, an adapter, several: each on every family of kernels, for gemv and gemm.
#[test]
fn layers_are_right_on_every_variant() {
    let _stated = pipelines(50);
    let layers = [
        ("a weight alone", linear("Q4_0", (70, 256), false, &[])),
        ("a bias", linear("Q4_0", (70, 256), true, &[])),
        ("an adapter", linear("Q4_0", (70, 256), false, &[8])),
        ("a bias and three adapters", linear("Q6_K", (131, 512), true, &[1, 33, 64])),
        ("odd columns", linear("F32", (33, 45), true, &[3, 2])),
    ];
    let (mut failures, mut done) = (vec![], 0);
    for variant in families() {
        for (label, linear) in &layers {
            for &n in first(&[3, 33, 1, 9], 2) {
                let label = format!("{label} on {}", variant.name);
                failures.extend(cell(variant.runtime(), linear, n, &MatmulOptions::default(), &label));
                done += 1;
            }
        }
    }
    report(&failures, done);
}

/// The weight takes rounded activations, the adapters take them as they are: the reference says so,
/// and this would show.
#[test]
fn activations_of_the_weight_may_be_rounded() {
    let _stated = pipelines(35);
    let linear = linear("Q4_K", (70, 768), true, &[8, 16]);
    let (mut failures, mut done) = (vec![], 0);
    for variant in families() {
        for activations in [Activations::F16, Activations::Q8] {
            for &n in first(&[1, 33, 9], 2) {
                let label = format!("{} on {}", activations.name(), variant.name);
                failures.extend(cell(
                    variant.runtime(),
                    &linear,
                    n,
                    &MatmulOptions::with(activations),
                    &label,
                ));
                done += 1;
            }
        }
    }
    report(&failures, done);
}

/// What splits a request: the weight in shards, windows of x, y and the products between, folded
/// grids, ranges of k.
#[test]
fn layers_within_small_limits() {
    let _stated = pipelines(65);
    let cases = [
        ("binding of 16 KiB", Options { max_binding: Some(16 << 10), ..Options::default() }, (700, 256)),
        ("four workgroups a dimension", Options { max_groups: Some(4), ..Options::default() }, (36, 64)),
        ("120 loop iterations", Options { max_loops: Some(120), ..Options::default() }, (70, 8192)),
    ];
    let (mut failures, mut done) = (vec![], 0);
    for (label, options, shape) in &cases {
        let linear = linear("Q5_0", *shape, true, &[40, 8]);
        for software in [true, false] {
            let runtime = open(&Options { software: Some(software), ..options.clone() });
            let shards = runtime.upload(linear.weight()).expect("rows fit").shard_count();
            assert_eq!(shards > 3, options.max_binding.is_some(), "{label}: {shards} shards");
            for &n in first(&[33, 1, 9], 1) {
                let label = format!("{label}, software = {software}");
                failures.extend(cell(&runtime, &linear, n, &MatmulOptions::default(), &label));
                done += 1;
            }
        }
    }
    report(&failures, done);
}

#[test]
fn empty_layers() {
    let _stated = pipelines(5);
    let (mut failures, mut done) = (vec![], 0);
    for variant in families() {
        for (shape, n) in [((0, 256), 2), ((4, 256), 0)] {
            let linear = linear("Q4_0", shape, true, &[2]);
            failures.extend(cell(variant.runtime(), &linear, n, &MatmulOptions::default(), variant.name));
            done += 1;
        }
    }
    report(&failures, done);
}

/// The check itself: a bias, an adapter or a scale that is not the reference's does not pass.
#[test]
fn the_check_sees_what_is_missing() {
    let _stated = pipelines(5);
    let runtime = VARIANTS[0].runtime();
    let x = activations(3 * 256, 9);
    let full = || linear("Q4_0", (70, 256), true, &[8, 4]);
    let off = {
        let low_rank = &full().adapters()[0].clone();
        let scaled = Lora::new(low_rank.a().clone(), low_rank.b().clone(), low_rank.scale() * 1.0001);
        let linear =
            linear("Q4_0", (70, 256), true, &[]).with_adapter(scaled.expect("finite")).expect("fits");
        linear.with_adapter(full().adapters()[1].clone()).expect("fits")
    };
    let others = [
        ("no bias", linear("Q4_0", (70, 256), false, &[8, 4])),
        ("one adapter", linear("Q4_0", (70, 256), true, &[8])),
        ("a scale that is off by 1e-4", off),
    ];
    for (label, other) in others {
        let layer = runtime.upload_layer(&other).expect("small");
        let check = |linear: &Linear| {
            check::layer(runtime, linear, &layer, &x, &MatmulOptions::default()).expect("small").passed
        };
        assert!(check(&other) && !check(&full()), "{label}");
    }
}

/// The low rank by plain loops over the definition, not over the matrices that the reference joins
/// or multiplies.
#[test]
fn the_reference_is_the_formula() {
    let (m, k, n) = (3, 5, 2);
    let (linear, x) = (linear("F32", (m, k), true, &[2, 1]), activations(n * k, 3));
    let got = reference::linear(&linear, &x, Activations::F32).expect("shapes fit");
    let at = |t: &PackedTensor, row: usize, col: usize| f64::from(t.dequantize()[row * t.cols() + col]);
    for (i, got) in got.iter().enumerate() {
        let (col, row) = (i / m, i % m);
        let dot =
            |t: &PackedTensor, row| (0..k).map(|j| at(t, row, j) * f64::from(x[col * k + j])).sum::<f64>();
        let mut want = dot(linear.weight(), row) + at(linear.bias().expect("a bias"), 0, row);
        for l in linear.adapters() {
            want += l.scale() * (0..l.rank()).map(|r| at(l.b(), row, r) * dot(l.a(), r)).sum::<f64>();
        }
        assert!((got - want).abs() < 1e-12 * want.abs().max(1.0), "{i}: {got} {want}");
    }
}

fn storage(runtime: &Runtime, data: &[f32]) -> wgpu::Buffer {
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let size = data.len() as u64 * 4;
    let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
    let buffer = runtime.device().create_buffer(&descriptor);
    let bytes: Vec<u8> = data.iter().flat_map(|v| v.to_le_bytes()).collect();
    runtime.queue().write_buffer(&buffer, 0, &bytes);
    buffer
}

/// Layers that share their activations, recorded twice into buffers that hold something: it must
/// not be added to.
#[test]
fn recorded_layers_overwrite_what_was_there() {
    let _stated = pipelines(25);
    let layers = [linear("Q4_0", (70, 256), true, &[8]), linear("Q8_0", (33, 256), false, &[4, 4])];
    let n = 3;
    let x = activations(n * 256, 2);
    for variant in families() {
        let runtime = variant.runtime();
        let uploaded: Vec<Layer> = layers.iter().map(|l| runtime.upload_layer(l).expect("small")).collect();
        let buffers: Vec<_> =
            layers.iter().map(|l| storage(runtime, &vec![99.0; n * l.weight().rows()])).collect();
        let outputs: Vec<_> = uploaded.iter().zip(&buffers).collect();
        let (bx, options) = (storage(runtime, &x), MatmulOptions::default());
        for _ in 0..2 {
            let mut encoder = runtime.device().create_command_encoder(&Default::default());
            runtime.record_layers(&mut encoder, &outputs, &bx, n, &options).expect("fits");
            runtime.queue().submit([encoder.finish()]);
        }
        for ((linear, layer), y) in layers.iter().zip(&uploaded).zip(&buffers) {
            let y = read(runtime, y);
            let want = reference::linear(linear, &x, Activations::F32).expect("shapes fit");
            let comparison = check::compare(&y, &want, check::NMSE_F32);
            assert!(comparison.passed, "{}: {comparison}", variant.name);
            assert_eq!(y, runtime.matmul_layer(layer, &x, &options).expect("small"), "{}", variant.name);
        }
    }
}

#[test]
fn a_layer_that_was_warmed_up_compiles_nothing() {
    let _stated = pipelines(10);
    let runtime = open(&VARIANTS[0].options());
    let layer = runtime.upload_layer(&linear("Q4_0", (70, 256), true, &[8])).expect("small");
    let options = MatmulOptions::default();
    runtime.warm_up_layers(&[(&layer, 1), (&layer, 9)], &options).expect("compiles");
    let before = runtime.compiled_pipelines();
    for n in [1, 9] {
        runtime.matmul_layer(&layer, &activations(n * 256, 1), &options).expect("small");
    }
    assert_eq!(runtime.compiled_pipelines(), before);
    assert!(before >= 3, "{before} pipelines");
    assert_eq!(layer.rank(), 8);
    assert!(layer.device_bytes() >= layer.weight().device_bytes() + 4 * (8 * 256 + 70 * 8 + 70));
}

#[test]
fn misuse_of_layers_is_an_error() {
    let _stated = pipelines(5);
    let (runtime, other) = (VARIANTS[0].runtime(), VARIANTS[2].runtime());
    let options = MatmulOptions::default();
    let layer = runtime.upload_layer(&linear("Q4_0", (64, 64), true, &[2])).expect("small");
    assert!(matches!(other.matmul_layer(&layer, &[1.0; 64], &options), Err(Error::Argument(_))));
    assert!(matches!(other.warm_up_layers(&[(&layer, 1)], &options), Err(Error::Argument(_))));
    assert!(matches!(runtime.time_layer(&[], 1, &options, 0.0), Err(Error::Argument(_))));
    let error = runtime.matmul_layer(&layer, &[1.0; 65], &options).expect_err("no whole column");
    assert!(error.to_string().contains("64") && error.to_string().contains("65"), "{error}");
    let error = runtime.matmul_layer(&layer, &[f32::NAN; 64], &options).expect_err("not finite");
    assert!(matches!(error, Error::NonFinite { count: 64, .. }), "{error}");
    let (x, short) = (storage(runtime, &[1.0; 64]), storage(runtime, &[1.0; 63]));
    let mut encoder = runtime.device().create_command_encoder(&Default::default());
    let error =
        runtime.record_layers(&mut encoder, &[(&layer, &short)], &x, 1, &options).expect_err("y is short");
    assert!(error.to_string().contains("256") && error.to_string().contains("252"), "{error}");
    let error = runtime.record_layers(&mut encoder, &[(&layer, &x)], &x, 1, &options).expect_err("y is x");
    assert!(matches!(error, Error::Argument(_)), "{error}");
    let bad = Linear::new(plain("w", 2, 3, &[1.0; 6]));
    let nan = PackedTensor::new("bad", format::F32, 1, 2, vec![0xff; 8]);
    let bad = bad.with_bias(nan.expect("two values")).expect("fits");
    assert!(matches!(runtime.upload_layer(&bad), Err(Error::NonFinite { .. })));
    assert!(matches!(bad.check_finite(), Err(Error::NonFinite { .. })));
}

/// A bias is taken where a linear layer has one.
#[test]
fn a_weight_finds_its_bias() {
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("model.safetensors");
    let ones = |name: &str, shape: &[usize]| f32_tensor(name, shape, &vec![1.0; shape.iter().product()]);
    let tensors = [
        ones("q.weight", &[3, 4]),
        ones("q.bias", &[3]),
        ones("k.weight", &[3, 4]),
        ones("norm.weight", &[4]),
        ones("norm.bias", &[4]),
        ones("odd.weight", &[3, 4]),
        ones("odd.bias", &[4]),
    ];
    crate::common::write_tensors(&file, &tensors);
    let model = Model::open(&file, &OpenOptions::default()).expect("valid");
    let bias = |name| {
        let linear = model.find(name).and_then(|info| model.linear(info))?;
        Ok::<_, Error>(linear.bias().map(|b| b.name().to_owned()))
    };
    assert_eq!(bias("q").expect("fits").as_deref(), Some("q.bias"));
    assert_eq!(bias("k").expect("no bias"), None);
    assert_eq!(bias("norm").expect("a norm is no linear layer"), None);
    let text = bias("odd").expect_err("4 values for 3 rows").to_string();
    assert!(text.contains("odd.bias") && text.contains("3 values") && text.contains("1 x 4"), "{text}");
}
