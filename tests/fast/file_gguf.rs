//! GGUF files: real ones, and one test for every way a file can lie.

use bytes::Bytes;
use qmatmul::Error;
use qmatmul::file::gguf::{Value, ValueType};
use qmatmul::file::gguf_write::{self, Entries, NewTensor};
use qmatmul::file::{DType, Kind, Model, OpenOptions, QuantizeOptions, quantize};
use qmatmul::format::{self, Recipe};
use std::fs;
use std::path::Path;

const TYPES: &str = "tests/golden/gguf_files/types_align32.gguf";
const STORYBOOK: &str = "tests/data/storybook-3.7M-Q4_0.gguf";
const F32: u32 = 0;
const Q8_0: u32 = 8;

/// A file, byte by byte.
#[derive(Clone, Default)]
struct File(Vec<u8>);

impl File {
    fn new(tensors: u64, keys: u64) -> Self {
        Self::default().raw(b"GGUF").u32(3).u64(tensors).u64(keys)
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn u32(self, value: u32) -> Self {
        self.raw(&value.to_le_bytes())
    }

    fn u64(self, value: u64) -> Self {
        self.raw(&value.to_le_bytes())
    }

    fn string(self, text: impl AsRef<[u8]>) -> Self {
        self.u64(text.as_ref().len() as u64).raw(text.as_ref())
    }

    /// A key and the type of its value.
    fn key(self, key: &str, value_type: ValueType) -> Self {
        self.string(key).u32(value_type as u32)
    }

    /// The head of an array value.
    fn array(self, element: ValueType, count: u64) -> Self {
        self.u32(element as u32).u64(count)
    }

    /// A tensor entry; dimensions innermost first, as in the file.
    fn tensor(self, name: &str, dims: &[u64], type_id: u32, offset: u64) -> Self {
        let head = self.string(name).u32(dims.len() as u32);
        dims.iter().fold(head, |file, dim| file.u64(*dim)).u32(type_id).u64(offset)
    }

    /// Padding to `alignment`, then `bytes` of data.
    fn data(mut self, alignment: usize, bytes: usize) -> Self {
        let start = self.0.len().next_multiple_of(alignment);
        self.0.resize(start + bytes, 0);
        self
    }

    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn open(&self) -> Model {
        Model::from_bytes("good", self.0.clone()).unwrap()
    }

    /// Opens the file in memory, mapped and read: each must be refused alike, for this part, offset
    /// and reason.
    #[track_caller]
    fn refused(&self, what: &str, offset: u64, problem: &str) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lie.gguf");
        fs::write(&path, &self.0).unwrap();
        let opened = [
            Model::from_bytes("lie.gguf", self.0.clone()),
            Model::open(&path, &OpenOptions { mmap: true }),
            Model::open(&path, &OpenOptions { mmap: false }),
        ];
        for opened in opened {
            match opened.unwrap_err() {
                Error::Malformed { file, what: w, offset: o, problem: p } => {
                    assert!(file.ends_with("lie.gguf"), "{file}");
                    assert_eq!((&*w, o), (what, offset), "{p}");
                    assert!(p.contains(problem), "{p}");
                }
                other => panic!("{other}"),
            }
        }
    }
}

// What is accepted.

#[test]
fn a_small_file_reads_back() {
    let file = File::new(2, 2)
        .key("general.name", ValueType::String)
        .string("tiny")
        .key("general.alignment", ValueType::U32)
        .u32(64)
        .tensor("a.weight", &[32, 3], Q8_0, 0)
        .tensor("b", &[5], F32, 128)
        .data(64, 148);
    let model = file.open();
    assert_eq!(model.kind(), Kind::Gguf(3));
    assert_eq!(model.gguf().get("general.name").unwrap().as_str(), Some("tiny"));
    assert!(model.gguf().get("general").is_none());
    let a = model.find("a").unwrap();
    assert_eq!((&*a.name, a.rows(), a.cols(), a.bytes, a.offset), ("a.weight", 3, 32, 102, file.len() - 148));
    assert_eq!(a.shape, [3, 32]);
    let b = model.tensor(model.find("b").unwrap()).unwrap();
    assert_eq!((b.rows(), b.cols(), b.data().len()), (1, 5, 20));
}

