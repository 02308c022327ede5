//! Opening a file takes at most 100 ms, and 16 MiB and four times the file of memory, whatever the file claims.
//!
//! The peak that the system keeps is a process's, so each file is opened in one of its own: this test, started again.

#![cfg(target_os = "linux")]

use qmatmul::file::{Model, OpenOptions};
use std::fmt::Write;
use std::path::Path;
use std::process::Command;
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
        ("a tool with a name of 1 MB", method, false),
    ]
}

/// Name, bytes, and whether they are a valid file.
fn cases() -> Vec<(&'static str, Vec<u8>, bool)> {
    vec![
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
    ]
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

/// What one opening took.
#[derive(Debug)]
struct Opened {
    valid: bool,
    time: Duration,
    memory: u64,
}

/// The part of the child: opens the file and prints what it took.
fn child(path: &str, mmap: bool) {
    let before = status("VmHWM:");
    let (start, wall) = (cpu_time(), Instant::now());
    let model = Model::open(path, &OpenOptions { mmap });
    let wall = wall.elapsed();
    let time = start.zip(cpu_time()).map_or(wall, |(start, end)| end - start);
    println!("\nopened {} {} {}", model.is_ok(), time.as_nanos(), status("VmHWM:") - before);
}

/// Opens the file in a process of its own.
fn measure(path: &Path, mmap: bool) -> Opened {
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "time_and_memory_are_bounded_by_the_file", "--nocapture"])
        .env("BOUNDS_FILE", path)
        .env("BOUNDS_MMAP", mmap.to_string())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line =
        text.lines().find_map(|line| line.strip_prefix("opened ")).expect("the child prints what it took");
    let words: Vec<_> = line.split(' ').collect();
    let time = Duration::from_nanos(words[1].parse().unwrap());
    Opened { valid: words[0] == "true", time, memory: words[2].parse().unwrap() }
}

#[test]
fn time_and_memory_are_bounded_by_the_file() {
    if let Ok(path) = env::var("BOUNDS_FILE") {
        return child(&path, env::var("BOUNDS_MMAP").unwrap() == "true");
    }
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
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What is wrong with the opening of a file of so many bytes, its config among them.
fn exceeded(name: &str, path: &Path, bytes: usize, valid: bool) -> Vec<String> {
    let mut failures = Vec::new();
    let budget = (16 << 20) + 4 * bytes as u64;
    for mmap in [true, false] {
        let runs = [(); 3].map(|()| measure(path, mmap));
        let time = runs.iter().map(|run| run.time).min().unwrap();
        let memory = runs.iter().map(|run| run.memory).max().unwrap();
        println!("{name:36} mmap {mmap:5} {time:>10.1?} {:>8} of {:>8} KiB", memory >> 10, budget >> 10);
        let expected = runs.iter().all(|run| run.valid == valid);
        if !expected || time > Duration::from_millis(100) || memory > budget {
            failures.push(format!("{name}, mmap {mmap}: {runs:?}, budget {budget}"));
        }
    }
    failures
}
