//! Names of tensors in GGUF and in checkpoints of transformers, by architecture, in both
//! directions: data, and the rules to look it up.

/// An architecture of GGUF, and the models of transformers that become one.
#[derive(Debug)]
pub(crate) struct Architecture {
    /// `general.architecture`.
    pub gguf: &'static str,
    /// `model_type` of a config.json.
    pub model_types: &'static [&'static str],
    names: &'static [&'static [Name]],
}

/// One kind of tensor: what stands before `.weight` or `.bias`, the same for both; or the whole
/// name, where one side has no such end. `{layer}` and `{expert}` stand for numbers.
#[derive(Debug)]
struct Name {
    gguf: &'static str,
    hugging_face: &'static str,
    layout: Layout,
}

/// How the bytes of a tensor differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// They do not.
    Same,
    /// Query rows: row `half·(d/2) + i` of each head of d is row `2i + half` in GGUF.
    QueryPairs,
    /// The same of keys, which have heads of their own number.
    KeyPairs,
    /// GGUF holds 1 + w.
    PlusOne,
    /// One matrix of the stack that GGUF holds of all experts.
    Expert,
    /// The columns 0, 2, … of a stack `[experts, k, 2m]`, transposed in GGUF.
    EvenColumns,
    /// The columns 1, 3, … of such a stack.
    OddColumns,
    /// A stack `[experts, k, m]`, transposed in GGUF.
    Transposed,
}

/// A name on the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Other {
    pub name: String,
    pub layout: Layout,
    /// The layer, which decides about the number of heads; none outside of layers.
    pub layer: Option<usize>,
    /// Which expert of a stack.
    pub expert: Option<usize>,
}

const fn same(gguf: &'static str, hugging_face: &'static str) -> Name {
    name(gguf, hugging_face, Layout::Same)
}

const fn name(gguf: &'static str, hugging_face: &'static str, layout: Layout) -> Name {
    Name { gguf, hugging_face, layout }
}

