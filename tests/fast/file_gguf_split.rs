//! GGUF models in several files: every part and the folder stand for the whole, parts that are
//! missing or of another model are named, and what is written is whole or nothing.

use bytes::Bytes;
use qmatmul::Error;
use qmatmul::file::gguf::Value;
use qmatmul::file::gguf_write::{self, Destination, Entries, NewTensor};
use qmatmul::file::{DType, Model, OpenOptions, QuantizeOptions, quantize};
use qmatmul::format::{self, Recipe};
use std::fs;
use std::path::{Path, PathBuf};

const STORYBOOK: &str = "tests/data/storybook-3.7M-Q4_0.gguf";

/// Names and bytes.
type Files = Vec<(String, Bytes)>;

fn open(path: impl AsRef<Path>) -> Result<Model, Error> {
    Model::open(path, &OpenOptions::default())
}

fn new_tensors(model: &Model) -> Vec<NewTensor> {
    let new = |t: &qmatmul::file::TensorInfo| NewTensor {
        name: t.name.clone(),
        dtype: t.dtype,
        shape: t.shape.clone(),
    };
    model.tensors().iter().map(new).collect()
}

/// Writes a model as it is, to parts of at most so many bytes.
fn rewrite(model: &Model, out: &Path, max: Option<u64>) {
    let to = Destination::in_parts(out, max);
    gguf_write::write(to, &Entries::from(model.gguf()), &new_tensors(model), |i, sink| {
        sink.put(&model.bytes(&model.tensors()[i])?)
    })
    .expect("a folder to write to");
}

/// The files of a folder, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> =
        fs::read_dir(folder).expect("a folder").map(|e| e.expect("readable").path()).collect();
    all.sort();
    all
}

/// A model of small tensors `a`, `b`, … in parts of one tensor each: the label and bytes of each
/// file. `split` sets their three keys: no, count and tensors.
fn parts(names: &[&str], split: &dyn Fn(usize) -> [Option<Value<'static>>; 3]) -> Files {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let part = |(i, name): (usize, &&str)| {
        let path = folder.path().join("part.gguf");
        let mut entries = Entries::new();
        if i == 0 {
            entries.set_str("general.architecture", "llama");
        }
        for (key, value) in ["split.no", "split.count", "split.tensors.count"].into_iter().zip(split(i)) {
            value.into_iter().for_each(|value| entries.set(key, value));
        }
        let tensor =
            NewTensor { name: (*name).into(), dtype: DType::Supported(format::F32), shape: vec![1, 2] };
        gguf_write::write(&path, &entries, &[tensor], |_, sink| sink.put(&[i as u8; 8])).expect("small");
        (format!("m-{:05}-of-{:05}.gguf", i + 1, names.len()), fs::read(&path).expect("written").into())
    };
    names.iter().enumerate().map(part).collect()
}

fn good(i: usize) -> [Option<Value<'static>>; 3] {
    [Some(Value::U16(i as u16)), Some(Value::U16(3)), Some(Value::I32(3))]
}

/// Opens files in memory as a folder.
fn in_memory(files: &[(String, Bytes)]) -> Result<Model, Error> {
    let files: Vec<_> = files.iter().map(|(name, bytes)| (&**name, bytes.clone())).collect();
    Model::from_files("folder", &files)
}

