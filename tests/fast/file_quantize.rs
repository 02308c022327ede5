//! What a quantizer encodes, and what it leaves alone.

use crate::common::{f32_tensor, path, write_tensors};
use qmatmul::Error;
use qmatmul::file::gguf::Value;
use qmatmul::file::gguf_write::{self, Entries, NewTensor};
use qmatmul::file::{
    DType, Keep, Model, OpenOptions, QuantizeOptions, Report, Target, quantize, quantize_checkpoint,
};
use qmatmul::format::recipe::FourBitConfig;
use qmatmul::format::{self, Format, Recipe};
use qmatmul::tensor::PackedTensor;
use std::path::Path;
use tempfile::TempDir;

const PLAIN: QuantizeOptions = QuantizeOptions { pure: false, bare: false, allow_requantize: false };
const PURE: QuantizeOptions = QuantizeOptions { pure: true, ..PLAIN };
const BARE: QuantizeOptions = QuantizeOptions { bare: true, ..PLAIN };
const AGAIN: QuantizeOptions = QuantizeOptions { allow_requantize: true, ..PLAIN };

/// A tensor of a file that a test writes.
pub struct Tensor<'a> {
    pub name: &'a str,
    pub shape: &'a [u64],
    pub from: &'a str,
}

fn dtype(name: &str) -> DType {
    DType::Supported(format::by_name(name).expect("a format of the table"))
}

/// A GGUF file of zeros.
pub fn write_gguf(path: &Path, architecture: &str, tensors: &[Tensor]) -> Model {
    let mut entries = Entries::new();
    entries.set_str("general.architecture", architecture);
    entries.set("general.file_type", Value::U32(77));
    let new = tensors.iter().map(|t| NewTensor {
        name: t.name.into(),
        dtype: dtype(t.from),
        shape: t.shape.to_vec(),
    });
    let new: Vec<_> = new.collect();
    gguf_write::write(path, &entries, &new, |i, sink| {
        let weights = new[i].shape.iter().product::<u64>() as usize;
        let blocks = weights / new[i].dtype.block_weights();
        sink.put(&vec![0; blocks * new[i].dtype.block_bytes()])
    })
    .expect("a valid file");
    Model::open(path, &OpenOptions::default()).expect("our own")
}

/// The model quantized, and the report of it.
struct Run {
    model: Model,
    report: Report,
}

impl Run {
    fn types(&self) -> Vec<(&str, &str)> {
        self.model.tensors().iter().map(|t| (&*t.name, t.dtype.name())).collect()
    }

    fn file_type(&self) -> Option<u32> {
        match self.model.gguf().get("general.file_type") {
            Some(Value::U32(number)) => Some(number),
            _ => None,
        }
    }
}

fn run(model: &Model, format: &'static Format, options: &QuantizeOptions) -> Result<Run, Error> {
    let folder = TempDir::new().expect("a folder");
    let out = folder.path().join("out.gguf");
    let result = quantize(model, &out, &Recipe::new(format), options, |_, _| ());
    assert_eq!(out.exists(), result.is_ok());
    let model = |_: &Report| Model::open(&out, &OpenOptions { mmap: false }).expect("our own");
    result.map(|report| Run { model: model(&report), report })
}

fn refusal(model: &Model, format: &'static Format, options: &QuantizeOptions) -> String {
    match run(model, format, options).map(|run| run.report) {
        Err(Error::Argument(text)) => text,
        other => panic!("{other:?}"),
    }
}