const EMBEDDINGS: &[Name] = &[same("token_embd", "model.embed_tokens"), same("output", "lm_head")];
/// Norms before attention and feed-forward, and behind the last layer.
const NORMS: &[Name] = &[
    same("output_norm", "model.norm"),
    same("blk.{layer}.attn_norm", "model.layers.{layer}.input_layernorm"),
    same("blk.{layer}.ffn_norm", "model.layers.{layer}.post_attention_layernorm"),
];
/// Gemma has norms behind attention and feed-forward, too.
const GEMMA_NORMS: &[Name] = &[
    name("output_norm", "model.norm", Layout::PlusOne),
    name("blk.{layer}.attn_norm", "model.layers.{layer}.input_layernorm", Layout::PlusOne),
    name("blk.{layer}.post_attention_norm", "model.layers.{layer}.post_attention_layernorm", Layout::PlusOne),
    name("blk.{layer}.ffn_norm", "model.layers.{layer}.pre_feedforward_layernorm", Layout::PlusOne),
    name("blk.{layer}.post_ffw_norm", "model.layers.{layer}.post_feedforward_layernorm", Layout::PlusOne),
];
/// The norm before the feed-forward is named after what it stands behind.
const GPT_OSS_NORMS: &[Name] = &[
    same("output_norm", "model.norm"),
    same("blk.{layer}.attn_norm", "model.layers.{layer}.input_layernorm"),
    same("blk.{layer}.post_attention_norm", "model.layers.{layer}.post_attention_layernorm"),
];
const ATTENTION: &[Name] = &[
    same("blk.{layer}.attn_q", "model.layers.{layer}.self_attn.q_proj"),
    same("blk.{layer}.attn_k", "model.layers.{layer}.self_attn.k_proj"),
    same("blk.{layer}.attn_v", "model.layers.{layer}.self_attn.v_proj"),
    same("blk.{layer}.attn_output", "model.layers.{layer}.self_attn.o_proj"),
];
const ATTENTION_IN_PAIRS: &[Name] = &[
    name("blk.{layer}.attn_q", "model.layers.{layer}.self_attn.q_proj", Layout::QueryPairs),
    name("blk.{layer}.attn_k", "model.layers.{layer}.self_attn.k_proj", Layout::KeyPairs),
    same("blk.{layer}.attn_v", "model.layers.{layer}.self_attn.v_proj"),
    same("blk.{layer}.attn_output", "model.layers.{layer}.self_attn.o_proj"),
];
/// Rows of q, then k, then v; rows of the gate, then up.
const PHI3: &[Name] = &[
    same("blk.{layer}.attn_qkv", "model.layers.{layer}.self_attn.qkv_proj"),
    same("blk.{layer}.attn_output", "model.layers.{layer}.self_attn.o_proj"),
    same("blk.{layer}.ffn_up", "model.layers.{layer}.mlp.gate_up_proj"),
    same("blk.{layer}.ffn_down", "model.layers.{layer}.mlp.down_proj"),
];
const HEAD_NORMS: &[Name] = &[
    same("blk.{layer}.attn_q_norm", "model.layers.{layer}.self_attn.q_norm"),
    same("blk.{layer}.attn_k_norm", "model.layers.{layer}.self_attn.k_norm"),
];
const GEMMA_HEAD_NORMS: &[Name] = &[
    name("blk.{layer}.attn_q_norm", "model.layers.{layer}.self_attn.q_norm", Layout::PlusOne),
    name("blk.{layer}.attn_k_norm", "model.layers.{layer}.self_attn.k_norm", Layout::PlusOne),
];
const FEED_FORWARD: &[Name] = &[
    same("blk.{layer}.ffn_gate", "model.layers.{layer}.mlp.gate_proj"),
    same("blk.{layer}.ffn_up", "model.layers.{layer}.mlp.up_proj"),
    same("blk.{layer}.ffn_down", "model.layers.{layer}.mlp.down_proj"),
];
/// Older files hold each expert by itself, `blk.0.ffn_gate.3`.
const MIXTRAL: &[Name] = &[
    same("blk.{layer}.ffn_gate_inp", "model.layers.{layer}.block_sparse_moe.gate"),
    name(
        "blk.{layer}.ffn_gate_exps",
        "model.layers.{layer}.block_sparse_moe.experts.{expert}.w1",
        Layout::Expert,
    ),
    name(
        "blk.{layer}.ffn_up_exps",
        "model.layers.{layer}.block_sparse_moe.experts.{expert}.w3",
        Layout::Expert,
    ),
    name(
        "blk.{layer}.ffn_down_exps",
        "model.layers.{layer}.block_sparse_moe.experts.{expert}.w2",
        Layout::Expert,
    ),
    same("blk.{layer}.ffn_gate.{expert}", "model.layers.{layer}.block_sparse_moe.experts.{expert}.w1"),
    same("blk.{layer}.ffn_up.{expert}", "model.layers.{layer}.block_sparse_moe.experts.{expert}.w3"),
    same("blk.{layer}.ffn_down.{expert}", "model.layers.{layer}.block_sparse_moe.experts.{expert}.w2"),
];
const QWEN_EXPERTS: &[Name] = &[
    same("blk.{layer}.ffn_gate_inp", "model.layers.{layer}.mlp.gate"),
    name("blk.{layer}.ffn_gate_exps", "model.layers.{layer}.mlp.experts.{expert}.gate_proj", Layout::Expert),
    name("blk.{layer}.ffn_up_exps", "model.layers.{layer}.mlp.experts.{expert}.up_proj", Layout::Expert),
    name("blk.{layer}.ffn_down_exps", "model.layers.{layer}.mlp.experts.{expert}.down_proj", Layout::Expert),
];
/// The experts of GPT-OSS are parameters, whose names have no end, and biases beside them.
const GPT_OSS: &[Name] = &[
    same("blk.{layer}.attn_sinks.weight", "model.layers.{layer}.self_attn.sinks"),
    same("blk.{layer}.ffn_gate_inp", "model.layers.{layer}.mlp.router"),
    name(
        "blk.{layer}.ffn_gate_exps.weight",
        "model.layers.{layer}.mlp.experts.gate_up_proj",
        Layout::EvenColumns,
    ),
    name(
        "blk.{layer}.ffn_up_exps.weight",
        "model.layers.{layer}.mlp.experts.gate_up_proj",
        Layout::OddColumns,
    ),
    name(
        "blk.{layer}.ffn_down_exps.weight",
        "model.layers.{layer}.mlp.experts.down_proj",
        Layout::Transposed,
    ),
    name(
        "blk.{layer}.ffn_gate_exps.bias",
        "model.layers.{layer}.mlp.experts.gate_up_proj_bias",
        Layout::EvenColumns,
    ),
    name(
        "blk.{layer}.ffn_up_exps.bias",
        "model.layers.{layer}.mlp.experts.gate_up_proj_bias",
        Layout::OddColumns,
    ),
    same("blk.{layer}.ffn_down_exps.bias", "model.layers.{layer}.mlp.experts.down_proj_bias"),
];

