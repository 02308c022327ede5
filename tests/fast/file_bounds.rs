//! Opening a file takes at most 100 ms, or 25 ns for each byte of a larger one, and 16 MiB and four
//! times the file of memory, whatever the file claims.
//!
//! The peak that the system keeps is a process's, so each file is opened in one of its own: this
//! test, started again. The times are those of a core at its usual speed; what shares its caches
//! and memory with others is given as much more as a fixed job takes there.

use qmatmul::file::imatrix::Imatrix;
use qmatmul::file::lora::Adapter;
use qmatmul::file::{Model, OpenOptions};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{env, fs};

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn gguf(tensors: u64, keys: u64) -> Vec<u8> {
    let mut out = b"GGUF\x03\0\0\0".to_vec();
    out.extend(tensors.to_le_bytes());
    out.extend(keys.to_le_bytes());
    out
}

/// So many keys of one byte each.
fn many_keys(count: u64) -> Vec<u8> {
    let mut out = gguf(0, count);
    for i in 0..count {
        string(&mut out, &format!("{i:x}"));
        out.extend([0, 0, 0, 0, 1]);
    }
    out
}

/// A vocabulary of so many tokens, and their scores.
fn vocabulary(count: u64) -> Vec<u8> {
    let mut out = gguf(0, 2);
    string(&mut out, "tokenizer.ggml.tokens");
    out.extend([9, 0, 0, 0, 8, 0, 0, 0]);
    out.extend(count.to_le_bytes());
    (0..count).for_each(|i| string(&mut out, &format!("token{i}")));
    string(&mut out, "tokenizer.ggml.scores");
    out.extend([9, 0, 0, 0, 6, 0, 0, 0]);
    out.extend(count.to_le_bytes());
    out.resize(out.len() + 4 * count as usize, 0);
    out
}

/// Empty tensors: the least bytes for the most to remember.
fn many_tensors(count: u64) -> Vec<u8> {
    let mut out = gguf(count, 0);
    for i in 0..count {
        string(&mut out, &format!("{i:x}"));
        out.extend([1, 0, 0, 0]);
        out.extend([0; 8 + 4 + 8]);
    }
    out.resize(out.len().next_multiple_of(32), 0);
    out
}

/// An importance matrix of so many weights with one value each, and what comes behind them.
fn importance(count: u32, end: &[u8]) -> Vec<u8> {
    let mut out = count.to_le_bytes().to_vec();
    for i in 0..count {
        let name = format!("{i:x}");
        out.extend((name.len() as u32).to_le_bytes());
        out.extend(name.as_bytes());
        out.extend([1u32, 1, 0].map(u32::to_le_bytes).concat());
    }
    out.extend(end);
    out
}

/// A data set whose name is as long as may be, and in no encoding.
fn data_set() -> Vec<u8> {
    [&110u32.to_le_bytes()[..], &65_535u32.to_le_bytes(), &[0xff; 65_535]].concat()
}

/// One key that claims an array of `claim` elements of type `element`, and `bytes` of it.
fn claimed_array(element: u8, claim: u64, bytes: usize) -> Vec<u8> {
    let mut out = gguf(0, 1);
    string(&mut out, "k");
    out.extend([9, 0, 0, 0, element, 0, 0, 0]);
    out.extend(claim.to_le_bytes());
    out.resize(out.len() + bytes, 0);
    out
}

fn safetensors(header: &str) -> Vec<u8> {
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header.as_bytes());
    out
}