#[test]
fn any_part_and_the_folder_stand_for_the_whole() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let whole = open(STORYBOOK).expect("the demo file");
    rewrite(&whole, &folder.path().join("m.gguf"), Some(600_000));
    let written = files(folder.path());
    assert!(
        written.len() > 3 && written[0].ends_with(format!("m-00001-of-{:05}.gguf", written.len())),
        "{written:?}"
    );
    for file in &written {
        assert!(fs::metadata(file).expect("there").len() <= 600_000, "{file:?}");
    }
    let in_files: Vec<(String, Bytes)> = written
        .iter()
        .map(|path| {
            (
                path.file_name().expect("a name").to_str().expect("ASCII").into(),
                fs::read(path).expect("there").into(),
            )
        })
        .collect();
    let mut models: Vec<Model> =
        written.iter().map(|part| open(part).expect("all parts are there")).collect();
    models
        .extend([open(folder.path()).expect("one model"), in_memory(&in_files).expect("the same in memory")]);
    for model in &models {
        assert_eq!((model.files().len(), model.tensors().len()), (written.len(), whole.tensors().len()));
        for (got, want) in model.tensors().iter().zip(whole.tensors()) {
            assert_eq!((&got.name, got.dtype, &got.shape), (&want.name, want.dtype, &want.shape));
            assert!(
                model.bytes(got).expect("readable") == whole.bytes(want).expect("readable"),
                "{}",
                got.name
            );
        }
        for (key, value) in whole.gguf().iter() {
            assert_eq!(model.gguf().get(key), Some(value), "{key}");
        }
    }
    let joined = folder.path().join("joined.gguf");
    rewrite(&models[1], &joined, None);
    assert!(
        fs::read(joined).expect("written") == fs::read(STORYBOOK).expect("there"),
        "no key is left of the parts"
    );
}

/// What llama.cpp reads: U16, U16 and I32, in every part; the metadata in the first alone.
#[test]
fn parts_say_which_they_are() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let whole = open(STORYBOOK).expect("the demo file");
    rewrite(&whole, &folder.path().join("m"), Some(1_000_000));
    let written = files(folder.path());
    for (no, path) in written.iter().enumerate() {
        // Alone its keys are those of the file.
        let alone = Model::from_bytes("f", fs::read(path).expect("there"))
            .expect_err("a part is no model")
            .to_string();
        assert!(alone.contains(&format!("part {} of {}", no + 1, written.len())), "{alone}");
        let bytes = fs::read(path).expect("there");
        let has = |key: &str, rest: &[u8]| {
            let entry = [&(key.len() as u64).to_le_bytes()[..], key.as_bytes(), rest].concat();
            bytes.windows(entry.len()).any(|window| window == entry)
        };
        assert!(has("split.no", &[2, 0, 0, 0, no as u8, 0]), "{path:?}");
        assert!(has("split.count", &[2, 0, 0, 0, written.len() as u8, 0]), "{path:?}");
        assert!(has("split.tensors.count", &[5, 0, 0, 0, 38, 0, 0, 0]), "{path:?}");
        assert_eq!(has("general.architecture", &[8, 0, 0, 0]), no == 0, "{path:?}");
    }
}

#[test]
fn what_fits_into_one_part_is_one_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let whole = open(STORYBOOK).expect("the demo file");
    rewrite(&whole, &folder.path().join("m.gguf"), Some(fs::metadata(STORYBOOK).expect("there").len()));
    assert_eq!(files(folder.path()), [folder.path().join("m.gguf")]);
    assert!(fs::read(folder.path().join("m.gguf")).expect("written") == fs::read(STORYBOOK).expect("there"));
    rewrite(&whole, &folder.path().join("n.gguf"), Some(1));
    assert_eq!(files(folder.path()).len(), 1 + whole.tensors().len(), "a tensor a part, none without one");
}