/// Types as llama-quantize gave them to files that llama.cpp runs. It gives Q6_K to the output
/// matrix of a Q4_0 file whose rows are a multiple of 256, for which there is no encoder here yet;
/// rows of these models are not, and get Q8_0 from both.
#[test]
fn types_are_those_of_llama_quantize() {
    let folder = TempDir::new().expect("a folder");
    let text = std::fs::read_to_string(path("golden/gguf_archs/types.json")).expect("in the repository");
    let golden: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let golden = golden.as_object().expect("a model a key");
    assert_eq!(golden.keys().collect::<Vec<_>>(), ["mamba", "rwkv7", "t5"]);
    for (architecture, rows) in golden {
        let rows = rows.as_array().expect("a tensor a row");
        let text = |row: usize, at: usize| rows[row][at].as_str().expect("a text");
        let shape = |row: usize| -> Vec<u64> {
            rows[row][1].as_array().expect("a shape").iter().filter_map(|d| d.as_u64()).collect()
        };
        let shapes: Vec<_> = (0..rows.len()).map(shape).collect();
        let tensor = |row: usize| Tensor { name: text(row, 0), shape: &shapes[row], from: text(row, 2) };
        let tensors: Vec<_> = (0..rows.len()).map(tensor).collect();
        let model = write_gguf(&folder.path().join(architecture), architecture, &tensors);
        for (at, format, options) in [
            (3, format::Q4_0, PLAIN),
            (4, format::Q4_0, PURE),
            (5, format::Q8_0, PLAIN),
            (6, format::Q8_0, PURE),
        ] {
            let run = run(&model, format, &options).expect("written");
            let wanted: Vec<_> = (0..rows.len()).map(|row| (text(row, 0), text(row, at))).collect();
            assert_eq!(run.types(), wanted, "{architecture} as {} {options:?}", format.name);
            let wanted = if format == format::Q4_0 { 2 } else { 7 };
            assert_eq!(run.file_type(), Some(wanted), "{architecture} {options:?}");
        }
    }
}

/// All names that llama-quantize leaves as they are, and some beside them that it encodes.
#[test]
fn tensors_that_llama_cpp_needs_plain_stay_so() {
    let left = [
        "blk.0.attn_q_norm.weight",
        "blk.0.ffn_gate_inp.weight",
        "blk.0.ffn_gate_tid2eid.weight",
        "position_embd.weight",
        "v.position_embd.weight",
        "token_types.weight",
        "sam.pos_embd.weight",
        "blk.0.altup_router.weight",
        "altup_proj.weight",
        "blk.0.laurel_l.weight",
        "per_layer_model_proj.weight",
        "blk.0.ssm_conv1d.weight",
        "blk.0.ssm_conv1d_q.weight",
        "blk.0.shortconv.conv.weight",
        "blk.0.time_mix_first.weight",
        "blk.0.time_mix_w0.weight",
        "blk.0.time_mix_w1.weight",
        "blk.0.time_mix_w2.weight",
        "blk.0.time_mix_v0.weight",
        "blk.0.time_mix_v1.weight",
        "blk.0.time_mix_v2.weight",
        "blk.0.time_mix_a0.weight",
        "blk.0.time_mix_a1.weight",
        "blk.0.time_mix_a2.weight",
        "blk.0.time_mix_g1.weight",
        "blk.0.time_mix_g2.weight",
        "blk.0.time_mix_decay_w1.weight",
        "blk.0.time_mix_decay_w2.weight",
        "blk.0.time_mix_lerp_fused.weight",
        "enc.blk.0.attn_rel_b.weight",
        "blk.0.indexer.k_proj.weight",
        "blk.0.indexer.q_proj.weight",
        "blk.0.indexer_compressor_ape.weight",
        "v.patch_embd.weight",
        "v.patch_embd.weight.weight",
        "mm.patch_merger.weight",
        "v.blk.0.attn.rel_pos.weight",
        "v.sam.neck.0.weight",
        "v.sam.net_2.weight",
        "a.rvq.codebook.0.weight",
        "mm.a.code_embd.weight",
        // No names of weights.
        "blk.0.ssm_a",
        "blk.0.ffn_up.scale",
        "blk.0.ffn_up.weight_scale",
        "blk.0.ffn_up.bias",
    ];
    let encoded = [
        "token_embd.weight",
        "per_layer_token_embd.weight",
        "blk.0.shortconv.in_proj.weight",
        "blk.0.shortconv.out_proj.weight",
        "blk.0.ssm_x.weight",
        "blk.0.ssm_in.weight",
        "blk.0.ffn_gate_inp_shexp.weight",
        "blk.0.ffn_gate_exps.weight",
        "blk.0.channel_mix_key.weight",
        "blk.0.channel_mix_value.weight",
        "blk.0.channel_mix_receptance.weight",
        "blk.0.time_mix_key.weight",
        "blk.0.time_mix_value.weight",
        "blk.0.time_mix_receptance.weight",
        "blk.0.time_mix_output.weight",
        "blk.0.time_mix_gate.weight",
        "blk.0.indexer.attn_k.weight",
        "output.weight",
    ];
    let folder = TempDir::new().expect("a folder");
    let matrix = |name| Tensor { name, shape: &[2, 64], from: "F32" };
    let mut tensors: Vec<_> = left.into_iter().chain(encoded).map(matrix).collect();
    // ggml counts no outer dimensions of 1.
    tensors.push(Tensor { name: "blk.0.one_row.weight", shape: &[1, 1, 64], from: "F32" });
    tensors.push(Tensor { name: "blk.0.vector.weight", shape: &[64], from: "F32" });
    tensors.push(Tensor { name: "blk.0.integers.weight", shape: &[2, 64], from: "I32" });
    let model = write_gguf(&folder.path().join("in.gguf"), "any", &tensors);
    let run = run(&model, format::Q8_0, &PLAIN).expect("written");
    let got: Vec<_> = run.types().into_iter().filter(|(_, to)| *to == "Q8_0").map(|(name, _)| name).collect();
    assert_eq!(got, encoded);
    for tensor in &run.report.tensors {
        assert_eq!(tensor.left_because.is_none(), encoded.contains(&&*tensor.name), "{tensor:?}");
        assert!(tensor.to == tensor.from || encoded.contains(&&*tensor.name), "{tensor:?}");
    }
}

