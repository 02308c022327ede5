//! Models by byte ranges: the same as from the disk, from no more bytes than it takes, and every
//! way in which a source can fail or lie.

use crate::common::{f32_tensor, path, write_tensors};
use bytes::Bytes;
use qmatmul::Error;
use qmatmul::file::gguf_write::{self, Destination, Entries, NewTensor};
use qmatmul::file::{ByteRanges, DType, Model, OpenOptions, RangeFuture, TensorInfo};
use qmatmul::format;
use std::fs;
use std::future::poll_fn;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

/// What is fetched of a header at least, as the library has it.
const AHEAD: u64 = 256 << 10;

/// A source in memory that notes what is read, and is never ready at once.
#[derive(Default)]
struct Counted {
    bytes: Bytes,
    reads: Mutex<Vec<Range<u64>>>,
}

impl Counted {
    /// The ranges that were read since this was asked before.
    fn take(&self) -> Vec<Range<u64>> {
        std::mem::take(&mut self.reads.lock().unwrap())
    }
}

impl ByteRanges for Counted {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&self, range: Range<u64>) -> RangeFuture<'_> {
        assert!(range.start < range.end && range.end <= self.len(), "{range:?} of {}", self.len());
        self.reads.lock().unwrap().push(range.clone());
        let bytes = self.bytes.slice(range.start as usize..range.end as usize);
        Box::pin(async move {
            yield_once(2).await;
            Ok(bytes)
        })
    }
}

