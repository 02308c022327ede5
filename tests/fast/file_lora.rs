//! LoRA adapters as PEFT and llama.cpp's converter wrote them, against the deltas and products of
//! those tools, and each rule by which they lie on a base.

use crate::common::{
    Golden, Raw, f32_tensor, lora_config, lora_tensors, path, report, write_adapter, write_tensors,
};
use qmatmul::file::gguf::{Value, ValueType};
use qmatmul::file::gguf_write::{self, Entries, NewTensor};
use qmatmul::file::lora::{Adapter, Fit};
use qmatmul::file::{DType, Model, OpenOptions};
use qmatmul::format::{self, Format};
use qmatmul::kernel::reference;
use qmatmul::{Activations, Error, Linear, Lora, PackedTensor, Recipe, check};
use serde_json::json;
use std::path::Path;
use tempfile::TempDir;

fn open(path: impl AsRef<Path>) -> Model {
    Model::open(path, &OpenOptions::default()).expect("a model")
}

fn adapter(path: impl AsRef<Path>) -> Result<Adapter, Error> {
    Adapter::open(path, &OpenOptions::default())
}

/// What adapters add to a weight `[m, k]`, in f64.
fn delta(adapters: &[Lora], [m, k]: [usize; 2]) -> Vec<f64> {
    let mut sum = vec![0.0; m * k];
    for lora in adapters {
        let (a, b, r) = (lora.a().dequantize(), lora.b().dequantize(), lora.rank());
        for (at, sum) in sum.iter_mut().enumerate() {
            let (row, col) = (at / k, at % k);
            let dot: f64 = (0..r).map(|i| f64::from(b[row * r + i]) * f64::from(a[i * k + col])).sum();
            *sum += lora.scale() * dot;
        }
    }
    sum
}

/// Deltas and products of one golden folder for an adapter of it; a line for each that is off.
fn golden(folder: &str, base: &str, adapter_name: &str) -> (Vec<String>, Vec<String>) {
    let folder = path("golden/hub").join(folder);
    let (model, adapter) = (open(folder.join(base)), adapter(folder.join(adapter_name)).expect("an adapter"));
    let case: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(folder.join("case.json")).expect("there"))
            .expect("JSON");
    let expected = Golden::open(&folder.join("expected.st"));
    let fit = adapter.on(&model).expect("it is for this model");
    let mut failures = vec![];
    for module in case["tensors"].as_array().expect("a list").iter().map(|m| m.as_str().expect("a name")) {
        let info = model.find(module).expect("the base has it");
        let added = fit.find(info).expect("the adapter has it");
        let shape = [info.rows() as usize, info.cols() as usize];
        let got: Vec<f32> = delta(&added, shape).iter().map(|v| *v as f32).collect();
        let want: Vec<f64> =
            expected.f32s(&format!("delta.{module}")).iter().map(|v| f64::from(*v)).collect();
        let compared = check::compare(&got, &want, 1e-12);
        if !compared.passed {
            failures.push(format!("{adapter_name}, delta of {module}: {compared}"));
        }
        let linear = added.into_iter().try_fold(model.linear(info).expect("supported"), Linear::with_adapter);
        let x = expected.f32s(&format!("x.{module}"));
        let y = reference::linear(&linear.expect("fits"), &x, Activations::F32).expect("shapes fit");
        let y: Vec<f32> = y.iter().map(|v| *v as f32).collect();
        let want: Vec<f64> = expected.f32s(&format!("y.{module}")).iter().map(|v| f64::from(*v)).collect();
        let compared = check::compare(&y, &want, 1e-12);
        if !compared.passed {
            failures.push(format!("{adapter_name}, product of {module}: {compared}"));
        }
    }
    let left_out = fit.left_out().iter().map(|left| left.name.clone()).collect();
    (failures, left_out)
}

#[test]
fn golden_adapter_of_peft() {
    let (failures, left_out) = golden("lora-peft", "", "adapter");
    report(&failures, 4);
    assert_eq!(left_out, ["lm_head", "model.embed_tokens"]);
}