/// As llama-quantize does, whatever float they were.
#[test]
fn rows_that_no_block_fits_become_f16() {
    let folder = TempDir::new().expect("a folder");
    let tensors = ["F64", "F32", "BF16", "F16"].map(|from| Tensor {
        name: match from {
            "F64" => "a.weight",
            "F32" => "b.weight",
            "BF16" => "c.weight",
            _ => "d.weight",
        },
        shape: &[3, 40],
        from,
    });
    let fits = Tensor { name: "e.weight", shape: &[3, 64], from: "BF16" };
    let tensors: Vec<_> = tensors.into_iter().chain([fits]).collect();
    let model = write_gguf(&folder.path().join("in.gguf"), "any", &tensors);
    let done = run(&model, format::Q4_0, &PLAIN).expect("written");
    let types: Vec<_> = done.types().into_iter().map(|(_, to)| to).collect();
    assert_eq!(types, ["F16", "F16", "F16", "F16", "Q4_0"]);
    let why = done.report.tensors[1].left_because.as_deref();
    assert_eq!(why, Some("40 columns are not a multiple of 32"));
    // Most of the file is F16, so it is no Q4_0 file.
    assert_eq!(done.file_type(), Some(1));
    // Types without blocks take any row.
    let done = run(&model, format::BF16, &PLAIN).expect("written");
    assert!(done.types().iter().all(|(_, to)| *to == "BF16") && done.file_type() == Some(32));
}

/// llama-quantize's default for the output matrix is Q6_K; Q8_0 stands for it until there is an
/// encoder.
#[test]
fn the_output_matrix_is_q8_0_unless_pure() {
    let folder = TempDir::new().expect("a folder");
    let matrix = |name| Tensor { name, shape: &[4, 256], from: "F16" };
    let [embedding, output, layer] =
        ["token_embd.weight", "output.weight", "blk.0.attn_output.weight"].map(|name| || matrix(name));
    let own = write_gguf(&folder.path().join("own"), "llama", &[embedding(), output(), layer()]);
    let tied = write_gguf(&folder.path().join("tied"), "llama", &[embedding(), layer()]);
    let encoder = write_gguf(&folder.path().join("bert"), "nomic-bert", &[embedding(), layer()]);
    let types = |model: &Model, format, options: &QuantizeOptions| {
        let run = run(model, format, options).expect("written");
        let types: Vec<_> = run.types().into_iter().map(|(_, to)| to.to_owned()).collect();
        (types.join(" "), run.report.warnings.join("\n"), run.file_type())
    };
    for (name, number) in [("Q4_0", 2), ("Q4_1", 3), ("Q5_0", 8), ("Q5_1", 9), ("Q8_0", 7)] {
        let format = format::by_name(name).expect("a format of the table");
        let plain = types(&own, format, &PLAIN);
        assert_eq!(plain, (format!("{name} Q8_0 {name}"), String::new(), Some(number)));
        assert_eq!(types(&own, format, &PURE).0, format!("{name} {name} {name}"));
        let (plain, warning, file_type) = types(&tied, format, &PLAIN);
        assert_eq!((plain, file_type), (format!("Q8_0 {name}"), Some(number)));
        // Nothing is to be said where it becomes what was asked for.
        let said =
            format!("`token_embd.weight` is the output matrix, too: it becomes Q8_0; --pure makes it {name}");
        assert_eq!(warning, if name == "Q8_0" { String::new() } else { said });
        let (pure, warning, _) = types(&tied, format, &PURE);
        assert_eq!((pure, warning), (format!("{name} {name}"), String::new()));
        // A model without logits has the same types, and nothing to be warned of.
        assert_eq!(types(&encoder, format, &PLAIN).1, "");
    }
    assert_eq!(types(&own, format::F32, &PLAIN).0, "F32 F32 F32");
}

