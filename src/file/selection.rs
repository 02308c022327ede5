//! Which tensors of a model a quantizer encodes, and why it leaves the others as they are.

use crate::error::{Error, Result};
use crate::file::container::gguf::Value;
use crate::file::names::shown;
use crate::file::transformers::{Architecture, model_type};
use crate::file::{DType, Kind, Model, TensorInfo};
use crate::format::{self, Format};

/// Parts of the names of GGUF tensors that no model multiplies: llama.cpp adds them, multiplies
/// element by element, convolves, or looks rows up. They keep their type.
const NOT_MULTIPLIED_IN_GGUF: &[&str] = &[
    // Norms of several dimensions.
    "_norm.weight",
    // The experts of each token, a list.
    "ffn_gate_tid2eid",
    // Position and token-type embeddings, also those of checkpoints.
    "position_emb",
    "token_type",
    "sam.pos_embd",
    // Convolutions of state space models and LFM2.
    "ssm_conv1d",
    "shortconv.conv",
    // Vectors of RWKV, some of them in heads.
    "time_mix_first",
    "time_mix_w0",
    "time_mix_v0",
    "time_mix_a0",
    "time_mix_lerp_fused",
    // Relative positions of T5, and those of sparse attention.
    "attn_rel_b",
    "indexer_compressor_ape",
    // Of vision and audio encoders.
    ".rel_pos",
    "sam.neck.",
    "sam.net_",
    "a.rvq.codebook",
    "mm.a.code_embd",
];

/// Parts of the names of GGUF tensors that are multiplied and keep their type: llama.cpp stops at
/// some of them if they are encoded. llama-quantize leaves the same ones.
const PLAIN_IN_GGUF: &[&str] = &[
    // The router of experts (that of a shared expert is encoded).
    "ffn_gate_inp.weight",
    // Small matrices of Gemma 3n.
    "altup",
    "laurel",
    "per_layer_model_proj",
    // The small matrices of RWKV.
    "time_mix_w1",
    "time_mix_w2",
    "time_mix_v1",
    "time_mix_v2",
    "time_mix_a1",
    "time_mix_a2",
    "time_mix_g1",
    "time_mix_g2",
    "time_mix_decay_w1",
    "time_mix_decay_w2",
    // The index of sparse attention.
    "indexer.k_proj",
    "indexer.q_proj",
    // Of vision encoders.
    ".patch_embd",
    ".patch_merger",
];

/// Parts of the names of GGUF tensors that llama-quantize encodes although no model multiplies
/// them.
const ENCODED_IN_GGUF: &[&str] =
    &["per_layer_token_embd", "nextn.embed_tokens", "time_mix_r_k", ".dw.weight"];

/// What becomes of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fate {
    /// It is encoded into the format that was asked for.
    Encoded,
    /// It is encoded into another, for this reason.
    Instead(&'static Format, String),
    /// It is copied, for this reason.
    Copied(String),
}

/// What becomes of a tensor in a GGUF file of `format`.
///
/// # Errors
/// [`Error::Argument`] if it is packed already and `allow_requantize` is false.
pub(crate) fn in_gguf(tensor: &TensorInfo, format: &'static Format, allow_requantize: bool) -> Result<Fate> {
    if let Some(reason) = plain_in_gguf(tensor) {
        return Ok(Fate::Copied(reason));
    }
    if tensor.dtype == DType::Supported(format) && tensor.is_stored_alone() {
        return Ok(Fate::Copied(format!("it is {} already", tensor.dtype)));
    }
    if let Some(reason) = not_numbers(tensor) {
        return Ok(Fate::Copied(reason));
    }
    if is_packed(tensor) && !allow_requantize {
        return Err(Error::Argument(format!(
            "tensor `{}` is {} already, and packed weights that are quantized again lose more: only \
             --allow-requantize does it",
            shown(&tensor.name),
            tensor.dtype
        )));
    }
    let (cols, block) = (tensor.cols(), format.block_weights() as u64);
    if cols.is_multiple_of(block) {
        return Ok(Fate::Encoded);
    }
    let reason = format!("{cols} columns are not a multiple of {block}");
    Ok(match tensor.dtype.name() {
        "F16" => Fate::Copied(reason),
        _ => Fate::Instead(format::F16, reason),
    })
}

/// Why a tensor keeps its type in any GGUF file; `None` if it is a weight to encode.
fn plain_in_gguf(tensor: &TensorInfo) -> Option<String> {
    if dimensions(tensor) < 2 {
        return Some("it is not a matrix".into());
    }
    let name = tensor.name.to_lowercase();
    if !name.ends_with("weight") {
        return Some("it is not named as a weight".into());
    }
    let part = NOT_MULTIPLIED_IN_GGUF.iter().chain(PLAIN_IN_GGUF).find(|part| name.contains(**part));
    // Rows of no columns take no byte, so a file may claim any number of them.
    let empty = || (tensor.elements() == 0).then(|| "it is empty".into());
    part.map(|part| format!("`{part}` tensors keep their type")).or_else(empty)
}