#[test]
fn version_2_has_the_same_layout() {
    let mut file = File::new(1, 0).tensor("w", &[4], F32, 0).data(32, 16);
    file.0[4] = 2;
    assert_eq!(file.open().kind(), Kind::Gguf(2));
}

#[test]
fn every_metadata_type_is_read() {
    let model = Model::open(Path::new(TYPES), &OpenOptions::default()).unwrap();
    let get = |key: &str| model.gguf().get(key).unwrap();
    assert_eq!(get("t.u8"), Value::U8(200));
    assert_eq!(get("t.i8"), Value::I8(-100));
    assert_eq!(get("t.u16"), Value::U16(65_000));
    assert_eq!(get("t.i16"), Value::I16(-30_000));
    assert_eq!(get("t.u32"), Value::U32(4_000_000_000));
    assert_eq!(get("t.i32"), Value::I32(-5));
    assert_eq!(get("t.f32"), Value::F32(0.1));
    assert_eq!((get("t.true"), get("t.false")), (Value::Bool(true), Value::Bool(false)));
    assert_eq!(get("t.str").as_str(), Some("héllo 😀"));
    assert_eq!(get("t.u64"), Value::U64((1 << 63) + 1));
    assert_eq!(get("t.i64"), Value::I64(-(1 << 62)));
    assert_eq!(get("t.f64"), Value::F64(1e-300));
    let array = |key: &str| get(key).as_array().unwrap().iter().map(|v| v.to_string()).collect::<Vec<_>>();
    assert_eq!(array("t.strs")[..3], ["a", "bb", ""]);
    assert_eq!(get("t.strs").as_array().unwrap().element_type(), ValueType::String);
    assert_eq!(array("t.ints"), ["1", "2", "3"]);
    assert_eq!(array("t.floats"), ["0.5", "-1.25"]);
    assert_eq!((model.gguf().iter().count(), model.gguf().len()), (17, 17));
}

#[test]
fn every_type_of_a_real_file_is_listed_with_its_size() {
    let model = Model::open(Path::new(TYPES), &OpenOptions::default()).unwrap();
    let find = |name: &str| model.find(name).unwrap();
    assert_eq!(model.tensors().len(), 27);
    assert_eq!((find("w.iq2_xxs").dtype.name(), find("w.iq2_xxs").bytes), ("IQ2_XXS", 3 * 66));
    assert_eq!((find("w.nvfp4").dtype.name(), find("w.nvfp4").bytes), ("NVFP4", 3 * 3 * 36));
    assert_eq!((find("plain.i64").dtype.name(), find("plain.i64").bytes), ("I64", 240));
    assert_eq!(find("plain.f32").shape, [2, 3, 5]);
    let supported = model.tensor(find("plain.f32")).unwrap();
    assert_eq!((supported.rows(), supported.cols()), (6, 5));
    for info in model.tensors() {
        assert_eq!(model.bytes(info).unwrap().len() as u64, info.bytes);
    }
}

#[test]
fn plain_numbers_of_a_real_file_match_its_expected_values() {
    let model = Model::open(Path::new(TYPES), &OpenOptions::default()).unwrap();
    let expected = "tests/golden/gguf_files/types_align32.expected.safetensors";
    let expected = Model::open(Path::new(expected), &OpenOptions::default()).unwrap();
    for name in ["plain.f32", "plain.f16", "plain.bf16"] {
        let got = model.tensor(model.find(name).unwrap()).unwrap().dequantize();
        let wanted = expected.tensor(expected.find(name).unwrap()).unwrap().dequantize();
        assert!(!got.is_empty());
        assert_eq!(got, wanted, "{name}");
    }
}

