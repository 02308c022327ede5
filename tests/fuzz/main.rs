//! Mutated files: whatever its bytes are, a reader answers with tensors that decode, or with an
//! error of the library that says what is wrong, in memory and time that the file's size bounds.
//!
//! `cargo test --test fuzz` tries some thousands of mutations for each reader.
//! `QMATMUL_FUZZ=10000000` tries ten million for each; `QMATMUL_FUZZ_FROM` is the first of them.
//! Each has a number, from which alone it is made: a failure prints it and leaves the files in a
//! folder, which belongs into `tests/data/corpus` once the fault is found: all that is there is
//! opened by each run.

#[path = "../common/mod.rs"]
mod common;
mod mutate;
mod seeds;

use bytes::{Bytes, BytesMut};
use mutate::{below, safetensors};
use qmatmul::check::Random;
use qmatmul::file::imatrix::Imatrix;
use qmatmul::file::lora::Adapter;
use qmatmul::file::{
    ByteRanges, Captures, Model, OpenOptions, RangeFuture, TensorInfo, activations_from_bytes,
    read_activations,
};
use qmatmul::{Error, PackedTensor, Result};
use rayon::prelude::*;
use seeds::Checkpoint;
use std::alloc::{GlobalAlloc, Layout, System};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs};

/// Files by name, as a folder has them.
type Files = Vec<(&'static str, Vec<u8>)>;

/// A reader under test.
struct Reader {
    name: &'static str,
    /// A valid input or a mutated one, by number.
    input: fn(&mut Random) -> Files,
    open: fn(&Files) -> Result<()>,
    /// Inputs of each run that is not told otherwise.
    short: u64,
}

const READERS: &[Reader] = &[
    Reader { name: "gguf", input: gguf, open: open_model, short: 20_000 },
    Reader { name: "safetensors", input: header, open: open_model, short: 20_000 },
    Reader { name: "index", input: index, open: open_model, short: 10_000 },
    Reader { name: "conventions", input: convention, open: open_model, short: 60_000 },
    Reader { name: "adapter", input: adapter, open: open_adapter, short: 20_000 },
    Reader { name: "activations", input: activations, open: open_activations, short: 10_000 },
    Reader { name: "npy", input: npy, open: open_npy, short: 20_000 },
    Reader { name: "imatrix", input: imatrix, open: open_imatrix, short: 20_000 },
];

// Inputs.

const MODEL: &str = "model.safetensors";
const CONFIG: &str = "config.json";
const INDEX: &str = "model.safetensors.index.json";
const ADAPTER: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];
const ACTIVATIONS: &str = "activations.safetensors";
const NPY: &str = "activations.npy";
const GGUF: &str = "model.gguf";
const IMATRIX: &str = "imatrix";

/// One mutation or up to four.
fn some(random: &mut Random, mut mutate: impl FnMut(&mut Random)) {
    let most = [1, 1, 4][below(random, 3)];
    (0..1 + below(random, most)).for_each(|_| mutate(random));
}

/// Every type of tensor and of metadata.
fn gguf(random: &mut Random) -> Files {
    static TYPES: &[u8] = include_bytes!("../golden/gguf_files/types_align32.gguf");
    static SCALES: &[u8] = include_bytes!("../golden/hub/gguf-nvfp4-scale/attn_k.gguf");
    let seed = [TYPES, TYPES, SCALES][below(random, 3)];
    // Headers are more often read than weights.
    let header = seed.len() / 2;
    let mut bytes = seed.to_vec();
    some(random, |random| match below(random, 4) {
        0 => mutate::bytes(random, &mut bytes),
        _ => {
            let mut head = bytes[..header.min(bytes.len())].to_vec();
            mutate::bytes(random, &mut head);
            bytes.splice(..header.min(bytes.len()), head);
        }
    });
    vec![(GGUF, bytes)]
}

/// The older form, small, so that its numbers and names are hit; or the head of a GGUF.
fn imatrix(random: &mut Random) -> Files {
    static SEED: &[u8] = include_bytes!("../golden/imatrix/stories260K.gguf");
    const HEAD: usize = 12 << 10;
    let mut bytes = seeds::imatrix();
    if below(random, 4) == 0 {
        bytes = SEED[..HEAD].to_vec();
        some(random, |random| mutate::bytes(random, &mut bytes));
        bytes.extend(&SEED[HEAD..]);
    } else {
        some(random, |random| mutate::bytes(random, &mut bytes));
    }
    vec![(IMATRIX, bytes)]
}

