//! Which tensors of a model count as weights of its matmuls, and how often for one token.

use crate::common::{model_path, path};
use crate::file_quantize::{Tensor, write_gguf};
use qmatmul::file::gguf::Value;
use qmatmul::file::gguf_write::{self, Entries, NewTensor};
use qmatmul::file::{DType, Model, OpenOptions};
use qmatmul::format;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::json;
use tempfile::TempDir;

/// A checkpoint of zeros in memory: names with shapes.
pub fn checkpoint(config: &serde_json::Value, tensors: &[(&str, &[usize])]) -> Model {
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(_, shape)| vec![0; 2 * shape.iter().product::<usize>()]).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape), bytes)| {
        (*name, TensorView::new(Dtype::F16, shape.to_vec(), bytes).expect("as many bytes"))
    });
    let file = safetensors::serialize(views, None).expect("a file");
    let config = config.to_string();
    let files = [("model.safetensors", file.into()), ("config.json", config.into_bytes().into())];
    Model::from_files("memory", &files).expect("a checkpoint")
}

/// The names of what a model multiplies, sorted.
fn multiplied(model: &Model) -> Vec<&str> {
    let multiplied = model.multiplied();
    let mut names: Vec<_> = multiplied.tensors().map(|t| &*t.name).collect();
    names.sort_unstable();
    names
}

/// A GGUF of 2 x 32 tensors.
fn gguf(architecture: &str, names: &[&str]) -> Model {
    let folder = TempDir::new().expect("a folder");
    let tensor = |name: &&'static str| Tensor { name, shape: &[2, 32], from: "F16" };
    let names: Vec<&'static str> = names.iter().map(|name| &*(*name).to_owned().leak()).collect();
    let tensors: Vec<_> = names.iter().map(tensor).collect();
    write_gguf(&folder.path().join("model.gguf"), architecture, &tensors)
}

/// Checks names of tensors of 2 x 32 one by one, so that none depends on another.
fn assert_in_gguf(architecture: &str, names: &[&str], expected: bool) {
    for name in names {
        let model = gguf(architecture, &[name, "output.weight"]);
        let tensor = model.find(name).expect("it was written");
        assert_eq!(model.multiplied().contains(tensor), expected, "{name}");
    }
}

#[test]
fn names_of_gguf_decide() {
    assert_in_gguf(
        "llama",
        &[
            "blk.0.attn_q.weight",
            "blk.0.ffn_gate_inp.weight",
            "blk.0.ffn_down_exps.weight",
            "blk.0.altup_proj.weight",
            "blk.0.laurel_l.weight",
            "per_layer_model_proj.weight",
            "blk.0.ssm_in.weight",
            "blk.0.ssm_dt.weight",
            "blk.0.shortconv.in_proj.weight",
            "blk.0.time_mix_w1.weight",
            "blk.0.time_mix_decay_w2.weight",
            "blk.0.indexer.k_proj.weight",
            "mm.patch_merger.weight",
            "convnext.0.pw1.weight",
            "blk.0.nextn.eh_proj.weight",
            "cls.output.weight",
        ],
        true,
    );
    assert_in_gguf(
        "llama",
        &[
            "token_embd.weight",
            "position_embd.weight",
            "token_types.weight",
            "per_layer_token_embd.weight",
            "blk.0.attn_q_norm.weight",
            "blk.0.attn_q.bias",
            "blk.0.attn_q.scale",
            "blk.0.ssm_a",
            "blk.0.ssm_conv1d.weight",
            "blk.0.ssm_conv1d_q.weight",
            "blk.0.shortconv.conv.weight",
            "a.conv1d.1.weight",
            "conv1d.weight",
            "convnext.0.dw.weight",
            "blk.0.time_mix_first.weight",
            "blk.0.time_mix_r_k.weight",
            "blk.0.time_mix_lerp_fused.weight",
            "enc.blk.0.attn_rel_b.weight",
            "blk.0.ffn_gate_tid2eid.weight",
            "v.blk.0.attn.rel_pos.weight",
            "a.rvq.codebook.0.weight",
            "blk.46.nextn.embed_tokens.weight",
        ],
        false,
    );
}

/// An embedding is a matrix of the model where it gives the logits.
#[test]
fn a_tied_embedding_of_a_gguf_is_multiplied() {
    let names = ["blk.0.attn_q.weight", "token_embd.weight"];
    for architecture in ["llama", "gemma3", "mamba", "t5"] {
        assert_eq!(multiplied(&gguf(architecture, &names)), names, "{architecture}");
    }
    for architecture in ["bert", "nomic-bert", "t5encoder", "gemma-embedding"] {
        assert_eq!(multiplied(&gguf(architecture, &names)), names[..1], "{architecture}");
    }
}