#[test]
fn golden_adapters_on_a_gguf() {
    for name in ["adapter.gguf", "adapter-peft"] {
        let (failures, left_out) = golden("lora-gguf", "base.gguf", name);
        report(&failures, 4);
        assert_eq!(left_out, [""; 0]);
    }
}

fn ones(name: &str, shape: &[usize]) -> Raw {
    f32_tensor(&format!("base_model.model.{name}"), shape, &vec![1.0; shape.iter().product()])
}

/// Copies and whole modules are left out with their names, everything else is used.
#[test]
fn what_is_saved_whole_is_left_out() {
    let folder = TempDir::new().expect("a temporary folder");
    let mut tensors = lora_tensors("model.layers.0.q", (4, 8), 2, 1);
    tensors.extend([
        ones("lm_head.weight", &[6, 8]),
        ones("score.modules_to_save.weight", &[6, 8]),
        ones("head.modules_to_save.default.weight", &[6, 8]),
        ones("head.modules_to_save.default.bias", &[6]),
        ones("model.embed_tokens.base_layer.weight", &[6, 8]),
        ones("model.embed_tokens.lora_embedding_A", &[2, 6]),
        ones("model.embed_tokens.lora_embedding_B", &[8, 2]),
        ones("other.lora_embedding_A.default", &[2, 6]),
    ]);
    let mut config = lora_config(2, 4.0);
    config["modules_to_save"] = json!(["lm_head", "score", "head"]);
    config["target_modules"] = json!("(?!lm_head).*q");
    write_adapter(folder.path(), &config, &tensors);
    let adapter = adapter(folder.path()).expect("a valid adapter");
    assert_eq!(adapter.modules().iter().map(|m| &*m.name).collect::<Vec<_>>(), ["model.layers.0.q"]);
    let left: Vec<_> = adapter.left_out().iter().map(|left| (&*left.name, left.why)).collect();
    let whole = "it is saved whole";
    let embedding = "it adds to an embedding";
    assert_eq!(
        left,
        [
            ("head", whole),
            ("lm_head", whole),
            ("model.embed_tokens", embedding),
            ("other", embedding),
            ("score", whole)
        ]
    );
    let text = adapter.find("lm_head").expect_err("left out").to_string();
    assert!(text.contains("`lm_head` that can be used: it is saved whole"), "{text}");
}

/// A table with real expressions, as the hub has them: the first that matches counts, ranks and
/// alphas by themselves.
#[test]
fn patterns_are_regular_expressions() {
    let folder = TempDir::new().expect("a temporary folder");
    let modules = [
        ("m.layers.0.mlp.up", 4),
        ("m.layers.10.mlp.up", 6),
        ("m.layers.10.attn.q", 3),
        ("m.layers.2.attn.k", 2),
    ];
    let tensors: Vec<_> = modules.iter().flat_map(|(m, r)| lora_tensors(m, (4, 8), *r, 1)).collect();
    let mut config = lora_config(2, 8.0);
    config["rank_pattern"] = json!({r"layers\.\d\.mlp.*": 4, "(mlp|moe).(up|down)": 6, r"attn\.[qv]": 3});
    config["alpha_pattern"] = json!({r"layers\.1\d*\..*": 3, "q": 5});
    write_adapter(folder.path(), &config, &tensors);
    let adapter = adapter(folder.path()).expect("a valid adapter");
    let scale = |name: &str| adapter.find(name).expect("there").scale;
    assert_eq!(modules.map(|(m, _)| scale(m)), [8.0 / 4.0, 3.0 / 6.0, 3.0 / 3.0, 8.0 / 2.0]);
    config["rank_pattern"] = json!({"(?!lm_head).*q": 4});
    write_adapter(folder.path(), &config, &tensors);
    let text = super::file_lora::adapter(folder.path()).expect_err("look-ahead").to_string();
    assert!(
        text.contains("key `rank_pattern`") && text.contains("no regular expression that is supported"),
        "{text}"
    );
}

/// A key and its value.
type Key<'a> = (&'a str, Value<'a>);
/// Name, format and shape of a tensor.
type New<'a> = (&'a str, &'static Format, &'a [u64]);