/// Dimensions as ggml counts them: outer ones of 1 are none.
fn dimensions(tensor: &TensorInfo) -> usize {
    tensor.shape.iter().skip_while(|dim| **dim == 1).count()
}

/// True for a tensor of a GGUF file with an architecture that the model multiplies activations
/// with, by its name and shape; the token embedding counts as one.
pub(crate) fn is_matrix_in_gguf(tensor: &TensorInfo) -> bool {
    let name = tensor.name.to_lowercase();
    let mut tables = NOT_MULTIPLIED_IN_GGUF.iter().chain(ENCODED_IN_GGUF);
    (2..=3).contains(&dimensions(tensor))
        && name.ends_with("weight")
        && !is_convolution(&name)
        && !tables.any(|part| name.contains(part))
}

/// True for the kernel of a convolution: `conv1d.weight`, `conv_layers.0.weight`. The layers of a
/// module that is called after one, `conv.in_proj.weight`, are linear.
fn is_convolution(name: &str) -> bool {
    layer(name).contains("conv")
}

/// The last part of a module's name that is no number: `conv1d` of `a.conv1d.1.weight`.
fn layer(name: &str) -> &str {
    let module = name.strip_suffix(".weight").unwrap_or(name);
    let mut parts = module.rsplit('.');
    parts.find(|part| part.bytes().any(|b| !b.is_ascii_digit())).unwrap_or_default()
}

/// Why the values of a tensor are no weights that can be encoded, if they are none.
fn not_numbers(tensor: &TensorInfo) -> Option<String> {
    match tensor.dtype.name() {
        "F64" | "F32" | "F16" | "BF16" => None,
        _ if is_packed(tensor) => None,
        name => Some(format!("it holds {name} values")),
    }
}

/// True for weights that are quantized already.
pub(crate) fn is_packed(tensor: &TensorInfo) -> bool {
    !tensor.is_stored_alone() || tensor.dtype.format().is_some_and(|format| !format.is_plain())
}

/// The matrix that gives a model's logits.
pub(crate) struct OutputMatrix<'a> {
    /// Its name.
    pub name: &'a str,
    /// It is the embedding of the input tokens, too.
    pub tied: bool,
}

/// The embedding of the input tokens in a GGUF file.
pub(crate) const EMBEDDING_IN_GGUF: &str = "token_embd.weight";

/// Modules of checkpoints that give the logits, behind those they lie in. Of models that
/// transformers knows, [`Architecture::heads`] has them.
const HEADS: &[&str] = &["lm_head", "embed_out"];
/// Those that have this name only if they lie in no other module.
const OUTER_HEADS: &[&str] = &["output", "output_projection", "transformer.output_layer", "head"];
/// Modules of checkpoints that hold the embedding of the input tokens, behind those they lie in.
/// That which is shared comes first.
const EMBEDDINGS: &[&str] = &[
    "shared",
    "embed_tokens",
    "wte",
    "word_embeddings",
    "tok_embeddings",
    "embed_in",
    "tokens_embed",
    "token_embedding",
    "embeddings",
    "emb",
];

impl<'a> OutputMatrix<'a> {
    /// That of a model, if it has one. A model without an output matrix of its own uses the
    /// embedding.
    pub fn of(model: &'a Model) -> Option<Self> {
        let names = || model.tensors().iter().map(|t| &*t.name);
        let (own, embedding) = match model.kind() {
            Kind::Gguf(_) => {
                (names().find(|n| *n == "output.weight"), names().find(|n| *n == EMBEDDING_IN_GGUF))
            }
            Kind::Safetensors | Kind::Sharded => {
                let known = model_type(model).and_then(Architecture::of);
                let heads = known.as_ref().map_or(&[][..], |known| &known.heads);
                let own = HEADS.iter().chain(heads).find_map(|head| names().find(|n| is_weight_of(n, head)));
                let own = own.or_else(|| {
                    names().find(|n| n.strip_suffix(".weight").is_some_and(|n| OUTER_HEADS.contains(&n)))
                });
                let embedding = EMBEDDINGS.iter().find_map(|name| names().find(|n| is_weight_of(n, name)));
                (own, embedding.filter(|_| may_be_tied(model)))
            }
        };
        let own = own.map(|name| Self { name, tied: false });
        own.or_else(|| embedding.map(|name| Self { name, tied: true }))
    }