#[test]
fn golden_architectures() {
    let text = std::fs::read_to_string(path("golden/gguf_archs/types.json")).expect("in the repository");
    let golden: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let folder = TempDir::new().expect("a folder");
    let left = [
        ("mamba", &["blk.0.ssm_a", "blk.0.ssm_conv1d.weight"][..]),
        ("rwkv7", &["blk.0.time_mix_lerp_fused.weight", "token_embd.weight"]),
        ("t5", &["dec.blk.0.attn_rel_b.weight", "enc.blk.0.attn_rel_b.weight", "token_embd.weight"]),
    ];
    for (architecture, left) in left {
        let rows = golden[architecture].as_array().expect("a tensor a row");
        let shapes: Vec<Vec<u64>> = rows
            .iter()
            .map(|row| row[1].as_array().expect("a shape").iter().filter_map(|d| d.as_u64()).collect())
            .collect();
        let tensors: Vec<_> = rows
            .iter()
            .zip(&shapes)
            .map(|(row, shape)| Tensor { name: row[0].as_str().expect("a name"), shape, from: "F32" })
            .collect();
        let model = write_gguf(&folder.path().join(architecture), architecture, &tensors);
        let counted = model.multiplied();
        let not = model.tensors().iter().filter(|t| !counted.contains(t) && t.rows() > 1);
        let mut not: Vec<_> = not.map(|t| t.name.replace(".1.", ".0.")).collect();
        not.sort_unstable();
        not.dedup();
        assert_eq!(not, left, "{architecture}");
    }
}

#[test]
fn shapes_decide_where_no_architecture_is_named() {
    let shapes: &[(&str, &[usize])] = &[
        ("a", &[8, 64]),
        ("b.norm.bias", &[2, 3]),
        ("c", &[2, 3, 4]),
        ("d", &[8]),
        ("e", &[]),
        ("f", &[2, 3, 4, 5]),
        ("g", &[0, 8]),
        ("h", &[1, 8]),
    ];
    assert_eq!(multiplied(&checkpoint(&json!({}), shapes)), ["a", "b.norm.bias", "c", "h"]);
}

#[test]
fn names_of_checkpoints_decide() {
    let matrix: &[usize] = &[4, 8];
    let stack: &[usize] = &[2, 4, 8];
    // Of a model type that is not in the table, and of one that is.
    for model_type in ["brand-new", "qwen3_moe", "llama"] {
        let config = json!({"model_type": model_type, "architectures": ["XForCausalLM"]});
        let yes: &[(&str, &[usize])] = &[
            ("lm_head.weight", matrix),
            ("model.layers.0.conv.in_proj.weight", matrix),
            ("model.layers.0.mlp.experts.3.up_proj.weight", matrix),
            ("model.layers.0.mlp.experts.gate_up_proj", stack),
            ("model.layers.0.mlp.gate.weight", matrix),
            ("model.layers.0.mlp.input_linear.weight", stack),
            ("model.layers.0.mlp.shared_expert_gate.weight", &[1, 8]),
            ("model.layers.0.self_attn.q_proj.weight", matrix),
            ("model.per_layer_model_projection.weight", matrix),
            ("visual.patch_embed.proj.weight", matrix),
        ];
        let no: &[(&str, &[usize])] = &[
            ("model.embed_tokens.weight", matrix),
            ("model.embed_tokens_per_layer.weight", matrix),
            ("model.layers.0.conv.conv.weight", &[8, 1, 3]),
            ("model.layers.0.input_layernorm.weight", &[8]),
            ("model.layers.0.mamba.A_log", matrix),
            ("model.layers.0.mamba.conv1d.weight", &[8, 1, 4]),
            ("model.layers.0.mlp.experts.gate_up_proj_bias", stack),
            ("model.layers.0.self_attn.q_norm.weight", matrix),
            ("model.layers.0.self_attn.q_proj.bias", matrix),
            ("model.layers.0.self_attn.relative_attention_bias.weight", matrix),
            ("transformer.wpe.weight", matrix),
            ("visual.patch_embed.projection.weight", &[8, 3, 2, 2]),
            ("visual.pos_embed.weight", matrix),
            ("wav.feature_extractor.conv_layers.0.conv.weight", &[8, 1, 3]),
        ];
        let model = checkpoint(&config, &[yes, no].concat());
        let wanted: Vec<_> = yes.iter().map(|(name, _)| *name).collect();
        assert_eq!(multiplied(&model), wanted, "{model_type}");
    }
}