/// An array of NumPy's, whose header is mostly as long as it says.
fn npy(random: &mut Random) -> Files {
    let (mut header, data) = seeds::npy();
    if below(random, 4) > 0 {
        some(random, |random| mutate::text(random, &mut header));
    }
    let mut bytes = common::npy(&header, &data);
    if below(random, 4) == 0 {
        some(random, |random| mutate::bytes(random, &mut bytes));
    }
    vec![(NPY, bytes)]
}

/// The bytes and tokens of a header, mostly with the length that it then has.
fn mutated_header(random: &mut Random, file: &mut Vec<u8>) {
    let len = u64::from_le_bytes(file[..8].try_into().expect("8 bytes")) as usize;
    if below(random, 8) == 0 {
        return some(random, |random| mutate::bytes(random, file));
    }
    let (mut header, rest) = (file[8..8 + len].to_vec(), &file[8 + len..]);
    some(random, |random| mutate::text(random, &mut header));
    *file = safetensors(&header, rest);
}

fn header(random: &mut Random) -> Files {
    let mut file = mutate::file(&seeds::plain().tensors);
    mutated_header(random, &mut file);
    vec![(MODEL, file)]
}

fn index(random: &mut Random) -> Files {
    let all = seeds::plain().tensors;
    let mut files = [mutate::file(&all[..2]), mutate::file(&all[2..])];
    let map: serde_json::Map<_, _> = all
        .iter()
        .enumerate()
        .map(|(i, t)| (t.name.clone(), ["1", "2"][usize::from(i > 1)].into()))
        .collect();
    let mut index =
        serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map}).to_string().into_bytes();
    match below(random, 8) {
        0 => mutated_header(random, &mut files[0]),
        1 => mutated_header(random, &mut files[1]),
        _ => some(random, |random| mutate::text(random, &mut index)),
    }
    let [one, two] = files;
    vec![(INDEX, index), ("1", one), ("2", two)]
}

/// Tensors, settings, or the texts of both.
fn mutated(random: &mut Random, seed: Checkpoint) -> [Vec<u8>; 2] {
    let Checkpoint { mut tensors, mut config } = seed;
    match below(random, 8) {
        0..4 => some(random, |random| mutate::tensors(random, &mut tensors)),
        4 => some(random, |random| mutate::value(random, &mut config)),
        5 => some(random, |random| match below(random, 2) {
            0 => mutate::value(random, &mut config),
            _ => mutate::tensors(random, &mut tensors),
        }),
        _ => {}
    }
    let (mut file, mut text) = (mutate::file(&tensors), config.to_string().into_bytes());
    match below(random, 16) {
        0 => mutated_header(random, &mut file),
        1 => some(random, |random| mutate::text(random, &mut text)),
        _ => {}
    }
    [text, file]
}

fn convention(random: &mut Random) -> Files {
    thread_local!(static SEEDS: Vec<Checkpoint> = seeds::conventions());
    let seed = SEEDS.with(|seeds| seeds[below(random, seeds.len())].clone());
    let [text, file] = mutated(random, seed);
    // Without settings, shapes alone decide.
    match below(random, 4) {
        0 => vec![(MODEL, file)],
        _ => vec![(CONFIG, text), (MODEL, file)],
    }
}

fn adapter(random: &mut Random) -> Files {
    ADAPTER.into_iter().zip(mutated(random, seeds::adapter())).collect()
}

fn activations(random: &mut Random) -> Files {
    let mut all = seeds::activations();
    let seed = all.swap_remove(below(random, all.len()));
    let [_, file] = mutated(random, seed);
    vec![(ACTIVATIONS, file)]
}

// Readers.

/// Weights that are decoded: those of larger ones are no other.
const SMALL: u64 = 1 << 14;

fn in_memory(files: &Files) -> Vec<(&'static str, Bytes)> {
    files.iter().map(|(name, bytes)| (*name, Bytes::from(bytes.clone()))).collect()
}

