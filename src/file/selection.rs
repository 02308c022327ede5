//! Which tensors of a model a quantizer encodes, and why it leaves the others as they are.

use crate::error::{Error, Result};
use crate::file::names::shown;
use crate::file::transformers::Architecture;
use crate::file::{DType, Kind, Model, TensorInfo};
use crate::format::{self, Format};

/// Parts of the names of GGUF tensors that keep their type: llama.cpp computes with them as they
/// are, and stops at some of them if they are encoded. llama-quantize leaves the same ones.
const PLAIN_IN_GGUF: &[&str] = &[
    // Norms of several dimensions, and the router of experts (that of a shared expert is encoded).
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_tid2eid",
    // Position and token-type embeddings, also those of checkpoints.
    "position_emb",
    "token_type",
    "sam.pos_embd",
    // Small matrices of Gemma 3n.
    "altup",
    "laurel",
    "per_layer_model_proj",
    // Convolutions of state space models and LFM2.
    "ssm_conv1d",
    "shortconv.conv",
    // The small matrices of RWKV.
    "time_mix_first",
    "time_mix_w0",
    "time_mix_w1",
    "time_mix_w2",
    "time_mix_v0",
    "time_mix_v1",
    "time_mix_v2",
    "time_mix_a0",
    "time_mix_a1",
    "time_mix_a2",
    "time_mix_g1",
    "time_mix_g2",
    "time_mix_decay_w1",
    "time_mix_decay_w2",
    "time_mix_lerp_fused",
    // Relative positions of T5, and the index of sparse attention.
    "attn_rel_b",
    "indexer.k_proj",
    "indexer.q_proj",
    "indexer_compressor_ape",
    // Of vision and audio encoders.
    ".patch_embd",
    ".patch_merger",
    ".rel_pos",
    "sam.neck.",
    "sam.net_",
    "a.rvq.codebook",
    "mm.a.code_embd",
];

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
    // As ggml counts dimensions: outer ones of 1 are none.
    let dimensions = tensor.shape.iter().skip_while(|dim| **dim == 1).count();
    if dimensions < 2 {
        return Some("it is not a matrix".into());
    }
    let name = tensor.name.to_lowercase();
    if !name.ends_with("weight") {
        return Some("it is not named as a weight".into());
    }
    let part = PLAIN_IN_GGUF.iter().find(|part| name.contains(**part));
    // Rows of no columns take no byte, so a file may claim any number of them.
    let empty = || (tensor.elements() == 0).then(|| "it is empty".into());
    part.map(|part| format!("`{part}` tensors keep their type")).or_else(empty)
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

impl<'a> OutputMatrix<'a> {
    /// That of a model, if it has one. A model without an output matrix of its own uses the
    /// embedding.
    pub fn of(model: &'a Model) -> Option<Self> {
        let names = || model.tensors().iter().map(|t| &*t.name);
        let (own, embedding) = match model.kind() {
            Kind::Gguf(_) => {
                (names().find(|n| *n == "output.weight"), names().find(|n| *n == "token_embd.weight"))
            }
            Kind::Safetensors | Kind::Sharded => {
                let embedding = ["embed_tokens.weight", "transformer.wte.weight", "shared.weight"]
                    .into_iter()
                    .find_map(|end| names().find(|name| is_of_module(name, end)));
                let may_be_tied = model.config().is_some_and(|c| c["tie_word_embeddings"] != false);
                let own = names().find(|name| is_of_module(name, "lm_head.weight"));
                (own, embedding.filter(|_| may_be_tied))
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

/// True if a name is `end`, or ends in it behind a dot.
fn is_of_module(name: &str, end: &str) -> bool {
    name.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
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