#[test]
fn mapped_and_read_tensors_are_the_same_bytes() {
    let [mapped, read] =
        [true, false].map(|mmap| Model::open(Path::new(STORYBOOK), &OpenOptions { mmap }).unwrap());
    assert_eq!(mapped.tensors(), read.tensors());
    assert!(mapped.gguf().iter().eq(read.gguf().iter()));
    assert_eq!((mapped.tensors().len(), mapped.find("token_embd").unwrap().dtype.name()), (38, "Q6_K"));
    for info in mapped.tensors() {
        assert_eq!(mapped.bytes(info).unwrap(), read.bytes(info).unwrap());
        let middle = info.rows() / 2..info.rows();
        let [a, b] = [&mapped, &read].map(|m| m.rows(info, middle.clone()).unwrap());
        assert_eq!(a.data(), b.data());
        assert_eq!(a.data(), &mapped.bytes(info).unwrap()[(info.bytes - a.data().len() as u64) as usize..]);
    }
}

#[test]
fn a_mapped_tensor_is_a_slice_of_the_map() {
    let model = Model::open(Path::new(STORYBOOK), &OpenOptions::default()).unwrap();
    let info = model.find("output_norm").unwrap();
    assert_eq!(model.bytes(info).unwrap().as_ptr(), model.bytes(info).unwrap().as_ptr());
}

/// 64 GiB that occupy no disk: reading even a part of them would take seconds.
#[cfg(unix)]
#[test]
fn opening_reads_no_tensor() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.gguf");
    let file = File::new(1, 0).tensor("w", &[1 << 14, 1 << 20], F32, 0).data(32, 0);
    fs::write(&path, &file.0).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(file.len() + (1 << 36)).unwrap();
    for mmap in [true, false] {
        let start = std::time::Instant::now();
        let model = Model::open(&path, &OpenOptions { mmap }).unwrap();
        let last = model.rows(&model.tensors()[0], (1 << 20) - 1..1 << 20).unwrap();
        assert_eq!((last.rows(), last.cols(), last.data().iter().max()), (1, 1 << 14, Some(&0)));
        assert!(start.elapsed().as_millis() < 100, "{:?}", start.elapsed());
    }
}

#[test]
fn nested_arrays_and_broken_tokens_are_readable() {
    let model = File::new(0, 2)
        .key("nested", ValueType::Array)
        .array(ValueType::Array, 2)
        .array(ValueType::U8, 2)
        .raw(&[1, 2])
        .array(ValueType::String, 1)
        .string("x")
        .key("tokens", ValueType::Array)
        .array(ValueType::String, 2)
        .string(b"\xe2\x82")
        .string("ok")
        .open();
    let nested = model.gguf().get("nested").unwrap().as_array().unwrap();
    let inner: Vec<_> = nested.iter().map(|v| v.as_array().unwrap().iter().collect::<Vec<_>>()).collect();
    assert_eq!(inner, [vec![Value::U8(1), Value::U8(2)], vec![Value::String(b"x")]]);
    let tokens = model.gguf().get("tokens").unwrap().as_array().unwrap();
    assert_eq!(tokens.iter().map(|t| t.as_str()).collect::<Vec<_>>(), [None, Some("ok")]);
    assert_eq!(tokens.iter().next(), Some(Value::String(b"\xe2\x82")));
    assert_eq!(
        model.gguf().get("nested").unwrap().to_string(),
        "[[1, 2] (2 x U8), [x] (1 x String)] (2 x Array)"
    );
}

#[test]
fn empty_files_scalars_and_empty_tensors_are_fine() {
    assert!(File::new(0, 0).open().tensors().is_empty());
    let model =
        File::new(2, 0).tensor("scalar", &[], F32, 0).tensor("none", &[4, 0], F32, 32).data(32, 32).open();
    let shape = |name: &str| model.tensor(model.find(name).unwrap()).map(|t| (t.rows(), t.cols())).unwrap();
    assert_eq!((shape("scalar"), shape("none")), ((1, 1), (0, 4)));
}