#[test]
fn parts_that_are_missing_or_of_another_model_are_named() {
    assert_eq!(in_memory(&parts(&["a", "b", "c"], &good)).expect("all parts").tensors().len(), 3);
    let with = |at: usize, key: usize, value: Option<Value<'static>>| {
        parts(&["a", "b", "c"], &move |i| {
            let mut split = good(i);
            if i == at {
                split[key] = value;
            }
            split
        })
    };
    let mut missing = parts(&["a", "b", "c"], &good);
    missing.remove(1);
    let mut renamed = parts(&["a", "b", "c"], &good);
    renamed.truncate(1);
    renamed[0].0 = "model.gguf".into();
    let cases: Vec<(&str, Files, &[&str])> = vec![
        ("missing", missing, &["m-00002-of-00003.gguf", "part 2 of 3 is missing"]),
        ("renamed", renamed, &["model.gguf", "split.no", "part 1 of 3", "-00001-of-00003.gguf"]),
        (
            "another count",
            with(2, 1, Some(Value::U16(4))),
            &["m-00003-of-00003.gguf", "split.count", "4", "3"],
        ),
        (
            "the same number twice",
            with(2, 0, Some(Value::U16(1))),
            &["m-00003-of-00003.gguf", "split.no", "says 1", "is 2"],
        ),
        (
            "other tensors",
            with(1, 2, Some(Value::I32(5))),
            &["m-00002-of-00003.gguf", "split.tensors.count", "5", "3"],
        ),
        ("no part", with(1, 1, None), &["m-00002-of-00003.gguf", "it is no part"]),
        ("no number", with(0, 0, None), &["m-00001-of-00003.gguf", "split.no"]),
        (
            "a text",
            with(0, 1, Some(Value::String(b"3"))),
            &["m-00001-of-00003.gguf", "split.count", "number"],
        ),
        (
            "beyond the count",
            with(0, 0, Some(Value::U16(3))),
            &["m-00001-of-00003.gguf", "split.no", "up to 2, got 3"],
        ),
        (
            "too few tensors",
            parts(&["a", "b", "c"], &|i| [good(i)[0], good(i)[1], Some(Value::I32(4))]),
            &["m-00001-of-00003.gguf", "split.tensors.count", "4", "hold 3"],
        ),
        ("a name twice", parts(&["a", "b", "a"], &good), &["m-00003-of-00003.gguf", "tensor `a`"]),
    ];
    for (label, files, words) in cases {
        let text = in_memory(&files).expect_err(label).to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{label}: {text}");
    }
    // A model in one part, as llama-gguf-split writes it, is a file like any other.
    let one = parts(&["a"], &|_| [Some(Value::U16(0)), Some(Value::U16(1)), Some(Value::I32(1))]);
    assert_eq!(Model::from_bytes("any name", one[0].1.clone()).expect("whole").tensors().len(), 1);
}

#[test]
fn no_part_is_replaced_while_it_is_read() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("m.gguf");
    rewrite(&open(STORYBOOK).expect("the demo file"), &path, Some(1_300_000));
    let before = files(folder.path());
    let model = open(&before[0]).expect("all parts");
    let recipe = Recipe::new(format::Q8_0);
    let options = QuantizeOptions { allow_requantize: true, ..QuantizeOptions::default() };
    for part in &before {
        assert!(
            matches!(quantize(&model, part, &recipe, &options, |_, _| ()), Err(Error::Argument(_))),
            "{part:?}"
        );
    }
    // As many parts, of weights that take nearly twice as much.
    let error = quantize(&model, Destination::in_parts(&path, Some(2_500_000)), &recipe, &options, |_, _| ());
    let text = error.expect_err("its own part").to_string();
    assert!(text.contains("which is being read"), "{text}");
    assert_eq!(files(folder.path()), before);
}

#[test]
fn parts_appear_together_or_not_at_all() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let whole = open(STORYBOOK).expect("the demo file");
    let write = |to: &Path, stop: usize| {
        let to = Destination::in_parts(to, Some(400_000));
        gguf_write::write(to, &Entries::from(whole.gguf()), &new_tensors(&whole), |i, sink| match i == stop {
            true => Err(Error::Argument("stop".into())),
            false => sink.put(&whole.bytes(&whole.tensors()[i])?),
        })
    };
    write(&folder.path().join("m"), 37).expect_err("stopped at the last tensor");
    assert_eq!(files(folder.path()), [] as [PathBuf; 0]);
    // The first part, which comes last, cannot take its name.
    let blocked = folder.path().join("m-00001-of-00007.gguf");
    fs::create_dir(&blocked).expect("a new folder");
    let error = write(&folder.path().join("m"), 38).expect_err("a folder is in the way");
    assert!(matches!(&error, Error::Output { path, .. } if *path == blocked), "{error}");
    assert_eq!(files(folder.path()), [blocked]);
}
