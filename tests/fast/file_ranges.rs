//! Files that lie elsewhere: the same models as from the disk, of few bytes, whatever their source
//! does.

use crate::common::{path, root};
use bytes::Bytes;
use qmatmul::error::Error;
use qmatmul::file::{ByteRanges, Model, OpenOptions, RangeFuture};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// A file in memory that counts what is read of it.
struct Counted {
    bytes: Bytes,
    reads: Mutex<Vec<Range<u64>>>,
}

impl Counted {
    fn new(bytes: impl Into<Bytes>) -> Arc<Self> {
        Arc::new(Self { bytes: bytes.into(), reads: Mutex::default() })
    }

    /// What was read since the last time: how often, and how many bytes.
    fn taken(&self) -> (usize, u64) {
        let reads = std::mem::take(&mut *self.reads.lock().expect("no panic"));
        (reads.len(), reads.iter().map(|range| range.end - range.start).sum())
    }
}

impl ByteRanges for Counted {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&self, range: Range<u64>) -> RangeFuture<'_> {
        assert!(range.start < range.end && range.end <= self.size(), "{range:?} of {}", self.size());
        self.reads.lock().expect("no panic").push(range.clone());
        Box::pin(async move { Ok(self.bytes.slice(range.start as usize..range.end as usize)) })
    }
}

fn block_on<T>(future: impl Future<Output = T> + Send) -> T {
    pollster::block_on(future)
}

/// Files of these paths, under their names.
fn counted(paths: &[PathBuf]) -> Vec<(String, Arc<Counted>)> {
    let name = |path: &PathBuf| path.file_name().expect("a file").to_string_lossy().into_owned();
    paths.iter().map(|path| (name(path), Counted::new(std::fs::read(path).expect("readable")))).collect()
}

fn open(label: &str, files: &[(String, Arc<Counted>)]) -> qmatmul::Result<Model> {
    let files: Vec<_> = files.iter().map(|(name, file)| (&**name, file.clone())).collect();
    block_on(Model::open_ranges(label, &files))
}

/// All models of this repository: single files, and folders.
fn models() -> Vec<(PathBuf, Vec<PathBuf>)> {
    let listed = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).expect("a folder");
        let mut all: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
        all.sort();
        all
    };
    let is = |path: &Path, ends: &[&str]| {
        path.extension().is_some_and(|e| ends.contains(&&*e.to_string_lossy()))
            && !path.to_string_lossy().contains("expected")
    };
    let singles = ["data", "golden/gguf_files", "golden/checkpoints/gguf", "golden/gguf_archs"];
    let singles = singles.iter().flat_map(|folder| listed(&path(folder)));
    let mut all: Vec<_> =
        singles.filter(|p| is(p, &["gguf"])).map(|p| (p.clone(), vec![p.clone()])).collect();
    for folder in ["golden/checkpoints", "golden/hub"].iter().flat_map(|folder| listed(&path(folder))) {
        let files: Vec<_> =
            listed(&folder).into_iter().filter(|p| is(p, &["safetensors", "json", "gguf"])).collect();
        let is_adapter = files.iter().any(|p| p.to_string_lossy().contains("adapter"));
        if !is_adapter && Model::open(&folder, &OpenOptions::default()).is_ok() {
            all.push((folder, files));
        }
    }
    all
}

#[test]
fn every_model_is_what_it_is_on_the_disk() {
    let models = models();
    assert!(models.len() > 30, "{} models", models.len());
    let mut tensors = 0;
    for (path, files) in &models {
        let on_disk = Model::open(path, &OpenOptions::default()).expect("it opens");
        let files = counted(files);
        let model = open("elsewhere", &files).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let names = |model: &Model| {
            model.tensors().iter().map(|t| (t.name.clone(), t.shape.clone(), t.dtype)).collect::<Vec<_>>()
        };
        assert_eq!(names(&model), names(&on_disk), "{}", path.display());
        for (_, file) in &files {
            file.taken();
        }
        for info in model.tensors().iter().filter(|info| info.dtype.format().is_some()) {
            let why = format!("{} `{}`", path.display(), info.name);
            let wanted = on_disk.linear(on_disk.find(&info.name).expect("listed")).map_err(|e| e.to_string());
            let got = block_on(model.linear_async(info)).map_err(|e| e.to_string());
            let values = |linear: qmatmul::Linear| {
                let bias = linear.bias().map(|bias| bias.dequantize());
                (linear.weight().dequantize().into_iter().map(f32::to_bits).collect::<Vec<_>>(), bias)
            };
            let [got, wanted] = [got, wanted].map(|linear| linear.map(values));
            assert!(got == wanted || (got.is_err() && wanted.is_err()), "{why}");
            let read: u64 = files.iter().map(|(_, file)| file.taken().1).sum();
            let bias = model.find(&info.name.replace(".weight", ".bias")).map_or(0, |bias| bias.bytes);
            let parts: u64 = model.parts(info).iter().map(|part| part.bytes).sum();
            assert!(read <= parts + bias, "{why}: {read} bytes were read of {parts}");
            tensors += 1;
        }
    }
    println!("{} models, {tensors} tensors", models.len());
}