#[test]
fn a_missing_tensor_is_answered_with_near_names() {
    let model = Model::open(Path::new(STORYBOOK), &OpenOptions::default()).unwrap();
    let error = model.find("blk.0.ffn_dwn.weight").unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }));
    assert!(
        error.to_string().contains("holds no tensor `blk.0.ffn_dwn.weight`; near it: `blk.0.ffn_d"),
        "{error}"
    );
}

// Lies of the preamble.

#[test]
fn wrong_magic() {
    File::default().raw(b"GGML").data(1, 40).refused("header", 0, "does not begin with \"GGUF\"");
}

#[test]
fn no_bytes_at_all() {
    File::default().refused("header", 0, "4 bytes should follow, but the file ends after 0");
}

#[test]
fn preamble_cut_short() {
    File(File::new(0, 0).0[..20].to_vec()).refused("header", 16, "8 bytes should follow");
}

#[test]
fn unknown_versions() {
    for (version, problem) in [(0, "unknown"), (1, "version 1 is not supported"), (4, "version 4 is unknown")]
    {
        File::default().raw(b"GGUF").u32(version).u64(0).u64(0).refused("header", 4, problem);
    }
}

#[test]
fn big_endian_files_are_named_as_such() {
    let file = File::default().raw(b"GGUF").raw(&3u32.to_be_bytes()).raw(&[0; 16]);
    file.refused("header", 4, "big-endian file (version 3");
}

#[test]
fn more_tensors_than_any_file_has() {
    File::new(1 << 60, 0).refused("header", 8, "claims 1152921504606846976 tensors, the limit is 131072");
}

#[test]
fn more_keys_than_any_file_has() {
    File::new(0, u64::MAX).refused("header", 16, "claims 18446744073709551615 keys, the limit is 1048576");
}

#[test]
fn more_keys_than_the_file_has_bytes() {
    File::new(0, 1 << 20).refused(
        "header",
        8,
        "claims 1048576 keys and 0 tensors, 13631488 bytes at least; 0 follow",
    );
    File::new(0, 3).key("a", ValueType::U8).raw(&[1]).refused("header", 8, "39 bytes at least; 14 follow");
}

#[test]
fn more_tensors_than_the_file_has_bytes() {
    File::new(100_000, 0).tensor("w", &[1], F32, 0).refused(
        "header",
        8,
        "100000 tensors, 2400000 bytes at least",
    );
}

// Lies of keys and values.

#[test]
fn key_longer_than_the_file() {
    File::new(0, 1).u64(60_000).data(1, 40).refused("key #0", 32, "60000 bytes should follow");
}

#[test]
fn key_longer_than_allowed() {
    let long = "k".repeat(70_000);
    File::new(0, 1).key(&long, ValueType::U8).raw(&[1]).refused(
        "key #0",
        24,
        "claims 70000 bytes, the limit is 65535",
    );
    File::new(0, 1).u64(u64::MAX).data(1, 40).refused("key #0", 24, "the limit is 65535");
}

#[test]
fn key_that_is_not_utf8() {
    File::new(0, 1).string(b"a\xff").u32(0).raw(&[1]).refused("key #0", 33, "byte 1 is not UTF-8");
}

#[test]
fn duplicate_keys() {
    let first = File::new(0, 3).key("a", ValueType::U8).raw(&[1]).key("b", ValueType::U8).raw(&[1]);
    let at = first.len();
    first.key("a", ValueType::U8).raw(&[2]).refused("key `a`", at, "given before");
}

#[test]
fn unknown_value_type() {
    File::new(0, 1).string("k").u32(13).u64(0).refused("key `k`", 33, "value type 13 is unknown");
}

#[test]
fn bools_other_than_0_and_1() {
    File::new(0, 1).key("k", ValueType::Bool).raw(&[2]).refused("key `k`", 37, "0 or 1, got 2");
    let array = File::new(0, 1).key("k", ValueType::Array).array(ValueType::Bool, 3);
    array.raw(&[0, 1, 255]).refused("key `k`", 51, "0 or 1, got 255");
}

