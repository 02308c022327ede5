//! What a model's files say about it, for people: architecture, sizes, tokenizer, quantizer.

use crate::file::container::gguf::{Array, Value, ValueType};
use crate::file::transformers::model_type;
use crate::file::{Kind, Model};
use serde_json::Value as Json;

/// What a model is, as far as its files say so: the metadata of a GGUF, or the config.json of a
/// checkpoint and the tokenizer's files beside it. `None` where they say nothing.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Overview {
    /// `general.architecture` of a GGUF, `model_type` of a config.json: `llama`.
    pub architecture: Option<String>,
    /// What the model calls itself.
    pub name: Option<String>,
    /// Weights of all tensors in the files, each expert counted.
    pub parameters: u64,
    /// The most tokens that the model was made for.
    pub context_length: Option<u64>,
    /// Layers.
    pub layers: Option<u64>,
    /// Features between the layers.
    pub embedding_length: Option<u64>,
    /// Heads of queries; the most of a layer where layers differ.
    pub heads: Option<u64>,
    /// Heads of keys and values; the most of a layer where layers differ.
    pub kv_heads: Option<u64>,
    /// Experts of a layer that are chosen from.
    pub experts: Option<u64>,
    /// Experts of a layer that each token goes through.
    pub experts_used: Option<u64>,
    /// Tokens that the vocabulary has.
    pub vocabulary: Option<u64>,
    /// The tokenizer, if there is one.
    pub tokenizer: Option<TokenizerOverview>,
    /// How most weights are stored: the name of `general.file_type` as llama.cpp has it (`Q4_K_M`),
    /// or the type that a config.json tells (`bfloat16`).
    pub file_type: Option<String>,
    /// What quantized a checkpoint: `quant_method` of its settings (`gptq`), `mlx`; or
    /// `general.quantized_by` of a GGUF.
    pub quantizer: Option<String>,
    /// The settings of the quantizer, keys and values: bits and group of a checkpoint, version and
    /// importance matrix of a GGUF.
    pub quantization: Vec<(String, String)>,
    /// True if there is a template for conversations.
    pub has_chat_template: bool,
    /// The licence, as its short name: `apache-2.0`.
    pub licence: Option<String>,
    /// All keys and values in the order of the file: those of a GGUF, or of a config.json, nested
    /// keys behind dots, and the `__metadata__` of a safetensors file. Texts are whole and as they
    /// are, control characters among them; long arrays are counted: `[151936 strings]`.
    pub entries: Vec<(String, String)>,
}

/// What is known of a tokenizer.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct TokenizerOverview {
    /// How it cuts words: `BPE`, `SentencePiece`, `WordPiece`, `Unigram`, `RWKV`.
    pub kind: Option<String>,
    /// `tokenizer.ggml.model` of a GGUF, `tokenizer_class` of a tokenizer_config.json.
    pub model: Option<String>,
    /// How text is split before: `tokenizer.ggml.pre` of a GGUF.
    pub pre: Option<String>,
    /// Its files beside a checkpoint: `tokenizer.json`.
    pub files: Vec<&'static str>,
}

/// Files of tokenizers.
const TOKENIZER_FILES: &[&str] = &[
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "spiece.model",
    "vocab.json",
    "vocab.txt",
];
/// Files with a template for conversations, and nothing else.
const TEMPLATE_FILES: &[&str] = &["chat_template.jinja", "chat_template.json"];
/// Settings of quantizers that are not in a config.json.
const SETTINGS_FILES: &[&str] = &["quantize_config.json", "quant_config.json", "hf_quant_config.json"];
/// The page about a model.
const PAGE: &str = "README.md";
/// The longest file that is looked into; tokenizers of 256,000 tokens have half of that.
const MAX_FILE: u64 = 64 << 20;
/// Elements of arrays that are shown one by one.
const SHOWN_ELEMENTS: usize = 6;

impl Model {
    /// What the model's files say about it. Files beside a checkpoint are looked into now; one that
    /// cannot be read says nothing.
    ///
    /// ```no_run
    /// # fn main() -> qmatmul::Result<()> {
    /// use qmatmul::file::{Model, OpenOptions};
    /// let model = Model::open("model-Q4_K_M.gguf", &OpenOptions::default())?;
    /// for (what, value) in model.overview().rows() {
    ///     println!("{what}: {value}"); // architecture: llama
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn overview(&self) -> Overview {
        let parameters = self.tensors().iter().fold(0u64, |sum, t| sum.saturating_add(t.elements()));
        let overview = match self.kind() {
            Kind::Gguf(_) => of_gguf(self),
            Kind::Safetensors | Kind::Sharded => of_checkpoint(self),
        };
        Overview { parameters, ..overview }
    }
}