fn open_model(files: &Files) -> Result<()> {
    let files = in_memory(files);
    let model = Model::from_files("fuzz", &files);
    let ranges: Vec<_> = files
        .iter()
        .map(|(name, bytes)| (*name, Arc::new(Ranges(bytes.clone())) as Arc<dyn ByteRanges>))
        .collect();
    let by_ranges = pollster::block_on(Model::open_ranges("fuzz", &ranges));
    match (&model, &by_ranges) {
        (Ok(model), Ok(by_ranges)) => same_tensors(model, by_ranges),
        (Err(error), Err(by_ranges)) => assert_eq!(error.to_string(), by_ranges.to_string(), "by ranges"),
        _ => panic!("in memory {:?}, by ranges {:?}", model.as_ref().err(), by_ranges.as_ref().err()),
    }
    look_at(&model?)
}

/// A file in memory that is read by ranges.
struct Ranges(Bytes);

impl ByteRanges for Ranges {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&self, range: Range<u64>) -> RangeFuture<'_> {
        Box::pin(std::future::ready(Ok(self.0.slice(range.start as usize..range.end as usize))))
    }
}

/// By ranges, each tensor of a model loads as it does in memory, or fails so.
fn same_tensors(model: &Model, by_ranges: &Model) {
    assert_eq!(model.tensors(), by_ranges.tensors());
    for (info, other) in model.tensors().iter().zip(by_ranges.tensors()).take(32) {
        if info.elements() > SMALL {
            continue;
        }
        let described = |tensor: Result<PackedTensor>| match tensor {
            Ok(tensor) => format!("{tensor:?} {:?}", tensor.data()),
            Err(error) => error.to_string(),
        };
        let loaded = pollster::block_on(by_ranges.tensor_async(other));
        assert_eq!(described(loaded), described(model.tensor(info)), "`{}`", info.name);
    }
}

fn open_adapter(files: &Files) -> Result<()> {
    let adapter = Adapter::from_files("fuzz", &in_memory(files))?;
    adapter.modules().iter().try_for_each(|module| {
        let low_rank = adapter.low_rank(adapter.find(&module.name)?)?;
        low_rank.a().dequantize();
        low_rank.b().dequantize();
        Ok(())
    })
}

fn open_activations(files: &Files) -> Result<()> {
    let bytes = Bytes::from(files[0].1.clone());
    let captured = Captures::from_bytes("fuzz", bytes.clone(), 6.0).map(drop);
    let batch = activations_from_bytes("fuzz", bytes)?;
    assert_eq!(batch.data.len(), batch.n * batch.k);
    captured
}

fn open_npy(files: &Files) -> Result<()> {
    let batch = activations_from_bytes("fuzz", files[0].1.clone())?;
    assert_eq!(batch.data.len(), batch.n * batch.k);
    Ok(())
}

fn open_imatrix(files: &Files) -> Result<()> {
    let imatrix = Imatrix::from_bytes("fuzz", files[0].1.clone())?;
    for entry in imatrix.entries() {
        assert!(std::ptr::eq(imatrix.find(&entry.name)?, entry), "`{}`", entry.name);
        assert!(entry.cols() > 0 && entry.count >= 0.0, "{entry:?}");
        std::hint::black_box(entry.is_usable());
    }
    Ok(())
}

/// Asks a model for everything, so that a panic anywhere shows.
fn look_at(model: &Model) -> Result<()> {
    for (key, value) in model.gguf().iter() {
        assert!(model.gguf().get(key).is_some());
        std::hint::black_box(value.to_string());
    }
    model.header().iter().for_each(|(key, _)| assert!(model.header().get(key).is_some()));
    let multiplied = model.multiplied().tensors().count();
    let products = model.products();
    assert!(products.len() <= multiplied && products.iter().all(|p| p.experts_used <= p.experts));
    std::hint::black_box(model.overview().rows());
    let mut outcome = Ok(());
    for info in model.tensors() {
        match look_at_tensor(model, info) {
            // Types of safetensors that are no format here: they are listed, and that is all.
            Err(Error::UnsupportedFormat { .. }) => {}
            other => outcome = outcome.and(other),
        }
    }
    outcome
}