#[test]
fn string_longer_than_the_file() {
    let file = File::new(0, 1).key("general.name", ValueType::String);
    file.clone().u64(1 << 40).refused("key `general.name`", 56, "1099511627776 bytes should follow");
    file.u64(u64::MAX).raw(b"x").refused("key `general.name`", 56, "ends after 1");
}

#[test]
fn string_that_is_not_utf8() {
    File::new(0, 1).key("k", ValueType::String).string(b"ab\xc0").refused(
        "key `k`",
        47,
        "byte 2 is not UTF-8",
    );
}

#[test]
fn array_longer_than_the_file() {
    let array = |element, count| File::new(0, 1).key("k", ValueType::Array).array(element, count);
    array(ValueType::U8, 5).raw(&[0; 4]).refused("key `k`", 41, "claims 5 x U8, 4 bytes follow");
    array(ValueType::String, 1 << 50).raw(&[0; 80]).refused(
        "key `k`",
        41,
        "claims 1125899906842624 x String",
    );
    array(ValueType::Array, 7).raw(&[0; 80]).refused("key `k`", 41, "claims 7 x Array, 80 bytes follow");
}

#[test]
fn array_whose_size_overflows() {
    for element in [ValueType::U64, ValueType::String, ValueType::Array, ValueType::U16] {
        let file = File::new(0, 1).key("k", ValueType::Array).array(element, u64::MAX / 2 + 2).data(1, 64);
        file.refused("key `k`", 41, "claims 9223372036854775809 x");
    }
}

#[test]
fn array_of_an_unknown_type() {
    File::new(0, 1).key("k", ValueType::Array).u32(99).u64(0).refused(
        "key `k`",
        37,
        "value type 99 is unknown",
    );
}

#[test]
fn string_inside_an_array_that_passes_the_end() {
    let file = File::new(0, 1).key("k", ValueType::Array).array(ValueType::String, 2).string("a").u64(9);
    file.raw(b"short").refused("key `k`", 66, "9 bytes should follow, but the file ends after 5");
}

#[test]
fn arrays_nested_too_deep() {
    let nested = |depth| {
        let head = File::new(0, 1).key("k", ValueType::Array);
        (1..depth).fold(head, |file, _| file.array(ValueType::Array, 1)).array(ValueType::U8, 0)
    };
    assert!(nested(16).open().gguf().get("k").is_some());
    nested(17).refused("key `k`", 37 + 16 * 12, "more than 16 deep");
    nested(1_000_000).refused("key `k`", 37 + 16 * 12, "more than 16 deep");
}

#[test]
fn alignments_that_are_none() {
    let with = |n| File::new(0, 1).key("general.alignment", ValueType::U32).u32(n);
    with(8).open();
    with(0).refused("key `general.alignment`", 24, "got 0");
    with((1 << 20) + 8).refused("key `general.alignment`", 24, "must be 1048576 at most, got 1048584");
    with(u32::MAX - 7).refused("key `general.alignment`", 24, "got 4294967288");
    with(12).refused("key `general.alignment`", 24, "multiple of 8 above 0, got 12");
    let wide = File::new(0, 1).key("general.alignment", ValueType::U64).u64(32);
    wide.refused("key `general.alignment`", 24, "must be a U32, got U64");
}

#[test]
fn an_alignment_beyond_the_file() {
    let head = File::new(1, 1).key("general.alignment", ValueType::U32).u32(1 << 20);
    let file = head.tensor("w", &[8], F32, 0);
    let at = file.len() - 8;
    file.data(32, 64).refused("tensor `w`", at, "end beyond the file");
}

// Lies of tensors.

#[test]
fn tensor_name_longer_than_the_file() {
    File::new(1, 0).u64(1000).data(1, 40).refused("tensor #0", 32, "1000 bytes should follow");
    File::new(1, 0).u64(1 << 33).data(1, 40).refused("tensor #0", 24, "the limit is 65535");
}

#[test]
fn tensor_name_that_is_not_utf8() {
    let file = File::new(1, 0).string(b"\x80w").u32(1).u64(1).u32(F32).u64(0);
    file.data(32, 4).refused("tensor #0", 32, "not UTF-8");
}