impl Overview {
    /// What is known, a row each: what it is and its value, for a table.
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let number = |n: Option<u64>| n.map(|n| n.to_string());
        let tokenizer = self.tokenizer.clone().unwrap_or_default();
        let rows = [
            ("architecture", self.architecture.clone()),
            ("name", self.name.clone()),
            ("parameters", Some(self.parameters.to_string())),
            ("context length", number(self.context_length)),
            ("layers", number(self.layers)),
            ("embedding length", number(self.embedding_length)),
            ("heads", number(self.heads)),
            ("heads of keys and values", number(self.kv_heads)),
            ("experts", number(self.experts)),
            ("experts used", number(self.experts_used)),
            ("vocabulary", number(self.vocabulary)),
            ("tokenizer", tokenizer.kind),
            ("tokenizer model", tokenizer.model),
            ("tokenizer splits as", tokenizer.pre),
            ("tokenizer files", Some(tokenizer.files.join(", ")).filter(|files| !files.is_empty())),
            ("file type", self.file_type.clone()),
            ("quantizer", self.quantizer.clone()),
            ("quantization", Some(pairs(&self.quantization)).filter(|pairs| !pairs.is_empty())),
            ("chat template", Some(if self.has_chat_template { "yes" } else { "no" }.into())),
            ("licence", self.licence.clone()),
        ];
        rows.into_iter().filter_map(|(what, value)| Some((what, value?))).collect()
    }
}

fn pairs(pairs: &[(String, String)]) -> String {
    pairs.iter().map(|(key, value)| format!("{key} {value}")).collect::<Vec<_>>().join(", ")
}

fn of_gguf(model: &Model) -> Overview {
    let gguf = model.gguf();
    let text = |key: &str| match gguf.get(key) {
        Some(Value::String(bytes)) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    };
    let architecture = text("general.architecture");
    let of_model = |key: &str| {
        let value = gguf.get(&format!("{}.{key}", architecture.as_deref()?))?;
        value.as_u64().or_else(|| value.as_array()?.iter().filter_map(|v| v.as_u64()).max())
    };
    let tokens = || gguf.get("tokenizer.ggml.tokens")?.as_array().map(|tokens| tokens.len());
    let tokenizer = text("tokenizer.ggml.model").map(|model| TokenizerOverview {
        kind: kind_of_ggml(&model).map(Into::into),
        model: Some(model),
        pre: text("tokenizer.ggml.pre"),
        files: vec![],
    });
    let is_quantizer = |key: &str| key == "general.quantization_version" || key.starts_with("quantize.");
    let entries: Vec<_> = gguf.iter().map(|(key, value)| (key.to_owned(), shown_value(&value))).collect();
    Overview {
        name: text("general.name"),
        context_length: of_model("context_length"),
        layers: of_model("block_count"),
        embedding_length: of_model("embedding_length"),
        heads: of_model("attention.head_count"),
        // Without the key it is as many as there are of queries.
        kv_heads: of_model("attention.head_count_kv").or_else(|| of_model("attention.head_count")),
        experts: of_model("expert_count").filter(|count| *count > 0),
        experts_used: of_model("expert_used_count").filter(|count| *count > 0),
        vocabulary: tokens().or_else(|| of_model("vocab_size")),
        tokenizer,
        file_type: gguf.get("general.file_type").and_then(|value| value.as_u64()).map(file_type_name),
        quantizer: text("general.quantized_by"),
        quantization: entries.iter().filter(|(key, _)| is_quantizer(key)).cloned().collect(),
        has_chat_template: gguf.iter().any(|(key, _)| key.starts_with("tokenizer.chat_template")),
        licence: text("general.license"),
        architecture,
        entries,
        parameters: 0,
    }
}

/// How a tokenizer of ggml cuts words, by its name there.
fn kind_of_ggml(model: &str) -> Option<&'static str> {
    Some(match model {
        "llama" => "SentencePiece",
        "gpt2" => "BPE",
        "bert" => "WordPiece",
        "t5" => "Unigram",
        "rwkv" => "RWKV",
        _ => return None,
    })
}

