//! What models say about themselves.

use crate::common::{model_path, path};
use qmatmul::file::gguf::{Value, ValueType};
use qmatmul::file::gguf_write::{self, Entries, NewTensor};
use qmatmul::file::{DType, Model, OpenOptions, Overview};
use qmatmul::format;
use tempfile::TempDir;

const OPTIONS: OpenOptions = OpenOptions { mmap: false };

fn entry<'a>(model: &'a [(String, String)], key: &str) -> Option<&'a str> {
    model.iter().find(|(known, _)| known == key).map(|(_, value)| &**value)
}

#[test]
fn a_real_gguf() {
    for (file, file_type) in [("storybook-3.7M-Q4_0.gguf", "Q4_0"), ("storybook-3.7M-Q4_K_M.gguf", "Q4_K_M")]
    {
        let model = Model::open(model_path().with_file_name(file), &OPTIONS).expect("in the repository");
        let overview = model.overview();
        assert_eq!(overview.architecture.as_deref(), Some("llama"));
        assert_eq!(overview.file_type.as_deref(), Some(file_type));
        assert_eq!(overview.parameters, model.tensors().iter().map(|t| t.elements()).sum::<u64>());
        let count = |name: &str| model.find(name).expect("a tensor").shape.clone();
        let [vocabulary, embedding] = count("token_embd.weight")[..] else { panic!("no matrix") };
        assert_eq!(overview.vocabulary, Some(vocabulary));
        assert_eq!(overview.embedding_length, Some(embedding));
        let layers = model.tensors().iter().filter(|t| t.name.ends_with(".attn_q.weight")).count();
        assert_eq!(overview.layers, Some(layers as u64));
        assert_eq!(overview.experts, None);
        let tokenizer = overview.tokenizer.as_ref().expect("a tokenizer");
        assert!(tokenizer.model.is_some() && tokenizer.files.is_empty(), "{tokenizer:?}");
        assert_eq!(overview.entries.len(), model.gguf().len());
        let tokens = format!("[{vocabulary} strings]");
        assert_eq!(entry(&overview.entries, "tokenizer.ggml.tokens"), Some(&*tokens));
        assert!(overview.rows().contains(&("file type", file_type.into())));
    }
}

#[test]
fn a_real_checkpoint() {
    let folder = path("golden/checkpoints/gptq-4bit-g128-sym");
    let overview = Model::open(folder, &OPTIONS).expect("in the repository").overview();
    assert_eq!(overview.architecture.as_deref(), Some("llama"));
    assert_eq!((overview.layers, overview.embedding_length), (Some(1), Some(256)));
    assert_eq!((overview.heads, overview.kv_heads), (Some(4), Some(2)));
    assert_eq!((overview.context_length, overview.vocabulary), (Some(64), Some(128)));
    assert_eq!(overview.file_type.as_deref(), Some("bfloat16"));
    assert_eq!(overview.quantizer.as_deref(), Some("gptq"));
    assert_eq!(entry(&overview.quantization, "bits"), Some("4"));
    assert_eq!(entry(&overview.quantization, "group_size"), Some("128"));
    assert_eq!(overview.tokenizer, None);
    assert!(!overview.has_chat_template);
    assert_eq!(entry(&overview.entries, "rope_parameters.rope_type"), Some("default"));
}

/// A checkpoint of one tensor with these files beside it.
fn checkpoint(files: &[(&str, &str)]) -> qmatmul::Result<Model> {
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F16, vec![2, 3], &[0; 12]);
    let tensors = [("a", view.expect("as many bytes"))];
    let weights = safetensors::serialize(tensors, None).expect("a file");
    let others = files.iter().map(|(name, text)| (*name, text.as_bytes().to_vec().into()));
    let files: Vec<_> = others.chain([("model.safetensors", weights.into())]).collect();
    Model::from_files("memory", &files)
}

