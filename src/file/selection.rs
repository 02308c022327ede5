//! Which tensors of a model a quantizer encodes, and why it copies the others.

use crate::file::TensorInfo;
use crate::format::Format;

/// What one kind of output takes. The rule itself is [`Selection::why_not`]; the fields are where
/// the outputs differ.
pub(crate) struct Selection {
    /// Encode tensors of three or more dimensions, too: the experts of GGUF.
    pub stacks: bool,
    /// End of the names of weights, lower case.
    pub suffix: &'static str,
    /// Parts of the names of tensors that are copied, lower case.
    pub copied: &'static [&'static str],
    /// What the report says of those.
    pub copied_reason: &'static str,
    /// Types that are encoded.
    pub floats: &'static [&'static str],
}

/// GGUF files: llama.cpp computes with norms, positions and expert gates in floats.
pub(crate) const GGUF: Selection = Selection {
    stacks: true,
    suffix: "weight",
    copied: &["norm", "gate_inp", "position_emb", "pos_embd", "token_type"],
    copied_reason: "keep their type",
    floats: &["F64", "F32", "F16", "BF16"],
};

/// Checkpoints of bitsandbytes: transformers replaces linear layers only, and no output heads.
pub(crate) const CHECKPOINT: Selection = Selection {
    stacks: false,
    suffix: ".weight",
    copied: &["embed", "lm_head", "norm", "wte", "wpe", "shared.", "ln_", "classifier", "score."],
    copied_reason: "stay as they are",
    floats: &["F32", "F16", "BF16"],
};

impl Selection {
    /// Why a tensor is not encoded into `format`; `None` if it is.
    pub fn why_not(&self, tensor: &TensorInfo, format: &Format) -> Option<String> {
        let name = tensor.name.to_lowercase();
        let (dimensions, from) = (tensor.shape.len(), tensor.dtype.name());
        let (cols, block) = (tensor.cols(), format.block_weights() as u64);
        if dimensions < 2 || dimensions > 2 && !self.stacks {
            return Some("it is not a matrix".into());
        }
        if !name.ends_with(self.suffix) {
            return Some("it is not named as a weight".into());
        }
        if let Some(part) = self.copied.iter().find(|part| name.contains(**part)) {
            return Some(format!("`{part}` tensors {}", self.copied_reason));
        }
        // Rows of no columns take no byte, so a file may claim any number of them.
        if tensor.elements() == 0 {
            return Some("it is empty".into());
        }
        if from == format.name || !self.floats.contains(&from) {
            return Some(format!("it is {} already", tensor.dtype));
        }
        (!cols.is_multiple_of(block)).then(|| format!("{cols} columns are not a multiple of {block}"))
    }
}