/// llama.cpp's names of a `general.file_type`, with their numbers.
pub(crate) const FILE_TYPES: &[(u32, &str)] = &[
    (0, "F32"),
    (1, "F16"),
    (2, "Q4_0"),
    (3, "Q4_1"),
    (7, "Q8_0"),
    (8, "Q5_0"),
    (9, "Q5_1"),
    (10, "Q2_K"),
    (11, "Q3_K_S"),
    (12, "Q3_K_M"),
    (13, "Q3_K_L"),
    (14, "Q4_K_S"),
    (15, "Q4_K_M"),
    (16, "Q5_K_S"),
    (17, "Q5_K_M"),
    (18, "Q6_K"),
    (19, "IQ2_XXS"),
    (20, "IQ2_XS"),
    (21, "Q2_K_S"),
    (22, "IQ3_XS"),
    (23, "IQ3_XXS"),
    (24, "IQ1_S"),
    (25, "IQ4_NL"),
    (26, "IQ3_S"),
    (27, "IQ3_M"),
    (28, "IQ2_S"),
    (29, "IQ2_M"),
    (30, "IQ4_XS"),
    (31, "IQ1_M"),
    (32, "BF16"),
    (36, "TQ1_0"),
    (37, "TQ2_0"),
    (38, "MXFP4_MOE"),
];

/// llama.cpp's name of a `general.file_type`.
fn file_type_name(number: u64) -> String {
    /// Set where the number was guessed from the tensors.
    const GUESSED: u64 = 1024;
    let name = FILE_TYPES.iter().find(|(known, _)| u64::from(*known) == number & !GUESSED);
    name.map_or_else(|| format!("{number}"), |(_, name)| (*name).into())
}