/// Is pending so many times.
async fn yield_once(mut times: u32) {
    poll_fn(|context| {
        context.waker().wake_by_ref();
        times = times.saturating_sub(1);
        if times == 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

type Sources = Vec<(String, Arc<Counted>)>;

fn counted(files: impl IntoIterator<Item = (String, Bytes)>) -> Sources {
    let source = |bytes| Arc::new(Counted { bytes, reads: Mutex::default() });
    files.into_iter().map(|(name, bytes)| (name, source(bytes))).collect()
}

/// The files that a path stands for: itself, or those of the folder.
fn sources(path: &Path) -> (String, Sources) {
    let read = |path: &Path| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        (name, Bytes::from(fs::read(path).expect("readable")))
    };
    let folder = if path.is_dir() { path } else { path.parent().expect("a folder") };
    let files = match path.is_dir() {
        true => {
            let entries = fs::read_dir(path).expect("a folder").map(|entry| entry.expect("readable").path());
            entries.filter(|path| path.is_file()).map(|path| read(&path)).collect()
        }
        false => vec![read(path)],
    };
    (folder.display().to_string(), counted(files))
}

fn by_ranges(label: &str, sources: &Sources) -> Result<Model, Error> {
    let files: Vec<_> =
        sources.iter().map(|(name, source)| (&**name, source.clone() as Arc<dyn ByteRanges>)).collect();
    pollster::block_on(Model::open_ranges(label, &files))
}

fn one(source: impl ByteRanges + 'static) -> Result<Model, Error> {
    pollster::block_on(Model::open_ranges("", &[("model.safetensors", Arc::new(source))]))
}

fn open(path: &Path) -> Result<Model, Error> {
    Model::open(path, &OpenOptions::default())
}

/// What was read since this was asked before: bytes, and how many times.
fn taken(sources: &Sources) -> (u64, usize) {
    let reads: Vec<_> = sources.iter().flat_map(|(_, source)| source.take()).collect();
    (reads.iter().map(|range| range.end - range.start).sum(), reads.len())
}

/// Every model of the repository: GGUF files, safetensors files, and folders of checkpoints.
fn models() -> Vec<PathBuf> {
    let mut folders = vec![path("data"), path("golden")];
    let mut found = vec![];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("readable").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            match () {
                _ if path.is_dir() => folders.push(path),
                _ if name == "model.safetensors" => found.push(folder.clone()),
                // Beside settings, a file alone would be another model.
                _ if ["config.json", "quantize_config.json"].iter().any(|c| folder.join(c).is_file()) => {}
                _ if name.ends_with(".gguf") || name.ends_with(".safetensors") => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// Everything that a model says without its tensors' bytes.
fn description(model: &Model) -> Vec<String> {
    let mut lines = vec![format!("{} {} {:?}", model.path().display(), model.kind(), model.int8_threshold())];
    lines.extend(model.files().map(|(path, len)| format!("{} {len}", path.display())));
    lines.extend(model.gguf().iter().map(|(key, value)| format!("{key} {value}")));
    lines.extend(model.header().iter().map(|(key, value)| format!("{key} {value}")));
    lines.push(format!("{:?}", model.config()));
    for tensor in model.tensors() {
        let module = tensor.module.as_ref().map(|module| module.description());
        let parts: Vec<_> = model.parts(tensor).iter().map(|t| (&t.name, t.offset, t.bytes)).collect();
        lines.push(format!("{tensor:?} {module:?} {parts:?}"));
    }
    lines
}

fn text<T>(result: Result<T, Error>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

fn values(tensor: &qmatmul::PackedTensor) -> (String, [usize; 2], Vec<u32>) {
    let bits = tensor.dequantize().iter().map(|value| value.to_bits()).collect();
    (tensor.format().name.to_string(), [tensor.rows(), tensor.cols()], bits)
}

/// One tensor from the disk and by ranges, and what was read for it.
fn compare(disk: &Model, info: &TensorInfo, model: &Model, sources: &Sources) {
    taken(sources);
    let other = model.find(&info.name).expect("the same list");
    let name = format!("{} {}", disk.path().display(), info.name);
    let (parts, kept) = (model.parts(other), other.module.as_ref().is_some_and(|m| m.has_kept_columns()));
    let all: u64 = parts.iter().map(|part| part.bytes).sum();
    let loaded = text(pollster::block_on(model.tensor_async(other)));
    let (bytes, reads) = taken(sources);
    assert!(bytes <= all && reads <= parts.len(), "{name}: {bytes} of {all} bytes in {reads} reads");
    if loaded.is_ok() && !kept {
        assert_eq!(bytes, all, "{name}");
    }
    assert_eq!(loaded.as_ref().map(values), text(disk.tensor(info)).as_ref().map(values), "{name}");
    let bytes = |bytes: Result<Bytes, Error>| text(bytes);
    assert_eq!(bytes(pollster::block_on(model.bytes_async(other))), bytes(disk.bytes(info)), "{name}");
    let linear = text(pollster::block_on(model.linear_async(other)));
    let described = |linear: &qmatmul::Linear| format!("{linear:?}");
    assert_eq!(linear.as_ref().map(described), text(disk.linear(info)).as_ref().map(described), "{name}");
    if info.rows() > 1 {
        taken(sources);
        let rows = text(pollster::block_on(model.rows_async(other, 1..2)));
        assert_eq!(rows.as_ref().map(values), text(disk.rows(info, 1..2)).as_ref().map(values), "{name}");
        if info.module.is_none() && rows.is_ok() {
            assert_eq!(taken(sources).0, info.bytes / info.rows(), "{name}: one row");
        }
    }
    if loaded.is_ok() && all > 0 {
        let error = model.tensor(other).expect_err("its bytes are not there").to_string();
        assert!(error.contains("tensor_async"), "{error}");
    }
}

#[test]
fn every_model_is_the_same_as_from_the_disk() {
    let (mut opened, mut tensors) = (0, 0);
    for path in models() {
        let (label, sources) = sources(&path);
        let (disk, ranges) = (text(open(&path)), text(by_ranges(&label, &sources)));
        let (read, _) = taken(&sources);
        let total: u64 = sources.iter().map(|(_, source)| source.len()).sum();
        assert!(read <= total, "{}: {read} of {total} bytes", path.display());
        let (disk, ranges) = match (disk, ranges) {
            (Ok(disk), Ok(ranges)) => (disk, ranges),
            (disk, ranges) => {
                assert_eq!(disk.map(drop), ranges.map(drop), "{}", path.display());
                continue;
            }
        };
        // Of a model from a folder, the folder is the path.
        let (wanted, got) = (description(&disk), description(&ranges));
        let is_alone = path.is_dir() && sources.len() == 1;
        assert_eq!(wanted[usize::from(is_alone)..], got[usize::from(is_alone)..], "{}", path.display());
        assert_eq!(disk.overview().rows(), ranges.overview().rows(), "{}", path.display());
        opened += 1;
        for info in disk.tensors() {
            compare(&disk, info, &ranges, &sources);
            tensors += 1;
        }
    }
    eprintln!("models: {opened}, tensors: {tensors}");
    assert!(opened > 40 && tensors > 200, "{opened} models, {tensors} tensors");
}

/// Cut anywhere, a file by ranges gets the message that it gets on the disk.
#[test]
fn truncated_files_get_the_same_messages() {
    let dir = tempfile::tempdir().unwrap();
    let files = ["data/storybook-3.7M-Q4_0.gguf", "golden/checkpoints/gguf/tiny-Q4_K_M.gguf"];
    let checkpoints = ["gptq-4bit-g128-sym", "bnb-nf4-dq", "bnb-int8"];
    let checkpoints = checkpoints.map(|name| format!("golden/checkpoints/{name}/model.safetensors"));
    let mut checked = 0;
    for file in files.into_iter().chain(checkpoints.iter().map(|name| &**name)) {
        let original = path(file);
        let bytes = Bytes::from(fs::read(&original).unwrap());
        let name = original.file_name().unwrap().to_string_lossy().into_owned();
        let copy = dir.path().join(&name);
        fs::write(&copy, &bytes).unwrap();
        let mut cuts: Vec<usize> = (0..40).chain((1..60).map(|i| bytes.len() * i / 60)).collect();
        cuts.extend(
            [bytes.len() - 1, AHEAD as usize, AHEAD as usize + 1].map(|cut| cut.min(bytes.len() - 1)),
        );
        cuts.sort_unstable();
        for cut in cuts.into_iter().rev() {
            fs::OpenOptions::new().write(true).open(&copy).unwrap().set_len(cut as u64).unwrap();
            let wanted = open(&copy).expect_err("it is cut").to_string();
            let sources = counted([(name.clone(), bytes.slice(..cut))]);
            let label = dir.path().display().to_string();
            let got = by_ranges(&label, &sources).expect_err("it is cut").to_string();
            assert_eq!(got, wanted, "{name} at {cut}");
            checked += 1;
        }
    }
    assert!(checked > 400, "{checked}");
}

/// A file that nobody has: its header, and zeros up to its length.
struct Virtual {
    header: Bytes,
    len: u64,
    read: Arc<AtomicU64>,
}

impl ByteRanges for Virtual {
    fn len(&self) -> u64 {
        self.len
    }

    fn read(&self, range: Range<u64>) -> RangeFuture<'_> {
        self.read.fetch_add(range.end - range.start, Ordering::Relaxed);
        let byte = |at: u64| self.header.get(at as usize).copied().unwrap_or((at >> 24) as u8 | 1);
        Box::pin(std::future::ready(Ok(range.map(byte).collect::<Vec<u8>>().into())))
    }
}

#[test]
fn of_six_gigabytes_one_tensor_is_read() {
    const LARGE: u64 = 1_500_000 * 1024 * 4;
    let json = format!(
        r#"{{"a":{{"dtype":"F32","shape":[1500000,1024],"data_offsets":[0,{LARGE}]}},"b":{{"dtype":"U8","shape":[16,64],"data_offsets":[{LARGE},{}]}}}}"#,
        LARGE + 1024
    );
    let header = [&(json.len() as u64).to_le_bytes()[..], json.as_bytes()].concat();
    let len = header.len() as u64 + LARGE + 1024;
    let read = Arc::new(AtomicU64::new(0));
    let model = one(Virtual { header: header.into(), len, read: read.clone() }).unwrap();
    assert_eq!(read.swap(0, Ordering::Relaxed), AHEAD, "one step");
    let (a, b) = (model.find("a").unwrap(), model.find("b").unwrap());
    assert_eq!((a.bytes, b.offset > u64::from(u32::MAX)), (LARGE, true));
    let bytes = pollster::block_on(model.bytes_async(b)).unwrap();
    assert_eq!(read.swap(0, Ordering::Relaxed), 1024);
    assert!(bytes.len() == 1024 && bytes.iter().all(|byte| *byte == (b.offset >> 24) as u8 | 1));
    let rows = pollster::block_on(model.rows_async(a, 1_400_000..1_400_003)).unwrap();
    assert_eq!((rows.rows(), rows.cols(), read.swap(0, Ordering::Relaxed)), (3, 1024, 3 * 4096));
    let error = pollster::block_on(model.rows_async(a, 1_400_000..1_500_001)).unwrap_err();
    assert!(matches!(error, Error::Shape { .. }), "{error}");
    let range = pollster::block_on(model.range_async(a, LARGE - 2..LARGE)).unwrap();
    assert_eq!((range.len(), read.load(Ordering::Relaxed)), (2, 2));
}

/// A vocabulary of many megabytes: steps that double, so few reads and at most twice the header.
#[test]
fn long_headers_take_few_reads() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("long.gguf");
    let mut entries = Entries::new();
    entries.set_str("general.architecture", "llama");
    entries.set_str("long", &"text ".repeat(1 << 21));
    let tensor =
        NewTensor { name: "w".into(), dtype: DType::Supported(format::F32), shape: vec![1024, 1024] };
    gguf_write::write(&path, &entries, &[tensor], |_, sink| sink.put(&vec![1; 4 << 20])).unwrap();
    let (label, sources) = sources(&path);
    let model = by_ranges(&label, &sources).unwrap();
    let header = model.tensors()[0].offset;
    let (bytes, reads) = taken(&sources);
    assert!(header > 10 << 20 && bytes <= 2 * header && reads <= 7, "{header}: {bytes} in {reads}");
    assert_eq!(description(&model), description(&open(&path).unwrap()));
}

/// Parts of a GGUF and shards of a checkpoint are fetched side by side: as many rounds as for one.
#[test]
fn parts_and_shards_are_one_model() {
    let dir = tempfile::tempdir().unwrap();
    let whole = open(&path("data/storybook-3.7M-Q4_0.gguf")).unwrap();
    let new = |t: &TensorInfo| NewTensor { name: t.name.clone(), dtype: t.dtype, shape: t.shape.clone() };
    let tensors: Vec<_> = whole.tensors().iter().map(new).collect();
    let out = dir.path().join("m");
    let to = Destination::in_parts(&out, Some(500_000));
    gguf_write::write(to, &Entries::from(whole.gguf()), &tensors, |i, sink| {
        sink.put(&whole.bytes(&whole.tensors()[i])?)
    })
    .unwrap();
    let (label, parts) = sources(dir.path());
    assert!(parts.len() > 2, "{}", parts.len());
    let (disk, model) = (open(dir.path()).unwrap(), by_ranges(&label, &parts).unwrap());
    assert!(taken(&parts).1 <= 3 * parts.len());
    assert_eq!(description(&disk), description(&model));
    disk.tensors().iter().for_each(|info| compare(&disk, info, &model, &parts));
    // One is missing.
    let wanted = {
        fs::remove_file(dir.path().join(parts.iter().map(|(name, _)| name).max().unwrap())).unwrap();
        open(dir.path()).unwrap_err().to_string()
    };
    let mut fewer = sources(dir.path()).1;
    fewer.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(by_ranges(&label, &fewer).unwrap_err().to_string(), wanted);

    let dir = tempfile::tempdir().unwrap();
    let mut map = serde_json::Map::new();
    for shard in 0..40 {
        let (file, name) = (format!("s{shard}.safetensors"), format!("w{shard}.weight"));
        write_tensors(&dir.path().join(&file), &[f32_tensor(&name, &[2, 3], &[shard as f32; 6])]);
        map.insert(name, file.into());
    }
    let index = serde_json::json!({ "weight_map": map }).to_string();
    fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
    let (label, shards) = sources(dir.path());
    let (disk, model) = (open(dir.path()).unwrap(), by_ranges(&label, &shards).unwrap());
    assert!(taken(&shards).1 <= 42);
    assert_eq!(description(&disk), description(&model));
    disk.tensors().iter().for_each(|info| compare(&disk, info, &model, &shards));
}

fn is_send<T: Send>(future: T) -> T {
    future
}

#[test]
fn loads_at_once_do_not_disturb_each_other() {
    for name in ["awq-gemm-g128", "bnb-nf4-dq", "bnb-int8", "gptq-4bit-g128-sym"] {
        let folder = path("golden/checkpoints").join(name);
        let (label, sources) = sources(&folder);
        let (disk, model) = (open(&folder).unwrap(), by_ranges(&label, &sources).unwrap());
        let load = |info| -> Pin<Box<dyn Future<Output = _> + Send + '_>> {
            Box::pin(is_send(model.linear_async(info)))
        };
        // Each tensor three times, all begun before any ends.
        let infos: Vec<_> = model.tensors().iter().cycle().take(3 * model.tensors().len()).collect();
        let mut loads: Vec<_> = infos.iter().map(|info| (Some(load(info)), None)).collect();
        pollster::block_on(poll_fn(|context| {
            for (future, done) in loads.iter_mut().rev() {
                if let Some(Poll::Ready(result)) = future.as_mut().map(|f| f.as_mut().poll(context)) {
                    (*future, *done) = (None, Some(result));
                }
            }
            if loads.iter().all(|(future, _)| future.is_none()) { Poll::Ready(()) } else { Poll::Pending }
        }));
        for (info, (_, done)) in infos.iter().zip(loads) {
            let wanted = disk.linear(disk.find(&info.name).unwrap());
            let weight = |linear: &qmatmul::Linear| (format!("{linear:?}"), values(linear.weight()));
            let (got, wanted) = (text(done.unwrap()), text(wanted));
            assert_eq!(got.as_ref().map(weight), wanted.as_ref().map(weight), "{name} {}", info.name);
        }
    }
}

/// What a source does wrong.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Fails,
    Short,
    Long,
    Nothing,
    Shrinks,
    ShrinksAndFails,
    Grows,
}

/// A file in memory whose source is wrong from this read on.
struct Faulty {
    bytes: Bytes,
    fault: Fault,
    good: usize,
    reads: AtomicUsize,
}

impl Faulty {
    fn is_wrong(&self) -> bool {
        self.reads.load(Ordering::Relaxed) > self.good
    }
}

impl ByteRanges for Faulty {
    fn len(&self) -> u64 {
        let len = self.bytes.len() as u64;
        match self.fault {
            Fault::Shrinks | Fault::ShrinksAndFails if self.is_wrong() => len - 10,
            Fault::Grows if self.is_wrong() => len + 10,
            _ => len,
        }
    }

    fn read(&self, range: Range<u64>) -> RangeFuture<'_> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let bytes = self.bytes.slice(range.start as usize..range.end as usize);
        let other = match self.fault {
            _ if !self.is_wrong() => Ok(bytes),
            Fault::Fails | Fault::ShrinksAndFails => Err(std::io::Error::other("the line is dead")),
            Fault::Short => Ok(bytes.slice(1..)),
            Fault::Long => Ok([&bytes[..], &[0]].concat().into()),
            Fault::Nothing => Ok(Bytes::new()),
            Fault::Shrinks | Fault::Grows => Ok(bytes),
        };
        Box::pin(std::future::ready(other))
    }
}