/// The architectures whose names are known.
static ARCHITECTURES: &[Architecture] = &[
    Architecture {
        gguf: "llama",
        model_types: &["llama", "mistral", "mixtral"],
        names: &[EMBEDDINGS, NORMS, ATTENTION_IN_PAIRS, FEED_FORWARD, MIXTRAL],
    },
    Architecture {
        gguf: "qwen2",
        model_types: &["qwen2"],
        names: &[EMBEDDINGS, NORMS, ATTENTION, FEED_FORWARD],
    },
    Architecture {
        gguf: "qwen3",
        model_types: &["qwen3"],
        names: &[EMBEDDINGS, NORMS, ATTENTION, HEAD_NORMS, FEED_FORWARD],
    },
    Architecture {
        gguf: "qwen3moe",
        model_types: &["qwen3_moe"],
        names: &[EMBEDDINGS, NORMS, ATTENTION, HEAD_NORMS, QWEN_EXPERTS, FEED_FORWARD],
    },
    Architecture {
        gguf: "gemma2",
        model_types: &["gemma2"],
        names: &[EMBEDDINGS, GEMMA_NORMS, ATTENTION, FEED_FORWARD],
    },
    Architecture {
        gguf: "gemma3",
        model_types: &["gemma3_text", "gemma3"],
        names: &[EMBEDDINGS, GEMMA_NORMS, ATTENTION, GEMMA_HEAD_NORMS, FEED_FORWARD],
    },
    Architecture { gguf: "phi3", model_types: &["phi3"], names: &[EMBEDDINGS, NORMS, PHI3] },
    Architecture {
        gguf: "gpt-oss",
        model_types: &["gpt_oss"],
        names: &[EMBEDDINGS, GPT_OSS_NORMS, ATTENTION, GPT_OSS],
    },
];

/// What models of text and pictures put before the names of the text's tensors, and what it stands
/// for.
const NESTED: [(&str, &str); 3] = [
    ("model.language_model.", "model."),
    ("language_model.model.", "model."),
    ("language_model.lm_head", "lm_head"),
];

impl Architecture {
    /// The one of this `general.architecture`.
    pub fn of_gguf(name: &str) -> Option<&'static Self> {
        ARCHITECTURES.iter().find(|a| a.gguf == name)
    }

    /// The names that [`Architecture::of_gguf`] knows.
    pub fn known() -> String {
        ARCHITECTURES.iter().map(|a| a.gguf).collect::<Vec<_>>().join(", ")
    }

    /// The GGUF names of a tensor or module of a checkpoint: several where GGUF splits it, or has
    /// two ways to store it.
    pub fn to_gguf(&self, name: &str) -> Vec<Other> {
        let nested = NESTED.iter().find_map(|(from, to)| Some(format!("{to}{}", name.strip_prefix(from)?)));
        let name = nested.as_deref().unwrap_or(name);
        let names = self.names.iter().copied().flatten();
        names.filter_map(|n| translate(n.hugging_face, n.gguf, n.layout, name)).collect()
    }

    /// The checkpoint's name of a tensor or module of a GGUF; of a stack of experts, the names for
    /// each of them have the number of the expert where this has `{expert}`.
    pub fn to_hugging_face(&self, name: &str) -> Option<Other> {
        let mut names = self.names.iter().copied().flatten();
        names.find_map(|n| translate(n.gguf, n.hugging_face, n.layout, name))
    }
}

/// The name `to` for a name that `from` describes, with what follows behind it.
fn translate(from: &'static str, to: &str, layout: Layout, name: &str) -> Option<Other> {
    let (stem, end) = match name.rsplit_once('.') {
        Some((stem, end @ ("weight" | "bias"))) => (stem, Some(end)),
        _ => (name, None),
    };
    // The entry of a whole name, or of what stands before its end.
    let (numbers, end) = match (numbers(from, name), numbers(from, stem)) {
        (Some(numbers), _) => (numbers, None),
        (None, Some(numbers)) => (numbers, end),
        (None, None) => return None,
    };
    let filled =
        numbers.iter().fold(to.to_owned(), |to, (mark, number)| to.replacen(mark, &number.to_string(), 1));
    let number = |wanted: &str| numbers.iter().find(|(mark, _)| *mark == wanted).map(|(_, number)| *number);
    let name = end.map_or_else(|| filled.clone(), |end| format!("{filled}.{end}"));
    Some(Other { name, layout, layer: number("{layer}"), expert: number("{expert}") })
}