#[test]
fn a_run_that_encodes_nothing_is_an_error() {
    let folder = TempDir::new().expect("a folder");
    let tensors = |from| {
        [("a.weight", &[2, 64][..]), ("b.bias", &[2, 64]), ("c_norm.weight", &[2, 64])]
            .map(|(name, shape)| Tensor { name, shape, from })
    };
    let in_q8_0 = write_gguf(&folder.path().join("a"), "llama", &tensors("Q8_0"));
    let text = refusal(&in_q8_0, format::Q8_0, &PLAIN);
    assert!(text.contains("nothing in it can be encoded into Q8_0"), "{text}");
    assert!(text.contains("`a.weight`") && text.contains("it is Q8_0 already"), "{text}");
    let plain = write_gguf(&folder.path().join("b"), "llama", &tensors("F16")[1..]);
    assert!(refusal(&plain, format::Q4_0, &PLAIN).contains("nothing in it can be encoded into Q4_0"));
    let odd = [Tensor { name: "a.weight", shape: &[2, 40], from: "F32" }];
    let odd = write_gguf(&folder.path().join("c"), "llama", &odd);
    let text = refusal(&odd, format::Q4_0, &PLAIN);
    assert!(text.contains("40 columns are not a multiple of 32"), "{text}");
    let none = write_gguf(&folder.path().join("d"), "llama", &[]);
    assert!(refusal(&none, format::Q4_0, &PLAIN).contains("it has no tensors"));
}

/// The number follows what the file holds, not what was asked for.
#[test]
fn the_file_type_is_that_of_most_weights() {
    let folder = TempDir::new().expect("a folder");
    let tensors = [
        Tensor { name: "a.weight", shape: &[8, 64], from: "Q8_0" },
        Tensor { name: "b.weight", shape: &[2, 64], from: "F32" },
        Tensor { name: "c.bias", shape: &[10_000], from: "F32" },
    ];
    let model = write_gguf(&folder.path().join("a"), "llama", &tensors);
    assert_eq!(run(&model, format::Q8_0, &PLAIN).expect("written").file_type(), Some(7));
    // Most weights are of a type for which llama.cpp has no number.
    let tensors = [
        Tensor { name: "a_norm.weight", shape: &[8, 64], from: "F64" },
        Tensor { name: "b.weight", shape: &[2, 64], from: "F32" },
    ];
    let model = write_gguf(&folder.path().join("b"), "llama", &tensors);
    assert_eq!(run(&model, format::Q8_0, &PLAIN).expect("written").file_type(), None);
}