/// A value on one line: texts whole, long arrays counted.
fn shown_value(value: &Value) -> String {
    match value {
        Value::String(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Array(array) => shown_array(array),
        other => other.to_string(),
    }
}

fn shown_array(array: &Array) -> String {
    let is_nested = array.element_type() == ValueType::Array;
    if array.len() <= SHOWN_ELEMENTS as u64 && !is_nested {
        let all: Vec<_> = array.iter().map(|value| shown_value(&value)).collect();
        return format!("[{}]", all.join(", "));
    }
    let what = match array.element_type() {
        ValueType::String => "strings",
        ValueType::Bool => "booleans",
        ValueType::Array => "arrays",
        ValueType::F32 | ValueType::F64 => "numbers",
        _ => "integers",
    };
    format!("[{} {what}]", array.len())
}

fn of_checkpoint(model: &Model) -> Overview {
    let beside = |name: &str| model.beside().text(name, MAX_FILE);
    let json = |name: &str| beside(name).and_then(|text| serde_json::from_str::<Json>(&text).ok());
    let none = Json::Null;
    let config = model.config().unwrap_or(&none);
    // A model of several parts says what concerns its text in a part of its configuration.
    let places = ["text_config", "llm_config", "language_config", "thinker_config"];
    let places: Vec<&Json> = std::iter::once(config).chain(places.map(|key| &config[key])).collect();
    let number = |keys: &[&str]| {
        keys.iter().find_map(|key| places.iter().find_map(|place| largest(&place[*key]))).filter(|n| *n > 0)
    };
    let text = |key: &str| places.iter().find_map(|place| place[key].as_str()).map(str::to_owned);
    let tokenizer_config = json("tokenizer_config.json").unwrap_or_default();
    let files: Vec<_> = TOKENIZER_FILES.iter().copied().filter(|name| model.beside().has(name)).collect();
    let tokenizer = (!files.is_empty()).then(|| TokenizerOverview {
        kind: beside("tokenizer.json").and_then(|text| kind_of_tokenizer(&text)),
        model: tokenizer_config["tokenizer_class"].as_str().map(Into::into),
        pre: None,
        files,
    });
    let class = config["architectures"][0].as_str();
    let settings = SETTINGS_FILES.iter().find_map(|name| json(name));
    let quantizer = Quantizer::of(config, settings.as_ref()).unwrap_or_default();
    let heads = number(&["num_attention_heads", "n_head", "n_heads", "num_heads"]);
    let mut entries = vec![];
    flatten("", config, &mut entries);
    entries.extend(model.header().iter().map(|(key, value)| (key.to_owned(), value.to_owned())));
    Overview {
        architecture: model_type(model).or(class).map(Into::into),
        name: text("_name_or_path").filter(|name| !name.is_empty()),
        context_length: number(&[
            "max_position_embeddings",
            "n_positions",
            "n_ctx",
            "max_seq_len",
            "max_sequence_length",
            "seq_length",
        ]),
        layers: number(&["num_hidden_layers", "n_layer", "n_layers", "num_layers"]),
        embedding_length: number(&["hidden_size", "n_embd", "d_model", "dim"]),
        heads,
        kv_heads: number(&["num_key_value_heads", "num_kv_heads", "n_head_kv", "n_kv_heads"]).or(heads),
        experts: number(&["num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"]),
        experts_used: number(&[
            "num_experts_per_tok",
            "num_experts_per_token",
            "moe_top_k",
            "moe_topk",
            "moe_k",
            "top_k_experts",
            "num_selected_experts",
            "experts_per_token",
        ]),
        vocabulary: number(&["vocab_size", "padded_vocab_size"]),
        tokenizer,
        file_type: text("dtype").or_else(|| text("torch_dtype")),
        has_chat_template: TEMPLATE_FILES.iter().any(|name| model.beside().has(name))
            || !tokenizer_config["chat_template"].is_null(),
        licence: text("license").or_else(|| beside(PAGE).and_then(|page| licence(&page))),
        quantizer: quantizer.method,
        quantization: quantizer.settings,
        entries,
        parameters: 0,
    }
}

/// A number that is not negative, or the largest of a list that holds one for each layer.
fn largest(value: &Json) -> Option<u64> {
    value.as_u64().or_else(|| value.as_array()?.iter().filter_map(Json::as_u64).max())
}

/// What quantized a checkpoint, as far as it is told.
#[derive(Default)]
struct Quantizer {
    method: Option<String>,
    settings: Vec<(String, String)>,
}

impl Quantizer {
    /// From a config.json or a file of their own.
    fn of(config: &Json, file: Option<&Json>) -> Option<Self> {
        let of_config = ["quantization_config", "compression_config"].map(|key| &config[key]);
        let of_tool = of_config.into_iter().find(|value| value.is_object());
        let of_mlx = Some(&config["quantization"]).filter(|value| value.is_object());
        let found = of_mlx.or(of_tool).or_else(|| {
            let nested = file.map(|file| &file["quantization"]);
            nested.filter(|value| value.is_object()).or(file)
        });
        let found = found?;
        let named = ["quant_method", "quant_algo", "checkpoint_format"];
        let named = named.iter().find_map(|key| found[*key].as_str());
        let is_set = |value: &Json| value.is_number() || value.is_boolean() || value.is_string();
        let fields = found.as_object()?.iter().filter(|(key, value)| is_set(value) && *key != "quant_method");
        Some(Self {
            method: of_mlx.map(|_| "mlx").or(named).map(Into::into),
            settings: fields.map(|(key, value)| (key.clone(), shown_json(value))).collect(),
        })
    }
}

/// How the tokenizer of a tokenizer.json cuts words.
fn kind_of_tokenizer(text: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct File {
        model: Named,
    }
    #[derive(serde::Deserialize)]
    struct Named {
        r#type: String,
    }
    serde_json::from_str::<File>(text).ok().map(|file| file.model.r#type)
}

/// The licence that stands in the lines before a page, between two of `---`.
fn licence(page: &str) -> Option<String> {
    let (head, _) = page.trim_start().strip_prefix("---")?.split_once("\n---")?;
    let value = head.lines().find_map(|line| line.strip_prefix("license:"))?;
    let value = value.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.into())
}

/// Appends what a JSON value holds, keys within keys behind dots.
fn flatten(key: &str, value: &Json, entries: &mut Vec<(String, String)>) {
    match value {
        Json::Object(fields) if !fields.is_empty() => {
            for (inner, value) in fields {
                let key = if key.is_empty() { inner.clone() } else { format!("{key}.{inner}") };
                flatten(&key, value, entries);
            }
        }
        _ if key.is_empty() => {}
        _ => entries.push((key.into(), shown_json(value))),
    }
}

fn shown_json(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Array(all) if all.len() > SHOWN_ELEMENTS => {
            let what = if all.iter().all(Json::is_string) { "strings" } else { "values" };
            format!("[{} {what}]", all.len())
        }
        Json::Array(all) => format!("[{}]", all.iter().map(shown_json).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}
