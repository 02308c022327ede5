//! Importance matrices: both forms by llama-imatrix of llama.cpp 0.7.0, of one run, and one test
//! for every way a file can lie.

use qmatmul::Error;
use qmatmul::file::OpenOptions;
use qmatmul::file::gguf::{Value, ValueType};
use qmatmul::file::gguf_write::{self, Entries, NewTensor};
use qmatmul::file::imatrix::Imatrix;
use qmatmul::file::{DType, Model};

const DAT: &str = "tests/golden/imatrix/stories260K.dat";
const GGUF: &str = "tests/golden/imatrix/stories260K.gguf";

fn open(path: &str) -> Imatrix {
    Imatrix::open(path, &OpenOptions::default()).unwrap_or_else(|e| panic!("{e}"))
}

/// Mean squares by llama.cpp 0.7.0's gguf-py and numpy: features, the first, the last, and their
/// sum.
const BY_OTHERS: [(&str, usize, f32, f32, f64); 2] = [
    ("blk.0.attn_k.weight", 64, 0.35283732, 0.5336527, 82.77544167637825),
    ("blk.4.ffn_down.weight", 172, 0.26439676, 0.16345555, 55.32483593374491),
];

#[test]
fn what_the_gguf_form_says() {
    let imatrix = open(GGUF);
    assert_eq!((imatrix.entries().len(), imatrix.chunks), (35, Some(2)));
    assert_eq!(imatrix.datasets, ["stories.txt"]);
    for (name, cols, first, last, sum) in BY_OTHERS {
        let entry = imatrix.find(name).unwrap();
        assert_eq!((entry.matrices, entry.cols(), entry.count), (1, cols, 256.0));
        assert_eq!((entry.values[0], entry.values[cols - 1]), (first, last));
        assert!((entry.values.iter().map(|v| f64::from(*v)).sum::<f64>() - sum).abs() < 1e-5 * sum);
        assert!(entry.is_usable());
    }
}

/// The tool's two forms of the same run: sums over 256 activations, and means times 2 calls.
#[test]
fn both_forms_say_the_same() {
    let (dat, gguf) = (open(DAT), open(GGUF));
    assert_eq!((dat.entries().len(), dat.chunks, &dat.datasets), (35, gguf.chunks, &gguf.datasets));
    for entry in gguf.entries() {
        let other = dat.find(&entry.name).unwrap();
        assert_eq!((other.values.len(), other.count), (entry.values.len(), 2.0), "{}", entry.name);
        let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 4e-7 * a.abs();
        assert!(entry.values.iter().zip(&other.values).all(close), "{}", entry.name);
    }
}

#[test]
fn entries_are_found_by_name() {
    let imatrix = open(DAT);
    assert_eq!(imatrix.find("blk.0.ffn_up").unwrap().name, "blk.0.ffn_up.weight");
    let error = imatrix.find("blk.0.ffn_upp.weight").unwrap_err().to_string();
    assert!(error.contains("stories260K.dat") && error.contains("blk.0.ffn_up.weight"), "{error}");
}

/// A `.dat` file, byte by byte.
fn dat(entries: &[(&str, i32, &[f32])]) -> Vec<u8> {
    let mut file = (entries.len() as i32).to_le_bytes().to_vec();
    for (name, calls, values) in entries {
        file.extend((name.len() as i32).to_le_bytes());
        file.extend(name.as_bytes());
        file.extend([*calls, values.len() as i32].map(i32::to_le_bytes).concat());
        values.iter().for_each(|v| file.extend(v.to_le_bytes()));
    }
    file
}

/// Two entries: the first takes bytes 4 to 25.
fn two() -> Vec<u8> {
    dat(&[("a", 2, &[1.0, 3.0]), ("b", 0, &[5.0])])
}

#[test]
fn files_without_an_end_and_weights_without_calls() {
    let imatrix = Imatrix::from_bytes("two.dat", two()).unwrap();
    assert_eq!(imatrix.find("a").unwrap().values, [0.5, 1.5]);
    assert_eq!(imatrix.find("b").unwrap().values, [5.0], "no calls: nothing to divide by");
    assert_eq!((imatrix.chunks, imatrix.datasets.len()), (None, 0));
}