fn look_at_tensor(model: &Model, info: &TensorInfo) -> Result<()> {
    assert_eq!(model.find(&info.name)?, info);
    for part in model.parts(info) {
        assert_eq!(model.bytes(part)?.len() as u64, part.bytes);
    }
    std::hint::black_box((info.bits_per_weight(), info.module.as_ref().map(|m| m.description())));
    let packed = model.tensor(info)?;
    assert_eq!((packed.rows() as u64, packed.cols() as u64), (info.rows(), info.cols()), "`{}`", info.name);
    if info.elements().max(info.rows()) <= SMALL {
        assert_eq!(packed.dequantize().len() as u64, info.elements());
        // Scales that are no numbers are found before a device sees them, or are no matter.
        std::hint::black_box((packed.check_finite().is_ok(), packed.layout(), packed.parts().len()));
        let some = model.rows(info, info.rows() / 2..info.rows())?;
        some.dequantize();
    }
    model.linear(info).map(drop)
}

// What must hold.

/// The largest single allocation, of those above 1 MiB.
static LARGEST: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, watched.
struct Watched;

fn watch(size: usize) {
    if size > 1 << 20 {
        LARGEST.fetch_max(size, Ordering::Relaxed);
    }
}

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        watch(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        watch(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        watch(size);
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

/// The longest that an input may take: hundreds of times what it does, for other work on the
/// machine.
const LONGEST: Duration = Duration::from_secs(5);

/// True if an input of this size is accepted, or what is wrong with the answer.
fn verdict(size: usize, open: impl FnOnce() -> Result<()>) -> Result<bool, String> {
    let start = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(open));
    let (time, largest) = (start.elapsed(), LARGEST.swap(0, Ordering::Relaxed));
    let bound = (16 << 20) + 4 * size;
    match outcome {
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            Err(format!(
                "panic: {}",
                text.or(panic.downcast_ref::<&str>().map(|s| s.to_string())).unwrap_or_default()
            ))
        }
        _ if time > LONGEST => Err(format!("it takes {time:?}")),
        _ if largest > bound => Err(format!("{largest} bytes at once for {size}, the bound is {bound}")),
        Ok(Ok(())) => Ok(true),
        Ok(Err(error)) => fault(&error).map_or(Ok(false), Err),
    }
}

/// What is wrong with an error.
fn fault(error: &Error) -> Option<String> {
    let message = error.to_string();
    let known = matches!(
        error,
        Error::Io { .. }
            | Error::Malformed { .. }
            | Error::UnsupportedFormat { .. }
            | Error::NotFound { .. }
            | Error::Shape { .. }
            | Error::NonFinite { .. }
            | Error::Argument(_)
    );
    match () {
        _ if !known => Some(format!("no error of a reader: {error:?}")),
        _ if message.trim().is_empty() => Some("an error without a message".into()),
        _ if message.chars().any(char::is_control) => Some(format!("control characters in {message:?}")),
        _ if message.len() > 8192 => Some(format!("a message of {} bytes", message.len())),
        _ => None,
    }
}

/// Leaves the input in a folder.
fn keep(reader: &Reader, number: u64, files: &Files) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{}-{number}", reader.name));
    fs::create_dir_all(&folder).expect("a folder for the input");
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes).expect("room");
    }
    folder
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not `{text}`")))
}