#[test]
fn a_tensor_costs_its_bytes_and_rows_cost_theirs() {
    let files = counted(&[path("data/storybook-3.7M-Q4_0.gguf")]);
    let model = open("", &files).expect("a model");
    let (reads, header) = files[0].1.taken();
    assert!(reads <= 2 && header <= 512 << 10, "{reads} reads of {header} bytes");
    let info = model.find("blk.1.ffn_up").expect("there");
    let whole = block_on(model.tensor_async(info)).expect("loads");
    assert_eq!(files[0].1.taken(), (1, info.bytes));
    let rows = block_on(model.rows_async(info, 3..5)).expect("loads");
    assert_eq!(files[0].1.taken(), (1, 2 * info.bytes / info.rows()));
    assert_eq!(rows.dequantize(), whole.select_rows(&[3, 4]).expect("there").dequantize());
    assert_eq!(block_on(model.range_async(info, 7..9)).expect("there").len(), 2);
    assert_eq!(files[0].1.taken(), (1, 2));
    let error = model.tensor(info).expect_err("it lies elsewhere").to_string();
    assert!(error.contains("tensor_async") && error.contains("storybook"), "{error}");
    assert_eq!(files[0].1.taken(), (0, 0));
}

#[test]
fn loads_at_once_do_not_disturb_each_other() {
    let files = counted(&[path("golden/checkpoints/gptq-4bit-g128-sym/model.safetensors")]);
    let config = path("golden/checkpoints/gptq-4bit-g128-sym/config.json");
    let files = [files, counted(&[config])].concat();
    let model = open("gptq", &files).expect("a model");
    let all: Vec<_> = model.tensors().iter().filter(|info| info.dtype.format().is_some()).collect();
    let alone: Vec<_> = all.iter().map(|info| block_on(model.tensor_async(info)).expect("loads")).collect();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (model, all, alone) = (&model, &all, &alone);
                scope.spawn(move || {
                    for (info, wanted) in all.iter().zip(alone) {
                        let got = block_on(model.tensor_async(info)).expect("loads");
                        assert_eq!(got.dequantize(), wanted.dequantize(), "{}", info.name);
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    });
}

#[test]
fn what_is_truncated_is_told_as_on_the_disk() {
    let whole = std::fs::read(path("golden/gguf_files/types_align32.gguf")).expect("readable");
    let checkpoint = std::fs::read(path("golden/checkpoints/bnb-int8/model.safetensors")).expect("readable");
    for (name, bytes) in [("model.gguf", whole), ("model.safetensors", checkpoint)] {
        for end in (0..bytes.len()).step_by(bytes.len() / 97 + 1) {
            let part = bytes[..end].to_vec();
            let wanted = Model::from_bytes(name, part.clone()).err().map(|e| e.to_string());
            let got = open("", &[(name.into(), Counted::new(part))]).err().map(|e| e.to_string());
            assert_eq!(got, wanted, "{name} of {end} bytes");
        }
    }
}

/// A safetensors file of 6 GB that nobody holds: one tensor at its end is ones, the rest zeros.
struct Vast {
    header: Vec<u8>,
    size: u64,
    ones: u64,
    read: Mutex<u64>,
}

impl ByteRanges for Vast {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, range: Range<u64>) -> RangeFuture<'_> {
        *self.read.lock().expect("no panic") += range.end - range.start;
        let byte = |at: u64| match at {
            at if at < self.header.len() as u64 => self.header[at as usize],
            at if at >= self.ones => [0, 0, 0x80, 0x3f][((at - self.ones) % 4) as usize],
            _ => 0,
        };
        Box::pin(async move { Ok(range.map(byte).collect::<Vec<_>>().into()) })
    }
}