#[test]
fn values_that_are_no_mean_squares_are_told() {
    for value in [f32::NAN, f32::INFINITY, -1.0] {
        let imatrix = Imatrix::from_bytes("x.dat", dat(&[("a", 1, &[1.0, value])])).unwrap();
        assert!(!imatrix.entries()[0].is_usable());
    }
}

/// The offset and the text of what is wrong.
fn refused(bytes: impl Into<bytes::Bytes>, what: &str, offset: u64, problem: &str) {
    match Imatrix::from_bytes("bad", bytes) {
        Err(Error::Malformed { file, what: got, offset: at, problem: text }) => {
            assert_eq!((&*file, &*got, at), ("bad", what, offset), "{text}");
            assert!(text.contains(problem), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

/// The bytes with a number at some offset.
fn with(mut bytes: Vec<u8>, at: usize, number: i32) -> Vec<u8> {
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
    bytes
}

#[test]
fn claims_of_a_dat_file() {
    refused(vec![], "header", 0, "4 bytes");
    refused(with(two(), 0, -1), "header", 0, "-1");
    refused(with(two(), 0, 0), "header", 0, "0 entries");
    refused(with(two(), 0, 3), "header", 0, "3 entries, 17 bytes each at least; 38 bytes follow");
    refused(with(two(), 0, 200_000), "header", 0, "1 to 131072 are possible");
    refused([&with(two(), 4, 0)[..8], &two()[9..]].concat(), "entry #0", 4, "0 bytes");
    refused(with(two(), 4, -5), "entry #0", 4, "-5");
    refused(with(two(), 4, 70_000), "entry #0", 4, "70000 bytes, the limit is 65535");
    refused(with(two(), 4, 100), "entry #0", 8, "100 bytes, 34 follow");
    refused(with(two(), 9, -2), "entry `a`", 9, "-2");
    refused(with(two(), 13, 0), "entry `a`", 13, "no values");
    refused(with(two(), 13, -1), "entry `a`", 13, "-1");
    refused(with(two(), 13, 8), "entry `a`", 17, "32 bytes, 25 follow");
    refused(dat(&[("a", 1, &[1.0]), ("a", 1, &[1.0])]), "entry `a`", 21, "listed before");
    let mut latin = two();
    latin[8] = 0xff;
    refused(latin, "entry #0", 8, "byte 0 of its name is not UTF-8");
    let end = |bytes: &[u8]| [two(), bytes.to_vec()].concat();
    refused(end(&[1]), "end", 42, "4 bytes");
    refused(end(&[1, 0, 0, 0]), "end", 46, "length of the data set");
    refused(end(&[1, 0, 0, 0, 9, 0, 0, 0]), "end", 50, "9 bytes, 0 follow");
    refused(end(&[1, 0, 0, 0, 0, 0, 0, 0, 7]), "end", 50, "1 bytes follow");
}

#[test]
fn no_truncated_dat_file_is_accepted() {
    let whole = std::fs::read(DAT).unwrap();
    // Behind the entries the file may end.
    let entries = whole.len() - 8 - "stories.txt".len();
    for at in (0..whole.len()).filter(|at| *at != entries) {
        assert!(Imatrix::from_bytes("cut", whole[..at].to_vec()).is_err(), "cut at {at}");
    }
    assert!(Imatrix::from_bytes("cut", whole[..entries].to_vec()).is_ok());
}

/// By its first bytes, not by its name.
#[test]
fn what_looks_like_a_dat_file() {
    for (path, wanted) in [
        (DAT, true),
        (GGUF, false),
        ("tests", false),
        ("Cargo.toml", false),
        ("tests/data/storybook-3.7M-Q4_0.gguf", false),
        ("tests/golden/checkpoints/lora/adapter_model.safetensors", false),
        ("tests/golden/checkpoints/lora/adapter_config.json", false),
    ] {
        assert_eq!(Imatrix::is_dat(path).unwrap(), wanted, "{path}");
    }
}

#[test]
fn data_sets_are_fit_to_be_printed() {
    let name = [&[0xff, b'\n', 7][..], &[b'x'; 60_000]].concat();
    let end = [&110i32.to_le_bytes()[..], &(name.len() as i32).to_le_bytes(), &name].concat();
    let imatrix = Imatrix::from_bytes("x.dat", [two(), end].concat()).unwrap();
    let shown = &imatrix.datasets[0];
    assert!(shown.len() < 400 && !shown.chars().any(char::is_control), "{shown}");
}

/// A GGUF with these tensors: name, shape, values.
fn gguf(general_type: &str, tensors: &[(&str, &[u64], &str, Vec<f32>)]) -> bytes::Bytes {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    let mut entries = Entries::new();
    entries.set_str("general.type", general_type);
    entries
        .set_array("imatrix.datasets", ValueType::String, &[Value::String(b"a"), Value::String(b"b")])
        .unwrap();
    let new = |(name, shape, dtype, _): &(&str, &[u64], &str, Vec<f32>)| NewTensor {
        name: (*name).into(),
        dtype: DType::Supported(qmatmul::format::by_name(dtype).unwrap()),
        shape: shape.to_vec(),
    };
    let list: Vec<_> = tensors.iter().map(new).collect();
    gguf_write::write(&path, &entries, &list, |i, sink| {
        let bytes: Vec<u8> = tensors[i].3.iter().flat_map(|v| v.to_le_bytes()).collect();
        sink.put(&bytes[..bytes.len() * if tensors[i].2 == "F32" { 2 } else { 1 } / 2])
    })
    .unwrap();
    std::fs::read(path).unwrap().into()
}

#[test]
fn experts_and_those_that_no_token_came_to() {
    let sums = vec![2.0, 4.0, 9.0, 9.0, 3.0, 6.0];
    let file = gguf(
        "imatrix",
        &[("e.in_sum2", &[3, 2], "F32", sums), ("e.counts", &[3, 1], "F32", vec![2.0, 0.0, 3.0])],
    );
    let imatrix = Imatrix::from_bytes("x.gguf", file).unwrap();
    let entry = imatrix.find("e").unwrap();
    assert_eq!((entry.matrices, entry.cols(), entry.count), (3, 2, 3.0));
    assert_eq!(entry.values, [1.0, 2.0, 1.0, 1.0, 1.0, 2.0]);
    assert_eq!(imatrix.datasets, ["a", "b"]);
}

#[test]
fn claims_of_the_gguf_form() {
    let refused = |file: bytes::Bytes, what: &str, problem: &str| {
        let error = Imatrix::from_bytes("x.gguf", file).unwrap_err().to_string();
        assert!(error.contains(what) && error.contains(problem), "{error}");
    };
    let sums = || ("e.in_sum2", &[2u64, 2][..], "F32", vec![1.0; 4]);
    refused(gguf("model", &[sums()]), "general.type", "not an importance matrix");
    refused(gguf("imatrix", &[sums()]), "e.in_sum2", "`e.counts` belongs to it");
    let three = ("e.counts", &[3u64, 1][..], "F32", vec![1.0; 3]);
    refused(gguf("imatrix", &[sums(), three]), "e.counts", "each of 2 matrices, it has 3");
    for count in [f32::NAN, f32::INFINITY, -1.0] {
        let counts = ("e.counts", &[2u64, 1][..], "F32", vec![1.0, count]);
        refused(gguf("imatrix", &[sums(), counts]), "e.counts", &format!("count #1 is {count}"));
    }
    let counts = || ("e.counts", &[2u64, 1][..], "F32", vec![1.0; 2]);
    refused(gguf("imatrix", &[counts()]), "e.counts", "are not there");
    refused(gguf("imatrix", &[]), "header", "0 tensors");
    let none = ("e.in_sum2", &[2u64, 0][..], "F32", vec![]);
    refused(gguf("imatrix", &[none, counts()]), "e.in_sum2", "2 matrices of 0");
    let half = ("e.counts", &[2u64, 1][..], "F16", vec![1.0; 2]);
    refused(gguf("imatrix", &[sums(), half]), "e.counts", "must be F32, its type is F16");
    let model = Model::open("tests/data/storybook-3.7M-Q4_0.gguf", &OpenOptions::default()).unwrap();
    assert!(!Imatrix::is_one(&model) && Imatrix::from_model(&model).is_err());
}