fn fuzz(name: &str) {
    let reader = READERS.iter().find(|r| r.name == name).expect("a reader of the table");
    let (count, from) =
        (number("QMATMUL_FUZZ").unwrap_or(reader.short), number("QMATMUL_FUZZ_FROM").unwrap_or(0));
    let start = Instant::now();
    let outcomes = (from..from + count).into_par_iter().map(|number| {
        // Neighbours would share most of their numbers.
        let mut random = Random::new(Random::new(number).next_u64());
        let files = (reader.input)(&mut random);
        let size = files.iter().map(|(_, bytes)| bytes.len()).sum();
        verdict(size, || (reader.open)(&files)).map(u64::from).map_err(|problem| {
            format!("{} #{number}: {problem}\n    in {}", reader.name, keep(reader, number, &files).display())
        })
    });
    // The first few failures are enough.
    let (failed, done): (Vec<_>, Vec<_>) = outcomes
        .fold(
            || (vec![], 0),
            |(mut failed, done), outcome| match outcome {
                Ok(accepted) => (failed, done + accepted),
                Err(problem) => {
                    failed.push(problem);
                    (failed, done)
                }
            },
        )
        .unzip();
    let (failed, accepted) = (failed.concat(), done.iter().sum::<u64>());
    let rate = count as f64 / start.elapsed().as_secs_f64();
    println!("{name}: {count} inputs, {accepted} accepted, {rate:.0} per second");
    assert!(
        failed.is_empty(),
        "{} of {count} failed:\n{}",
        failed.len(),
        failed[..failed.len().min(20)].join("\n")
    );
    // Both outcomes must be common, or the mutations miss what they are for.
    assert!(
        count < 1000 || (count / 100..count * 99 / 100).contains(&accepted),
        "{accepted} of {count} accepted"
    );
}

#[test]
fn mutated_gguf() {
    fuzz("gguf");
}

#[test]
fn mutated_headers_of_safetensors() {
    fuzz("safetensors");
}

#[test]
fn mutated_indexes() {
    fuzz("index");
}

#[test]
fn mutated_checkpoints_of_every_convention() {
    fuzz("conventions");
}

#[test]
fn mutated_adapters() {
    fuzz("adapter");
}

#[test]
fn mutated_activations() {
    fuzz("activations");
}

#[test]
fn mutated_npy_files() {
    fuzz("npy");
}

#[test]
fn mutated_importance_matrices() {
    fuzz("imatrix");
}

/// Real files, and the lengths of their headers.
fn real() -> Vec<(&'static str, Bytes, usize)> {
    let files = [
        "golden/gguf_files/types_align32.gguf",
        "data/storybook-3.7M-Q4_0.gguf",
        "golden/checkpoints/gptq-4bit-g128-sym/model.safetensors",
        "golden/checkpoints/lora/adapter_model.safetensors",
    ];
    let header = |(name, bytes): (&'static str, Bytes)| {
        let model = Model::from_bytes(name, bytes.clone()).unwrap_or_else(|e| panic!("{e}"));
        let data = model.tensors().iter().flat_map(|t| model.parts(t)).map(|t| t.offset).min();
        (name, bytes, data.expect("tensors") as usize)
    };
    files
        .map(|name| (name, Bytes::from(fs::read(common::path(name)).expect("in the repository"))))
        .into_iter()
        .map(header)
        .collect()
}

/// All bytes of a header; of a long one, one of 97 unless time does not matter.
fn places(header: usize) -> Vec<usize> {
    let step = if header < 1 << 13 || env::var("QMATMUL_FUZZ").is_ok() { 1 } else { 97 };
    (0..header).step_by(step).collect()
}

#[test]
fn no_truncated_header_is_accepted() {
    let mut failures = vec![];
    for (name, bytes, header) in real() {
        let cut = |at: &usize| {
            let cut = bytes.slice(..*at);
            let verdict = verdict(cut.len(), || Model::from_bytes(name, cut.clone()).map(drop));
            (verdict != Ok(false)).then(|| format!("{name} cut at {at}: {verdict:?}"))
        };
        failures.par_extend(places(header).par_iter().filter_map(cut));
    }
    common::report(&failures, 1);
}

#[test]
fn no_flipped_bit_of_a_header_breaks_anything() {
    let mut failures = vec![];
    for (name, bytes, header) in real() {
        let flip = |places: &[usize]| {
            let mut bytes = BytesMut::from(&bytes[..]);
            let bits = places.iter().flat_map(|at| (0..8).map(move |bit| (*at, 1u8 << bit)));
            bits.filter_map(|(at, bit)| {
                bytes[at] ^= bit;
                let flipped = std::mem::take(&mut bytes).freeze();
                let open = || look_at(&Model::from_bytes(name, flipped.clone())?);
                let verdict = verdict(flipped.len(), open);
                bytes = flipped.try_into_mut().expect("no one else holds it");
                bytes[at] ^= bit;
                verdict.err().map(|fault| format!("{name}, bit {bit:#x} of byte {at}: {fault}"))
            })
            .collect::<Vec<_>>()
        };
        failures.par_extend(places(header).par_chunks(64).flat_map_iter(flip));
    }
    common::report(&failures, 1);
}