#[test]
fn a_file_of_6_gigabytes_is_opened_and_one_of_its_tensors_loaded() {
    let large: u64 = 3 << 30;
    let json = format!(
        r#"{{"a":{{"dtype":"F16","shape":[{rows},4096],"data_offsets":[0,{large}]}},"b":{{"dtype":"F16","shape":[{rows},4096],"data_offsets":[{large},{end}]}},"c":{{"dtype":"F32","shape":[3,8],"data_offsets":[{end},{last}]}}}}"#,
        rows = large / 8192,
        end = 2 * large,
        last = 2 * large + 96,
    );
    let header = [&(json.len() as u64).to_le_bytes()[..], json.as_bytes()].concat();
    let ones = header.len() as u64 + 2 * large;
    let file = Arc::new(Vast { size: ones + 96, ones, header, read: Mutex::default() });
    let model = block_on(Model::open_ranges("", &[("vast.safetensors", file.clone())])).expect("it opens");
    assert_eq!(model.tensors().len(), 3);
    assert!(std::mem::take(&mut *file.read.lock().expect("no panic")) <= 512 << 10);
    let tensor = block_on(model.tensor_async(model.find("c").expect("there"))).expect("it loads");
    assert_eq!(tensor.dequantize(), [1.0; 24]);
    assert_eq!(std::mem::take(&mut *file.read.lock().expect("no panic")), 96);
    let some = block_on(model.rows_async(model.find("b").expect("there"), 9..10)).expect("it loads");
    assert_eq!(some.dequantize(), [0.0; 4096]);
    assert_eq!(*file.read.lock().expect("no panic"), 8192);
}

/// A file whose source does something else from some read on.
struct Faulty {
    bytes: Vec<u8>,
    good: Mutex<usize>,
    fault: fn(Bytes) -> io::Result<Bytes>,
}

impl ByteRanges for Faulty {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&self, range: Range<u64>) -> RangeFuture<'_> {
        let bytes = Bytes::from(self.bytes[range.start as usize..range.end as usize].to_vec());
        let mut good = self.good.lock().expect("no panic");
        let answer = if *good == 0 { (self.fault)(bytes) } else { Ok(bytes) };
        *good = good.saturating_sub(1);
        Box::pin(async move { answer })
    }
}

#[test]
fn a_source_that_fails_or_lies_is_named_with_both_numbers() {
    let bytes = std::fs::read(path("data/storybook-3.7M-Q4_0.gguf")).expect("readable");
    let faults: [(&str, fn(Bytes) -> io::Result<Bytes>); 4] = [
        ("no such host", |_| Err(io::Error::other("no such host"))),
        ("0 came", |_| Ok(Bytes::new())),
        ("came", |bytes| Ok(bytes.slice(1..))),
        ("came", |bytes| Ok([&bytes[..], &[0]].concat().into())),
    ];
    for (said, fault) in faults {
        for good in [0, 1, 2] {
            let file = Arc::new(Faulty { bytes: bytes.clone(), good: Mutex::new(good), fault });
            let load = async {
                let model = Model::open_ranges("", &[("far.gguf", file)]).await?;
                let info = model.find("blk.0.attn_q")?;
                model.tensor_async(info).await?;
                model.tensor_async(info).await
            };
            let error = block_on(load).expect_err("a fault");
            let text = error.to_string();
            assert!(matches!(error, Error::Io { .. } | Error::Malformed { .. }), "{text}");
            assert!(text.contains("far.gguf") && text.contains(said), "{text}");
        }
    }
}

#[test]
fn what_is_no_model_or_lacks_a_part_is_told() {
    let open_one = |name: &str, bytes: &[u8]| open("here", &[(name.into(), Counted::new(bytes.to_vec()))]);
    let text = open_one("x.bin", b"PK\x03\x04 and more of it").expect_err("no model").to_string();
    assert!(text.contains("x.bin") && text.contains("PyTorch"), "{text}");
    assert!(open_one("x.gguf", b"").is_err() && open("here", &[]).is_err());
    let part = std::fs::read(root().join("tests/golden/gguf_files/types_align32.gguf")).expect("readable");
    let two = ["a.gguf", "b.gguf"].map(|name| (name.to_owned(), Counted::new(part.clone())));
    let text = open("here", &two).expect_err("two models").to_string();
    assert!(text.contains("here") && text.contains("2 files"), "{text}");
}
