//! safetensors files, sharded checkpoints, activations and `quantize`: what works, and one test for
//! every way to lie.

use qmatmul::check::judge;
use qmatmul::file::gguf::Value;
use qmatmul::file::{
    Kind, Model, OpenOptions, QuantizeOptions, activations_from_bytes, activations_from_stream, quantize,
    read_activations, write_f32, write_f32_to,
};
use qmatmul::format;
use qmatmul::tensor::PackedTensor;
use qmatmul::{Activations, Error, Recipe};
use safetensors::SafeTensors;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

/// The weights of a checkpoint alone.
const BARE: QuantizeOptions = QuantizeOptions { pure: false, bare: true, allow_requantize: false };

/// A file of this header and as many zero bytes of data.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

/// `"name":{…},` as headers have it.
fn entry(name: &str, dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
}

fn one(dtype: &str, shape: &str, offsets: &str) -> String {
    format!("{{{}}}", entry("w", dtype, shape, offsets))
}

fn open(bytes: Vec<u8>) -> Model {
    Model::from_bytes("good", bytes).unwrap()
}

/// Opens the file in memory, mapped and read: each must be refused alike, for this part, offset and
/// reason.
#[track_caller]
fn refused(bytes: &[u8], what: &str, offset: u64, problem: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lie.safetensors");
    fs::write(&path, bytes).unwrap();
    let opened = [
        Model::from_bytes("lie.safetensors", bytes.to_vec()),
        Model::open(&path, &OpenOptions { mmap: true }),
        Model::open(&path, &OpenOptions { mmap: false }),
    ];
    for opened in opened {
        malformed(opened.unwrap_err(), "lie.safetensors", what, offset, problem);
    }
}

#[track_caller]
fn malformed(error: Error, in_file: &str, what: &str, offset: u64, problem: &str) {
    match error {
        Error::Malformed { file, what: w, offset: o, problem: p } => {
            assert!(file.ends_with(in_file), "{file}");
            assert_eq!((&*w, o), (what, offset), "{p}");
            assert!(p.contains(problem), "{p}");
        }
        other => panic!("{other}"),
    }
}

/// Opens a file of one tensor `w` that lies.
#[track_caller]
fn tensor_refused(header: &str, problem: &str) {
    refused(&file(header, 64), "tensor `w`", 9, problem);
}

// What is accepted.

#[test]
fn tensors_come_in_the_order_of_their_bytes() {
    let header = format!(
        r#"{{{},"__metadata__":{{"format":"pt","a":"b"}},{}}}  "#,
        entry("late", "F16", "[2,3]", "[8,20]"),
        entry("early.weight", "F32", "[2]", "[0,8]")
    );
    let model = open(file(&header, 20));
    assert_eq!(model.kind(), Kind::Safetensors);
    let names: Vec<_> = model.tensors().iter().map(|t| (&*t.name, t.rows(), t.cols())).collect();
    assert_eq!(names, [("early.weight", 1, 2), ("late", 2, 3)]);
    assert_eq!(model.header().iter().collect::<Vec<_>>(), [("format", "pt"), ("a", "b")]);
    assert_eq!(model.find("early").unwrap().offset, 8 + header.len() as u64);
    assert!(model.config().is_none() && model.gguf().is_empty());
}

#[test]
fn types_without_a_decoder_are_listed_and_refused_when_used() {
    let header =
        format!("{{{},{}}}", entry("f4", "F4", "[2,8]", "[0,8]"), entry("b", "BOOL", "[3]", "[8,11]"));
    let model = open(file(&header, 11));
    let f4 = model.find("f4").unwrap();
    assert_eq!((f4.dtype.name(), f4.bytes, f4.dtype.bits_per_weight()), ("F4", 8, 4.0));
    assert_eq!(model.bytes(f4).unwrap().len(), 8);
    match model.tensor(f4).unwrap_err() {
        Error::UnsupportedFormat { tensor, format, .. } => assert_eq!((&*tensor, &*format), ("f4", "F4")),
        other => panic!("{other}"),
    }
}

#[test]
fn empty_files_scalars_and_empty_tensors_are_fine() {
    assert!(open(file("{}", 0)).tensors().is_empty());
    let header =
        format!("{{{},{}}}", entry("none", "F32", "[0,7]", "[0,0]"), entry("one", "F32", "[]", "[0,4]"));
    let model = open(file(&header, 4));
    let shape = |name| model.tensor(model.find(name).unwrap()).map(|t| (t.rows(), t.cols())).unwrap();
    assert_eq!((shape("none"), shape("one")), ((0, 7), (1, 1)));
}

// Lies of the header as a whole.

#[test]
fn file_shorter_than_its_length_field() {
    refused(b"", "header", 0, "8 bytes of length should come first, got 0");
    refused(&[2, 0, 0], "header", 0, "8 bytes of length should come first, got 3");
}

#[test]
fn header_longer_than_the_file() {
    let mut bytes = file("{}", 0);
    bytes[0] = 3;
    refused(&bytes, "header", 0, "claims 3 bytes, the file has 2 more");
}

#[test]
fn header_longer_than_allowed() {
    for len in [100_000_001, u64::MAX] {
        let mut bytes = file("{}", 0);
        bytes[..8].copy_from_slice(&len.to_le_bytes());
        refused(&bytes, "header", 0, &format!("claims {len} bytes, the limit is 100000000"));
    }
}

#[test]
fn header_that_does_not_start_with_a_brace() {
    refused(&file(" {}", 0), "header", 8, "does not start with `{`");
    refused(&file("[]", 0), "header", 8, "does not start with `{`");
    refused(&file("", 0), "header", 8, "does not start with `{`");
}