#[test]
fn duplicate_tensors() {
    let first = File::new(2, 0).tensor("w", &[8], F32, 0);
    let at = first.len();
    first.tensor("w", &[8], F32, 32).data(32, 64).refused("tensor `w`", at, "listed before");
}

#[test]
fn too_many_dimensions() {
    File::new(1, 0).tensor("w", &[1; 5], F32, 0).data(32, 4).refused("tensor `w`", 33, "claims 5 dimensions");
    let file = File::new(1, 0).string("w").u32(u32::MAX).data(1, 64);
    file.refused("tensor `w`", 33, "claims 4294967295 dimensions, the limit is 4");
}

#[test]
fn shapes_whose_product_overflows() {
    let lies: &[&[u64]] = &[
        &[1 << 32, 1 << 32],                // the number of weights
        &[1 << 63, 1],                      // the bytes, 4 for each
        &[u64::MAX, u64::MAX, u64::MAX, 2], // many times over
        &[u64::MAX, u64::MAX, 0],           // hidden behind a zero
        &[0, u64::MAX, u64::MAX],           // hidden by a zero before
    ];
    for dims in lies {
        let file = File::new(1, 0).tensor("w", dims, F32, 0).data(32, 64);
        file.refused("tensor `w`", 33, "overflows 64 bits");
    }
    let file = File::new(1, 0).tensor("w", &[32, u64::MAX / 33], Q8_0, 0).data(32, 64);
    file.refused("tensor `w`", 33, "overflows 64 bits");
}

#[test]
fn unknown_tensor_type() {
    for id in [43, 255, u32::MAX] {
        let file = File::new(1, 0).tensor("w", &[32], id, 0).data(32, 64);
        file.refused("tensor `w`", 45, &format!("type {id} is unknown"));
    }
}

#[test]
fn removed_tensor_types() {
    for id in [4, 5, 31, 32, 33, 36, 37, 38] {
        let file = File::new(1, 0).tensor("w", &[32], id, 0).data(32, 64);
        file.refused("tensor `w`", 45, "was removed from GGUF");
    }
}

#[test]
fn columns_that_are_no_whole_blocks() {
    let file = File::new(1, 0).tensor("w", &[48, 2], Q8_0, 0).data(32, 102);
    file.refused("tensor `w`", 33, "Q8_0 needs columns divisible by 32, got 48");
}

#[test]
fn misaligned_offset() {
    let file = File::new(1, 0).tensor("w", &[8], F32, 16).data(32, 64);
    file.refused("tensor `w`", 49, "data offset 16 is not a multiple of the alignment 32");
}

#[test]
fn offset_beyond_the_file() {
    for offset in [96, 1 << 40, u64::MAX - 31] {
        let file = File::new(1, 0).tensor("w", &[8], F32, offset).data(32, 64);
        file.refused("tensor `w`", 49, &format!("data offset {offset} and 32 bytes"));
    }
}

#[test]
fn data_cut_short() {
    let file = File::new(2, 0).tensor("a", &[8], F32, 0).tensor("w", &[8], F32, 32);
    file.clone().data(32, 64).open();
    let at = file.len() - 8;
    file.data(32, 63).refused("tensor `w`", at, "end beyond the file of 159");
}

#[test]
fn overlapping_tensors() {
    // In the file's order, against it, and one inside the other.
    for (a, b, liar) in [((0, 16), (32, 8), "b"), ((32, 8), (0, 16), "a"), ((0, 24), (32, 8), "b")] {
        let file = File::new(2, 0).tensor("a", &[a.1], F32, a.0).tensor("b", &[b.1], F32, b.0);
        let at = if liar == "a" { 49 } else { file.len() - 8 };
        file.data(32, 128).refused(&format!("tensor `{liar}`"), at, "occupies 96..");
    }
}