#[test]
fn packed_weights_are_quantized_again_only_if_allowed() {
    let folder = TempDir::new().expect("a folder");
    let new = |name: &str, dtype, shape: &[u64]| NewTensor { name: name.into(), dtype, shape: shape.into() };
    let tensors = [new("a.weight", dtype("Q8_0"), &[2, 32]), new("a.scale", dtype("F32"), &[1])];
    let path = folder.path().join("in.gguf");
    let values: Vec<f32> = (0..64).map(|i| (i % 16) as f32 - 8.0).collect();
    let packed = qmatmul::PackedTensor::encode("a", [2, 32], &values, &Recipe::new(format::Q8_0));
    let packed = packed.expect("finite");
    gguf_write::write(&path, &Entries::new(), &tensors, |i, sink| match i {
        0 => sink.put(&packed.data()),
        _ => sink.put(&3f32.to_le_bytes()),
    })
    .expect("a valid file");
    let model = Model::open(&path, &OpenOptions::default()).expect("our own");
    for format in [format::Q4_0, format::F16, format::F32] {
        let text = refusal(&model, format, &PLAIN);
        assert!(text.contains("`a.weight` is Q8_0 already") && text.contains("--allow-requantize"), "{text}");
    }
    let again = run(&model, format::F32, &AGAIN).expect("written").model;
    // The scale stays beside the weight, and is not in it, too.
    let parts = again.parts(again.find("a").expect("there"));
    assert_eq!(parts.iter().map(|part| &*part.name).collect::<Vec<_>>(), ["a.weight", "a.scale"]);
    let bytes = |part: usize| again.bytes(parts[part]).expect("readable").to_vec();
    let floats =
        |bytes: &[u8]| bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect::<Vec<_>>();
    assert_eq!(floats(&bytes(0)), packed.dequantize());
    assert_eq!(floats(&bytes(1)), [3.0]);
}

/// A checkpoint folder.
fn checkpoint(folder: &Path, config: &str) -> Model {
    std::fs::create_dir_all(folder).expect("a folder");
    let tensors = ["model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight"]
        .map(|name| f32_tensor(name, &[2, 64], &[0.5; 128]));
    write_tensors(&folder.join("model.safetensors"), &tensors);
    std::fs::write(folder.join("config.json"), config).expect("room");
    Model::open(folder, &OpenOptions::default()).expect("valid")
}