    /// The format that it gets in a file of `format`: llama-quantize's default is Q6_K, for which
    /// there is no encoder here, so it is Q8_0.
    pub fn format(format: &'static Format) -> &'static Format {
        if format.is_plain() { format } else { format::Q8_0 }
    }
}

/// True unless a checkpoint's config.json says that embedding and output matrix differ. That of a
/// model of several parts says it of the part that is text.
fn may_be_tied(model: &Model) -> bool {
    model.config().is_some_and(|config| {
        let mut places = [config, &config["text_config"]].into_iter();
        places.find_map(|place| place["tie_word_embeddings"].as_bool()).unwrap_or(true)
    })
}

/// True for a model of text that gives no logits, so that its embedding is nothing else.
pub(crate) fn is_encoder(model: &Model) -> bool {
    /// Parts of the names of transformers' classes that give logits.
    const GENERATE: &[&str] = &[
        "CausalLM",
        "LMHead",
        "MaskedLM",
        "ConditionalGeneration",
        "PreTraining",
        "Seq2Seq",
        "ChatGLM",
        "GenerationDecoder",
    ];
    match model.kind() {
        Kind::Gguf(_) => match model.gguf().get("general.architecture") {
            Some(Value::String(name)) => {
                let name = name.to_ascii_lowercase();
                let has = |part: &[u8]| name.windows(part.len()).any(|window| window == part);
                name == b"t5encoder" || has(b"bert") || has(b"embed")
            }
            _ => false,
        },
        Kind::Safetensors | Kind::Sharded => {
            let class = model.config().and_then(|config| config["architectures"][0].as_str());
            class.is_some_and(|class| !GENERATE.iter().any(|part| class.contains(part)))
        }
    }
}

/// True if a tensor is the weight of a module of this name, whatever module that lies in.
fn is_weight_of(tensor: &str, module: &str) -> bool {
    let rest = tensor.strip_suffix(".weight").and_then(|name| name.strip_suffix(module));
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// True for a tensor of a checkpoint with a model type that the model multiplies activations with,
/// by its name and shape; the token embedding does not count as one. What transformers quantizes is
/// multiplied; the names of the others say whether they are tables, norms or convolutions.
pub(crate) fn is_matrix_in_checkpoint(tensor: &TensorInfo, known: Option<&Architecture>) -> bool {
    /// Ends of the names of what lies beside the weights of a stack of experts.
    const BESIDE: &[&str] = &["bias", "biases", "scale", "scales", "scale_inv", "zeros", "zero_point"];
    if !(2..=3).contains(&tensor.shape.len()) {
        return false;
    }
    let name = tensor.name.to_lowercase();
    if known.is_some_and(|known| tensor.name.strip_suffix(".weight").is_some_and(|m| known.is_linear(m))) {
        return true;
    }
    let is_weight = match tensor.shape.len() {
        // What lies in several tensors is a weight.
        _ if !tensor.is_stored_alone() => true,
        // Stacks of experts are parameters of their own.
        3 if name.contains("expert") => !BESIDE.iter().any(|end| name.ends_with(end)),
        _ => name.ends_with("weight"),
    };
    let layer = layer(&name);
    let is_norm = layer.contains("norm") || layer == "ln" || layer.starts_with("ln_");
    let is_integers = ["I8", "I16", "I32", "I64"].contains(&tensor.dtype.name()) && tensor.is_stored_alone();
    is_weight && !is_integers && !is_norm && !is_convolution(&name) && !is_table(layer)
}

/// True for a layer of which rows are looked up or added: embeddings of tokens, positions and
/// types, biases of relative positions, codebooks.
fn is_table(layer: &str) -> bool {
    const TABLES: &[&str] = &["wte", "wpe", "shared", "codebook", "relative_attention_bias"];
    /// What is called after an embedding that it is applied to, or makes.
    const LAYERS: &[&str] = &["out", "proj", "patch", "mapping", "dense", "linear", "head"];
    let is_embedding = layer.contains("embed") && !LAYERS.iter().any(|part| layer.contains(part));
    TABLES.contains(&layer) || is_embedding || layer.ends_with("emb") || layer.ends_with("embd")
}

/// Parts of the names of matrices that stay as they are in a checkpoint of which nothing is known:
/// embeddings, norms and output heads.
const PLAIN_BY_NAME: &[&str] =
    &["embed", "lm_head", "norm", "wte", "wpe", "shared.", "ln_", "classifier", "score."];

/// Why a tensor of a checkpoint is not encoded for bitsandbytes, which quantizes the linear layers
/// of `known`; of a model that is not known, all matrices but those that are no linear layers by
/// their names. `None` if it is encoded.
pub(crate) fn plain_in_checkpoint(tensor: &TensorInfo, known: Option<&Architecture>) -> Option<String> {
    if tensor.shape.len() != 2 {
        return Some("it is not a matrix".into());
    }
    let Some(module) = tensor.name.strip_suffix(".weight") else {
        return Some("it is not named as a weight".into());
    };
    let name = tensor.name.to_lowercase();
    let part = PLAIN_BY_NAME.iter().find(|part| name.contains(**part));
    match (known, part) {
        (Some(known), _) if !known.is_linear(module) => {
            return Some("transformers does not quantize it".into());
        }
        (None, Some(part)) => return Some(format!("`{part}` tensors stay as they are")),
        _ => {}
    }
    if tensor.elements() == 0 {
        return Some("it is empty".into());
    }
    let is_float = ["F32", "F16", "BF16"].contains(&tensor.dtype.name());
    (!is_float).then(|| format!("it holds {} values", tensor.dtype))
}