/// Where there is no output matrix, the embedding is one, by all the names that it has.
#[test]
fn a_tied_embedding_of_a_checkpoint_is_multiplied() {
    let embeddings = [
        "model.embed_tokens.weight",
        "model.language_model.embed_tokens.weight",
        "transformer.wte.weight",
        "transformer.word_embeddings.weight",
        "shared.weight",
        "tok_embeddings.weight",
        "gpt_neox.embed_in.weight",
        "backbone.embeddings.weight",
        "tokens_embed.weight",
    ];
    let layer = "model.layers.0.self_attn.q_proj.weight";
    let counted = |config: &serde_json::Value, names: &[&str]| {
        let tensors: Vec<(&str, &[usize])> = names.iter().map(|name| (*name, &[4, 8][..])).collect();
        let model = checkpoint(config, &tensors);
        multiplied(&model).iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()
    };
    let config = |class: &str, more: serde_json::Value| {
        let mut config = json!({"model_type": "brand-new", "architectures": [class]});
        config.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
        config
    };
    for embedding in embeddings {
        let mut both = [layer, embedding];
        both.sort_unstable();
        for more in [json!({}), json!({"tie_word_embeddings": true})] {
            assert_eq!(counted(&config("XForCausalLM", more), &both), both);
        }
        // The settings say that something else gives the logits, or the class has none.
        let untied = json!({"tie_word_embeddings": false});
        assert_eq!(counted(&config("XForCausalLM", untied), &both), [layer]);
        let untied = json!({"text_config": {"tie_word_embeddings": false}});
        assert_eq!(counted(&config("XForConditionalGeneration", untied), &both), [layer]);
        assert_eq!(counted(&config("XModel", json!({})), &both), [layer]);
        for head in ["lm_head.weight", "language_model.lm_head.weight", "embed_out.weight", "output.weight"] {
            let mut wanted = [layer, head];
            wanted.sort_unstable();
            assert_eq!(counted(&config("XForCausalLM", json!({})), &[layer, embedding, head]), wanted);
        }
    }
    // The name of the head is that of the model type.
    let bert = json!({"model_type": "bert", "architectures": ["BertForMaskedLM"]});
    let (embedding, head) = ("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight");
    assert_eq!(counted(&bert, &[embedding]), [embedding]);
    assert_eq!(counted(&bert, &[embedding, head]), [head]);
}

/// The demo's model: llama with two layers or more and an output matrix of its own or none.
#[test]
fn products_of_a_real_model_are_counted() {
    let model = Model::open(model_path(), &OpenOptions::default()).expect("in the repository");
    let products = model.products();
    let total: u64 = products.iter().map(|p| p.per_token()).sum();
    assert_eq!(total, model.multiplied().tensors().count() as u64);
    let weights: u64 = products.iter().map(|p| p.per_token() * p.m * p.k).sum();
    assert_eq!(weights, model.multiplied().tensors().map(|t| t.elements()).sum::<u64>());
    assert!(products.len() < total as usize, "{products:?}");
    for (i, a) in products.iter().enumerate() {
        let is_same = |b: &&qmatmul::file::Product| (b.tensor.dtype, b.m, b.k) == (a.tensor.dtype, a.m, a.k);
        assert!(!products[i + 1..].iter().any(|b| is_same(&b)), "{a:?}");
    }
}

#[test]
fn experts_count_as_often_as_they_are_used() {
    let config = json!({
        "model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"], "num_experts_per_tok": 2,
    });
    let mut names: Vec<(String, &[usize])> = vec![("lm_head.weight".into(), &[16, 8])];
    for layer in 0..3 {
        names.push((format!("model.layers.{layer}.self_attn.o_proj.weight"), &[8, 8]));
        for expert in 0..4 {
            let module = format!("model.layers.{layer}.mlp.experts.{expert}");
            names.push((format!("{module}.up_proj.weight"), &[4, 8]));
            names.push((format!("{module}.gate_proj.weight"), &[4, 8]));
        }
    }
    let names: Vec<(&str, &[usize])> = names.iter().map(|(name, shape)| (&**name, *shape)).collect();
    let model = checkpoint(&config, &names);
    let mut found: Vec<_> =
        model.products().iter().map(|p| (p.m, p.k, p.count, p.experts, p.experts_used)).collect();
    found.sort_unstable();
    assert_eq!(found, [(4, 8, 6, 4, 2), (8, 8, 3, 1, 1), (16, 8, 1, 1, 1)]);
}

/// Stacks of experts of a GGUF; without their number in use all are.
#[test]
fn stacks_count_as_often_as_they_are_used() {
    let folder = TempDir::new().expect("a folder");
    for (used, expected) in [(Some(3), 3), (Some(9), 5), (None, 5)] {
        let path = folder.path().join("model.gguf");
        let mut entries = Entries::new();
        entries.set_str("general.architecture", "llama");
        if let Some(used) = used {
            entries.set("llama.expert_used_count", Value::U32(used));
        }
        let new = |layer: u64| NewTensor {
            name: format!("blk.{layer}.ffn_up_exps.weight"),
            dtype: DType::Supported(format::F16),
            shape: vec![5, 4, 32],
        };
        let new = [new(0), new(1)];
        gguf_write::write(&*path, &entries, &new, |_, sink| sink.put(&[0; 2 * 5 * 4 * 32])).expect("a file");
        let model = Model::open(&path, &OpenOptions { mmap: false }).expect("our own");
        let [product] = &model.products()[..] else { panic!("{:?}", model.products()) };
        assert_eq!((product.m, product.k, product.count, product.experts), (4, 32, 2, 5));
        assert_eq!(product.experts_used, expected);
        assert_eq!(product.per_token(), 2 * expected);
    }
}