/// A seed that is refused would be fuzzed in vain.
#[test]
fn seeds_are_accepted() {
    let folder = |checkpoint: &Checkpoint, names: [&'static str; 2]| -> Files {
        names
            .into_iter()
            .zip([checkpoint.config.to_string().into_bytes(), mutate::file(&checkpoint.tensors)])
            .collect()
    };
    for checkpoint in seeds::conventions().iter().chain([&seeds::plain()]) {
        let model = Model::from_files("seed", &in_memory(&folder(checkpoint, [CONFIG, MODEL])))
            .unwrap_or_else(|e| panic!("{e}"));
        let settings = checkpoint.config["quantization_config"].is_null();
        assert!(settings || model.tensors().iter().any(|t| t.module.is_some()), "{checkpoint:?}");
        let outcomes: Vec<_> = model.tensors().iter().map(|t| look_at_tensor(&model, t)).collect();
        let refused = outcomes
            .iter()
            .flat_map(|o| o.as_ref().err())
            .all(|e| matches!(e, Error::UnsupportedFormat { .. }));
        assert!(refused, "{:?}: {outcomes:?}", checkpoint.config);
    }
    open_adapter(&folder(&seeds::adapter(), ADAPTER)).unwrap_or_else(|e| panic!("{e}"));
    for checkpoint in seeds::activations() {
        open_activations(&folder(&checkpoint, [CONFIG, ACTIVATIONS])[1..].to_vec())
            .unwrap_or_else(|e| panic!("{e}"));
    }
    let (header, data) = seeds::npy();
    open_npy(&vec![(NPY, common::npy(&header, &data))]).unwrap_or_else(|e| panic!("{e}"));
    for seed in [seeds::imatrix(), include_bytes!("../golden/imatrix/stories260K.gguf").to_vec()] {
        open_imatrix(&vec![(IMATRIX, seed)]).unwrap_or_else(|e| panic!("{e}"));
    }
}

// What broke something once.

/// Opens a folder of the corpus from memory, mapped and read.
fn open_folder(folder: &Path) -> Vec<Result<bool, String>> {
    let has = |name: &&str| folder.join(name).is_file();
    let read = |name| (name, fs::read(folder.join(name)).expect("readable"));
    let names = [ADAPTER[0], ADAPTER[1], INDEX, "1", "2", CONFIG, MODEL, GGUF, ACTIVATIONS, NPY, IMATRIX];
    let files: Files = names.into_iter().filter(has).map(read).collect();
    let (size, adapter) = (files.iter().map(|(_, bytes)| bytes.len()).sum(), has(&ADAPTER[0]));
    let on_disk = |mmap| match adapter {
        _ if has(&IMATRIX) => Imatrix::open(folder.join(IMATRIX), &OpenOptions { mmap }).map(drop),
        _ if has(&NPY) => read_activations(&folder.join(NPY)).map(drop),
        true => Adapter::open(folder, &OpenOptions { mmap }).map(drop),
        false => Model::open(folder, &OpenOptions { mmap }).and_then(|model| look_at(&model)),
    };
    let in_memory = || match () {
        _ if adapter => open_adapter(&files),
        _ if has(&ACTIVATIONS) => open_activations(&files),
        _ if has(&NPY) => open_npy(&files),
        _ if has(&IMATRIX) => open_imatrix(&files),
        _ => open_model(&files),
    };
    vec![verdict(size, in_memory), verdict(size, || on_disk(true)), verdict(size, || on_disk(false))]
}

#[test]
fn the_corpus_breaks_nothing() {
    let entries = fs::read_dir(common::path("data/corpus")).expect("in the repository");
    let folders: Vec<PathBuf> = entries.map(|e| e.expect("readable").path()).filter(|p| p.is_dir()).collect();
    let faults = |folder: &PathBuf| {
        let faults = open_folder(folder).into_iter().filter_map(Result::err);
        faults.map(|fault| format!("{}: {fault}", folder.display())).collect::<Vec<_>>()
    };
    common::report(&folders.iter().flat_map(faults).collect::<Vec<_>>(), folders.len());
}