/// The numbers for the marks of a pattern that a name is an instance of.
fn numbers(pattern: &'static str, name: &str) -> Option<Vec<(&'static str, usize)>> {
    let (mut numbers, mut rest) = (vec![], name);
    for (i, piece) in pattern.split(['{', '}']).enumerate() {
        if i % 2 == 0 {
            rest = rest.strip_prefix(piece)?;
            continue;
        }
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: usize = rest[..digits].parse().ok()?;
        // `01` is no number of a layer.
        if number.to_string().len() != digits {
            return None;
        }
        let mark = if piece == "layer" { "{layer}" } else { "{expert}" };
        numbers.push((mark, number));
        rest = &rest[digits..];
    }
    rest.is_empty().then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn architecture(name: &str) -> &'static Architecture {
        Architecture::of_gguf(name).expect("a known one")
    }

    /// A name, with numbers for its marks.
    fn instance(pattern: &str) -> String {
        pattern.replace("{layer}", "12").replace("{expert}", "3")
    }

    #[test]
    fn every_name_is_found_from_both_sides() {
        for architecture in ARCHITECTURES {
            for name in architecture.names.iter().copied().flatten() {
                let is_whole = name.gguf.ends_with(".weight") || name.gguf.ends_with(".bias");
                for end in if is_whole { &[""][..] } else { &["", ".weight", ".bias"] } {
                    let gguf = format!("{}{end}", instance(name.gguf));
                    let hugging_face = format!("{}{end}", instance(name.hugging_face));
                    let there = architecture.to_gguf(&hugging_face);
                    let other = there.iter().find(|other| other.name == gguf).expect("its GGUF name");
                    assert_eq!(other.layout, name.layout, "{gguf}");
                    let back = architecture.to_hugging_face(&gguf).expect("its checkpoint name");
                    assert_eq!(instance(&back.name), hugging_face, "{gguf}");
                }
            }
        }
    }

    /// A few names of each architecture.
    #[test]
    fn names_by_architecture() {
        let first = |a: &str, name: &str| architecture(a).to_gguf(name).into_iter().next();
        let wanted = [
            ("llama", "model.layers.3.self_attn.q_proj.weight", "blk.3.attn_q.weight", Layout::QueryPairs),
            ("llama", "model.layers.3.self_attn.k_proj", "blk.3.attn_k", Layout::KeyPairs),
            ("llama", "model.layers.3.self_attn.v_proj", "blk.3.attn_v", Layout::Same),
            (
                "llama",
                "model.layers.3.post_attention_layernorm.weight",
                "blk.3.ffn_norm.weight",
                Layout::Same,
            ),
            ("llama", "model.layers.0.block_sparse_moe.gate", "blk.0.ffn_gate_inp", Layout::Same),
            ("llama", "model.layers.0.block_sparse_moe.experts.7.w3", "blk.0.ffn_up_exps", Layout::Expert),
            ("llama", "lm_head.weight", "output.weight", Layout::Same),
            ("qwen2", "model.layers.3.self_attn.q_proj.bias", "blk.3.attn_q.bias", Layout::Same),
            ("qwen3", "model.layers.3.self_attn.q_norm.weight", "blk.3.attn_q_norm.weight", Layout::Same),
            ("qwen3moe", "model.layers.3.mlp.experts.40.down_proj", "blk.3.ffn_down_exps", Layout::Expert),
            (
                "gemma2",
                "model.layers.3.post_attention_layernorm",
                "blk.3.post_attention_norm",
                Layout::PlusOne,
            ),
            ("gemma3", "model.layers.3.pre_feedforward_layernorm", "blk.3.ffn_norm", Layout::PlusOne),
            ("gemma3", "model.language_model.layers.3.mlp.up_proj", "blk.3.ffn_up", Layout::Same),
            ("phi3", "model.layers.3.mlp.gate_up_proj", "blk.3.ffn_up", Layout::Same),
            ("gpt-oss", "model.layers.3.post_attention_layernorm", "blk.3.post_attention_norm", Layout::Same),
            ("gpt-oss", "model.layers.3.self_attn.sinks", "blk.3.attn_sinks.weight", Layout::Same),
            (
                "gpt-oss",
                "model.layers.3.mlp.experts.gate_up_proj",
                "blk.3.ffn_gate_exps.weight",
                Layout::EvenColumns,
            ),
        ];
        for (a, name, gguf, layout) in wanted {
            let other = first(a, name).expect(name);
            assert_eq!((&*other.name, other.layout), (gguf, layout), "{a}: {name}");
        }
        let other = first("llama", "model.layers.31.block_sparse_moe.experts.7.w1").expect("an expert");
        assert_eq!((other.layer, other.expert), (Some(31), Some(7)));
        for name in [
            "model.layers.x.mlp.up_proj",
            "model.layers.01.mlp.up_proj",
            "layers.1.mlp.up_proj",
            "model.layers.1",
        ] {
            assert_eq!(first("llama", name), None, "{name}");
        }
        assert!(Architecture::of_gguf("rwkv7").is_none() && Architecture::known().contains("gpt-oss"));
    }
}