/// A GGUF file of these keys and tensors of ones.
fn gguf(path: &Path, keys: &[(&str, Value<'_>)], tensors: &[(&str, &'static Format, &[u64])]) {
    let mut entries = Entries::new();
    keys.iter().for_each(|(key, value)| entries.set(key, *value));
    let new: Vec<_> = tensors
        .iter()
        .map(|(name, format, shape)| NewTensor {
            name: (*name).into(),
            dtype: DType::Supported(format),
            shape: shape.to_vec(),
        })
        .collect();
    gguf_write::write(path, &entries, &new, |i, sink| {
        let (_, format, shape) = tensors[i];
        let count = shape.iter().product::<u64>() as usize;
        let cols = *shape.last().expect("a dimension") as usize;
        let packed =
            PackedTensor::encode("w", [count / cols, cols], &vec![1.0; count], &Recipe::new(format))?;
        sink.put(&packed.data())
    })
    .expect("a new file");
}

const KEYS: [(&str, Value<'_>); 4] = [
    ("general.architecture", Value::String(b"llama")),
    ("general.type", Value::String(b"adapter")),
    ("adapter.type", Value::String(b"lora")),
    ("adapter.lora.alpha", Value::F32(6.0)),
];

#[test]
fn gguf_adapters_of_every_type() {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("adapter.gguf");
    let tensors: [(&str, &'static Format, &[u64]); 13] = [
        ("blk.0.attn_q.weight.lora_a", format::F16, &[4, 32]),
        ("blk.0.attn_q.weight.lora_b", format::BF16, &[64, 4]),
        ("blk.0.attn_k.weight.lora_a", format::Q8_0, &[32, 64]),
        ("blk.0.attn_k.weight.lora_b", format::Q8_0, &[64, 32]),
        // ggml leaves out the outermost dimension of a matrix of one row.
        ("blk.0.attn_v.weight.lora_a", format::F32, &[32]),
        ("blk.0.attn_v.weight.lora_b", format::F32, &[64, 1]),
        ("token_embd.weight.lora_a", format::F32, &[96, 4]),
        ("token_embd.weight.lora_b", format::F32, &[4, 32]),
        ("blk.0.ffn_up_exps.weight.lora_a", format::F32, &[3, 4, 32]),
        ("blk.0.ffn_up_exps.weight.lora_b", format::F32, &[3, 64, 4]),
        ("blk.0.attn_norm.weight", format::F32, &[32]),
        ("output_norm.weight", format::F32, &[32]),
        ("blk.0.attn_q.bias", format::F32, &[64]),
    ];
    gguf(&path, &KEYS, &tensors);
    let of = |path: &Path| adapter(path).expect("a valid adapter");
    let shown: Vec<_> = of(&path).modules().iter().map(|m| (m.name.clone(), m.rank, m.scale)).collect();
    let wanted = [("blk.0.attn_k", 32, 6.0 / 32.0), ("blk.0.attn_q", 4, 1.5), ("blk.0.attn_v", 1, 6.0)];
    assert_eq!(shown, wanted.map(|(name, rank, scale)| (name.to_owned(), rank, scale)));
    let opened = of(&path);
    let left: Vec<_> = opened.left_out().iter().map(|left| (&*left.name, left.why)).collect();
    let whole = "it is saved whole";
    assert_eq!(
        left,
        [
            ("blk.0.attn_norm", whole),
            ("blk.0.attn_q.bias", whole),
            ("blk.0.ffn_up_exps", "it adds to a stack of experts"),
            ("output_norm", whole),
            ("token_embd", "it adds to an embedding"),
        ]
    );
    for module in opened.modules() {
        let lora = opened.low_rank(module).expect("readable");
        assert_eq!((lora.rank(), lora.b().rows()), (module.rank, 64), "{}", module.name);
        assert!(lora.a().dequantize().iter().all(|v| (*v - 1.0).abs() < 0.01), "{}", module.name);
    }
    let mut keys = KEYS;
    keys[3].1 = Value::F32(0.0);
    gguf(&path, &keys, &tensors[..2]);
    assert_eq!(of(&path).modules()[0].scale, 1.0, "alpha 0 is the factor 1");
}

#[test]
fn gguf_files_that_are_no_adapter_are_refused_by_name() {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("adapter.gguf");
    let (a, b) = (
        ("q.weight.lora_a", format::F32, &[4u64, 32][..]),
        ("q.weight.lora_b", format::F32, &[64u64, 4][..]),
    );
    let with = |at: usize, value: Option<Value<'static>>| {
        let mut keys = KEYS.to_vec();
        match value {
            Some(value) => keys[at].1 = value,
            None => drop(keys.remove(at)),
        }
        keys
    };
    let good = KEYS.to_vec();
    let cases: Vec<(Vec<Key<'_>>, Vec<New<'_>>, &[&str])> = vec![
        (with(1, Some(Value::String(b"model"))), vec![a, b], &["general.type", "`adapter`", "got model"]),
        (with(1, None), vec![a, b], &["general.type", "missing"]),
        (with(2, Some(Value::String(b"dora"))), vec![a, b], &["adapter.type", "`lora`", "got dora"]),
        (with(3, None), vec![a, b], &["adapter.lora.alpha", "missing"]),
        (with(3, Some(Value::F32(f32::NAN))), vec![a, b], &["adapter.lora.alpha", "a number", "NaN"]),
        (good.clone(), vec![a], &["q.weight.lora_a", "no `.lora_b`"]),
        (good.clone(), vec![b], &["q.weight.lora_b", "no `.lora_a`"]),
        (
            good.clone(),
            vec![a, ("q.weight.lora_b", format::F32, &[64, 3])],
            &["q.weight.lora_b", "rank 3", "says 4"],
        ),
        (good.clone(), vec![("q.weight.lora_a", format::Q4_0, &[4, 32]), b], &["lora_a", "Q4_0", "Q8_0"]),
        (good, vec![a, b, ("q.weight.lora_c", format::F32, &[4])], &["q.weight.lora_c", "neither"]),
    ];
    for (keys, tensors, words) in &cases {
        gguf(&path, keys, tensors);
        let text = adapter(&path).expect_err("no adapter").to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{words:?}: {text}");
    }
}

/// Values that tell their place.
fn counted(name: &str, shape: [usize; 2]) -> Raw {
    let values: Vec<f32> = (0..shape[0] * shape[1]).map(|i| i as f32).collect();
    f32_tensor(name, &shape, &values)
}

/// A folder of PEFT with these modules `[m, 4]` of rank 1, whose b holds the number of each row.
fn peft(folder: &Path, modules: &[(&str, usize)]) -> Adapter {
    let sides = |(module, m): &(&str, usize)| {
        let name = |side: &str| format!("base_model.model.{module}.lora_{side}.weight");
        [f32_tensor(&name("A"), &[1, 4], &[1.0; 4]), counted(&name("B"), [*m, 1])]
    };
    write_adapter(folder, &lora_config(1, 1.0), &modules.iter().flat_map(sides).collect::<Vec<_>>());
    adapter(folder).expect("a valid adapter")
}

/// A GGUF base of this architecture.
fn base(folder: &Path, architecture: &str, heads: &[(&str, Value<'_>)], tensors: &[(&str, &[u64])]) -> Model {
    let path = folder.join("base.gguf");
    let keys: Vec<_> = [("general.architecture", Value::String(architecture.as_bytes()))]
        .into_iter()
        .chain(heads.iter().copied())
        .collect();
    let tensors: Vec<_> = tensors.iter().map(|(name, shape)| (*name, format::F32, *shape)).collect();
    gguf(&path, &keys, &tensors);
    open(path)
}

/// The one column of what is added to a tensor.
fn column(fit: &Fit, model: &Model, tensor: &str) -> Vec<f64> {
    let info = model.find(tensor).expect("there");
    let added = fit.find(info).expect("something is added");
    delta(&added, [info.rows() as usize, 4]).into_iter().step_by(4).collect()
}

const Q: &str = "model.layers.0.self_attn.q_proj";
const K: &str = "model.layers.0.self_attn.k_proj";
const V: &str = "model.layers.0.self_attn.v_proj";
const UP: &str = "model.layers.0.mlp.up_proj";

/// Two heads of four rows for queries, one for keys: in llama's GGUF the rows 0, 1, 2, 3 of a head
/// are 0, 2, 1, 3 of the checkpoint's; in others they are as they were.
#[test]
fn rows_of_queries_and_keys_are_reordered_for_llama_alone() {
    let folder = TempDir::new().expect("a temporary folder");
    let adapter = peft(folder.path(), &[(Q, 8), (K, 4), (V, 4), (UP, 6)]);
    let tensors: [(&str, &[u64]); 4] = [
        ("blk.0.attn_q.weight", &[8, 4]),
        ("blk.0.attn_k.weight", &[4, 4]),
        ("blk.0.attn_v.weight", &[4, 4]),
        ("blk.0.ffn_up.weight", &[6, 4]),
    ];
    for (architecture, q, k) in [
        ("llama", [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0], [0.0, 2.0, 1.0, 3.0]),
        ("qwen2", [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], [0.0, 1.0, 2.0, 3.0]),
    ] {
        let [heads, kv] = ["", "_kv"].map(|end| format!("{architecture}.attention.head_count{end}"));
        let keys = [(&*heads, Value::U32(2)), (&*kv, Value::U32(1))];
        let model = base(folder.path(), architecture, &keys, &tensors);
        let fit = adapter.on(&model).expect("known names");
        assert_eq!(fit.tensors().expect("all are there").len(), 4);
        assert_eq!(column(&fit, &model, "blk.0.attn_q"), q, "{architecture}");
        assert_eq!(column(&fit, &model, "blk.0.attn_k"), k, "{architecture}");
        assert_eq!(column(&fit, &model, "blk.0.attn_v"), [0.0, 1.0, 2.0, 3.0], "{architecture}");
        assert_eq!(column(&fit, &model, "blk.0.ffn_up"), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0], "{architecture}");
    }
    let model = base(folder.path(), "llama", &[], &tensors);
    let text = adapter.on(&model).expect_err("no number of heads").to_string();
    assert!(text.contains("how many heads `blk.0.attn_k` has"), "{text}");
    let model = base(folder.path(), "llama", &[("llama.attention.head_count", Value::U32(3))], &tensors);
    let fit = adapter.on(&model).expect("known names");
    let text =
        fit.find(model.find("blk.0.attn_q").expect("there")).expect_err("8 rows of 3 heads").to_string();
    assert!(text.contains("each of 3 heads") && text.contains("got 8"), "{text}");
}

/// Newer files hold q, k and v in one tensor.
#[test]
fn queries_keys_and_values_may_lie_in_one_tensor() {
    let folder = TempDir::new().expect("a temporary folder");
    let adapter = peft(folder.path(), &[(Q, 8), (V, 4)]);
    let heads =
        [("llama.attention.head_count", Value::U32(2)), ("llama.attention.head_count_kv", Value::U32(1))];
    let model = base(folder.path(), "llama", &heads, &[("blk.0.attn_qkv.weight", &[16, 4])]);
    let fit = adapter.on(&model).expect("known names");
    let want = [0, 2, 1, 3, 4, 6, 5, 7, 0, 0, 0, 0, 0, 1, 2, 3].map(f64::from);
    assert_eq!(column(&fit, &model, "blk.0.attn_qkv"), want);
}

/// Heads that differ by layer come as an array.
#[test]
fn heads_may_differ_by_layer() {
    let folder = TempDir::new().expect("a temporary folder");
    let module = "model.layers.1.self_attn.q_proj";
    let adapter = peft(folder.path(), &[(module, 8)]);
    let path = folder.path().join("base.gguf");
    let mut entries = Entries::new();
    entries.set_str("general.architecture", "llama");
    let heads = [Value::I32(4), Value::I32(1)];
    entries.set_array("llama.attention.head_count", ValueType::I32, &heads).expect("one type");
    let tensor = NewTensor {
        name: "blk.1.attn_q.weight".into(),
        dtype: DType::Supported(format::F32),
        shape: vec![8, 4],
    };
    gguf_write::write(&path, &entries, &[tensor], |_, sink| sink.put(&[0; 128])).expect("a new file");
    let model = open(path);
    let fit = adapter.on(&model).expect("known names");
    assert_eq!(column(&fit, &model, "blk.1.attn_q"), [0.0, 4.0, 1.0, 5.0, 2.0, 6.0, 3.0, 7.0]);
}

/// A GGUF adapter on a checkpoint: the way back.
#[test]
fn a_gguf_adapter_lies_on_a_checkpoint() {
    let folder = TempDir::new().expect("a temporary folder");
    let base = path("golden/hub/lora-gguf");
    let whole = open(base.join("base.gguf"));
    let [gguf, peft] = ["adapter.gguf", "adapter-peft"].map(|name| adapter(base.join(name)).expect("valid"));
    let zeros = |name: &str, shape: [usize; 2]| f32_tensor(name, &shape, &vec![0.0; shape[0] * shape[1]]);
    let tensors = [
        zeros("model.layers.0.self_attn.q_proj.weight", [48, 48]),
        zeros("model.layers.0.self_attn.k_proj.weight", [24, 48]),
        zeros("model.layers.0.mlp.down_proj.weight", [48, 80]),
    ];
    write_tensors(&folder.path().join("model.safetensors"), &tensors);
    let config = |kind: &str| {
        let config = json!({"model_type": kind, "num_attention_heads": 4, "num_key_value_heads": 2});
        std::fs::write(folder.path().join("config.json"), config.to_string()).expect("a new file");
        open(folder.path())
    };
    let model = config("llama");
    let (fit, direct) = (gguf.on(&model).expect("llama"), peft.on(&model).expect("the same names"));
    for info in fit.tensors().expect("all are there") {
        let shape = [info.rows() as usize, info.cols() as usize];
        let [got, want] = [&fit, &direct].map(|fit| delta(&fit.find(info).expect("there"), shape));
        assert_eq!(got, want, "{}", info.name);
    }
    let text = gguf.on(&config("qwen2")).expect_err("another architecture").to_string();
    assert!(text.contains("`llama`") && text.contains("`qwen2`"), "{text}");
    assert!(gguf.on(&whole).is_ok());
}

#[test]
fn adapters_that_do_not_fit_a_gguf_are_refused_by_name() {
    let folder = TempDir::new().expect("a temporary folder");
    let expert = "model.layers.0.block_sparse_moe.experts.1.w1";
    let adapter = peft(folder.path(), &[(UP, 6), (expert, 6), ("model.layers.7.mlp.up_proj", 6)]);
    let tensors: [(&str, &[u64]); 2] =
        [("blk.0.ffn_up.weight", &[6, 4]), ("blk.0.ffn_gate_exps.weight", &[2, 6, 4])];
    let model = base(folder.path(), "rwkv7", &[], &tensors);
    let text = adapter.on(&model).expect_err("names that are not known").to_string();
    assert!(text.contains("`rwkv7`") && text.contains("qwen3moe"), "{text}");
    let model = base(folder.path(), "llama", &[], &tensors);
    let fit = adapter.on(&model).expect("known names");
    assert!(fit.adds_to(model.find("blk.0.ffn_up").expect("there")));
    assert_eq!(fit.left_out().iter().map(|left| &*left.name).collect::<Vec<_>>(), [expert]);
    let text = fit.tensors().expect_err("no layer 7").to_string();
    assert!(text.contains("model.layers.7.mlp.up_proj") && text.contains("adapter"), "{text}");
    let file = folder.path().join("adapter.gguf");
    gguf(
        &file,
        &KEYS,
        &[("q.weight.lora_a", format::F32, &[4, 32]), ("q.weight.lora_b", format::F32, &[64, 4])],
    );
    let other = base(folder.path(), "qwen2", &[], &tensors);
    let text = super::file_lora::adapter(&file)
        .expect("valid")
        .on(&other)
        .expect_err("another architecture")
        .to_string();
    assert!(text.contains("`llama`") && text.contains("`qwen2`"), "{text}");
}
