//! Files that change while they are open: what is noticed, and what does no harm.

use crate::common::{f32_tensor, path, write_tensors};
use qmatmul::Error;
use qmatmul::file::{Model, OpenOptions};
use std::fs::{self, OpenOptions as FileOptions};
use std::path::{Path, PathBuf};

/// A file of several pages.
fn file(folder: &Path) -> PathBuf {
    let path = folder.join("model.safetensors");
    let values: Vec<f32> = (0..16_384).map(|i| i as f32).collect();
    write_tensors(
        &path,
        &[f32_tensor("a", &[64, 128], &values[..8192]), f32_tensor("b", &[8192], &values[8192..])],
    );
    path
}

fn resize(path: &Path, len: u64) {
    FileOptions::new().write(true).open(path).and_then(|file| file.set_len(len)).expect("a writable file");
}

/// Cut inside a tensor, inside the header, to nothing, or longer: each access is refused with both
/// lengths.
#[test]
fn another_length_is_refused_before_a_byte_is_read() {
    let dir = tempfile::tempdir().unwrap();
    for mmap in [true, false] {
        for now in [40_000, 16, 0, 70_000] {
            let path = file(dir.path());
            let len = fs::metadata(&path).unwrap().len();
            let model = Model::open(&path, &OpenOptions { mmap }).unwrap();
            resize(&path, now);
            let info = model.find("a").unwrap();
            for error in
                [model.tensor(info).map(drop), model.bytes(info).map(drop), model.rows(info, 0..1).map(drop)]
            {
                match error.expect_err("the file is another") {
                    Error::Malformed { file, what, problem, .. } => {
                        assert_eq!((&*file, &*what), (&*path.display().to_string(), "file"));
                        let wanted = format!("it had {len} bytes when it was opened, now it has {now}");
                        assert_eq!(problem, wanted, "mmap {mmap}");
                    }
                    other => panic!("{other}"),
                }
            }
        }
    }
}

/// Metadata was copied: looking at it touches no page that is gone.
#[test]
fn metadata_outlives_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("model.gguf");
    for mmap in [true, false] {
        fs::copy(path("data/storybook-3.7M-Q4_0.gguf"), &copy).unwrap();
        let model = Model::open(&copy, &OpenOptions { mmap }).unwrap();
        let texts = || model.gguf().iter().map(|(key, value)| format!("{key} {value}")).collect::<Vec<_>>();
        let before = texts();
        resize(&copy, 0);
        assert!(before.len() > 5 && before == texts());
        assert!(model.tensor(&model.tensors()[0]).is_err());
    }
}

/// As downloads and editors do it: the opened file lives on without a name.
#[test]
fn a_file_that_is_replaced_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    for mmap in [true, false] {
        let path = file(dir.path());
        let model = Model::open(&path, &OpenOptions { mmap }).unwrap();
        let new = dir.path().join("new");
        fs::write(&new, "another").unwrap();
        fs::rename(&new, &path).unwrap();
        let values = model.tensor(model.find("b").unwrap()).unwrap().dequantize();
        assert_eq!((values[0], values.len()), (8192.0, 8192), "mmap {mmap}");
    }
}

/// A slice that was handed out without a map is a copy.
#[test]
fn without_a_map_what_was_read_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path());
    let model = Model::open(&path, &OpenOptions { mmap: false }).unwrap();
    let tensor = model.tensor(model.find("b").unwrap()).unwrap();
    fs::write(&path, "").unwrap();
    assert_eq!(tensor.dequantize()[8191], 16_383.0);
}