#[test]
fn hostile_names_do_not_reach_the_terminal() {
    let name = format!("\u{1b}[2J{}", "x".repeat(60_000));
    let error =
        Model::from_bytes("f", File::new(1, 0).tensor(&name, &[1], 99, 0).data(32, 64).0).unwrap_err();
    let message = error.to_string();
    assert!(
        message.len() < 400 && message.contains("\\u{1b}[2J") && !message.contains('\u{1b}'),
        "{message}"
    );
}

// Whatever the bytes.

/// Opens `bytes` and looks at everything, so that a panic anywhere shows.
fn exercise(bytes: Bytes) -> bool {
    let Ok(model) = Model::from_bytes("f", bytes) else { return false };
    for (key, value) in model.gguf().iter() {
        assert!(model.gguf().get(key).is_some());
        std::hint::black_box(value.to_string());
    }
    for tensor in model.tensors() {
        assert_eq!(model.bytes(tensor).unwrap().len() as u64, tensor.bytes);
        std::hint::black_box(model.tensor(tensor).is_ok());
    }
    true
}

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

/// The length of the header: where the first tensor's bytes begin.
fn header_len(bytes: &[u8]) -> usize {
    let model = Model::from_bytes("f", bytes.to_vec()).unwrap();
    model.tensors().iter().map(|t| t.offset as usize).min().unwrap()
}

#[test]
fn no_truncation_is_accepted() {
    let real = Bytes::from(fs::read(TYPES).unwrap());
    let last = Model::from_bytes("f", real.clone()).unwrap();
    let end = last.tensors().iter().map(|t| t.offset + t.bytes).max().unwrap() as usize;
    for len in 0..real.len() {
        assert_eq!(exercise(real.slice(..len)), len >= end, "cut to {len} bytes");
    }
    let real = Bytes::from(fs::read(STORYBOOK).unwrap());
    for len in (0..header_len(&real)).step_by(97) {
        assert!(!exercise(real.slice(..len)), "cut to {len} bytes");
    }
}

#[test]
fn no_mutation_panics() {
    let real = fs::read(TYPES).unwrap();
    let header = header_len(&real);
    let (mut random, mut accepted) = (Random(0x9E37_79B9_7F4A_7C15), 0);
    const RUNS: usize = 200_000;
    for _ in 0..RUNS {
        let mut bytes = real.clone();
        for _ in 0..1 + random.below(3) {
            let byte = random.below(256) as u8;
            bytes[random.below(header)] = [byte, 0, 1, 127, 128, 255][random.below(6)];
        }
        accepted += usize::from(exercise(bytes.into()));
    }
    // Most bytes are names, lengths and values: both outcomes must occur often, or the mutations
    // miss the header.
    assert!((RUNS / 20..RUNS * 19 / 20).contains(&accepted), "{accepted} of {RUNS} accepted");
}

// Writing.

fn rewrite(source: &Path, out: &Path) {
    let model = Model::open(source, &OpenOptions::default()).unwrap();
    let tensors: Vec<_> = model
        .tensors()
        .iter()
        .map(|t| NewTensor { name: t.name.clone(), dtype: t.dtype, shape: t.shape.clone() })
        .collect();
    gguf_write::write(out, &Entries::from(model.gguf()), &tensors, |i, sink| {
        sink.put(&model.bytes(&model.tensors()[i])?)
    })
    .unwrap();
}

#[test]
fn real_files_are_rewritten_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.gguf");
    for path in [TYPES, STORYBOOK] {
        rewrite(Path::new(path), &out);
        assert!(fs::read(path).unwrap() == fs::read(&out).unwrap(), "{path} changed");
    }
}