#[test]
fn a_checkpoint_becomes_a_gguf_only_if_bare() {
    let folder = TempDir::new().expect("a folder");
    let llama = checkpoint(&folder.path().join("a"), r#"{"model_type":"llama","_name_or_path":"org/m"}"#);
    let text = refusal(&llama, format::Q4_0, &PLAIN);
    assert!(text.contains("--bare") && text.contains("for qmatmul only"), "{text}");
    let bare = run(&llama, format::Q4_0, &BARE).expect("written");
    let keys: Vec<_> = bare.model.gguf().iter().map(|(key, _)| key.to_owned()).collect();
    assert_eq!(keys, ["general.name", "general.quantization_version", "general.file_type"]);
    assert!(bare.report.warnings.iter().any(|w| w.contains("only qmatmul reads")), "{:?}", bare.report);
    let wanted = [("model.embed_tokens.weight", "Q8_0"), ("model.layers.0.mlp.up_proj.weight", "Q4_0")];
    assert_eq!(bare.types(), wanted);
    assert!(bare.report.warnings.iter().any(|w| w.contains("`model.embed_tokens.weight` is the output")));
    let untied = r#"{"model_type":"llama","tie_word_embeddings":false}"#;
    let untied = run(&checkpoint(&folder.path().join("b"), untied), format::Q4_0, &BARE).expect("written");
    assert!(untied.types().iter().all(|(_, to)| *to == "Q4_0"), "{:?}", untied.types());
    // Nothing in a GGUF says that a layer is transposed.
    for name in ["gpt2", "gpt-sw3", "openai-gpt", "imagegpt", "decision_transformer"] {
        let gpt2 = checkpoint(&folder.path().join(name), &format!(r#"{{"model_type":"{name}"}}"#));
        let text = refusal(&gpt2, format::Q4_0, &BARE);
        assert!(text.contains(name) && text.contains("Conv1D"), "{text}");
    }
    let gguf = write_gguf(&folder.path().join("c"), "llama", &[]);
    assert!(refusal(&gguf, format::Q4_0, &BARE).contains("--bare has no effect"));
}

/// What becomes of a checkpoint of matrices with these names.
struct Quantized {
    encoded: Vec<String>,
    skipped: Vec<String>,
}

fn nf4_of(model_type: &str, modules: &[&str]) -> Result<Quantized, Error> {
    let folder = TempDir::new().expect("a folder");
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    std::fs::create_dir(&from).expect("a folder");
    let matrix = |module: &&str| f32_tensor(&format!("{module}.weight"), &[2, 64], &[0.5; 128]);
    write_tensors(&from.join("model.safetensors"), &modules.iter().map(matrix).collect::<Vec<_>>());
    let config = format!(r#"{{"model_type":"{model_type}"}}"#);
    std::fs::write(from.join("config.json"), config).expect("room");
    let model = Model::open(&from, &OpenOptions::default()).expect("valid");
    let target = Target::FourBit(format::NF4, FourBitConfig::default());
    let encode = |name: &str, shape: [usize; 2], weights: &[f32], recipe: &Recipe| {
        qmatmul::PackedTensor::encode(name, shape, weights, recipe)
    };
    let report = quantize_checkpoint(&model, &to, &target, &PLAIN, &encode, |_, _| ())?;
    let encoded = report.tensors.iter().filter(|t| t.left_because.is_none());
    let mut encoded: Vec<_> = encoded.map(|t| t.name.trim_end_matches(".weight").to_owned()).collect();
    encoded.sort_unstable();
    let config = std::fs::read_to_string(to.join("config.json")).expect("written");
    let config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
    let skipped = config["quantization_config"]["llm_int8_skip_modules"].as_array().expect("a list");
    let skipped = skipped.iter().map(|name| name.as_str().expect("a name").to_owned()).collect();
    Ok(Quantized { encoded, skipped })
}

/// Layers that transformers 5.24 with bitsandbytes 0.50 loads as quantized, and matrices that it
/// does not: logits of such models were those of its own quantization.
#[test]
fn only_plain_linear_layers_are_quantized_for_transformers() {
    let cases: &[(&str, &[&str], &[&str])] = &[
        (
            "llama",
            &["model.layers.0.self_attn.q_proj", "model.layers.11.mlp.down_proj", "layers.1.mlp.up_proj"],
            &["model.embed_tokens", "lm_head", "model.layers.0.self_attn.new_proj", "score"],
        ),
        (
            "bert",
            &[
                "bert.encoder.layer.0.attention.self.query",
                "bert.pooler.dense",
                "cls.predictions.transform.dense",
            ],
            &[
                "bert.embeddings.word_embeddings",
                "bert.embeddings.position_embeddings",
                "cls.predictions.decoder",
            ],
        ),
        ("distilbert", &["distilbert.transformer.layer.0.ffn.lin1", "vocab_transform"], &["vocab_projector"]),
        (
            "modernbert",
            &["model.layers.0.attn.Wqkv", "head.dense"],
            &["model.embeddings.tok_embeddings", "decoder"],
        ),
        (
            "mpnet",
            &["mpnet.encoder.layer.0.attention.attn.q", "lm_head.dense"],
            &["mpnet.encoder.relative_attention_bias", "lm_head.decoder"],
        ),
        (
            "t5",
            &["encoder.block.0.layer.0.SelfAttention.q", "decoder.block.1.layer.2.DenseReluDense.wi_0"],
            // transformers keeps `wo` in f32 whatever it is told.
            &[
                "shared",
                "encoder.block.0.layer.0.SelfAttention.relative_attention_bias",
                "decoder.block.1.layer.2.DenseReluDense.wo",
                "lm_head",
            ],
        ),
        (
            "whisper",
            &["model.encoder.layers.0.fc1", "model.decoder.layers.0.encoder_attn.k_proj"],
            &["model.decoder.embed_tokens", "model.decoder.embed_positions", "proj_out"],
        ),
        (
            "mixtral",
            &["model.layers.0.self_attn.o_proj"],
            &["model.layers.0.block_sparse_moe.gate", "model.layers.0.block_sparse_moe.experts.0.w1"],
        ),
        (
            "qwen2_moe",
            &["model.layers.0.mlp.shared_expert.up_proj", "model.layers.0.mlp.shared_expert_gate"],
            &["model.layers.0.mlp.gate", "model.layers.0.mlp.experts.3.up_proj"],
        ),
        (
            "qwen3_moe",
            &["model.layers.0.self_attn.k_proj"],
            &["model.layers.0.mlp.gate", "model.layers.0.mlp.experts.3.up_proj"],
        ),
        (
            "deepseek_v3",
            &[
                "model.layers.0.mlp.up_proj",
                "model.layers.3.mlp.shared_experts.up_proj",
                "model.layers.3.self_attn.kv_b_proj",
            ],
            &["model.layers.3.mlp.gate", "model.layers.3.mlp.experts.255.up_proj"],
        ),
        ("gpt_oss", &["model.layers.0.self_attn.q_proj"], &["model.layers.0.mlp.router"]),
        (
            "granitemoe",
            &["model.layers.0.self_attn.q_proj"],
            &["model.layers.0.block_sparse_moe.router.layer", "model.layers.0.block_sparse_moe.input_linear"],
        ),
        (
            "siglip",
            &[
                "vision_model.encoder.layers.0.self_attn.out_proj",
                "vision_model.head.mlp.fc1",
                "text_model.head",
            ],
            &["vision_model.head.attention.out_proj", "text_model.embeddings.token_embedding"],
        ),
    ];
    for (model_type, linear, plain) in cases {
        let Quantized { encoded, skipped } =
            nf4_of(model_type, &[*linear, *plain].concat()).expect("written");
        let mut wanted = linear.to_vec();
        wanted.sort_unstable();
        assert_eq!(encoded, wanted, "{model_type}");
        // Experts of a layer by one name.
        let is_named = |module: &str| {
            let experts = module.find(".experts.").map_or(module, |at| &module[..at + ".experts".len()]);
            skipped.iter().any(|skip| skip == experts)
        };
        assert!(plain.iter().all(|module| is_named(module)), "{model_type}: {skipped:?}");
    }
}

/// A header of more than 64 KiB, as every large model has.
#[test]
fn checkpoints_may_have_thousands_of_layers() {
    let names: Vec<_> = (0..1000).map(|i| format!("model.layers.{i}.mlp.up_proj")).collect();
    let modules: Vec<_> = names.iter().map(String::as_str).collect();
    assert_eq!(nf4_of("llama", &modules).expect("written").encoded.len(), 1000);
}

/// Heads that share the embedding's weight are not in the file, but transformers makes them.
#[test]
fn heads_that_are_not_in_the_file_are_skipped_by_name() {
    for (model_type, linear, head) in [
        ("llama", "model.layers.0.mlp.up_proj", "lm_head"),
        ("whisper", "model.encoder.layers.0.fc1", "proj_out"),
        ("bert", "bert.encoder.layer.0.output.dense", "cls.predictions.decoder"),
        ("distilbert", "distilbert.transformer.layer.0.ffn.lin1", "vocab_projector"),
        ("modernbert", "model.layers.0.attn.Wqkv", "decoder"),
        ("mpnet", "mpnet.encoder.layer.0.output.dense", "lm_head.decoder"),
        ("roberta", "roberta.encoder.layer.0.output.dense", "lm_head.decoder"),
        ("t5", "encoder.block.0.layer.0.SelfAttention.q", "lm_head"),
    ] {
        let Quantized { encoded, skipped } = nf4_of(model_type, &[linear]).expect("written");
        assert_eq!((encoded, skipped), (vec![linear.to_owned()], vec![head.to_owned()]), "{model_type}");
    }
}

#[test]
fn what_transformers_does_is_never_guessed() {
    let refused = |model_type: &str, modules: &[&str], words: &[&str]| {
        let text = match nf4_of(model_type, modules).map(|quantized| quantized.encoded) {
            Err(Error::Argument(text)) => text,
            other => panic!("{model_type}: {other:?}"),
        };
        assert!(words.iter().all(|word| text.contains(word)), "{model_type}: {text}");
    };
    let layer = "model.layers.0.self_attn.q_proj";
    refused("of_tomorrow", &[layer], &["`of_tomorrow`", "not known"]);
    refused("gpt2", &["h.0.attn.c_attn"], &["gpt2", "Conv1D"]);
    // Falcon's layers are of a class of its own.
    let falcon = ["transformer.h.0.mlp.dense_h_to_4h", "transformer.h.0.self_attention.dense"];
    refused("falcon", &falcon, &["nothing in it can be encoded into NF4", "`falcon`"]);
    // A name that would stand for layers that are quantized.
    refused("llama", &[layer, "proj"], &["`proj`", "q_proj"]);
    refused("llama", &["layers.0.mlp.up_proj", "layers"], &["`layers`", "up_proj"]);
    // The names of these modules in memory are others than those in the file.
    let vit = "vit.encoder.layer.0.attention.attention.query";
    assert_eq!(nf4_of("vit", &[vit]).expect("written").encoded, [vit]);
    refused("vit", &[vit, "vit.new.layer"], &["`vit.new.layer`", "`vit`", "not known"]);
}

/// What encoding changed, by hand: the largest of a block is its scale times 127, so that 127 is
/// kept and 0.4 becomes 0.
#[test]
fn the_error_of_each_encoded_tensor_is_told() {
    let folder = TempDir::new().expect("a folder");
    let values = |first: &[f32]| {
        let mut values = vec![0.0; 64];
        values[..first.len()].copy_from_slice(first);
        values
    };
    let file = folder.path().join("model.safetensors");
    write_tensors(
        &file,
        &[
            f32_tensor("a.weight", &[2, 32], &values(&[127.0, 0.4])),
            f32_tensor("exact.weight", &[2, 32], &values(&[127.0, 3.0, -5.0])),
            f32_tensor("norm.bias", &[64], &values(&[1.0])),
            f32_tensor("odd.weight", &[8, 8], &values(&[1.0, 0.1])),
            f32_tensor("zeros.weight", &[2, 32], &values(&[])),
        ],
    );
    let model = Model::open(&file, &OpenOptions::default()).expect("our own");
    let Run { report, .. } = run(&model, format::Q8_0, &BARE).expect("written");
    let of = |name: &str| report.tensors.iter().find(|t| t.name == name).expect("reported").error;
    let rounded = f64::from(0.4f32);
    let by_hand = rounded * rounded / (127.0 * 127.0 + rounded * rounded);
    assert!((of("a.weight").expect("encoded") / by_hand - 1.0).abs() < 1e-12, "{report:?}");
    assert_eq!([of("exact.weight"), of("zeros.weight")], [Some(0.0); 2]);
    assert_eq!(of("norm.bias"), None);
    // Rows that no block fits become F16, which is encoding, too.
    let half = f64::from(half::f16::from_f32(0.1).to_f32()) - f64::from(0.1f32);
    let by_hand = half * half / (1.0 + f64::from(0.1f32) * f64::from(0.1f32));
    assert!((of("odd.weight").expect("encoded") / by_hand - 1.0).abs() < 1e-12, "{report:?}");
}

/// The error is that of the file that was written, as it is read again.
#[test]
fn the_error_is_that_of_what_was_written() {
    let folder = TempDir::new().expect("a folder");
    let weights = qmatmul::check::activations(96 * 128, 7);
    let file = folder.path().join("model.safetensors");
    write_tensors(&file, &[f32_tensor("layers.0.q_proj.weight", &[96, 128], &weights)]);
    let model = Model::open(&file, &OpenOptions::default()).expect("our own");
    let nmse = |written: &Model| {
        let decoded = written.tensor(&written.tensors()[0]).expect("readable").dequantize();
        let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
        let changed = &mut decoded.iter().zip(&weights).map(|(a, b)| f64::from(*a) - f64::from(*b));
        squares(changed) / squares(&mut weights.iter().map(|w| f64::from(*w)))
    };
    let assert_told = |report: &Report, written: &Model| {
        let [told, found] = [report.tensors[0].error.expect("encoded"), nmse(written)];
        assert!(found > 1e-6 && (told / found - 1.0).abs() < 1e-9, "{told} {found}");
    };
    for format in [format::Q4_0, format::Q8_0, format::BF16] {
        let run = run(&model, format, &BARE).expect("written");
        assert_told(&run.report, &run.model);
    }
    let four_bit = |double| FourBitConfig { double, ..FourBitConfig::default() };
    let targets = [
        Target::FourBit(format::NF4, four_bit(false)),
        Target::FourBit(format::FP4, four_bit(true)),
        Target::Int8 { threshold: 6.0, keep: Keep::Largest(3) },
    ];
    for (number, target) in targets.iter().enumerate() {
        let out = folder.path().join(number.to_string());
        let encode = |name: &str, shape, weights: &[f32], recipe: &Recipe| {
            PackedTensor::encode(name, shape, weights, recipe)
        };
        let report = quantize_checkpoint(&model, &out, target, &BARE, &encode, |_, _| ()).expect("written");
        let written = Model::open(&out, &OpenOptions { mmap: false }).expect("our own");
        assert_told(&report, &written);
    }
}