fn many_safetensors(count: u64) -> Vec<u8> {
    let mut header = String::from("{");
    for i in 0..count {
        write!(header, r#""{i:x}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}},"#).unwrap();
    }
    header.pop();
    safetensors(&(header + "}"))
}

fn much_metadata(count: u64) -> Vec<u8> {
    let mut header = String::from(r#"{"__metadata__":{"#);
    (0..count).for_each(|i| write!(header, r#""{i:x}":"","#).unwrap());
    header.pop();
    safetensors(&(header + "}}"))
}

fn long_shape(count: usize) -> Vec<u8> {
    let shape = "1,".repeat(count);
    safetensors(&format!(r#"{{"w":{{"dtype":"U8","shape":[{shape}1],"data_offsets":[0,1]}}}}"#))
}

/// Headers with a long text where none belongs, in all places that a header has.
fn long_texts(len: usize) -> Vec<Vec<u8>> {
    // Which may become six in a message.
    let text = format!("\"{}\"", "\u{7f}".repeat(len));
    let tensor = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"w":{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    let headers = [
        format!(r#"{{"w":{text}}}"#),
        format!(r#"{{"__metadata__":{text}}}"#),
        tensor(&text, "[0]", "[0,0]"),
        tensor("\"U8\"", &text, "[0,0]"),
        tensor("\"U8\"", &format!("[{text}]"), "[0,0]"),
        tensor("\"U8\"", "[0]", &text),
        tensor("\"U8\"", "[0]", &format!("[{text},0]")),
    ];
    let indexes =
        [format!(r#"{{"weight_map":{text}}}"#), format!(r#"{{"a":0,"weight_map":{{"a":{text}}}}}"#)];
    headers.iter().map(|header| safetensors(header)).chain(indexes.map(String::into_bytes)).collect()
}

/// An index of so many tensors in one missing shard, or in as many.
fn index(count: u64, many: bool) -> Vec<u8> {
    let mut text = String::from(r#"{"weight_map":{"#);
    (0..count).for_each(|i| write!(text, r#""{i:x}":"{:x}","#, i * u64::from(many)).unwrap());
    text.pop();
    (text + "}}").into_bytes()
}

/// The longest config.json of the smallest values, and settings of them.
fn configs() -> Vec<(&'static str, String, bool)> {
    let keys: Vec<String> = (0..100_000).map(|i| format!(r#""{i:x}":0"#)).collect();
    let lists = format!(r#"{{"a":[{}[]]}}"#, "[],".repeat(349_000));
    let settings = format!(r#"{{"quantization_config":{{{}}}}}"#, keys.join(","));
    let method = format!(r#"{{"quantization_config":{{"quant_method":"{}"}}}}"#, "x".repeat(1_000_000));
    vec![
        ("349,000 empty lists in a config", lists, true),
        ("100,000 settings", settings, true),
        ("a tool with a name of 1 MB", method, true),
    ]
}

/// Weights of several tensors each, `count` tensors in all, named as shortly as may be: names,
/// types, shapes, and bytes of each part.
fn weights(count: u64, parts: &[(&str, &str, &str, &[u8])]) -> Vec<u8> {
    let (mut header, mut data) = (String::from("{"), Vec::<u8>::new());
    for i in 0..count / parts.len() as u64 {
        for (name, dtype, shape, bytes) in parts {
            let start = data.len();
            data.extend(*bytes);
            let end = data.len();
            write!(
                header,
                r#""{i:x}{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{end}]}},"#
            )
            .unwrap();
        }
    }
    header.pop();
    let mut file = safetensors(&(header + "}"));
    file.extend(data);
    file
}

/// FP8 with a scale each.
fn fp8(count: u64) -> Vec<u8> {
    weights(count, &[(".weight", "F8_E4M3", "[0,1]", &[]), (".weight_scale", "F32", "[1]", &[0; 4])])
}

/// FP8 without.
fn fp8_alone(count: u64) -> Vec<u8> {
    weights(count, &[(".weight", "F8_E4M3", "[0]", &[])])
}

fn gptq(count: u64) -> Vec<u8> {
    weights(
        count,
        &[
            (".qweight", "I32", "[1,8]", &[0; 32]),
            (".qzeros", "I32", "[1,1]", &[0; 4]),
            (".scales", "F16", "[1,8]", &[0; 16]),
        ],
    )
}

fn hqq(count: u64) -> Vec<u8> {
    weights(
        count,
        &[
            (".W_q", "U8", "[1,1]", &[0]),
            (".scale", "F16", "[1,1]", &[0; 2]),
            (".zero", "F16", "[1,1]", &[0; 2]),
            (".shape", "U8", "[2]", &[1, 1]),
        ],
    )
}

fn nf4(count: u64) -> Vec<u8> {
    let state = br#"{"quant_type":"nf4","blocksize":64,"dtype":"float16","shape":[0]}"#;
    let shape = format!("[{}]", state.len());
    weights(
        count,
        &[
            ("", "U8", "[0]", &[]),
            (".absmax", "F32", "[0]", &[]),
            (".quant_map", "F32", "[16]", &[0; 64]),
            (".quant_state.bitsandbytes__nf4", "U8", &shape, state),
        ],
    )
}

fn compressed(count: u64) -> Vec<u8> {
    weights(
        count,
        &[
            (".weight_packed", "I32", "[1,1]", &[0; 4]),
            (".weight_scale", "F16", "[1]", &[0; 2]),
            (".weight_shape", "I32", "[2]", &[1, 0, 0, 0, 32, 0, 0, 0]),
        ],
    )
}

/// Names that grow when they are printed, so many of them different.
fn odd_names(count: u64, different: u64) -> Vec<u8> {
    let mut header = String::from("{");
    for i in (0..count).map(|i| i % different) {
        write!(
            header,
            r#""\u001b\ud83d\ude00\u202e{i:x}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}},"#
        )
        .unwrap();
    }
    header.pop();
    safetensors(&(header + "}"))
}

/// Adapters of so many modules without a weight, whose names end as they are told to.
fn modules(count: u64, end: &str) -> Vec<u8> {
    let [a, b] = ["A", "B"].map(|side| format!("{end}.lora_{side}.weight"));
    let mut header = String::from("{");
    for i in 0..count {
        for (name, shape) in [(&a, "[1,0]"), (&b, "[0,1]")] {
            let name = format!("base_model.model.{i:x}{name}");
            write!(header, r#""{name}":{{"dtype":"F16","shape":{shape},"data_offsets":[0,0]}},"#).unwrap();
        }
    }
    header.pop();
    safetensors(&(header + "}"))
}

/// A configuration of PEFT with one key more.
fn lora_config(key: &str, value: &str) -> String {
    format!(r#"{{"peft_type":"LORA","r":1,"lora_alpha":1,"{key}":{value}}}"#)
}

/// A pattern table of so many keys that end as they are told to.
fn patterns(count: u64, end: &str) -> String {
    let keys: Vec<String> = (0..count).map(|i| format!(r#""{i:x}{end}":1"#)).collect();
    lora_config("alpha_pattern", &format!("{{{}}}", keys.join(",")))
}

/// Patterns of which thousands agree with the end of a name in several places, as dots stand for
/// any character.
fn dotted(count: usize) -> String {
    let end = |i: usize| -> String { [i % 3, i / 3 % 3].iter().map(|at| ["a", "c", "."][*at]).collect() };
    let keys: Vec<String> = (0..count).map(|i| format!(r#""{i:x}{}":1"#, end(i))).collect();
    lora_config("alpha_pattern", &format!("{{{}}}", keys.join(",")))
}

/// Empty matrices of so many modules whose names end in two letters that such patterns have.
fn lettered(count: usize) -> Vec<u8> {
    let entry = |i: usize, side: &str, shape: &str| {
        let (start, end) = (i / 4, ["aa", "ac", "ca", "cc"][i % 4]);
        format!(
            r#""base_model.model.{start:x}z{end}.lora_{side}.weight":{{"dtype":"F32","shape":{shape},"data_offsets":[0,0]}}"#
        )
    };
    let all: Vec<_> = (0..count).flat_map(|i| [entry(i, "A", "[1,0]"), entry(i, "B", "[0,1]")]).collect();
    safetensors(&format!("{{{}}}", all.join(",")))
}

/// Name, configuration and matrices of adapters, and whether they are valid.
fn adapters() -> Vec<(&'static str, String, Vec<u8>, bool)> {
    let end = "b".repeat(1000);
    let (few, many) = (modules(1, ""), modules(65_536, ""));
    let lists = |item: &str| format!("[{}]", vec![item; 1_048_000 / (item.len() + 1)].join(","));
    let objects = format!("{{{}}}", vec![r#""":{"":0}"#; 104_000].join(","));
    // States double with each letter that is left open.
    let costly = lora_config("alpha_pattern", r#"{".*[0-9].............................b":1}"#);
    vec![
        ("131,072 parts of empty modules", lora_config("x", "0"), many.clone(), true),
        ("131,072 parts of modules, 65,536 patterns", patterns(65_536, ".x"), many.clone(), false),
        ("131,072 parts of modules with 100 patterns", patterns(100, ""), many.clone(), true),
        ("131,072 parts of modules, many dots", dotted(100), lettered(65_536), true),
        ("131,072 parts of modules, a costly pattern", costly, many, true),
        ("1,000 long names, 1,000 long patterns", patterns(1000, &end), modules(1000, &end), false),
        ("1,000 long names and no dot", patterns(1000, &end), modules(1000, &format!(".z{end}")), false),
        ("262,000 lists in an adapter", lora_config("x", &lists("[0]")), few.clone(), true),
        ("149,000 objects in an adapter", lora_config("x", &lists(r#"{"":0}"#)), few.clone(), true),
        ("262,000 lists that are asked for", lora_config("r", &lists("[0]")), few.clone(), false),
        ("104,000 patterns of objects", lora_config("rank_pattern", &objects), few, false),
    ]
}

/// Name, bytes, and whether they are a valid file.
fn cases() -> Vec<(&'static str, Vec<u8>, bool)> {
    let slashes = format!(r#"{{"weight_map":{{"a":"x{}y"}}}}"#, "/".repeat(20_000_000)).into_bytes();
    let texts =
        long_texts(4_000_000).into_iter().map(|bytes| ("a long text where none belongs", bytes, false));
    let mut cases = vec![
        ("a path of 20,000,000 slashes", slashes, false),
        ("131,072 parts of FP8 weights", fp8(131_072), true),
        ("32,768 FP8 weights alone", fp8_alone(32_768), true),
        ("131,072 FP8 weights alone", fp8_alone(131_072), false),
        ("131,070 parts of GPTQ", gptq(131_070), true),
        ("131,072 parts of HQQ", hqq(131_072), true),
        ("131,072 parts of NF4", nf4(131_072), true),
        ("131,070 parts of compressed-tensors", compressed(131_070), true),
        ("100,000 odd names", odd_names(100_000, 100_000), true),
        ("100,000 odd names, the last twice", odd_names(100_000, 99_999), false),
        ("100,000 odd names, all the same", odd_names(100_000, 1), false),
        ("131,072 weights of an imatrix", importance(131_072, &data_set()), true),
        ("131,073 weights of an imatrix", importance(131_073, &[]), false),
        ("100,000 keys", many_keys(100_000), true),
        ("262,144 tokens", vocabulary(262_144), true),
        ("500,000 keys", many_keys(500_000), true),
        ("131,072 empty tensors", many_tensors(131_072), true),
        ("more keys than any file has", many_keys((1 << 20) + 1), false),
        ("more metadata than any file has", much_metadata((1 << 18) + 1), false),
        ("a claim of 2^60 keys", gguf(0, 1 << 60), false),
        ("a claim of 131,072 tensors", gguf(131_072, 0), false),
        ("a claim of 2^40 bytes", claimed_array(0, 1 << 40, 1 << 20), false),
        ("a claim of 2^17 + 1 strings", claimed_array(8, (1 << 17) + 1, 1 << 20), false),
        ("2^17 strings of which the last lies", lying_strings(1 << 17), false),
        ("65,536 nested arrays", claimed_array(9, 65_536, 12 << 16), true),
        ("100,000 safetensors", many_safetensors(100_000), true),
        ("262,144 pairs of metadata", much_metadata(1 << 18), true),
        ("262,144 tensors in an index", index(262_144, false), false),
        ("262,144 shards in an index", index(262_144, true), false),
        ("a shape of a million ones", long_shape(1_000_000), false),
        ("a claim of a header of 100 MB", 100_000_000u64.to_le_bytes().to_vec(), false),
    ];
    cases.extend(texts);
    cases
}

fn lying_strings(count: u64) -> Vec<u8> {
    let mut out = claimed_array(8, count, 8 * count as usize - 8);
    out.extend(9u64.to_le_bytes());
    out
}

/// A line of /proc/self/status, in bytes.
fn status(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Time this thread has run: what else the machine does shall not count. Not every kernel keeps it.
fn cpu_time() -> Option<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// Time of some work, without that of others where the system keeps it apart.
fn timed(work: impl FnOnce()) -> Duration {
    let (start, wall) = (cpu_time(), Instant::now());
    work();
    let wall = wall.elapsed();
    start.zip(cpu_time()).map_or(wall, |(start, end)| end - start)
}

/// The least that [`fixed_job`] took in many runs on an AMD EPYC of the third generation; beside
/// others it takes twice as long.
const USUAL: Duration = Duration::from_millis(40);

/// A job of the kind that opening is: many short texts, made, sorted, held and dropped.
fn fixed_job() {
    let texts = (0..65_536u32).map(|i| (format!("{:x}.weight", i.wrapping_mul(0x9e37_79b1)), vec![i, i]));
    let sorted: BTreeMap<String, Vec<u32>> = texts.collect();
    assert_eq!(std::hint::black_box(sorted).len(), 65_536);
}

/// What one opening took.
#[derive(Debug)]
struct Opened {
    valid: bool,
    time: Duration,
    memory: u64,
    /// What [`fixed_job`] took right after it.
    job: Duration,
}

impl Opened {
    /// The time that it would have taken at the usual speed.
    fn usual_time(&self) -> Duration {
        self.time.div_f64(self.job.div_duration_f64(USUAL).max(1.0))
    }
}

/// The part of the child: opens the file and prints what it took.
fn child(path: &str, mmap: bool) {
    let before = status("VmHWM:");
    let options = OpenOptions { mmap };
    let mut valid = false;
    let time = timed(|| {
        valid = match () {
            _ if Path::new(path).join("adapter_config.json").exists() => {
                Adapter::open(path, &options).is_ok()
            }
            _ if Imatrix::is_dat(path).expect("a file") => Imatrix::open(path, &options).is_ok(),
            _ => Model::open(path, &options).is_ok(),
        }
    });
    let memory = status("VmHWM:") - before;
    println!("\nopened {valid} {} {memory} {}", time.as_nanos(), timed(fixed_job).as_nanos());
}

/// The most time that a file may take: 100 ms, but 25 ns a byte where thousands of weights are put
/// together of several tensors each, whose names are looked up one by one.
fn longest(bytes: usize, parts: bool) -> Duration {
    let put_together = Duration::from_nanos(if parts { 25 * bytes as u64 } else { 0 });
    Duration::from_millis(100).max(put_together)
}

/// Opens the file in a process of its own.
fn measure(path: &Path, mmap: bool) -> Opened {
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "file_bounds::time_and_memory_are_bounded_by_the_file", "--nocapture"])
        .env("BOUNDS_FILE", path)
        .env("BOUNDS_MMAP", mmap.to_string())
        // As in the first thread of a program: others grow their heaps by many small calls.
        .env("MALLOC_ARENA_MAX", "1")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line =
        text.lines().find_map(|line| line.strip_prefix("opened ")).expect("the child prints what it took");
    let words: Vec<_> = line.split(' ').collect();
    let time = |word: &str| Duration::from_nanos(word.parse().unwrap());
    let (time, job) = (time(words[1]), time(words[3]));
    Opened { valid: words[0] == "true", time, memory: words[2].parse().unwrap(), job }
}

#[test]
fn time_and_memory_are_bounded_by_the_file() {
    if let Ok(path) = env::var("BOUNDS_FILE") {
        return child(&path, env::var("BOUNDS_MMAP").unwrap() == "true");
    }
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let mut failures = Vec::new();
    for (name, bytes, valid) in cases() {
        fs::write(&path, &bytes).unwrap();
        failures.extend(exceeded(name, &path, bytes.len(), valid));
    }
    for (name, config, valid) in configs() {
        fs::write(&path, safetensors("{}")).unwrap();
        fs::write(dir.path().join("config.json"), &config).unwrap();
        failures.extend(exceeded(name, &path, config.len(), valid));
    }
    for (name, config, matrices, valid) in adapters() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("adapter_config.json"), &config).unwrap();
        fs::write(folder.path().join("adapter_model.safetensors"), &matrices).unwrap();
        failures.extend(exceeded(name, folder.path(), config.len() + matrices.len(), valid));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// One test at a time: others would take the caches.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A run, and more while none is fast enough: what else the machine does makes some slow, but none
/// fast.
fn runs(path: &Path, mmap: bool, longest: Duration) -> Vec<Opened> {
    let mut runs = vec![measure(path, mmap)];
    while runs.len() < 20 && runs.iter().all(|run| run.usual_time() > longest) {
        runs.push(measure(path, mmap));
    }
    runs
}

/// What is wrong with the opening of a file of so many bytes, its config among them.
fn exceeded(name: &str, path: &Path, bytes: usize, valid: bool) -> Vec<String> {
    let mut failures = Vec::new();
    let budget = (16 << 20) + 4 * bytes as u64;
    for mmap in [true, false] {
        let longest = longest(bytes, name.contains(" parts of "));
        let runs = runs(path, mmap, longest);
        let time = runs.iter().map(Opened::usual_time).min().unwrap();
        let memory = runs.iter().map(|run| run.memory).max().unwrap();
        println!("{name:36} mmap {mmap:5} {time:>10.1?} {:>8} of {:>8} KiB", memory >> 10, budget >> 10);
        let expected = runs.iter().all(|run| run.valid == valid);
        if !expected || time > longest || memory > budget {
            failures.push(format!("{name}, mmap {mmap}: {runs:?}, budget {budget}"));
        }
    }
    failures
}

/// Four times the file takes about four times the time, not sixteen.
#[test]
fn time_is_linear_in_the_file() {
    type Make = fn(u64) -> Vec<u8>;
    let _alone = alone();
    let makers: &[(&str, Make)] = &[
        ("keys", many_keys),
        ("tokens", vocabulary),
        ("tensors of GGUF", many_tensors),
        ("safetensors", many_safetensors),
        ("metadata", much_metadata),
        ("names that are the same", |count| odd_names(count, 1)),
        ("FP8 and scales", fp8),
        ("NF4", nf4),
    ];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let time = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        measure(&path, false).usual_time()
    };
    let mut failures = Vec::new();
    for (name, make) in makers {
        let files = [32_000, 128_000].map(make);
        let mut least = [Duration::MAX; 2];
        // Four times the tensors, and the caches they no longer fit into; the square would be
        // sixteen times.
        let is_slow = |[small, large]: [Duration; 2]| large > 8 * small + Duration::from_millis(25);
        for round in 0..5 {
            if round >= 2 && !is_slow(least) {
                break;
            }
            least = [0, 1].map(|i| least[i].min(time(&files[i])));
        }
        println!("{name:36} {least:>10.1?}");
        if is_slow(least) {
            failures.push(format!("{name}: {least:?} for a quarter and for all"));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// A checkpoint of one shard: what is opened is the folder, and all its files count.
#[test]
fn shards_are_bounded_too() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let shard = fp8(131_072);
    let mut index = String::from(r#"{"weight_map":{"#);
    for i in 0..65_536 {
        write!(index, r#""{i:x}.weight":"s","{i:x}.weight_scale":"s","#).unwrap();
    }
    index.pop();
    index += "}}";
    fs::write(dir.path().join("s"), &shard).unwrap();
    fs::write(dir.path().join("model.safetensors.index.json"), &index).unwrap();
    let size = shard.len() + index.len();
    let runs = runs(dir.path(), true, longest(size, true));
    let budget = (16 << 20) + 4 * size as u64;
    println!("{runs:?}, budget {budget}");
    assert!(runs.iter().all(|run| run.valid && run.memory <= budget), "{runs:?}, budget {budget}");
    assert!(runs.iter().any(|run| run.usual_time() <= longest(size, true)), "{runs:?}");
}