#[test]
fn new_metadata_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.gguf");
    let mut entries = Entries::new();
    entries.set_str("general.name", "first");
    entries.set("general.alignment", Value::U32(8));
    entries.set("flag", Value::Bool(true));
    entries.set_array("tokens", ValueType::String, &[Value::String(b"a"), Value::String(b"")]).unwrap();
    entries.set_array("none", ValueType::F64, &[]).unwrap();
    entries.set_str("general.name", "second");
    let f32 = DType::Supported(format::F32);
    let tensors = ["a", "b"].map(|name| NewTensor { name: name.into(), dtype: f32, shape: vec![3, 1] });
    gguf_write::write(&path, &entries, &tensors, |i, sink| sink.put(&[i as u8 + 1; 12])).unwrap();

    let model = Model::open(&path, &OpenOptions::default()).unwrap();
    let keys: Vec<_> = model.gguf().iter().map(|(key, value)| (key.to_owned(), value.to_string())).collect();
    let wanted = [
        ("general.name", "second"),
        ("general.alignment", "8"),
        ("flag", "true"),
        ("tokens", "[a, ] (2 x String)"),
        ("none", "[] (0 x F64)"),
    ];
    assert_eq!(keys, wanted.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let [a, b] = ["a", "b"].map(|name| model.find(name).unwrap());
    assert_eq!((&a.shape, b.offset - a.offset), (&vec![3, 1], 16));
    assert_eq!(model.bytes(b).unwrap(), &[2; 12][..]);
}

#[test]
fn what_gguf_cannot_hold_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.gguf");
    let f32 = DType::Supported(format::F32);
    let q8_0 = DType::Supported(format::Q8_0);
    let tensor =
        |name: &str, dtype, shape: &[u64]| NewTensor { name: name.into(), dtype, shape: shape.into() };
    let refused = |entries: &Entries, tensors: &[NewTensor], problem: &str| {
        let error = gguf_write::write(&path, entries, tensors, |_, _| Ok(())).unwrap_err();
        assert!(matches!(&error, Error::Argument(p) if p.contains(problem)), "{error}");
        assert!(!path.exists());
    };
    let none = Entries::new();
    refused(&none, &[tensor("w", f32, &[1; 5])], "tensor `w`: GGUF holds 4 dimensions at most");
    refused(&none, &[tensor("w", q8_0, &[2, 33])], "tensor `w`: Q8_0 needs columns divisible by 32");
    refused(&none, &[tensor("w", f32, &[1]), tensor("w", f32, &[1])], "tensor `w` is given twice");
    refused(&none, &[tensor(&"w".repeat(70_000), f32, &[1])], "exceeds 65535 bytes");
    let mut entries = Entries::new();
    entries.set("general.alignment", Value::U32(12));
    refused(&entries, &[], "key `general.alignment`: the alignment must be a multiple of 8");
    let mixed = entries.set_array("k", ValueType::U8, &[Value::U16(1)]).unwrap_err();
    assert!(mixed.to_string().contains("an array of U8 cannot hold U16"), "{mixed}");
}

/// Rows of no columns take no byte of the file, but would take a step each.
#[test]
fn quantize_copies_what_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.gguf");
    let file = File::new(3, 0)
        .tensor("a.weight", &[0, 1 << 62], F32, 0)
        .tensor("b.weight", &[32, 0], F32, 0)
        .tensor("c.weight", &[32, 2], F32, 0);
    let (model, recipe) = (file.data(32, 256).open(), Recipe::new(format::Q8_0));
    let report = quantize(&model, &out, &recipe, &QuantizeOptions::default(), |_, _| ()).unwrap();
    let why: Vec<_> = report.tensors.iter().map(|t| t.left_because.as_deref()).collect();
    assert_eq!(why, [Some("it is empty"), Some("it is empty"), None]);
    let written = Model::open(&out, &OpenOptions::default()).unwrap();
    assert_eq!(written.find("a").unwrap().shape, [1 << 62, 0]);
}

#[test]
fn an_interrupted_write_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.gguf");
    let f32 = DType::Supported(format::F32);
    let tensors = ["a", "b"].map(|name| NewTensor { name: name.into(), dtype: f32, shape: vec![4] });
    let short =
        gguf_write::write(&path, &Entries::new(), &tensors, |i, sink| sink.put(&[0; 16][i..])).unwrap_err();
    assert!(matches!(&short, Error::Shape { what, .. } if what.contains("tensor `b`")), "{short}");
    assert_eq!(short.to_string(), "tensor `b`: bytes written: wanted 16, got 15");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