#[test]
fn files_beside_a_checkpoint_are_looked_into() {
    let config = r#"{"model_type": "x", "text_config": {"num_experts": 8, "num_experts_per_tok": 2, "hidden_size": 7}}"#;
    let page = "---\nlanguage: en\nlicense: apache-2.0\n---\n# Model\n";
    let files = [
        ("config.json", config),
        ("tokenizer.json", r#"{"version": "1.0", "model": {"vocab": {"a": 0}, "type": "BPE"}}"#),
        ("tokenizer_config.json", r#"{"tokenizer_class": "LlamaTokenizer", "chat_template": "{{ x }}"}"#),
        ("quantize_config.json", r#"{"bits": 4, "group_size": 128, "checkpoint_format": "gptq"}"#),
        ("README.md", page),
    ];
    let overview = checkpoint(&files).expect("a checkpoint").overview();
    assert_eq!((overview.experts, overview.experts_used), (Some(8), Some(2)));
    assert_eq!(overview.embedding_length, Some(7));
    assert_eq!(overview.licence.as_deref(), Some("apache-2.0"));
    assert!(overview.has_chat_template);
    assert_eq!(overview.quantizer.as_deref(), Some("gptq"));
    assert_eq!(entry(&overview.quantization, "group_size"), Some("128"));
    let tokenizer = overview.tokenizer.expect("a tokenizer");
    assert_eq!(tokenizer.kind.as_deref(), Some("BPE"));
    assert_eq!(tokenizer.model.as_deref(), Some("LlamaTokenizer"));
    assert_eq!(tokenizer.files, ["tokenizer.json", "tokenizer_config.json"]);

    // The same on the disk.
    let folder = TempDir::new().expect("a folder");
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).expect("written");
    }
    let weights = checkpoint(&[]).expect("a checkpoint");
    let bytes =
        std::fs::read(path("golden/checkpoints/gptq-4bit-g128-sym/model.safetensors")).expect("a file");
    std::fs::write(folder.path().join("model.safetensors"), bytes).expect("written");
    let overview = Model::open(folder.path(), &OPTIONS).expect("a checkpoint").overview();
    assert_eq!(overview.licence.as_deref(), Some("apache-2.0"));
    assert_eq!(overview.tokenizer.expect("a tokenizer").kind.as_deref(), Some("BPE"));
    assert_eq!(weights.overview().architecture, None);
    assert_eq!(weights.overview().tokenizer, None);
}

/// Whatever type a value has, it is left out or shown, and never stops anything.
#[test]
fn odd_types_say_nothing() {
    let odd = [r#"{"a": []}"#, "3", r#""text""#, "null", "[1, 2, 30, 4]", "-1", "1e300", "[[]]"];
    let fields = [
        "model_type",
        "architectures",
        "num_hidden_layers",
        "hidden_size",
        "vocab_size",
        "num_experts_per_tok",
        "torch_dtype",
        "_name_or_path",
        "license",
        "tie_word_embeddings",
    ];
    // Settings that no quantizer writes may keep a model from being opened.
    for (value, settings) in odd.into_iter().flat_map(|value| [(value, "null"), (value, value)]) {
        let all: Vec<_> = fields.iter().map(|field| format!("\"{field}\": {value}")).collect();
        let config = format!(
            "{{{}, \"text_config\": {settings}, \"quantization_config\": {settings}}}",
            all.join(", ")
        );
        let files = [
            ("config.json", &*config),
            ("tokenizer.json", value),
            ("tokenizer_config.json", value),
            ("README.md", "---\nlicense:\n---"),
        ];
        match checkpoint(&files).map(|model| model.overview()) {
            Ok(Overview { layers, .. }) => {
                assert!(layers.is_none_or(|layers| [3, 30].contains(&layers)), "{value}")
            }
            Err(error) => assert_ne!(settings, "null", "{error}"),
        }
    }
}

#[test]
fn odd_types_of_a_gguf_say_nothing() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("model.gguf");
    let mut entries = Entries::new();
    entries.set_str("general.architecture", "llama");
    entries.set("llama.context_length", Value::F32(1.5));
    entries.set("llama.block_count", Value::I32(-3));
    entries.set("general.name", Value::Bool(true));
    entries.set("general.file_type", Value::String(b"odd"));
    entries.set("tokenizer.ggml.tokens", Value::U8(1));
    let heads: Vec<_> = [4, 8, 0, 2, 2, 2, 2].map(Value::U32).to_vec();
    entries.set_array("llama.attention.head_count_kv", ValueType::U32, &heads).expect("numbers");
    entries
        .set_array("general.tags", ValueType::String, &[Value::String(b"a"), Value::String(b"b")])
        .expect("texts");
    entries.set("tokenizer.chat_template", Value::String(b"{{\n}}"));
    let new = NewTensor { name: "a".into(), dtype: DType::Supported(format::F16), shape: vec![1, 2] };
    gguf_write::write(&*file, &entries, &[new], |_, sink| sink.put(&[0; 4])).expect("a file");
    let overview = Model::open(&file, &OPTIONS).expect("our own").overview();
    assert_eq!((overview.context_length, overview.layers, overview.vocabulary), (None, None, None));
    assert_eq!((overview.name, overview.file_type), (None, None));
    assert_eq!(overview.kv_heads, Some(8));
    assert_eq!(entry(&overview.entries, "llama.attention.head_count_kv"), Some("[7 integers]"));
    assert_eq!(entry(&overview.entries, "general.tags"), Some("[a, b]"));
    assert_eq!(entry(&overview.entries, "tokenizer.chat_template"), Some("{{\n}}"));
    assert!(overview.has_chat_template);
}