#[test]
fn sources_that_fail_or_lie_are_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let values: Vec<f32> = (0..100_000).map(|i| i as f32).collect();
    write_tensors(&path, &[f32_tensor("a", &[1000, 100], &values)]);
    let bytes = Bytes::from(fs::read(&path).unwrap());
    let len = bytes.len();
    let faulty = |fault, good| Faulty { bytes: bytes.clone(), fault, good, reads: AtomicUsize::new(0) };
    let cases = [
        (Fault::Fails, "bytes RANGE of LEN: the line is dead".to_owned()),
        (Fault::Short, "wanted the COUNT bytes RANGE, its source gave LESS".into()),
        (Fault::Long, "wanted the COUNT bytes RANGE, its source gave MORE".into()),
        (Fault::Nothing, "wanted the COUNT bytes RANGE, its source gave 0".into()),
        (Fault::Shrinks, format!("it had LEN bytes when it was opened, now it has {}", len - 10)),
        (Fault::ShrinksAndFails, format!("it had LEN bytes when it was opened, now it has {}", len - 10)),
        (Fault::Grows, format!("it had LEN bytes when it was opened, now it has {}", len + 10)),
    ];
    for (fault, wanted) in cases {
        let check = |error: Error, range: Range<u64>| {
            let count = range.end - range.start;
            let numbers = [("LESS", count - 1), ("MORE", count + 1), ("COUNT", count), ("LEN", len as u64)];
            let wanted = wanted.replace("RANGE", &format!("{range:?}"));
            let wanted = numbers.iter().fold(wanted, |text, (key, n)| text.replace(key, &n.to_string()));
            let error = error.to_string();
            assert!(error.contains("model.safetensors") && error.ends_with(&wanted), "{fault:?}: {error}");
        };
        check(one(faulty(fault, 0)).expect_err("nothing was read"), 0..AHEAD);
        let model = one(faulty(fault, 1)).expect("the header is good");
        let info = model.find("a").unwrap();
        check(
            pollster::block_on(model.tensor_async(info)).expect_err("no tensor"),
            info.offset..info.offset + info.bytes,
        );
        let row = info.offset + 400..info.offset + 800;
        let error = pollster::block_on(model.rows_async(info, 1..2)).expect_err("no row");
        check(error, row);
    }
}

#[test]
fn no_files_and_other_files_are_rejected() {
    let none = pollster::block_on(Model::open_ranges("nothing", &[])).unwrap_err();
    assert_eq!(none.to_string(), "nothing: there are no files to open");
    let empty = by_ranges("", &counted([("model.gguf".into(), Bytes::new())])).unwrap_err();
    assert!(matches!(empty, Error::Malformed { .. }), "{empty}");
    let texts = [("a.txt", "a"), ("b.txt", "b")].map(|(name, text)| (name.to_owned(), Bytes::from(text)));
    let error = by_ranges("texts", &counted(texts)).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
}

/// Whoever has both kinds of models loads them by one form.
#[test]
fn models_from_the_disk_have_the_asynchronous_form_too() {
    let model = open(&path("golden/checkpoints/gguf/tiny-Q4_K_M.gguf")).unwrap();
    for info in model.tensors() {
        let loaded = pollster::block_on(model.tensor_async(info)).unwrap();
        assert_eq!(values(&loaded), values(&model.tensor(info).unwrap()));
    }
}