#[test]
fn header_that_is_not_utf8() {
    let mut bytes = file(r#"{"ab":1}"#, 0);
    bytes[11] = 0xff;
    refused(&bytes, "header", 11, "not UTF-8");
}

#[test]
fn header_that_is_not_json() {
    refused(&file("{nonsense", 0), "header", 9, "key must be a string");
    refused(&file("{} x", 0), "header", 11, "trailing characters");
    refused(&file("{", 0), "header", 9, "EOF");
    refused(&file(r#"{"w":{"dtype":"F32""#, 0), "tensor `w`", 27, "EOF");
}

#[test]
fn header_nested_without_end() {
    let deep = "[".repeat(1_000_000);
    let at = |header: &str| 8 + header.len() as u64;
    let unknown_field = format!(r#"{{"w":{{"extra":{deep}"#);
    refused(&file(&unknown_field, 0), "tensor `w`", at(&unknown_field), "EOF while parsing a list");
    for (header, problem) in [
        (format!(r#"{{"w":{{"shape":{deep}"#), "expected u64"),
        (format!(r#"{{"w":{{"dtype":{deep}"#), "expected value"),
    ] {
        let error = Model::from_bytes("f", file(&header, 0)).unwrap_err();
        assert!(error.to_string().contains(problem) && error.to_string().contains("tensor `w`"), "{error}");
    }
}

#[test]
fn duplicate_tensors() {
    let first = entry("w", "F32", "[2]", "[0,8]");
    let header = format!("{{{first},{}}}", entry("w", "F32", "[2]", "[8,16]"));
    refused(&file(&header, 16), "tensor `w`", 8 + 2 + first.len() as u64, "listed before");
    // The same name spelt in another way.
    let header = format!("{{{first},{}}}", entry("\\u0077", "F32", "[2]", "[8,16]"));
    let error = Model::from_bytes("f", file(&header, 16)).unwrap_err();
    assert!(
        error.to_string().contains("tensor `w` at byte 9: a tensor of this name was listed before"),
        "{error}"
    );
}

#[test]
fn duplicate_metadata() {
    let twice = r#"{"__metadata__":{},"__metadata__":{}}"#;
    refused(&file(twice, 0), "key `__metadata__`", 27, "given twice");
    let twice = r#"{"__metadata__":{"k":"a","k":"b"}}"#;
    refused(&file(twice, 0), "key `__metadata__`", 9, "`k` is given twice");
}

#[test]
fn metadata_that_is_not_text() {
    refused(&file(r#"{"__metadata__":{"k":1}}"#, 0), "key `__metadata__`", 9, "expected a string");
    refused(
        &file(r#"{"__metadata__":[]}"#, 0),
        "key `__metadata__`",
        25,
        "expected a map from strings to strings",
    );
}

#[test]
fn bytes_after_the_last_tensor() {
    let header = one("F32", "[2]", "[0,8]");
    refused(
        &file(&header, 12),
        "data",
        8 + header.len() as u64 + 8,
        "4 bytes follow that belong to no tensor",
    );
}

// Lies of tensors.

#[test]
fn unknown_dtype() {
    tensor_refused(&one("Q7", "[2]", "[0,8]"), "unknown variant `Q7`");
}

#[test]
fn missing_and_duplicate_fields() {
    tensor_refused(r#"{"w":{"dtype":"F32","shape":[2]}}"#, "missing field `data_offsets`");
    tensor_refused(r#"{"w":{"dtype":"F32","dtype":"F32"}}"#, "duplicate field `dtype`");
}

#[test]
fn dimensions_that_are_no_counts() {
    tensor_refused(&one("F32", "[-1]", "[0,8]"), "expected u64");
    tensor_refused(&one("F32", "[1.5]", "[0,8]"), "expected u64");
    tensor_refused(&one("F32", "[18446744073709551616]", "[0,8]"), "expected u64");
}

#[test]
fn more_dimensions_than_any_tensor_has() {
    let header = one("F32", &format!("[{}1]", "1,".repeat(64)), "[0,4]");
    tensor_refused(&header, "more than 64 dimensions");
    open(file(&one("F32", &format!("[{}1]", "1,".repeat(63)), "[0,4]"), 4));
}

#[test]
fn shapes_whose_product_overflows() {
    for shape in ["[4294967296,4294967296]", "[9223372036854775807,1]", "[0,4294967296,4294967296]"] {
        tensor_refused(&one("F32", shape, "[0,0]"), "overflows 64 bits");
    }
}

#[test]
fn length_that_contradicts_shape_and_dtype() {
    tensor_refused(&one("F16", "[3,5]", "[0,60]"), "F16 [3, 5] takes 30 bytes, its data_offsets are 0..60");
}

#[test]
fn parts_of_bytes() {
    tensor_refused(&one("F4", "[3]", "[0,2]"), "3 elements are no whole number of F4 blocks of 2");
    tensor_refused(&one("F6_E2M3", "[2]", "[0,2]"), "2 elements are no whole number of F6_E2M3 blocks of 4");
}

#[test]
fn offsets_that_run_backwards() {
    tensor_refused(&one("F32", "[2]", "[8,0]"), "data_offsets are 8..0");
}

#[test]
fn offsets_near_the_end_of_numbers() {
    let offsets = format!("[{},{}]", u64::MAX - 8, u64::MAX);
    tensor_refused(&one("F32", "[2]", &offsets), "beyond any file");
}

#[test]
fn data_beyond_the_file() {
    let header = one("F32", "[2]", "[0,8]");
    let problem =
        format!("its data ends at byte {}, the file at byte {}", header.len() + 16, header.len() + 15);
    refused(&file(&header, 7), "tensor `w`", 9, &problem);
}

#[test]
fn overlapping_tensors() {
    let header = format!("{{{},{}}}", entry("a", "F32", "[2]", "[0,8]"), entry("w", "F32", "[2]", "[4,12]"));
    let at = 8 + header.find(r#""w""#).unwrap() as u64;
    refused(&file(&header, 12), "tensor `w`", at, "overlaps the data before it");
}

#[test]
fn gaps_between_tensors() {
    let header = format!("{{{},{}}}", entry("a", "F32", "[2]", "[0,8]"), entry("w", "F32", "[2]", "[12,20]"));
    let at = 8 + header.find(r#""w""#).unwrap() as u64;
    refused(&file(&header, 20), "tensor `w`", at, "leaves a gap before it");
    refused(&file(&one("F32", "[2]", "[4,12]"), 12), "tensor `w`", 9, "leaves a gap before it");
}

#[test]
fn more_tensors_than_any_file_has() {
    let entries: Vec<_> = (0..=131_072).map(|i| entry(&i.to_string(), "U8", "[0]", "[0,0]")).collect();
    let error = Model::from_bytes("f", file(&format!("{{{}}}", entries.join(",")), 0)).unwrap_err();
    assert!(error.to_string().contains("more than 131072 tensors"), "{error}");
}

#[test]
fn files_of_other_kinds_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    for (bytes, problem) in [
        (&b"PK\x03\x04 and a pickle inside"[..], "looks like a PyTorch file"),
        (b"version https://git-lfs.github.com/spec/v1", "looks like a Git LFS pointer"),
    ] {
        fs::write(&path, bytes).unwrap();
        malformed(
            Model::open(&path, &OpenOptions::default()).unwrap_err(),
            "model.safetensors",
            "file",
            0,
            problem,
        );
    }
}

#[test]
fn content_decides_and_not_the_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    fs::write(&path, b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0").unwrap();
    let renamed = dir.path().join("weights.bin");
    fs::rename(&path, &renamed).unwrap();
    assert_eq!(Model::open(&renamed, &OpenOptions::default()).unwrap().kind(), Kind::Gguf(3));
    fs::write(&renamed, file("{}", 0)).unwrap();
    assert_eq!(Model::open(&renamed, &OpenOptions::default()).unwrap().kind(), Kind::Safetensors);
}

#[test]
fn things_that_are_no_files() {
    let dir = tempfile::tempdir().unwrap();
    let open = |path: &Path| Model::open(path, &OpenOptions::default()).unwrap_err();
    assert!(matches!(open(&dir.path().join("absent.gguf")), Error::Io { doing: "opening", .. }));
    let empty = open(dir.path());
    assert!(empty.to_string().contains("holds no model `*.safetensors or *.gguf`"), "{empty}");
    #[cfg(unix)]
    assert!(open(Path::new("/dev/zero")).to_string().contains("not a regular file"));
}

// Whatever the bytes.

/// xorshift64*: the same mutations on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % n
    }
}

/// A header as writers make it: metadata, several types, spaces at the end.
fn typical() -> Vec<u8> {
    let entries = [
        entry("a.weight", "F32", "[2,3]", "[0,24]"),
        entry("b", "BF16", "[4]", "[24,32]"),
        entry("c.scales", "F8_E4M3", "[2,1]", "[32,34]"),
    ];
    file(&format!(r#"{{"__metadata__":{{"format":"pt"}},{}}}   "#, entries.join(",")), 34)
}

#[test]
fn no_truncation_is_accepted() {
    let whole = typical();
    open(whole.clone());
    for len in 0..whole.len() {
        assert!(Model::from_bytes("f", whole[..len].to_vec()).is_err(), "cut to {len} bytes");
    }
}

/// Never a panic; and what is accepted, the crate of the format's authors accepts with the same
/// tensors. Where only the crate accepts, it is for one of the lies that it is known to let pass.
#[test]
fn no_mutation_panics_and_verdicts_match_the_safetensors_crate() {
    let whole = typical();
    let header = whole.len() - 34;
    let (mut random, mut accepted) = (Random(0x9E37_79B9_7F4A_7C15), 0);
    for _ in 0..200_000 {
        let mut bytes = whole.clone();
        for _ in 0..1 + random.below(2) {
            let byte =
                [random.below(256) as u8, b"{}[],:\"0123456789 abcwF"[random.below(23)]][random.below(2)];
            bytes[random.below(header)] = byte;
        }
        let theirs = SafeTensors::deserialize(&bytes);
        match Model::from_bytes("f", bytes.clone()) {
            Ok(model) => {
                accepted += 1;
                let theirs = theirs.expect("the crate refuses it");
                assert_eq!(theirs.len(), model.tensors().len());
                for info in model.tensors() {
                    let view = theirs.tensor(&info.name).unwrap();
                    assert_eq!(view.data(), &model.bytes(info).unwrap()[..]);
                    assert_eq!(view.dtype().to_string(), info.dtype.name());
                }
            }
            Err(error) => {
                let message = error.to_string();
                let stricter = ["is given twice", "listed before", "start with `{`", "overflows 64 bits"];
                let known = stricter.iter().any(|lie| message.contains(lie));
                assert!(known || theirs.is_err(), "{message}: {}", String::from_utf8_lossy(&bytes[8..]));
            }
        }
    }
    assert!((5_000..195_000).contains(&accepted), "{accepted} of 200000 accepted");
}

/// A stream may have no end: of one that goes on behind its tensors, one byte more is read.
#[test]
fn streams_are_read_as_far_as_they_claim() {
    const REST: u64 = 1 << 20;
    let read = |start: &[u8]| {
        let mut rest = io::repeat(0).take(REST);
        let batch = activations_from_stream("stream", &mut start.chain(&mut rest));
        (batch, REST - rest.limit())
    };
    let good = file(&one("F32", "[2,1]", "[0,8]"), 8);
    let batch = activations_from_stream("stream", &mut &good[..]).unwrap();
    assert_eq!((batch.n, batch.k, batch.data), (2, 1, vec![0.0; 2]));
    let bare = file(&one("F32", "[2,1]", "[0,8]"), 0);
    for (start, taken, problem) in [
        (&good[..], 1, "1 bytes follow that belong to no tensor"),
        (&bare, 9, "1 bytes follow that belong to no tensor"),
        (b"", 8, "does not start with `{`"),
        (b"GGUF\x03\0\0\0", 0, "the limit is 100000000"),
        (&good[..12], good.len() as u64 - 20, "expected"),
    ] {
        let (batch, got) = read(start);
        let text = batch.unwrap_err().to_string();
        assert!(got == taken && text.contains(problem) && text.contains("stream"), "{got} {text}");
    }
    for end in 0..good.len() {
        assert!(activations_from_stream("stream", &mut &good[..end]).is_err(), "{end}");
    }
}

// Checkpoints of several files.

/// A folder with two shards of one tensor each.
fn sharded(index: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_f32(&dir.path().join("s-1.safetensors"), "a.weight", &[2, 2], &[1., 2., 3., 4.]).unwrap();
    write_f32(&dir.path().join("s-2.safetensors"), "b", &[1], &[5.]).unwrap();
    fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
    dir
}

const INDEX: &str =
    r#"{"metadata":{"total_size":20},"weight_map":{"b":"s-2.safetensors","a.weight":"s-1.safetensors"}}"#;

#[test]
fn shards_open_as_one_model() {
    let dir = sharded(INDEX);
    fs::write(dir.path().join("config.json"), r#"{"model_type":"llama"}"#).unwrap();
    for path in [dir.path().to_owned(), dir.path().join("model.safetensors.index.json")] {
        for mmap in [true, false] {
            let model = Model::open(&path, &OpenOptions { mmap }).unwrap();
            assert_eq!((model.kind(), model.files().len()), (Kind::Sharded, 2));
            assert_eq!(
                model.tensors().iter().map(|t| (&*t.name, t.file)).collect::<Vec<_>>(),
                [("a.weight", 0), ("b", 1)]
            );
            assert_eq!(model.tensor(model.find("a").unwrap()).unwrap().dequantize(), [1., 2., 3., 4.]);
            assert_eq!(model.tensor(model.find("b").unwrap()).unwrap().dequantize(), [5.]);
            assert_eq!(model.config().unwrap()["model_type"], "llama");
        }
    }
}

/// Opens a folder with this index, which must be refused for tensor `name`.
#[track_caller]
fn index_refused(index: &str, name: &str, problem: &str) {
    let dir = sharded(index);
    let error = Model::open(dir.path(), &OpenOptions::default()).unwrap_err();
    let offset = index.rfind(&format!("\"{name}\"")).unwrap() as u64;
    malformed(error, "model.safetensors.index.json", &format!("tensor `{name}`"), offset, problem);
}

/// One shard is opened once, however the index spells it; and not as two.
#[test]
fn shards_by_other_names() {
    let spellings = ["x/m", "x//m", "x/./m", "x/.//./m"];
    let header = spellings
        .iter()
        .enumerate()
        .map(|(i, _)| entry(&format!("t{i}"), "U8", "[1]", &format!("[{i},{}]", i + 1)));
    let header = format!("{{{}}}", header.collect::<Vec<_>>().join(","));
    let map: Vec<String> =
        spellings.iter().enumerate().map(|(i, shard)| format!(r#""t{i}":"{shard}""#)).collect();
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("x")).unwrap();
    fs::write(dir.path().join("x/m"), file(&header, spellings.len())).unwrap();
    let index = dir.path().join("model.safetensors.index.json");
    fs::write(&index, format!(r#"{{"weight_map":{{{}}}}}"#, map.join(","))).unwrap();
    let model = Model::open(&index, &OpenOptions::default()).unwrap();
    assert_eq!((model.files().len(), model.tensors().len()), (1, spellings.len()));
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("x", dir.path().join("y")).unwrap();
        fs::write(&index, r#"{"weight_map":{"t0":"x/m","t1":"y/m"}}"#).unwrap();
        let error = Model::open(&index, &OpenOptions::default()).unwrap_err().to_string();
        assert!(error.contains("its shard `y/m` is the file of the shard `x/m`"), "{error}");
    }
}

/// An index that leaves out the scales of a weight would turn it into bare codes; that of
/// activations is nobody's loss.
#[test]
fn scales_that_the_index_does_not_list() {
    let lists = |weight: &str, scale: &str| {
        let header = format!(
            "{{{},{}}}",
            entry("a.weight", weight, "[2,2]", "[0,4]"),
            entry(scale, "F32", "[]", "[4,8]")
        );
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("m"), file(&header, 8)).unwrap();
        let index = dir.path().join("model.safetensors.index.json");
        fs::write(&index, r#"{"weight_map":{"a.weight":"m"}}"#).unwrap();
        Model::open(&index, &OpenOptions::default()).map(|_| ())
    };
    for (weight, scale) in
        [("F8_E4M3", "a.weight_scale_inv"), ("F8_E5M2", "a.scale"), ("I8", "a.SCALES"), ("I8", "a.SCB")]
    {
        let error = lists(weight, scale).unwrap_err().to_string();
        assert!(error.contains("`a.weight`") && error.contains(scale), "{error}");
    }
    for (weight, scale) in
        [("F8_E4M3", "a.input_scale"), ("F8_E4M3", "a.k_scale"), ("U8", "a.weight_scale"), ("I8", "b.scale")]
    {
        lists(weight, scale).unwrap_or_else(|e| panic!("{scale}: {e}"));
    }
}

/// Settings of the wrong kind are refused with what is there, where it is there.
#[test]
fn configs_that_lie() {
    let opened = |config: &str| {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("model.safetensors"), file(&one("F32", "[2]", "[0,8]"), 8)).unwrap();
        fs::write(dir.path().join("config.json"), config).unwrap();
        Model::open(dir.path(), &OpenOptions::default())
    };
    for config in ["{}", r#"{"quantization_config":null}"#, r#"{"quantization_config":{"bits":null}}"#] {
        assert!(opened(config).unwrap().config().is_some_and(|config| config.is_object()), "{config}");
    }
    let ways: Vec<String> = (1..=65).map(|i| format!(r#""{i}":{{"weights":{{"num_bits":{i}}}}}"#)).collect();
    let ways = format!(r#"{{"quantization_config":{{"config_groups":{{{}}}}}}}"#, ways.join(","));
    let cases = [
        ("{", "byte 1: EOF"),
        ("3", "integer `3`"),
        ("[1]", "config.json"),
        (" [null,null,null]", "a list, an object belongs here"),
        (r#"{"quantization_config":"x"}"#, r#"string "x", expected an object of settings"#),
        (r#"{"quantization_config":{"quant_method":5}}"#, "integer `5`"),
        (r#"{"quantization_config":{"quant_method":["gptq"]}}"#, "sequence"),
        (r#"{"quantization_config":{"bits":"4"}}"#, r#"string "4""#),
        (r#"{"quantization_config":{"bits":4.0}}"#, "floating point `4.0`"),
        (r#"{"quantization_config":{"group_size":"64"}}"#, r#"string "64""#),
        (r#"{"quantization_config":{"group_size":64.0}}"#, "floating point `64.0`"),
        (r#"{"quantization_config":{"group_size":0}}"#, "groups of 0 columns"),
        (r#"{"quantization_config":{"group_size":-7}}"#, "groups of -7 columns"),
        (r#"{"quantization_config":{"group_size":4294967296}}"#, "groups of 4294967296 columns"),
        (r#"{"quantization_config":{"group_size":18446744073709551615}}"#, "18446744073709551615"),
        (r#"{"quantization_config":{"checkpoint_format":2}}"#, "integer `2`"),
        (r#"{"quantization_config":{"sym":"yes"}}"#, r#"string "yes""#),
        (r#"{"quantization_config":{"config_groups":[1]}}"#, "sequence"),
        (r#"{"quantization_config":{"llm_int8_threshold":"0.0"}}"#, r#"string "0.0""#),
        (r#"{"quantization_config":{"llm_int8_threshold":true}}"#, "boolean `true`"),
        (r#"{"quantization_config":{"llm_int8_threshold":{}}}"#, "map"),
        (
            r#"{"quantization_config":{"llm_int8_threshold":-3}}"#,
            "`llm_int8_threshold` at byte 0: a threshold of -3.0",
        ),
        (r#"{"text_config":{"quantization_config":{"llm_int8_threshold":1e300}}}"#, "a threshold of 1e300"),
        (r#"{"quantization_config":{"llm_int8_threshold":1e-50}}"#, "a threshold of 1e-50"),
        (r#"{"a":1e400}"#, "out of range"),
        (&ways, "more than 64"),
    ];
    for (config, words) in cases {
        let error = opened(config).unwrap_err().to_string();
        assert!(error.contains(words) && error.len() < 1000, "{config:.60}: {error}");
    }
}

/// A tool or layout that is not supported costs the weights that use it; plain ones open.
#[test]
fn unsupported_schemes_cost_only_their_weights() {
    let long = format!(r#"{{"quant_method":"{}"}}"#, "x".repeat(100_000));
    let cases = [
        (r#"{"quant_method":"quark"}"#, "quant_method `quark`"),
        (r#"{"quant_method":"gptq","is_marlin_format":true}"#, "Marlin (is_marlin_format)"),
        (&long, "quant_method `xxx"),
    ];
    let tensors = r#"{"a.weight":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},
        "b.weight":{"dtype":"I8","shape":[2,2],"data_offsets":[8,12]},
        "c.bias":{"dtype":"I8","shape":[4],"data_offsets":[12,16]}}"#;
    for (settings, words) in cases {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("model.safetensors"), file(tensors, 16)).unwrap();
        let config = format!(r#"{{"quantization_config":{settings}}}"#);
        fs::write(dir.path().join("config.json"), config).unwrap();
        let model = Model::open(dir.path(), &OpenOptions::default()).unwrap();
        assert!(model.tensor(model.find("a").unwrap()).is_ok(), "{words}");
        let info = model.find("b").unwrap();
        let description = info.module.as_ref().map(|m| m.description()).unwrap_or_default();
        assert!(description.starts_with(words) && description.len() < 500, "{description}");
        assert!(info.dtype.format().is_none());
        let error = model.tensor(info).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("`b.weight`") && error.len() < 2000, "{error}");
    }
}

/// The threshold of LLM.int8 stands where the other settings stand.
#[test]
fn thresholds_are_settings() {
    let threshold = |config: &str| {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("model.safetensors"), file(&one("F32", "[2]", "[0,8]"), 8)).unwrap();
        fs::write(dir.path().join("config.json"), config).unwrap();
        Model::open(dir.path(), &OpenOptions::default()).unwrap().int8_threshold()
    };
    for (settings, wanted) in [
        (r#"{}"#, None),
        (r#"{"llm_int8_threshold":null}"#, None),
        (r#"{"llm_int8_threshold":0}"#, Some(0.0)),
        (r#"{"llm_int8_threshold":4.3}"#, Some(4.3)),
    ] {
        assert_eq!(threshold(&format!(r#"{{"quantization_config":{settings}}}"#)), wanted, "{settings}");
        let inner = format!(r#"{{"text_config":{{"quantization_config":{settings}}}}}"#);
        assert_eq!(threshold(&inner), wanted, "{settings}");
    }
}

/// A weight without columns takes no bytes, and its rows no memory.
#[test]
fn rows_of_nothing_are_not_counted_out() {
    let model = open(file(&one("F32", "[4294967295,0]", "[0,0]"), 0));
    let packed = model.tensor(&model.tensors()[0]).unwrap();
    let comparison = judge(&[], &packed, &[], Activations::F32, false).unwrap();
    assert!(comparison.passed);
}

#[test]
fn shards_outside_the_folder() {
    for shard in ["../x.safetensors", "/etc/passwd", "sub/../../x", ".", "", "./s-1.safetensors"] {
        let index = format!(r#"{{"weight_map":{{"a.weight":"s-1.safetensors","evil":"{shard}"}}}}"#);
        index_refused(&index, "evil", "is not a file name below the folder");
    }
}

#[test]
fn missing_shards() {
    let index = r#"{"weight_map":{"b":"s-2.safetensors","a.weight":"s-3.safetensors"}}"#;
    index_refused(index, "a.weight", "its shard `s-3.safetensors` is missing");
}

#[test]
fn tensors_that_are_not_in_their_shard() {
    let index = r#"{"weight_map":{"b":"s-1.safetensors","a.weight":"s-1.safetensors"}}"#;
    index_refused(index, "b", "its shard `s-1.safetensors` does not hold it");
}

#[test]
fn tensors_listed_twice() {
    let index = r#"{"weight_map":{"b":"s-2.safetensors","b":"s-1.safetensors"}}"#;
    index_refused(index, "b", "listed twice");
}

/// Each look at a file takes a step for every folder above it, so deep paths would make many shards
/// slow.
#[test]
fn shards_that_lie_deep() {
    let deep = "a/".repeat(2000) + "s";
    let index = format!(r#"{{"weight_map":{{"a":"{deep}"}}}}"#);
    index_refused(&index, "a", "is a path of 2001 parts, the limit is 16");
    let (folder, name) = ("a/".repeat(15), "a.weight");
    let dir = sharded(&format!(r#"{{"weight_map":{{"{name}":"{folder}s"}}}}"#));
    fs::create_dir_all(dir.path().join(&folder)).unwrap();
    let shard = file(&format!("{{{}}}", entry(name, "U8", "[1]", "[0,1]")), 1);
    fs::write(dir.path().join(folder + "s"), shard).unwrap();
    assert_eq!(Model::open(dir.path(), &OpenOptions::default()).unwrap().tensors().len(), 1);
}

#[test]
fn indexes_that_are_none() {
    for (index, offset, problem) in [
        (r#"{"metadata":{}}"#, 14, "missing field `weight_map`"),
        (r#"{"weight_map":{"a":1}}"#, 19, "expected a string"),
        ("{", 1, "EOF"),
    ] {
        let dir = sharded(index);
        let error = Model::open(dir.path(), &OpenOptions::default()).unwrap_err();
        malformed(error, "model.safetensors.index.json", "JSON", offset, problem);
    }
}

#[test]
fn a_shard_that_lies_is_named() {
    let dir = sharded(INDEX);
    fs::write(dir.path().join("s-2.safetensors"), file(&one("F32", "[1]", "[0,8]"), 8)).unwrap();
    let error = Model::open(dir.path(), &OpenOptions::default()).unwrap_err();
    assert!(
        matches!(&error, Error::Malformed { file, what, .. } if file.ends_with("s-2.safetensors") && what == "tensor `w`")
    );
}

#[test]
fn a_broken_config_is_named() {
    let dir = sharded(INDEX);
    fs::write(dir.path().join("config.json"), "{\"a\": }").unwrap();
    malformed(
        Model::open(dir.path(), &OpenOptions::default()).unwrap_err(),
        "config.json",
        "JSON",
        6,
        "expected value",
    );
    fs::write(dir.path().join("config.json"), " ".repeat((1 << 20) + 1)).unwrap();
    let error = Model::open(dir.path(), &OpenOptions::default()).unwrap_err();
    malformed(error, "config.json", "file", 1 << 20, "longer than 1048576 bytes");
}

/// Settings that are there and cannot be read are not settings that are not there.
#[cfg(unix)]
#[test]
fn a_config_that_is_no_file_is_named() {
    use std::os::unix::fs::symlink;
    for name in ["config.json", "quantize_config.json"] {
        let dir = sharded(INDEX);
        let path = dir.path().join(name);
        let opened = || Model::open(dir.path(), &OpenOptions::default());
        let refused = |words: &str| {
            let error = opened().expect_err(words).to_string();
            assert!(error.contains(&*path.to_string_lossy()) && error.contains(words), "{error}");
        };
        symlink("blobs/missing", &path).unwrap();
        refused("No such file");
        fs::remove_file(&path).unwrap();
        symlink(name, &path).unwrap();
        refused("symbolic link");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        refused("no regular file");
        fs::remove_dir(&path).unwrap();
        let made =
            std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo is a tool of unix");
        assert!(made.success());
        refused("no regular file");
        fs::remove_file(&path).unwrap();
        fs::write(dir.path().join("blob"), "{}").unwrap();
        symlink("blob", &path).unwrap();
        opened().expect("a link to a file is as good as the file");
    }
}

#[test]
fn a_folder_of_several_models_asks_which() {
    let dir = sharded(INDEX);
    fs::remove_file(dir.path().join("model.safetensors.index.json")).unwrap();
    let error = Model::open(dir.path(), &OpenOptions::default()).unwrap_err();
    assert!(matches!(&error, Error::Argument(p) if p.contains("2 files end in `.safetensors`")), "{error}");
}

// Activations.

#[test]
fn activations_round_trip_through_a_file_and_a_stream() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    let data: Vec<f32> = (0..6).map(|i| i as f32 / 3.0).collect();
    write_f32(&path, "any name", &[2, 3], &data).unwrap();
    let x = read_activations(&path).unwrap();
    assert_eq!((x.n, x.k, &x.data), (2, 3, &data));

    let mut stream = Vec::new();
    write_f32_to("-", &mut stream, "any name", &[2, 3], &data).unwrap();
    assert_eq!(stream, fs::read(&path).unwrap());
    assert_eq!(activations_from_bytes("standard input", stream.clone()).unwrap(), x);
    let theirs = SafeTensors::deserialize(&stream).unwrap();
    assert_eq!(theirs.tensor("any name").unwrap().shape(), [2, 3]);
    assert_eq!((stream.len() - 24) % 8, 0, "the data is aligned");
}

#[test]
fn activations_of_every_float_type_and_of_one_dimension() {
    let bytes = |dtype: &str, shape: &str, data: &[u8]| {
        let mut bytes = file(&one(dtype, shape, &format!("[0,{}]", data.len())), 0);
        bytes.extend(data);
        activations_from_bytes("x", bytes).unwrap()
    };
    let wanted = |x: qmatmul::file::Batch| assert_eq!((x.n, x.k, x.data), (1, 2, vec![1.5, -2.0]));
    wanted(bytes("F16", "[2]", &[0x00, 0x3e, 0x00, 0xc0]));
    wanted(bytes("BF16", "[1,2]", &[0xc0, 0x3f, 0x00, 0xc0]));
    wanted(bytes("F32", "[2]", &[0, 0, 0xc0, 0x3f, 0, 0, 0, 0xc0]));
}

#[test]
fn the_tensor_x_is_chosen_among_several() {
    let entries = [entry("a", "I32", "[2]", "[0,8]"), entry("x", "F32", "[2,1]", "[8,16]")];
    let x = activations_from_bytes("f", file(&format!("{{{}}}", entries.join(",")), 16)).unwrap();
    assert_eq!((x.n, x.k), (2, 1));
    let entries = [entry("a", "F32", "[2]", "[0,8]"), entry("b", "F32", "[2,1]", "[8,16]")];
    let error = activations_from_bytes("f", file(&format!("{{{}}}", entries.join(",")), 16)).unwrap_err();
    assert!(error.to_string().starts_with("f holds no tensor `x`; it holds 2 tensors"), "{error}");
}

#[test]
fn what_is_no_activation_is_refused() {
    let error = |header: &str, data| activations_from_bytes("f", file(header, data)).unwrap_err();
    let wrong_type = error(&one("I32", "[2]", "[0,8]"), 8);
    assert!(
        matches!(&wrong_type, Error::UnsupportedFormat { tensor, format, .. } if tensor == "w" && format == "I32")
    );
    let wrong_rank = error(&one("F32", "[1,1,2]", "[0,8]"), 8);
    assert!(matches!(&wrong_rank, Error::Shape { what, .. } if what.contains("`w`")), "{wrong_rank}");
    let length = write_f32(Path::new("/nonexistent/y"), "y", &[2, 2], &[0.0; 3]).unwrap_err();
    assert_eq!(length.to_string(), "tensor `y`: values: wanted [2, 2], got 3");
}

// Quantizing.

/// A checkpoint with tensors to encode and tensors to leave.
fn checkpoint(extra: &str, extra_bytes: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let entries = [
        entry("up.weight", "F32", "[3,64]", "[0,768]"),
        entry("down.weight", "F16", "[4,172]", "[768,2144]"),
        entry("norm.weight", "F32", "[64]", "[2144,2400]"),
        entry("position_embeddings.weight", "F16", "[1,32]", "[2400,2464]"),
        entry("bias", "BF16", "[1,32]", "[2464,2528]"),
        entry("ids.weight", "I64", "[1,32]", "[2528,2784]"),
        entry("gate.weight", "BF16", "[2,32]", "[2784,2912]"),
    ];
    let mut bytes = file(&format!("{{{}{extra}}}", entries.join(",")), 0);
    let weight = |i: usize| (i as f32 / 10.0).sin();
    (0..192).for_each(|i| bytes.extend(weight(i).to_le_bytes()));
    bytes.extend((0..2912 - 768 + extra_bytes).map(|i| (i % 60) as u8));
    fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
    fs::write(dir.path().join("config.json"), r#"{"model_type":"bert","_name_or_path":"org/tiny"}"#).unwrap();
    dir
}

#[test]
fn quantize_encodes_weights_and_copies_the_rest() {
    let dir = checkpoint("", 0);
    let (model, out) =
        (Model::open(dir.path(), &OpenOptions::default()).unwrap(), dir.path().join("out.gguf"));
    let q8_0 = format::Q8_0;
    let mut seen = Vec::new();
    let report =
        quantize(&model, &out, &Recipe::new(q8_0), &BARE, |i, tensor| seen.push((i, tensor.name.clone())))
            .unwrap();
    let reasons: Vec<_> = report
        .tensors
        .iter()
        .map(|t| (&*t.name, t.from.name(), t.to.name(), t.left_because.as_deref().unwrap_or("-")))
        .collect();
    assert_eq!(
        reasons,
        [
            ("up.weight", "F32", "Q8_0", "-"),
            ("down.weight", "F16", "F16", "172 columns are not a multiple of 32"),
            ("norm.weight", "F32", "F32", "it is not a matrix"),
            ("position_embeddings.weight", "F16", "F16", "it is not a matrix"),
            ("bias", "BF16", "BF16", "it is not a matrix"),
            ("ids.weight", "I64", "I64", "it is not a matrix"),
            ("gate.weight", "BF16", "Q8_0", "-"),
        ]
    );
    assert_eq!((report.bytes_before, report.bytes_after), (2912, 2912 - 768 - 128 + 3 * 68 + 2 * 34));
    assert_eq!((seen.len(), &seen[6]), (7, &(6, "gate.weight".to_owned())));

    let packed = Model::open(&out, &OpenOptions::default()).unwrap();
    assert_eq!(packed.gguf().get("general.architecture"), None);
    assert_eq!(packed.gguf().get("general.name").unwrap().as_str(), Some("org/tiny"));
    // Most weights are F16, since the rows of the largest matrix fit no block.
    assert_eq!(packed.gguf().get("general.file_type"), Some(Value::U32(1)));
    assert_eq!(packed.gguf().get("general.quantization_version"), Some(Value::U32(2)));
    for (old, new) in model.tensors().iter().zip(packed.tensors()) {
        assert_eq!((&old.name, &old.shape), (&new.name, &new.shape));
        let wanted = if new.dtype.name() == "Q8_0" {
            let dense = model.tensor(old).unwrap();
            PackedTensor::encode("w", [dense.rows(), dense.cols()], &dense.dequantize(), &Recipe::new(q8_0))
                .unwrap()
                .data()
                .to_vec()
        } else {
            model.bytes(old).unwrap().to_vec()
        };
        assert_eq!(packed.bytes(new).unwrap(), wanted, "{}", new.name);
    }
}

#[test]
fn quantize_rounds_doubles_to_singles_first() {
    let dir = checkpoint(&format!(",{}", entry("wide.weight", "F64", "[2,32]", "[2912,3424]")), 512);
    let (model, out) =
        (Model::open(dir.path(), &OpenOptions::default()).unwrap(), dir.path().join("out.gguf"));
    let q8_0 = format::Q8_0;
    quantize(&model, &out, &Recipe::new(q8_0), &BARE, |_, _| ()).unwrap();
    let packed = Model::open(&out, &OpenOptions::default()).unwrap();
    let got = packed.tensor(packed.find("wide.weight").unwrap()).unwrap();
    let singles = model.tensor(model.find("wide.weight").unwrap()).unwrap().dequantize();
    let wanted = PackedTensor::encode("w", [2, 32], &singles, &Recipe::new(q8_0)).unwrap();
    assert_eq!((got.format().name, got.data()), ("Q8_0", wanted.data()));
}

#[test]
fn quantize_keeps_the_metadata_of_a_gguf() {
    let source = Path::new("tests/data/storybook-3.7M-Q4_0.gguf");
    let model = Model::open(source, &OpenOptions { mmap: false }).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.gguf");
    let options = QuantizeOptions { allow_requantize: true, ..QuantizeOptions::default() };
    let report = quantize(&model, &out, &Recipe::new(format::Q8_0), &options, |_, _| ()).unwrap();
    let packed = Model::open(&out, &OpenOptions::default()).unwrap();
    let without_type = |model: &Model| {
        let kept = model.gguf().iter().filter(|(key, _)| *key != "general.file_type");
        kept.map(|(key, value)| format!("{key} = {value:?}")).collect::<Vec<_>>()
    };
    assert_eq!(without_type(&packed), without_type(&model));
    assert_eq!(packed.gguf().get("general.file_type"), Some(Value::U32(7)));
    assert_eq!(packed.tensors().len(), model.tensors().len());
    for (old, new) in model.tensors().iter().zip(packed.tensors()) {
        let is_packed = old.dtype.name().starts_with('Q');
        assert_eq!(new.dtype.name(), if is_packed { "Q8_0" } else { "F32" }, "{}", new.name);
    }
    assert!(report.warnings.is_empty(), "every matrix became what was asked for: {report:?}");
}

#[test]
fn quantize_refuses_what_a_gguf_cannot_hold() {
    for dtype in ["U8", "BOOL", "F8_E4M3"] {
        let dir = checkpoint(&format!(",{}", entry("odd", dtype, "[32]", "[2912,2944]")), 32);
        let (model, out) =
            (Model::open(dir.path(), &OpenOptions::default()).unwrap(), dir.path().join("out.gguf"));
        let error = quantize(&model, &out, &Recipe::new(format::Q8_0), &BARE, |_, _| ()).unwrap_err();
        match error {
            Error::UnsupportedFormat { tensor, format, .. } => {
                assert_eq!((&*tensor, format), ("odd", format!("{dtype}, for which GGUF has no type")));
            }
            other => panic!("{other}"),
        }
        assert!(!out.exists());
    }
}

/// Weights that are numbers may be none in 16 bits, or need a scale that is none.
#[test]
fn quantize_stops_at_a_weight_beyond_its_format() {
    let dir = tempfile::tempdir().unwrap();
    let (source, out) = (dir.path().join("w.safetensors"), dir.path().join("out.gguf"));
    let mut weights = vec![0.5f32; 4096 * 2048];
    weights[5_000_000..5_000_064].fill(1e7);
    write_f32(&source, "a.weight", &[4096, 2048], &weights).unwrap();
    let model = Model::open(&source, &OpenOptions::default()).unwrap();
    for (format, wanted) in [("F16", 64), ("Q8_0", 2), ("Q4_0", 2), ("Q4_1", 2)] {
        let error = quantize(&model, &out, &Recipe::new(format::by_name(format).unwrap()), &BARE, |_, _| ())
            .unwrap_err();
        match &error {
            Error::NonFinite { what, count, first } => {
                assert_eq!((*count, *first), (wanted, 5_000_000), "{error}");
                assert!(what.contains("`a.weight`") && what.contains(format), "{error}");
            }
            other => panic!("{other}"),
        }
        assert!(!out.exists(), "{format}");
    }
    for format in ["BF16", "F32"] {
        quantize(&model, &out, &Recipe::new(format::by_name(format).unwrap()), &BARE, |_, _| ()).unwrap();
    }
}

#[test]
fn quantize_stops_at_a_weight_that_is_no_number() {
    let dir = tempfile::tempdir().unwrap();
    let (source, out) = (dir.path().join("w.safetensors"), dir.path().join("out.gguf"));
    let mut weights = vec![0.5f32; 4096 * 2048];
    weights[5_000_000] = f32::NAN;
    write_f32(&source, "a.weight", &[4096, 2048], &weights).unwrap();
    let model = Model::open(&source, &OpenOptions::default()).unwrap();
    let error = quantize(&model, &out, &Recipe::new(format::Q8_0), &BARE, |_, _| ()).unwrap_err();
    assert!(
        matches!(&error, Error::NonFinite { what, first: 5_000_000, .. } if what.contains("`a.weight`")),
        "{error}"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "only the source is left");
}
