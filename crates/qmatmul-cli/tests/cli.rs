//! The command as a person or a script sees it: output, exit codes, files left behind.

#[path = "../../../tests/common/mod.rs"]
mod common;

use common::{f32_tensor, lora_config, lora_tensors, model_path, path, write_adapter, write_tensors};
use qmatmul::file::{Model, OpenOptions, read_activations, write_f32};
use qmatmul::kernel::{Activations, reference};
use qmatmul::{Linear, file::lora::Adapter};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

fn qmatmul(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qmatmul"));
    command.args(args).current_dir(common::root()).env_remove("RUST_LOG");
    command
}

/// A run that must succeed.
fn success(args: &[&str]) -> Output {
    succeeded(&mut qmatmul(args))
}

fn succeeded(command: &mut Command) -> Output {
    let output = command.output().expect("the command starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Standard output of a run that must succeed.
fn output(args: &[&str]) -> String {
    String::from_utf8(success(args).stdout).expect("UTF-8")
}

/// Exit code and standard error of a run that must fail without a panic.
fn failure(args: &[&str]) -> (i32, String) {
    let output = qmatmul(args).output().expect("the command starts");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!text.contains("panicked") && !text.contains("backtrace"), "{text}");
    (output.status.code().expect("ended by itself"), text)
}

/// The results of JSON lines: what follows the head, up to the verdict.
fn json_lines(text: &str) -> Vec<serde_json::Value> {
    let mut rows: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let verdict = rows.pop().expect("a verdict");
    assert!(verdict["verdict"]["ok"].is_boolean(), "{verdict}");
    assert_eq!(rows.remove(0)["schema"], 1, "{text}");
    rows
}

/// The results of JSON.
fn json_results(text: &str) -> Vec<serde_json::Value> {
    let mut whole: serde_json::Value = serde_json::from_str(text).expect("JSON");
    assert!(whole["schema"] == 1 && whole["verdict"]["ok"].is_boolean(), "{text}");
    match whole["results"].take() {
        serde_json::Value::Array(results) => results,
        _ => panic!("no results: {text}"),
    }
}

/// The last line of standard output.
fn verdict(text: &str) -> &str {
    text.lines().last().unwrap_or_default()
}

fn model() -> String {
    model_path().display().to_string()
}

fn write_x(folder: &Path, n: usize, k: usize) -> (String, Vec<f32>) {
    let x = qmatmul::check::activations(n * k, 3);
    let file = folder.join("x.safetensors");
    write_f32(&file, "x", &[n, k], &x).expect("a new file");
    (file.display().to_string(), x)
}

#[test]
fn devices_lists_an_adapter() {
    let text = output(&["devices", "-f", "json"]);
    let devices = json_results(&text);
    assert!(devices[0]["name"].is_string() && devices[0]["features"].is_array(), "{text}");
    assert!(devices[0]["limits"]["workgroup_invocations"].is_u64() && devices[0]["index"] == 0, "{text}");
}

#[test]
fn devices_are_chosen_by_number_backend_and_name() {
    let text = output(&["devices", "-f", "json"]);
    let devices = json_results(&text);
    let field = |key: &str| devices[0][key].as_str().expect("text").to_owned();
    let (name, backend) = (field("name"), field("backend"));
    for device in ["0".to_owned(), backend.to_lowercase(), format!("{backend}:{}", name.to_uppercase())] {
        let args = ["dequantize", &model(), "output_norm", "--device", &device, "--output", "-"];
        let said = success(&args).stderr;
        let said = String::from_utf8(said).expect("text");
        assert!(said.contains(&format!("device: {name} ({backend}")), "{device}: {said}");
    }
    let metal_or_dx12 = if backend == "Metal" { "dx12" } else { "metal" };
    for wanted in ["4090", metal_or_dx12, &format!("{metal_or_dx12}:{name}"), "no such device"] {
        let (code, text) = failure(&["bench", "--device", wanted]);
        assert!(
            code == 3 && text.contains(wanted) && text.contains(&format!("0 {name} ({backend}")),
            "{text}"
        );
    }
}

#[test]
fn inspect_shows_every_tensor() {
    let lines = output(&["inspect", &model(), "-f", "jsonl"]);
    let rows = json_lines(&lines);
    assert_eq!(rows.len(), 38);
    let embedding = rows.iter().find(|r| r["tensor"] == "token_embd.weight").expect("the embedding");
    assert_eq!(
        (&embedding["format"], &embedding["shape"]),
        (&"Q6_K".into(), &serde_json::json!([2048, 256]))
    );
    assert_eq!(embedding["bytes"], 2048 * 210);
}

/// The two forms of one importance matrix make the same table, but for what they count:
/// activations, or calls.
#[test]
fn inspect_shows_importance_matrices() {
    let rows = |form: &str, count: u32| -> Vec<serde_json::Value> {
        let file = format!("tests/golden/imatrix/stories260K.{form}");
        let lines = output(&["inspect", &file, "--tensors", "*attn*", "-f", "jsonl"]);
        let mut rows = json_lines(&lines);
        for row in &mut rows {
            assert_eq!((row["count"].take(), &row["usable"]), (f64::from(count).into(), &true.into()));
            for number in ["mean_square", "largest"] {
                row[number] = format!("{:.5e}", row[number].as_f64().expect("a number")).into();
            }
        }
        rows.sort_by_key(|row| row["weight"].to_string());
        rows
    };
    assert_eq!(rows("dat", 2), rows("gguf", 256));
    assert_eq!(rows("dat", 2).len(), 4 * 5, "four in each of five layers");
    let (code, text) = failure(&["inspect", "tests/golden/imatrix/stories260K.dat", "--tensors", "none"]);
    assert_eq!(code, 2, "{text}");
}

#[test]
fn inspect_lists_types_that_are_not_supported() {
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("mask.safetensors");
    let mask = safetensors::tensor::TensorView::new(safetensors::Dtype::U8, vec![2, 3], &[1; 6]);
    let mask = mask.expect("six bytes");
    safetensors::serialize_to_file([("mask", mask)], None, &file).expect("a new file");
    let file = file.display().to_string();
    let text = output(&["inspect", &file, "-f", "csv"]);
    assert!(text.contains("mask,U8,2 x 3,6,8"), "{text}");
    assert!(text.lines().skip(1).all(|l| l.ends_with(",false,")), "{text}");
    let (code, text) = failure(&["dequantize", &file, "mask", "--output", "-"]);
    assert_eq!(code, 4, "{text}");
    assert!(text.contains("mask") && text.contains("U8") && text.contains("Q4_0"), "{text}");
}

#[test]
fn check_passes_on_the_real_file() {
    let every = json_lines(&output(&["check", &model(), "-n", "1,8", "-f", "jsonl", "-v"]));
    let products: Vec<_> = every.iter().filter(|row| row["op"] == "matmul").collect();
    assert_eq!(
        (every.len(), products.len()),
        (38 * 2 + 29 * 2, 29 * 2),
        "dequantize and get_rows for each of 38 tensors, two batch sizes for each that is multiplied"
    );
    let is_norm = |row: &&&serde_json::Value| row["tensor"].as_str().is_some_and(|t| t.contains("norm"));
    assert_eq!(products.iter().filter(is_norm).count(), 0);
    // Summed up: the same cases.
    let groups = json_lines(&output(&["check", &model(), "-n", "1,8", "-f", "jsonl"]));
    assert_eq!(groups.len(), 8, "F32, Q4_0 and Q6_K: decoded, and two of them multiplied");
    assert_eq!(groups.iter().filter_map(|row| row["cases"].as_u64()).sum::<u64>(), 134);
    assert!(groups.iter().all(|row| row["ok"] == true && row["tensor"].is_null()), "{groups:?}");
    for quiet in [&[][..], &["-q"]] {
        let text = output(&[&["check", &model()][..], quiet].concat());
        assert!(verdict(&text).starts_with("OK 134 checks on 38 tensors: "), "{text}");
        assert!(text.lines().count() == if quiet.is_empty() { 11 } else { 1 }, "{text}");
        assert!(verdict(&text).chars().count() <= 100, "{text}");
    }
}

/// A few of each format, spread over the file, and what the verdict says of it.
#[test]
fn check_takes_a_sample() {
    let text = output(&["check", &model(), "--sample", "2", "-f", "jsonl", "-v", "-n", "1"]);
    let rows = json_lines(&text);
    let names: std::collections::BTreeSet<_> = rows.iter().map(|row| row["tensor"].to_string()).collect();
    assert_eq!(names.len(), 5, "two of F32 and Q4_0, and the one of Q6_K: {names:?}");
    let text = output(&["check", &model(), "--sample", "1", "-n", "1"]);
    assert!(verdict(&text).contains("on 3 of 38 tensors"), "{text}");
    assert_eq!(failure(&["check", "--sample", "1"]).0, 2, "no file to take one of");
    assert_eq!(failure(&["check", &model(), "--sample", "0"]).0, 2);
}

/// Every kernel that the device could be given with these activations.
#[test]
fn check_tries_everything_on_a_file() {
    let (model, some) = (model(), ["--full", "--tensors", "blk.0.attn_k*", "--activations", "q8"]);
    let args = [&["check", &model, "-f", "jsonl", "-v"][..], &some].concat();
    let rows = json_lines(&output(&args));
    let count =
        |key: &str| rows.iter().map(|row| row[key].to_string()).collect::<std::collections::BTreeSet<_>>();
    assert!(rows.iter().all(|row| row["ok"] == true), "{rows:?}");
    assert!(count("kernel").len() > 4 && count("n").len() == 4, "{:?} {:?}", count("kernel"), count("n"));
    assert_eq!(count("activations").len(), 2, "q8, and none where nothing is multiplied");
}

/// What a driver's author is sent: the device, what was asked of it, and every outcome.
#[test]
fn check_writes_a_report() {
    let dir = TempDir::new().expect("a temporary folder");
    let path = dir.path().join("report.json");
    let report = path.display().to_string();
    let args = ["check", &model(), "--tensors", "blk.0.attn_q*", "-n", "3", "--no-f16", "--report", &report];
    let done = success(&args);
    let said = String::from_utf8(done.stdout).expect("text");
    assert!(verdict(&said).starts_with("OK 3 checks on 1 tensor: "), "{said}");
    let text = std::fs::read_to_string(&path).expect("it was written");
    let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&report["checks"], &report["failed"]), (&3.into(), &0.into()));
    assert_eq!((&report["switches"]["f16"], &report["switches"]["subgroups"]), (&false.into(), &true.into()));
    assert!(report["adapter"]["driver"].is_string() && report["verdict"] == verdict(&said));
    assert_eq!(report["not_checked"], serde_json::json!({}));
    assert!(report["qmatmul"]["wgpu"].is_string() && report["date"].is_string(), "{report}");
    let product = &report["outcomes"][2];
    assert_eq!((&product["operation"], &product["n"]), (&"matmul".into(), &3.into()));
    assert!(product["kernel"].as_str().is_some_and(|k| !k.is_empty()), "{product}");
    assert_eq!(product["comparison"]["passed"], true);
    // The model itself.
    let copy = dir.path().join("model.gguf");
    std::fs::copy(model_path(), &copy).expect("room");
    let before = std::fs::read(&copy).expect("a file");
    let copied = copy.display().to_string();
    let (code, text) = failure(&["check", &copied, "--report", &copied]);
    assert!(code == 2 && text.contains("being read"), "{code}: {text}");
    assert!(std::fs::read(&copy).expect("a file") == before);
    // A folder that is not there: the error names the file, before anything is checked.
    let missing = dir.path().join("no/report.json").display().to_string();
    let args = ["check", &model(), "--tensors", "blk.0.attn_q*", "-n", "1", "--report", &missing];
    let (code, text) = failure(&args);
    assert!(code == 2 && text.contains("report.json") && !text.contains("device:"), "{code}: {text}");
}

/// Tensors without a value are nothing to be right or wrong about, and what cannot be checked ends
/// no check of others.
#[test]
fn check_goes_on_after_what_it_cannot_check() {
    let dir = TempDir::new().expect("a temporary folder");
    let write = |name: &str, tensors: &[(&str, Vec<usize>, f32)]| {
        let file = dir.path().join(name);
        let tensors = tensors
            .iter()
            .map(|(name, shape, value)| f32_tensor(name, shape, &vec![*value; shape.iter().product()]));
        write_tensors(&file, &tensors.collect::<Vec<_>>());
        file.display().to_string()
    };
    let summary = |output: &std::process::Output| {
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
    };
    let mixed = write("mixed", &[("a", vec![8, 64], 1.0), ("b", vec![64, 0], 0.0), ("c", vec![8, 64], 2.0)]);
    let output = qmatmul(&["check", &mixed, "-n", "1"]).output().expect("it starts");
    let text = summary(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(
        text.contains("OK 6 checks on 2 of 3 tensors: ") && text.contains("nothing to compare: b"),
        "{text}"
    );

    let empty = write("empty", &[("b", vec![0, 64], 0.0)]);
    let output = qmatmul(&["check", &empty]).output().expect("it starts");
    let text = summary(&output);
    assert!(output.status.code() == Some(2) && text.contains("WRONG nothing was compared"), "{text}");

    // No sum of a device that adds up in f32 can be right here, and none is wrong.
    let huge = write("huge", &[("h", vec![4, 64], 3e38), ("a", vec![8, 64], 1.0)]);
    let output = qmatmul(&["check", &huge, "-n", "1"]).output().expect("it starts");
    let text = summary(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("OK 5 checks on 2 tensors"), "{text}");
    assert!(text.contains("h, matmul n = 1: ok, nmse 0.0e0, 4 of 4 beyond f32 not compared"), "{text}");

    // What was found before an error counts: the weight of an adapter that is none.
    let adapter = dir.path().join("adapter");
    let matrix = |side: &str, shape: [usize; 2], value: f32| {
        let name = format!("base_model.model.a.lora_{side}.weight");
        f32_tensor(&name, &shape, &vec![value; shape[0] * shape[1]])
    };
    let tensors = [matrix("A", [2, 64], f32::NAN), matrix("B", [8, 2], 1.0)];
    write_adapter(&adapter, &lora_config(2, 2.0), &tensors);
    let base = write("base", &[("a.weight", vec![8, 64], 1.0)]);
    let args = ["check", &base, "-n", "1", "--lora", &adapter.display().to_string()];
    let output = qmatmul(&args).output().expect("it starts");
    let text = summary(&output);
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(text.contains("WRONG 1 tensor could not be checked, 3 checks are right"), "{text}");

    let large = write("large", &[("large", vec![512, 64], 1.0), ("a", vec![8, 64], 1.0)]);
    let report = dir.path().join("report.json").display().to_string();
    let args = ["check", &large, "-n", "1", "--mem-limit", "64K", "--report", &report];
    let output = qmatmul(&args).output().expect("it starts");
    let text = summary(&output);
    assert_eq!(output.status.code(), Some(5), "{text}");
    assert!(text.contains("large: could not be checked: uploading `large`: wanted 131072 bytes"), "{text}");
    assert!(text.contains("WRONG 1 tensor could not be checked, 3 checks are right"), "{text}");
    let report: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&report).expect("it was written")).expect("JSON");
    assert!(report["not_checked"]["large"].is_string() && report["checks"] == 3, "{report}");
}

/// A verdict is about what was compared, and the report tells the rest.
#[test]
fn check_tells_what_it_left_out() {
    let dir = TempDir::new().expect("a temporary folder");
    let [file, report] = ["some.safetensors", "report.json"].map(|name| dir.path().join(name));
    let tensors = [
        f32_tensor("a", &[8, 64], &[1.0; 512]),
        f32_tensor("nan", &[1, 64], &[f32::NAN; 64]),
        ("flags".into(), safetensors::Dtype::BOOL, vec![4], vec![1; 4]),
    ];
    write_tensors(&file, &tensors);
    let check = |file: &Path| {
        let args = ["check", "-n", "1", "--activations", "f16", "--report", &report.display().to_string()];
        let output = qmatmul(&args).arg(file).output().expect("it starts");
        let text = [&output.stderr, &output.stdout].map(|text| String::from_utf8_lossy(text)).concat();
        assert_eq!(output.status.code(), Some(0), "{text}");
        let report = std::fs::read_to_string(&report).expect("it was written");
        (text, serde_json::from_str::<serde_json::Value>(&report).expect("JSON"))
    };
    let (text, found) = check(&file);
    assert!(text.contains("OK 5 checks on 2 of 3 tensors"), "{text}");
    assert!(text.contains("not checked, format not supported: flags (BOOL)"), "{text}");
    assert!(text.contains("not multiplied, weights not finite: nan"), "{text}");
    // No product with exact activations was made.
    assert!(
        text.lines().any(|l| l.contains("matmul") && l.contains("f16") && !l.contains("1.0e-10")),
        "{text}"
    );
    let names: Vec<_> = found["not_checked"].as_object().expect("names").keys().collect();
    assert_eq!(names, ["flags", "nan"]);
    // Not every file system takes such a name.
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::ffi::OsStrExt;
        let odd = dir.path().join(std::ffi::OsStr::from_bytes(b"a\xff.safetensors"));
        write_f32(&odd, "a", &[8, 64], &[1.0; 512]).expect("a new file");
        let (text, found) = check(&odd);
        assert!(text.contains("OK 3 checks on 1 tensor") && found["failed"] == 0, "{text}");
    }
}

/// Shapes of no bytes whose columns would need gigabytes of activations.
#[test]
fn check_makes_nothing_of_nothing() {
    let dir = TempDir::new().expect("a temporary folder");
    let file = dir.path().join("nothing.safetensors");
    write_f32(&file, "a.weight", &[0, 3_000_000_000], &[]).expect("a new file");
    let start = std::time::Instant::now();
    let (code, text) = failure(&["check", &file.display().to_string()]);
    assert!(code == 2 && text.contains("nothing to compare: a.weight"), "{code} {text}");
    assert!(start.elapsed() < std::time::Duration::from_secs(10), "{:?}", start.elapsed());

    // An adapter without an element may claim any rank.
    let rank = 4_294_967_295;
    let base = dir.path().join("base.safetensors");
    write_f32(&base, "a.weight", &[0, 0], &[]).expect("a new file");
    let adapter = dir.path().join("adapter");
    let matrix = |side: &str, shape: [usize; 2]| {
        f32_tensor(&format!("base_model.model.a.lora_{side}.weight"), &shape, &[])
    };
    let tensors = [matrix("A", [rank, 0]), matrix("B", [0, rank])];
    write_adapter(&adapter, &lora_config(rank, 1.0), &tensors);
    let [base, adapter] = [base, adapter].map(|path| path.display().to_string());
    let (code, text) = failure(&["check", &base, "--lora", &adapter]);
    assert!(code == 2 && text.contains("nothing to compare: a.weight"), "{code} {text}");
}

/// A real file mixes types; a file of statistics holds NaN.
#[test]
fn check_chooses_per_tensor() {
    let text = output(&[
        "check",
        &path("data/storybook-3.7M-Q4_K_M.gguf").display().to_string(),
        "-n",
        "1,9",
        "-f",
        "csv",
    ]);
    assert!(
        text.starts_with("tensor,format,shape,op,activations,n,kernel,cases,worst_nmse,bound,ok,problem\n")
    );
    for format in ["Q4_K", "Q6_K", "F32"] {
        assert!(text.contains(&format!(",{format},")), "{format}");
    }
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("stats.safetensors");
    let mut w = qmatmul::check::activations(4 * 8, 1);
    w[9] = f32::NAN;
    write_f32(&file, "stats", &[4, 8], &w).expect("a new file");
    let text = output(&["check", &file.display().to_string(), "-f", "csv", "-v"]);
    assert!(text.contains("stats,F32,4 x 8,dequantize") && !text.contains("matmul"), "{text}");
}

#[test]
fn matmul_on_gpu_and_cpu_agree_with_the_reference() {
    let folder = TempDir::new().expect("a temporary folder");
    let (x_file, x) = write_x(folder.path(), 3, 768);
    let y_file = folder.path().join("y.safetensors").display().to_string();
    let model_file = Model::open(model_path(), &OpenOptions::default()).expect("the demo file");
    let packed = model_file.find("blk.0.ffn_down").and_then(|t| model_file.tensor(t)).expect("a real tensor");
    let want = reference::matmul(&packed, &x).expect("shapes fit");
    for device in [&[][..], &["--device", "cpu"]] {
        let args = ["matmul", &model(), "blk.0.ffn_down", "--input", &x_file, "--output", &y_file];
        output(&[&args[..], device].concat());
        let y = read_activations(y_file.as_ref()).expect("the output is a safetensors file");
        assert_eq!((y.n, y.k), (3, 256));
        let comparison = qmatmul::check::compare(&y.data, &want, qmatmul::check::NMSE_F32);
        assert!(comparison.passed, "{device:?}: {comparison}");
    }
}

#[test]
fn dequantize_streams_to_standard_output() {
    let run = |device: &str| {
        let args = ["dequantize", &model(), "token_embd", "--output", "-", "--device", device, "-q"];
        success(&args).stdout
    };
    let (cpu, gpu) = (run("cpu"), run("0"));
    let activations =
        qmatmul::file::activations_from_bytes("standard output", cpu.clone()).expect("safetensors");
    assert_eq!((activations.n, activations.k), (2048, 256));
    assert!(cpu == gpu);
    // A pipe by the name of a file, which no path leads to.
    #[cfg(target_os = "linux")]
    {
        let args = ["dequantize", &model(), "token_embd", "--output", "/dev/stdout", "--device", "cpu"];
        assert!(success(&args).stdout == cpu);
    }
}

#[test]
fn quantize_writes_what_check_accepts() {
    let folder = TempDir::new().expect("a temporary folder");
    let f32_file = folder.path().join("f32.safetensors");
    let w = qmatmul::check::activations(64 * 96, 1);
    write_f32(&f32_file, "layer.weight", &[64, 96], &w).expect("a new file");
    for format in ["q4_0", "Q4_1", "q5_0", "q5_1", "q8_0", "f16", "bf16", "f32"] {
        let out = folder.path().join(format!("{format}.gguf")).display().to_string();
        let text = output(&[
            "quantize",
            &f32_file.display().to_string(),
            &out,
            "--type",
            format,
            "--bare",
            "-f",
            "csv",
        ]);
        assert!(text.contains(&format!("layer.weight,F32,{},", format.to_uppercase())), "{text}");
        output(&["check", &out, "-n", "1", "-f", "csv"]);
    }
    for (name, scales) in [("nf4", "f32"), ("nf4-dq", "8 bits"), ("FP4", "f32"), ("fp4_dq", "8 bits")] {
        let out = folder.path().join(name).display().to_string();
        let text = output(&[
            "quantize",
            &f32_file.display().to_string(),
            &out,
            "--type",
            name,
            "--block",
            "64",
            "--bare",
            "-f",
            "csv",
        ]);
        assert!(text.contains(&format!("layer.weight,F32,{},", name[..3].to_uppercase())), "{text}");
        let listed = output(&["inspect", &out, "-f", "csv"]);
        let wanted = format!("bitsandbytes, blocks of 64, scales in {scales}");
        assert!(listed.contains(&wanted), "{listed}");
        output(&["check", &out, "-n", "1", "-f", "csv"]);
    }
    for name in ["uint4", "int8-dq"] {
        let (code, text) = failure(&["quantize", &f32_file.display().to_string(), "out", "--type", name]);
        assert!(code == 2 && text.contains("none of the types that can be written"), "{text}");
        assert!(text.contains("INT8") && !text.contains("UINT4,"), "{text}");
    }
    let q4_0 = ["quantize", &f32_file.display().to_string(), "out.gguf", "--type", "q4_0", "--block", "64"];
    let (code, text) = failure(&q4_0);
    assert!(code == 2 && text.contains("fixed size"), "{text}");
    let (code, text) = failure(&["quantize", &f32_file.display().to_string(), "out", "--type", "q4_0-dq"]);
    assert!(code == 2 && text.contains("NF4-DQ"), "{text}");
}

/// Every verb takes any part for the whole, and speaks of the whole.
#[test]
fn parts_of_a_model_stand_for_it() {
    let folder = TempDir::new().expect("a temporary folder");
    let out = folder.path().join("m.gguf").display().to_string();
    let quantize = ["quantize", &model(), &out, "--type", "q8_0", "--allow-requantize", "--split-max-size"];
    output(&[&quantize[..], &["1500K"]].concat());
    let mut parts: Vec<_> =
        std::fs::read_dir(folder.path()).expect("the folder").map(|e| e.expect("readable").path()).collect();
    parts.sort();
    assert!(
        parts.len() > 1 && parts.iter().all(|p| p.metadata().expect("there").len() <= 1_500_000),
        "{parts:?}"
    );
    let last = parts.last().expect("some").display().to_string();
    assert!(last.ends_with(&format!("m-{0:05}-of-{0:05}.gguf", parts.len())), "{last}");
    for path in [last.clone(), folder.path().display().to_string()] {
        let done = success(&["inspect", &path, "-f", "md"]);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(said.contains(&format!("a model in {} parts", parts.len())), "{said}");
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(verdict(&text).starts_with("OK 38 tensors, "), "{text}");
    }
    let args = ["check", &last, "--tensors", "*norm*", "-n", "1"];
    let said = String::from_utf8_lossy(&success(&args).stdout).into_owned();
    assert!(verdict(&said).starts_with("OK 18 checks on 9 tensors"), "{said}");
    std::fs::remove_file(&parts[0]).expect("it is there");
    let (code, text) = failure(&["check", &last]);
    assert!(code == 4 && text.contains("m-00001-of-") && text.contains("is missing"), "{text}");
    let (code, text) = failure(&[&quantize[..], &["4X"]].concat());
    assert!(code == 2 && text.contains("4G"), "{text}");
    let nf4 = ["quantize", &model(), &out, "--type", "nf4", "--split-max-size", "1M"];
    assert!(matches!(failure(&nf4), (2, text) if text.contains("--split-max-size is for GGUF")));
}

#[test]
fn quantize_gives_the_same_files_on_every_device() {
    let folder = TempDir::new().expect("a temporary folder");
    let f32_file = folder.path().join("f32.safetensors").display().to_string();
    let w = qmatmul::check::activations(33 * 70, 1);
    write_f32(Path::new(&f32_file), "layer.weight", &[33, 70], &w).expect("a new file");
    for name in ["nf4", "fp4-dq"] {
        let run = |device: &[&str]| {
            let out = folder.path().join(format!("{name}{}", device.concat()));
            let args = [
                "quantize",
                &f32_file,
                &out.display().to_string(),
                "--type",
                name,
                "--bare",
                "--block",
                "32",
            ];
            let said = success(&[&args, device].concat()).stderr;
            let said = String::from_utf8(said).expect("text").contains("device: ");
            let files = ["model.safetensors", "config.json"];
            (said, files.map(|file| std::fs::read(out.join(file)).expect("it was written")))
        };
        let [default, cpu, first] = [&[][..], &["--device", "cpu"], &["--device", "0"]].map(run);
        assert_eq!((default.0, cpu.0, first.0), (false, false, true), "which device was opened");
        assert!(default.1 == cpu.1 && cpu.1 == first.1, "{name}");
    }
    let out = folder.path().join("none").display().to_string();
    let (code, text) = failure(&["quantize", &f32_file, &out, "--type", "nf4", "--device", "no such device"]);
    assert!(code == 3 && !Path::new(&out).exists(), "{text}");
    // What the CPU alone encodes, whatever the device is called.
    let out = folder.path().join("q4_0.gguf").display().to_string();
    for device in ["0", "no such device"] {
        let (code, text) =
            failure(&["quantize", &f32_file, &out, "--type", "q4_0", "--device", device, "--quiet"]);
        assert!(code == 2 && text.contains("has no effect") && !Path::new(&out).exists(), "{text}");
    }
    write_f32(Path::new(&f32_file), "layer.weight", &[35, 64], &w[..35 * 64]).expect("a new file");
    output(&["quantize", &f32_file, &out, "--type", "q8_0", "--bare", "--device", "cpu"]);
}

/// A bench of small cases, with more arguments.
fn bench<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let small = ["bench", "-q", "--seconds", "0.01", "--footprint", "1", "-t", "q4_0,q6_k"];
    [&small[..], more].concat()
}

#[test]
fn bench_checks_then_times() {
    let text = output(&bench(&["-m", "64", "-k", "256", "-n", "1,9", "-f", "jsonl"]));
    let rows = json_lines(&text);
    assert_eq!(rows.len(), 4);
    for row in rows {
        let of_time = ["median_us", "mean_us", "deviation_us", "p20_us", "p80_us", "samples", "host_us"];
        let of_rate = ["weight_gb_per_s", "copy_fraction", "tflop_per_s", "copies"];
        for name in of_time.into_iter().chain(of_rate) {
            assert!(row[name].as_f64().is_some_and(|v| v > 0.0), "{name}: {row}");
        }
        assert_eq!(row["op"], if row["n"] == 1 { "gemv" } else { "gemm" });
        assert_eq!(row["ok"], true);
    }
    let on_cpu = ["bench", "-t", "q4_0,q6_k", "--shapes", "64x256,32x512", "--seconds", "0.01"];
    let text = output(&[&on_cpu[..], &["--device", "cpu", "-f", "csv"]].concat());
    assert!(text.contains("Q4_0,f32,gemv,64,256,1,") && text.contains("Q6_K,f32,gemv,32,512,1,"), "{text}");
    assert_eq!(text.lines().count(), 5, "pairs, not products: {text}");
}

/// A page of what was printed in either form, and what is no record of one device.
#[test]
fn summary_reads_json_and_lines() {
    let folder = TempDir::new().expect("a temporary folder");
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).expect("a new file");
        file.display().to_string()
    };
    let bench = ["bench", "-m", "64", "-k", "256", "--seconds", "0", "--footprint", "1", "-f"];
    let [lines, whole] = ["jsonl", "json"].map(|form| output(&[&bench[..], &[form]].concat()));
    let row = lines.lines().nth(1).expect("a result");
    let other = lines.replacen("\"name\":\"", "\"name\":\"Other ", 1);
    // A run that was killed while it wrote.
    let cut = write("cut.jsonl", &lines[..lines.len() - 9]);
    let [lines, whole] = [write("lines.jsonl", &lines), write("whole.json", &whole)];
    let page = folder.path().join("page.md").display().to_string();
    assert_eq!(output(&["summary", &lines, &whole, &cut, "-o", &page]), "");
    let page = std::fs::read_to_string(page).expect("a page");
    for part in ["| Q4_0   | f32         | 64 × 256 |", "| lines  |", "| whole  |", "killed after 1 row "] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    let folder_name = output(&["summary", "--name", &whole]);
    assert!(
        folder_name.trim().chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c)),
        "{folder_name}"
    );
    let (other, row, csv) = (write("other", &other), write("row", row), write("csv", "format,m\nQ4_0,1\n"));
    let (devices, empty) = (write("devices", &output(&["devices", "-f", "jsonl"])), write("empty", ""));
    for (args, code, said) in [
        (&["summary", &lines, &other][..], 2, "records of two devices: "),
        (&["summary", &devices], 2, "none of these records is of a GPU adapter"),
        (&["summary", &lines, "-o", &lines], 2, "lines.jsonl"),
        (&["summary", &row], 4, "line 1 at byte 0: wanted `\"schema\": 1` first"),
        (&["summary", &csv], 4, "wanted `\"schema\": 1` first"),
        (&["summary", &empty], 4, "no line of a record"),
        (&["summary", "none.jsonl"], 4, "none.jsonl"),
    ] {
        let (ended, text) = failure(args);
        assert!(ended == code && text.contains(said), "{args:?}: {ended} {text}");
    }
}

#[test]
fn bench_compares_and_draws() {
    let folder = TempDir::new().expect("a temporary folder");
    let file = |name: &str| folder.path().join(name).display().to_string();
    let [record, svg, plot] = ["record.jsonl", "roofline.svg", "plot.svg"].map(file);
    let adapter = r#"{"adapter":{"name":"some GPU","driver":"1"},"commit":"abc","command":"bench"}"#;
    let row = r#"{"type":"Q4_0","kernel":"any","m":64,"k":256,"n":1,"µs":1e9}"#; // of an older version
    std::fs::write(&record, format!("{adapter}\n{row}\n")).expect("a new file");
    let more = ["-m", "64", "-k", "256", "-f", "jsonl", "--compare", &record, "--svg", &svg, "--plot", &plot];
    let text = output(&bench(&more));
    let rows = json_lines(&text);
    assert_eq!((rows.len(), &rows[0]["was_us"]), (2, &1e9.into()));
    assert!(verdict(&text).contains("times as fast") && verdict(&text).contains("in 1 case"), "{text}");
    assert!(rows[0]["ratio"].as_f64().is_some_and(|r| r > 1.0), "{}", rows[0]);
    assert!(rows[1]["was_us"].is_null() && rows[1]["ratio"].is_null(), "no partner: {}", rows[1]);
    for (picture, words) in [(&svg, ["f32 fma", "copy"]), (&plot, ["m·k", "ps/weight"])] {
        let text = std::fs::read_to_string(picture).expect("a picture");
        assert!(text.starts_with("<svg") && text.ends_with("</svg>\n"), "{text}");
        assert!(words.iter().chain(&["Q4_0", "Q6_K", "64×256"]).all(|w| text.contains(w)), "{text}");
    }
    // What was printed now is compared with as well; what has nothing in common is an error.
    std::fs::write(&record, &text).expect("overwrite");
    let args = ["-m", "64", "-k", "256", "--compare", &record];
    assert!(output(&bench(&args)).contains("in 2 cases"));
    let (code, text) = failure(&bench(&["-m", "32", "-k", "256", "--compare", &record]));
    assert!(code == 2 && text.contains(&record) && text.contains("none of its cases"), "{code} {text}");
    std::fs::write(&record, format!("{adapter}\n{row}\n{{\"type\":7}}\n")).expect("overwrite");
    let (code, text) = failure(&bench(&["--compare", &record]));
    assert!(code == 4 && text.contains(&record) && text.contains("line 3"), "{code} {text}");
    let (code, text) = failure(&bench(&["-m", "32", "-k", "256", "--plot", &file("no/folder.svg")]));
    assert!(code == 2 && text.contains("folder.svg"), "{code} {text}");
}

/// The shapes of a model, how often each is multiplied, and what all of them make together.
#[test]
fn bench_measures_the_matrices_of_a_model() {
    let args = ["bench", &model(), "-n", "1,3", "--seconds", "0.01", "--footprint", "1", "-f", "jsonl"];
    let text = output(&args);
    let (sums, cases): (Vec<_>, Vec<_>) =
        json_lines(&text).into_iter().partition(|row| row["op"] == "all_matmuls");
    let of = |n: u64| cases.iter().filter(move |row| row["n"] == n);
    assert_eq!(of(1).filter_map(|row| row["count"].as_u64()).sum::<u64>(), 29, "{text}");
    assert!(cases.iter().all(|row| row["ok"] == true), "{text}");
    assert_eq!(sums.len(), 2);
    for sum in &sums {
        let n = sum["n"].as_u64().expect("a number");
        let micros: f64 = of(n)
            .map(|row| row["count"].as_f64().expect("a count") * row["median_us"].as_f64().expect("a time"))
            .sum();
        let rate = sum["tokens_per_s"].as_f64().expect("a rate");
        assert!((rate * micros / 1e6 / n as f64 - 1.0).abs() < 1e-6, "{sum}");
    }
    assert!(verdict(&text).contains("tokens/s by the matrices alone"), "{text}");
    for args in [&["-m", "64"][..], &["-t", "q4_0"], &["--shapes", "64x64"]] {
        assert_eq!(failure(&[&["bench", &model()], args].concat()).0, 2, "{args:?}");
    }
}

#[test]
fn peak_prints_a_line_a_figure() {
    let run = |more: &[&str]| output(&[&["peak", "--seconds", "0"], more].concat());
    let rows = json_results(&run(&["-v", "-f", "json"]));
    let of = |figure: &str| rows.iter().filter(|r| r["figure"] == figure).count();
    assert!(of("read") >= 4 && of("read") == of("copy") && of("copy") == of("write"), "{rows:?}");
    assert_eq!((of("f32 fma"), of("int8 dot"), of("dispatch"), of("upload")), (1, 1, 1, 1));
    assert!(rows.iter().all(|r| r["value"].as_f64().is_some_and(|v| v.is_finite() && v > 0.0)), "{rows:?}");
    assert!(rows.iter().all(|r| r["mib"].is_u64() == (r["unit"] == "GB/s") || r["mib"].is_null()));
    // One line a figure, unless every row is asked for.
    let text = run(&[]);
    let count = |word: &str| text.lines().filter(|line| line.starts_with(word)).count();
    assert_eq!([count("read "), count("copy "), count("write "), count("dispatch ")], [1; 4], "{text}");
    assert!(verdict(&text).starts_with("OK copy "), "{text}");
}

#[test]
fn shader_translates() {
    assert!(output(&["shader", "q4_0", "gemv"]).contains("fn decode32"));
    let q8 = ["shader", "q4_0", "gemm_q8", "--activations", "q8"];
    assert!(output(&q8).contains("dot4I8Packed("));
    assert!(!output(&[&q8[..], &["--no-int-dot"]].concat()).contains("dot4I8Packed("));
    let software = ["shader", "q4_0", "matmul_software"];
    assert!(output(&software).contains("u64"));
    assert!(!output(&[&software[..], &["--no-int64"]].concat()).contains("u64"));
    let matrices = ["shader", "q4_k", "gemm_coop", "--activations", "f16", "-n", "64"];
    assert!(output(&matrices).contains("coop_mat"));
    for switch in ["--no-cooperative", "--no-f16", "--no-subgroups"] {
        let (code, text) = failure(&[&matrices[..], &[switch]].concat());
        assert!(code == 2 && text.contains("gemm_coop"), "{switch}: {code}: {text}");
    }
    assert!(output(&["shader", "Q6_K", "gemm", "--emit", "msl"]).contains("kernel void"));
    assert!(
        output(&["shader", "q8_0", "matmul_software", "--subgroup", "8", "--emit", "hlsl"])
            .contains("numthreads(8")
    );
    let glsl = ["shader", "q4_k", "gemv", "--no-subgroups", "--emit", "glsl"];
    assert!(output(&glsl).starts_with("#version 310 es"));
    let (code, text) = failure(&["shader", "q4_0", "matmul_software", "--emit", "glsl"]);
    assert!(code == 5 && text.contains("Glsl"), "64-bit integers: {code} {text}");
    let spirv = success(&["shader", "f16", "dequantize", "--emit", "spirv"]).stdout;
    assert_eq!(spirv[..4], 0x0723_0203_u32.to_le_bytes(), "SPIR-V's magic number");
    let matrices = [&matrices[..], &["--emit", "spirv"]].concat();
    let trusted = success(&[&matrices[..], &["--trusted"]].concat()).stdout;
    assert!(trusted.len() < success(&matrices).stdout.len(), "less than with checks");
    let (code, text) = failure(&["shader", "q4_0", "gemv", "--trusted"]);
    assert!(code == 2 && text.contains("no trusted wgsl"), "{code}: {text}");
}

#[test]
fn completions_know_verbs_formats_kernels_and_devices() {
    for shell in ["bash", "zsh", "fish"] {
        let script = output(&["completions", shell]);
        let device = json_results(&output(&["devices", "-f", "json"]))[0]["name"].clone();
        let device = device.as_str().and_then(|name| name.split(' ').next()).expect("a name").to_owned();
        // Fish completes no arguments without an option.
        let kernel = if shell == "fish" { "dequantize" } else { "matmul_software" };
        for word in ["dequantize", "IQ3_XXS", "NF4-DQ", "vulkan", &device, kernel] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn usage_errors_are_2() {
    for args in [
        &["check", "--nonsense"][..],
        &["bench", "-n", "0-9*2"],
        &["bench", "-t", "q9_9"],
        &["bench", "-k", "0"],
        &["bench", "--shapes", "64"],
        &["bench", "--shapes", "64x0"],
        &["bench", "--shapes", "64x256", "-m", "64"],
        &["bench", "--svg", "x.svg", "--device", "cpu"],
        &["bench", "-k", "33"],
        &["bench", "-n", "8-1"],
        &["bench", "-m", "18446744073709551615", "-k", "32"],
        &["bench", "-m", "1000000000000"],
        &["bench", "-n", "18446744073709551615"],
        &["bench", "--seconds", "inf"],
        &["bench", "--seconds", "-1"],
        &["peak", "--seconds", "NaN"],
        &["peak", "--device", "cpu"],
        &["check", "-n", "0"],
        &["check", "-n", "1000000000000"],
        &["shader", "q4_0", "gemmm"],
        &["check", "--device", "cpu"],
        &["quantize", "a", "b", "--type", "q6_k"],
        &["inspect", &model(), "--tensors", "nothing*"],
    ] {
        let (code, text) = failure(args);
        assert_eq!(code, 2, "{args:?}: {text}");
        assert!(text.starts_with("error: ") && text.lines().count() <= 2, "{args:?}: {text}");
    }
}

#[test]
fn a_missing_adapter_is_3_and_says_what_there_is() {
    let (code, text) = failure(&["check", "--device", "no such device"]);
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("no such device"), "{text}");
    let none = qmatmul(&["check"])
        .env("VK_DRIVER_FILES", "/nonexistent")
        .env("VK_ICD_FILENAMES", "/nonexistent")
        .env("WGPU_BACKEND", "vulkan")
        .output();
    let none = none.expect("the command starts");
    if cfg!(target_os = "linux") {
        let text = String::from_utf8_lossy(&none.stderr).into_owned();
        assert_eq!(none.status.code(), Some(3), "{text}");
        assert!(text.contains("mesa-vulkan-drivers"), "{text}");
    }
}

#[test]
fn memory_beyond_the_limit_is_5_and_names_the_tensor() {
    let folder = TempDir::new().expect("a temporary folder");
    let (x, _) = write_x(folder.path(), 1, 256);
    let y = folder.path().join("y.safetensors").display().to_string();
    let args = ["matmul", &model(), "blk.0.ffn_up.weight", "--input", &x, "--output", &y, "--mem-limit"];
    let (code, text) = failure(&[&args[..], &["64K"]].concat());
    assert_eq!(code, 5, "{text}");
    assert!(text.contains("`blk.0.ffn_up.weight`") && text.contains("65536 are left"), "{text}");
    assert!(!Path::new(&y).exists());
    output(&[&args[..], &["64M"]].concat());
    let (code, text) = failure(&[&args[..], &["much"]].concat());
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("512M"), "{text}");
}

#[test]
fn bad_files_are_4_and_named() {
    let folder = TempDir::new().expect("a temporary folder");
    let cut = folder.path().join("cut.gguf");
    let bytes = std::fs::read(model_path()).expect("the demo file");
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).expect("a new file");
    let cut = cut.display().to_string();
    for args in [&["inspect", &cut][..], &["check", &cut], &["inspect", "no-such-file.gguf"]] {
        let (code, text) = failure(args);
        assert_eq!(code, 4, "{args:?}: {text}");
        assert!(text.contains(args[1]), "{text}");
    }
    let (code, text) = failure(&["dequantize", &model(), "blk.0.ffn_dwn", "--output", "-"]);
    assert_eq!(code, 4);
    assert!(
        text.contains("blk.0.ffn_dwn") && text.contains("blk.0.ffn_down"),
        "a hint of near names: {text}"
    );
}

/// Not the fault of a file that is read: its own exit code, and before the work where that can be
/// known.
#[test]
fn outputs_that_cannot_be_written_are_2_and_named() {
    let folder = TempDir::new().expect("a temporary folder");
    let (x, _) = write_x(folder.path(), 1, 256);
    let file = folder.path().join("file");
    std::fs::write(&file, b"old").expect("a new file");
    for out in [folder.path().join("no/y"), file.join("y"), folder.path().to_path_buf()] {
        let out = out.display().to_string();
        for args in [
            &["matmul", &model(), "blk.0.attn_q", "--input", &x, "--output", &out][..],
            &["dequantize", &model(), "output_norm", "--output", &out],
            &["quantize", &model(), &out, "--type", "q8_0"],
            &["check", "--report", &out],
        ] {
            let (code, text) = failure(args);
            assert!(code == 2 && text.contains(&out) && !text.contains("device:"), "{args:?}: {text}");
        }
    }
    let below = file.join("folder").display().to_string();
    let (code, text) = failure(&["quantize", "no-such-file", &below, "--type", "nf4"]);
    assert!(code == 2 && text.contains(&below), "{text}");
    let below = file.join("m.gguf").display().to_string();
    let (code, text) =
        failure(&["quantize", "no-such-file", &below, "--type", "q8_0", "--split-max-size", "1M"]);
    assert!(code == 2, "{text}");
    if cfg!(target_os = "linux") {
        let (code, text) = failure(&["dequantize", &model(), "output_norm", "--output", "/dev/full"]);
        assert!(code == 2 && text.contains("writing `/dev/full`"), "{text}");
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("the folder").collect();
    assert_eq!(left.len(), 2);
}

/// A download that broke off is called so, with the bytes that there are and that should be.
#[test]
fn truncated_files_are_called_truncated() {
    let folder = TempDir::new().expect("a temporary folder");
    let safetensors = folder.path().join("whole.safetensors");
    write_f32(&safetensors, "w", &[64, 64], &[1.0; 4096]).expect("a new file");
    for whole in [model_path(), safetensors] {
        let bytes = std::fs::read(&whole).expect("there");
        let cut = folder.path().join("cut").with_extension(whole.extension().expect("one"));
        for len in [bytes.len() - 100, bytes.len() / 2, 20] {
            std::fs::write(&cut, &bytes[..len]).expect("a file");
            let (code, text) = failure(&["inspect", &cut.display().to_string()]);
            assert!(
                code == 4 && text.contains("truncated") && text.contains(&len.to_string()),
                "{len}: {text}"
            );
            let knows_the_end = len > bytes.len() / 3;
            assert!(!knows_the_end || text.contains(&bytes.len().to_string()), "{len}: {text}");
        }
    }
}

/// A quantize at work, once it has begun its output: the command, and the folder it writes to.
#[cfg(target_os = "linux")]
fn quantizing(folder: &Path) -> std::process::Child {
    // Zeros that take no room on the disk, and seconds to encode.
    let input = folder.join("in.safetensors");
    let header = format!(
        r#"{{"w.weight":{{"dtype":"F32","shape":[131072,1024],"data_offsets":[0,{}]}}}}"#,
        1u64 << 29
    );
    std::fs::write(&input, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat())
        .expect("a new file");
    let file = std::fs::File::options().write(true).open(&input).expect("there");
    file.set_len(8 + header.len() as u64 + (1 << 29)).expect("a sparse file");
    let out = folder.join("out");
    std::fs::create_dir(&out).expect("a new folder");
    let args = [
        "quantize",
        &input.display().to_string(),
        &out.join("out.gguf").display().to_string(),
        "--type",
        "q8_0",
        "--bare",
    ];
    let mut child =
        qmatmul(&args).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the command starts");
    let fds = format!("/proc/{}/fd", child.id());
    let has_begun = || {
        let open = std::fs::read_dir(&fds).into_iter().flatten().flatten();
        let mut links = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        links.any(|to| to.starts_with(&out))
            || std::fs::read_dir(&out).is_ok_and(|mut all| all.next().is_some())
    };
    while !has_begun() {
        assert!(child.try_wait().expect("its state").is_none(), "it ended before it began to write");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child
}

/// Nothing is left of an output that was interrupted, by whichever signal.
#[cfg(target_os = "linux")]
#[test]
fn interrupted_outputs_leave_nothing() {
    for (signal, code) in [("-INT", Some(130)), ("-TERM", Some(130)), ("-KILL", None)] {
        let folder = TempDir::new().expect("a temporary folder");
        let child = quantizing(folder.path());
        let killed = Command::new("sh")
            .arg("-c")
            .arg(format!("kill {signal} {}", child.id()))
            .status()
            .expect("a shell");
        assert!(killed.success());
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), code, "{signal}: {}", String::from_utf8_lossy(&output.stderr));
        let left: Vec<_> = std::fs::read_dir(folder.path().join("out")).expect("the folder").collect();
        assert!(left.is_empty(), "{signal}: {left:?}");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(verdict(&said), if code.is_some() { "INTERRUPTED before the end" } else { "" });
    }
}

/// Runs a verb with JSON lines as its output until its first result, then interrupts it: its output,
/// its verdict, and how it ended.
#[cfg(target_os = "linux")]
fn interrupted_after_a_result(args: &[&str]) -> (String, serde_json::Value, Option<i32>) {
    use std::io::{BufRead, BufReader, Read};
    let mut command = qmatmul(&[args, &["-f", "jsonl"]].concat());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut text = String::new();
    for _ in 0..2 {
        lines.read_line(&mut text).expect("the head, and a result as soon as it is known");
    }
    let kill = format!("kill -INT {}", child.id());
    assert!(Command::new("sh").arg("-c").arg(kill).status().expect("a shell").success());
    lines.read_to_string(&mut text).expect("UTF-8");
    let mut last: serde_json::Value = serde_json::from_str(verdict(&text)).expect("JSON");
    (text, last["verdict"].take(), child.wait().expect("it ends").code())
}

/// A check that the user has enough of says what it knows: the verdict, the report, and 130.
#[cfg(target_os = "linux")]
#[test]
fn an_interrupted_check_says_what_it_knows() {
    let folder = TempDir::new().expect("a temporary folder");
    let report = folder.path().join("report.json");
    let args = ["check", "-n", "1", "-v", "--report", &report.display().to_string()];
    let (text, last, code) = interrupted_after_a_result(&args);
    assert_eq!(code, Some(130), "{text}");
    assert_eq!((&last["ok"], &last["interrupted"]), (&false.into(), &true.into()), "{text}");
    assert!(last["checks"].as_u64().is_some_and(|checks| checks > 0), "{last}");
    let left = last["not_checked"].as_array().expect("a list");
    assert!(left.iter().any(|t| t["reason"] == "interrupted"), "{last}");
    let report: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&report).expect("it was written")).expect("JSON");
    assert!(report["verdict"].as_str().is_some_and(|v| v.starts_with("INTERRUPTED ")), "{report}");
    assert_eq!(report["checks"], last["checks"]);
}

/// Pictures never replace what is read, or each other, and are tried before the work.
#[test]
fn pictures_do_not_replace_inputs() {
    let folder = TempDir::new().expect("a temporary folder");
    let inside = |name: &str| folder.path().join(name).display().to_string();
    let [file, earlier, svg] = ["m.gguf", "earlier.jsonl", "p.svg"].map(inside);
    std::fs::copy(model_path(), &file).expect("room");
    let small = ["bench", "-m", "32", "-k", "64", "--seconds", "0", "--footprint", "1"];
    std::fs::write(&earlier, output(&[&small[..], &["-f", "jsonl"]].concat())).expect("a new file");
    let before = [&file, &earlier].map(|file| std::fs::read(file).expect("there"));
    let missing = inside("no/p.svg");
    for (args, word) in [
        (&["bench", &file, "--svg", &file][..], "being read"),
        (&["bench", &file, "--plot", &file], "being read"),
        (&[&small[..], &["--compare", &earlier, "--plot", &earlier]].concat(), "being read"),
        (&[&small[..], &["--svg", &svg, "--plot", &svg]].concat(), "both"),
        (&[&small[..], &["--svg", &missing]].concat(), "p.svg"),
        (&[&small[..], &["--plot", "-"]].concat(), "standard output"),
        (&["bench", &file, "-n", "999999999999999999"], "bytes"),
    ] {
        let (code, text) = failure(args);
        assert!(code == 2 && text.contains(word) && !text.contains("device:"), "{args:?}: {code} {text}");
    }
    assert_eq!([&file, &earlier].map(|file| std::fs::read(file).expect("there")), before);
}

/// What cannot be measured is an error before anything is, and no verdict says that all is well.
#[test]
fn sizes_and_activations_are_looked_at_before_the_work() {
    for args in [
        &["tune", "-t", "q4_0,q8_0", "-m", "64", "-k", "64,33"][..],
        &["bench", "-t", "q4_0,f32", "-m", "64", "-k", "64", "--activations", "q8"],
        &["bench", "-t", "q4_0", "-m", "64", "-k", "64,33"],
        &["shader", "q4_0", "gemv", "-k", "33"],
    ] {
        let output = qmatmul(args).output().expect("it starts");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && output.stdout.is_empty(), "{args:?}: {text}");
        assert!(!text.contains("device:"), "{args:?}: {text}");
    }
    let rows = json_lines(&output(&bench(&["-m", "32", "-k", "256", "-n", "1,1", "-f", "jsonl"])));
    assert_eq!(rows.len(), 2, "a batch size that is given twice is measured once");
}

/// The rate of a model is that of all its matrices, so a part of them has none.
#[cfg(target_os = "linux")]
#[test]
fn an_interrupted_bench_of_a_model_tells_no_rate() {
    let args = ["bench", &model(), "--seconds", "2", "--footprint", "1"];
    let (text, last, code) = interrupted_after_a_result(&args);
    assert_eq!((code, &last["interrupted"]), (Some(130), &true.into()), "{text}");
    assert!(!text.contains("all_matmuls") && !last["text"].to_string().contains("tokens/s"), "{text}");
}

/// What is sent to others says nobody's name.
#[test]
fn reports_and_outputs_do_not_tell_the_home() {
    let home = TempDir::new().expect("a temporary folder");
    let inside = |name: &str| home.path().join(name).display().to_string();
    let [file, report] = ["w.safetensors", "report.json"].map(inside);
    write_f32(file.as_ref(), "a", &[8, 64], &[1.0; 512]).expect("a new file");
    let args = ["check", &file, "-n", "1", "-f", "json", "--report", &report];
    let mut command = qmatmul(&args);
    let done = succeeded(command.env("HOME", home.path()).env("USERPROFILE", home.path()));
    let texts =
        [String::from_utf8(done.stdout).expect("UTF-8"), std::fs::read_to_string(&report).expect("a report")];
    for text in texts {
        let name = home.path().file_name().expect("a name").to_string_lossy();
        assert!(text.contains("w.safetensors") && !text.contains(&*name), "{text}");
    }
}

/// All verbs.
const VERBS: [&str; 13] = [
    "devices",
    "inspect",
    "check",
    "matmul",
    "dequantize",
    "quantize",
    "bench",
    "peak",
    "tune",
    "summary",
    "shader",
    "completions",
    "man",
];

/// A page of 45 lines at most, as wide as the terminal, with headings, examples and exit codes.
#[test]
fn the_help_of_every_verb_fits_a_screen() {
    for verb in VERBS {
        let help = |columns: &str| {
            let output = succeeded(qmatmul(&[verb, "--help"]).env("COLUMNS", columns));
            String::from_utf8(output.stdout).expect("UTF-8")
        };
        let (text, widest) = (help("80"), |text: &str| text.lines().map(|l| l.chars().count()).max());
        assert!(text.lines().count() <= 45, "{verb}: {} lines\n{text}", text.lines().count());
        assert!(widest(&text) <= Some(80) && widest(&help("120")) <= Some(100), "{verb}\n{text}");
        assert_eq!(text.matches(&format!("\n  qmatmul {verb}")).count(), 2, "{verb}: two examples\n{text}");
        assert!(
            verdict(&text).starts_with("Exit codes: 0 fine, ") && verdict(&text).contains("130"),
            "{text}"
        );
        let places: Vec<_> = ["\nOptions:", "\nDevice:", "\nNumbers:", "\nOutput:", "\nExamples:"]
            .iter()
            .filter_map(|heading| text.find(heading))
            .collect();
        assert!(places.is_sorted() && places.len() >= 2, "{verb}: the headings in their order\n{text}");
    }
}

/// Each verb takes the options that it uses, and no other.
#[test]
fn options_without_an_effect_are_errors() {
    for args in [
        &["devices", "--seed", "1"][..],
        &["inspect", "m", "--device", "0"],
        &["inspect", "m", "--metadata", "--tensors", "*"],
        &["peak", "--activations", "q8"],
        &["shader", "q4_0", "gemv", "-q"],
        &["completions", "bash", "--no-f16"],
        &["check", "--tensors", "*"],
        &["check", "--lora", "x"],
        &["check", "--int8-threshold", "3"],
        &["check", "--full", "-n", "1"],
        &["check", "-q", "-v"],
        &["bench", "--outliers", "0.1"],
        &["bench", "--device", "cpu", "--activations", "q8"],
        &["bench", "--device", "cpu", "--kernel", "gemv"],
        &["inspect", "tests/golden/imatrix/stories260K.dat", "--metadata"],
        &["tune", "--list", "-t", "q8_0"],
        &["tune", "--clear", "--seconds", "1"],
        &["tune", &model(), "--list"],
        &["tune", "--list", "--budget", "1"],
        &["tune", "--budget", "-1"],
        &["shader", "q4_0", "dequantize", "--experts"],
        &["shader", "q4_0", "dequantize", "--activations", "q8"],
        &["devices", "--format", ""],
        &["check", "--device", ""],
        &["bench", "--device", "cpu", "--no-f16"],
        &["bench", "--device", "cpu", "--no-tuning"],
        &["dequantize", &model(), "output_norm", "-o", "-", "--device", "cpu", "--mem-limit", "1G"],
        &["quantize", &model(), "out.gguf", "--type", "q8_0", "--no-f16"],
        &["tune", "--list", "--clear"],
        &["man", "check", "-o", "folder"],
    ] {
        let (code, text) = failure(args);
        assert_eq!(code, 2, "{args:?}: {text}");
    }
}

#[test]
fn every_verb_has_a_manual_page() {
    let folder = TempDir::new().expect("a temporary folder");
    let pages = folder.path().join("man1");
    assert_eq!(output(&["man", "-o", &pages.display().to_string()]), "");
    for verb in VERBS {
        let page = std::fs::read_to_string(pages.join(format!("qmatmul-{verb}.1"))).expect(verb);
        assert!(page.contains(".TH") && page.contains("Exit codes"), "{verb}: {page}");
        assert_eq!(page, output(&["man", verb]), "{verb}");
    }
    assert_eq!(std::fs::read_dir(&pages).expect("the folder").count(), VERBS.len() + 1);
    let (code, text) = failure(&["man", "no-such-verb"]);
    assert!(code == 2 && text.contains("no-such-verb") && text.contains("dequantize"), "{text}");
}

/// Sizes, lists and names in the forms that people write.
#[test]
fn arguments_are_taken_as_people_write_them() {
    let out = |args: &[&str]| json_lines(&output(&[args, &["-f", "jsonl"]].concat()));
    let small = ["bench", "--seconds", "0", "--footprint", "1", "-m", "32", "-k", "64"];
    let rows = out(&[&small[..], &["-t", "Q4_0,q8_0", "-n", "1-3,8", "--mem-limit", "0.5GB"]].concat());
    let column = |key: &str| rows.iter().map(|row| row[key].to_string()).collect::<Vec<_>>().join(" ");
    assert_eq!(column("n"), "1 2 3 8 1 2 3 8");
    assert_eq!(column("format"), [["\"Q4_0\""; 4], ["\"Q8_0\""; 4]].concat().join(" "));
}

/// `check` says which weights did not take the activations that were asked for, and refuses where
/// none does.
#[test]
fn check_tells_which_weights_take_other_activations() {
    let (code, text) = failure(&["check", &model(), "--activations", "int8", "-n", "1"]);
    assert!(code == 2 && text.contains("none of its weights can take int8 activations"), "{text}");
    let folder = TempDir::new().expect("a temporary folder");
    let [from, to] = ["from", "to.gguf"].map(|name| folder.path().join(name).display().to_string());
    let matrix = |name: &str, k: usize| f32_tensor(name, &[8, k], &qmatmul::check::activations(8 * k, 1));
    write_tensors(from.as_ref(), &[matrix("a.weight", 33), matrix("b.weight", 32)]);
    success(&["quantize", &from, &to, "--type", "q8_0", "--bare"]);
    let done = success(&["check", &to, "--activations", "q8", "-n", "1", "-f", "json"]);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.contains("as q8 ones do not suit: a.weight"), "{said}");
    let json: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
    let not_checked = &json["verdict"]["not_checked"];
    assert_eq!((&not_checked[0]["tensor"], not_checked[1].is_null()), (&"a.weight".into(), true), "{json}");
}

#[test]
fn activations_that_do_not_fit_leave_no_output() {
    let folder = TempDir::new().expect("a temporary folder");
    let (x_file, mut x) = write_x(folder.path(), 2, 255);
    let y_file = folder.path().join("y.safetensors");
    let y = y_file.display().to_string();
    let args = ["matmul", &model(), "blk.0.attn_q", "--input", &x_file, "--output", &y];
    let (code, text) = failure(&args);
    assert_eq!(code, 4);
    assert!(text.contains("256") && text.contains("255"), "both numbers: {text}");
    x.resize(256, 0.0);
    x[17] = f32::NAN;
    write_f32(x_file.as_ref(), "x", &[1, 256], &x[..256]).expect("overwrite");
    for device in [&[][..], &["--device", "cpu"]] {
        let (code, text) = failure(&[&args[..], device].concat());
        assert_eq!(code, 4);
        assert!(text.contains("1 non-finite") && text.contains("index 17"), "{text}");
    }
    assert!(!y_file.exists());
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("the folder").collect();
    assert_eq!(left.len(), 1, "only the input is left");
}

/// What is written never replaces what is read: not the file, a shard, the index or a file of an
/// adapter, by any name.
#[test]
fn inputs_are_no_outputs() {
    let folder = TempDir::new().expect("a temporary folder");
    let [file, one, _] = model_and_adapters(folder.path());
    let inside = |name: &str| folder.path().join(name).display().to_string();
    let (x, _) = write_x(folder.path(), 1, 64);
    let index = inside("model.safetensors.index.json");
    let map = r#"{"weight_map":{"a.q.weight":"model.safetensors","a.q.bias":"model.safetensors"}}"#;
    std::fs::write(&index, map).expect("a new file");
    let lora = ["adapter_config.json", "adapter_model.safetensors"].map(|name| format!("{one}/{name}"));
    #[cfg(unix)]
    std::os::unix::fs::symlink(&file, inside("link")).expect("a link");
    let settings = inside("quantize_config.json");
    std::fs::write(&settings, "{}").expect("a new file");
    let files = [&file, &index, &lora[0], &lora[1], &x, &settings];
    let before = files.map(|file| std::fs::read(file).expect("there"));
    let matmul = ["matmul", &file, "a.q", "--input", &x, "--lora", &one, "--device", "cpu", "--output"];
    let quantize = |from, to| ["quantize", from, to, "--type", "q8_0", "--bare"];
    let dequantize = |from, to| ["dequantize", from, "a.q", "--device", "cpu", "--output", to];
    for args in [
        &quantize(&file, &file)[..],
        &quantize(&index, &index),
        &quantize(&inside("."), &file),
        &dequantize(&file, &file),
        &dequantize(&index, &index),
        &dequantize(&file, &settings),
        &[&matmul[..], &[&x]].concat(),
        &[&matmul[..], &[&file]].concat(),
        &[&matmul[..], &[&lora[0]]].concat(),
        &[&matmul[..], &[&lora[1]]].concat(),
        #[cfg(unix)]
        &quantize(&file, &inside("link")),
    ] {
        let (code, text) = failure(args);
        assert!(code == 2 && text.contains("which is being read"), "{args:?}: {code} {text}");
    }
    assert_eq!(files.map(|file| std::fs::read(file).expect("there")), before);
}

/// A pipe that nobody writes to has no end, and would be waited for.
#[cfg(unix)]
#[test]
fn pipes_are_no_files() {
    use wait_timeout::ChildExt;
    let folder = TempDir::new().expect("a temporary folder");
    let [file, one, _] = model_and_adapters(folder.path());
    let (x, _) = write_x(folder.path(), 1, 64);
    let pipe = format!("{one}/adapter_config.json");
    std::fs::remove_file(&pipe).expect("it is there");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("a tool of POSIX").success());
    let lora = ["matmul", &file, "a.q", "--input", &x, "--output", "-", "--lora", &one, "--device", "cpu"];
    let mut command = qmatmul(&lora);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the command starts");
    let ended = child.wait_timeout(std::time::Duration::from_secs(60)).expect("a child");
    if ended.is_none() {
        child.kill().expect("it waits");
    }
    let status = ended.expect("it ends");
    let text = std::io::read_to_string(child.stderr.take().expect("a pipe")).expect("UTF-8");
    assert!(status.code() == Some(4) && text.contains("not a regular file"), "{text}");
}

/// As from /dev/zero: the first bytes say that no activations follow.
#[test]
fn standard_input_is_read_no_further_than_it_claims() {
    let x_and_y = ["--input", "-", "--output", "-", "--device", "cpu"];
    let mut child = Command::new(env!("CARGO_BIN_EXE_qmatmul"))
        .args([&["matmul", &model(), "blk.0.attn_q"], &x_and_y[..]].concat())
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let mebibyte = vec![0; 1 << 20];
    let taken = (0..64).take_while(|_| std::io::Write::write_all(&mut stdin, &mebibyte).is_ok()).count();
    let output = child.wait_with_output().expect("the command ends");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        taken < 64 && output.status.code() == Some(4) && text.contains("standard input"),
        "{taken} {text}"
    );
}

#[test]
fn a_closed_pipe_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_qmatmul"))
        .args(["inspect", &model()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("the command ends");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && !text.contains("panicked"), "{text}");
}

#[test]
fn a_stack_of_experts_is_checked_as_one() {
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("experts.safetensors");
    let weights = qmatmul::check::activations(3 * 8 * 32, 1);
    write_f32(&file, "experts", &[3, 8, 32], &weights).expect("a new file");
    let text = output(&["check", &file.display().to_string(), "-n", "1,5", "-f", "jsonl", "-v"]);
    let experts: Vec<_> = json_lines(&text).into_iter().filter(|row| row["op"] == "experts").collect();
    assert_eq!(experts.len(), 2, "{text}");
    assert!(experts.iter().all(|row| row["shape"][0] == 8 && row["ok"] == true), "{text}");
}

/// Rounded activations on the device against the reference that rounds them alike, through files.
#[test]
fn matmul_rounds_activations_as_asked() {
    let folder = TempDir::new().expect("a temporary folder");
    let (x, _) = write_x(folder.path(), 3, 256);
    let y = |name: &str, args: &[&str]| {
        let (file, model) = (folder.path().join(name).display().to_string(), model());
        let all =
            [&["matmul", &model, "blk.0.attn_q.weight", "--input", &x, "--output", &file], args].concat();
        success(&all);
        read_activations(file.as_ref()).expect("the output is a safetensors file").data
    };
    let exact = y("f32", &[]);
    for activations in ["f16", "q8"] {
        let gpu = y("gpu", &["--activations", activations]);
        let cpu = y("cpu", &["--activations", activations, "--device", "cpu"]);
        let cpu: Vec<f64> = cpu.iter().map(|v| f64::from(*v)).collect();
        let comparison = qmatmul::check::compare(&gpu, &cpu, 1e-9);
        assert!(comparison.passed, "{activations}: {comparison}");
        assert!(gpu != exact, "{activations} rounds nothing");
    }
    let (code, text) = failure(&["bench", "-t", "f16", "-m", "64", "-k", "64", "--activations", "q8"]);
    assert!(code == 2 && text.contains("F16 weights cannot take q8"), "{text}");
}

#[test]
fn tune_measures_lists_and_forgets() {
    let cache = TempDir::new().expect("a temporary folder");
    let run = |args: &[&str]| {
        let mut command = qmatmul(args);
        let done = succeeded(common::own_cache(&mut command, cache.path()));
        String::from_utf8(done.stdout).expect("UTF-8")
    };
    let size = ["-t", "q8_0", "-m", "64", "-k", "64", "-n", "1"];
    let trials = run(&[&["tune", "--seconds", "0", "-f", "jsonl"], &size[..]].concat());
    let rows = json_lines(&trials);
    assert_eq!(rows.iter().filter(|row| row["chosen"] == true).count(), 1, "{trials}");
    assert!(rows.len() > 3 && rows.iter().all(|row| row["ok"] == true), "{trials}");
    // The fastest first, each with its place among the candidates.
    let of = |key: &str| rows.iter().filter_map(|row| row[key].as_f64()).collect::<Vec<_>>();
    assert!(of("median_us").is_sorted() && of("ratio").is_sorted() && of("ratio")[0] == 1.0, "{trials}");
    let mut orders = of("order");
    orders.sort_by(f64::total_cmp);
    assert!(orders.iter().enumerate().all(|(i, order)| *order == i as f64), "{trials}");
    assert!(rows.iter().all(|row| row["kernel"].is_string() && row["variant"].is_string()), "{trials}");
    let list = json_lines(&run(&["tune", "--list", "-f", "jsonl"]));
    assert!(list.len() == 1 && list[0]["format"] == "Q8_0", "{list:?}");
    run(&["tune", "--clear"]);
    assert!(json_lines(&run(&["tune", "--list", "-f", "jsonl"])).is_empty());
}

/// The shapes of a model, each class of them once, within a time.
#[test]
fn tune_takes_the_shapes_of_a_model() {
    let cache = TempDir::new().expect("a temporary folder");
    let run = |args: &[&str]| {
        let mut command = qmatmul(args);
        let done = succeeded(common::own_cache(&mut command, cache.path()));
        String::from_utf8(done.stdout).expect("UTF-8")
    };
    let model = model();
    let file = ["tune", &model, "-n", "1,2", "--seconds", "0", "--no-subgroups"];
    let hurried = run(&[&file[..], &["--budget", "0", "-f", "json"]].concat());
    let rows = json_results(&hurried);
    // A candidate each, whatever the time.
    let key = |row: &serde_json::Value| ["format", "m", "k", "n"].map(|key| row[key].to_string());
    let mut cases: Vec<_> = rows.iter().map(key).collect();
    cases.dedup();
    assert_eq!(cases.len(), rows.len(), "{hurried}");
    let list = json_lines(&run(&["tune", "--list", "--no-subgroups", "-f", "jsonl"]));
    assert_eq!(list.len(), rows.len(), "no two cases share a choice: {list:?}");
    let verdict = serde_json::from_str::<serde_json::Value>(&hurried).expect("JSON")["verdict"].clone();
    let text = verdict["text"].as_str().unwrap_or_default();
    assert!(text.contains("too few for") && text.len() <= 97, "{verdict}");
    for args in [["-t", "q4_0"], ["-m", "64"]] {
        let (code, text) = failure(&[&["tune", &model][..], &args].concat());
        assert_eq!(code, 2, "{args:?}: {text}");
    }
}

/// A model with a bias, and two adapters for its modules: the folders' paths.
fn model_and_adapters(folder: &Path) -> [String; 3] {
    let model = folder.join("model.safetensors");
    let weight = |name, m, k, seed| f32_tensor(name, &[m, k], &qmatmul::check::activations(m * k, seed));
    let bias = f32_tensor("a.q.bias", &[40], &qmatmul::check::activations(40, 3));
    write_tensors(&model, &[weight("a.q.weight", 40, 64, 1), bias, weight("a.v.weight", 9, 64, 2)]);
    let (one, two) = (folder.join("one"), folder.join("two"));
    write_adapter(&one, &lora_config(4, 2.0), &lora_tensors("a.q", (40, 64), 4, 11));
    let both = [lora_tensors("a.q", (40, 64), 3, 21), lora_tensors("a.v", (9, 64), 3, 31)].concat();
    write_adapter(&two, &lora_config(3, 1.0), &both);
    [model, one, two].map(|p| p.display().to_string())
}

/// What `a.q` of [`model_and_adapters`] should give.
fn wanted(model: &str, bias: bool, adapters: &[&String], x: &[f32]) -> Vec<f64> {
    let model = Model::open(model, &OpenOptions::default()).expect("valid");
    let info = model.find("a.q").expect("there");
    let linear =
        if bias { model.linear(info) } else { model.tensor(info).map(Linear::new) }.expect("supported");
    let linear = adapters.iter().fold(linear, |linear, folder| {
        let adapter = Adapter::open(folder, &OpenOptions::default()).expect("valid");
        let low_rank = adapter.find("a.q").and_then(|m| adapter.low_rank(m)).expect("there");
        linear.with_adapter(low_rank).expect("fits")
    });
    reference::linear(&linear, x, Activations::F32).expect("shapes fit")
}

#[test]
fn matmul_adds_biases_and_adapters() {
    let folder = TempDir::new().expect("a temporary folder");
    let [model, one, two] = model_and_adapters(folder.path());
    let (x_file, x) = write_x(folder.path(), 3, 64);
    let y_file = folder.path().join("y.safetensors").display().to_string();
    for (args, bias, adapters) in [
        (&[][..], true, &[][..]),
        (&["--no-bias"], false, &[]),
        (&["--lora", &one], true, &[&one]),
        (&["--lora", &one, "--lora", &two, "--no-bias"], false, &[&one, &two]),
    ] {
        let want = wanted(&model, bias, adapters, &x);
        for device in [&[][..], &["--device", "cpu"]] {
            let base = ["matmul", &model, "a.q", "--input", &x_file, "--output", &y_file];
            let done = success(&[&base[..], args, device].concat());
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            assert_eq!(said.contains("with the bias `a.q.bias`"), bias, "{said}");
            let y = read_activations(y_file.as_ref()).expect("the output is a safetensors file");
            let comparison = qmatmul::check::compare(&y.data, &want, qmatmul::check::NMSE_F32);
            assert!(comparison.passed, "{args:?} {device:?}: {comparison}");
        }
    }
}

#[test]
fn check_and_inspect_know_adapters() {
    let folder = TempDir::new().expect("a temporary folder");
    let [model, one, two] = model_and_adapters(folder.path());
    let lora = |args: &[&str]| -> Vec<(String, u64)> {
        let text = output(&[&["check", &model, "-n", "1,9", "-f", "jsonl", "-v"], args].concat());
        let rows = json_lines(&text).into_iter().filter(|r| r["op"] == "lora");
        let row = |r: serde_json::Value| {
            assert_eq!(r["ok"], true);
            (r["tensor"].as_str().expect("a name").to_owned(), r["n"].as_u64().expect("a number"))
        };
        rows.map(row).collect()
    };
    let q = ["a.q.weight", "a.q.weight"].map(str::to_owned).into_iter().zip([1, 9]).collect::<Vec<_>>();
    assert_eq!(lora(&[]), []);
    assert_eq!(lora(&["--lora", &one]), q);
    assert_eq!(lora(&["--lora", &one, "--lora", &two]).len(), 4);
    assert_eq!(lora(&["--lora", &two, "--tensors", "*.v.*"]).len(), 2);
    let text = output(&["inspect", &two, "-f", "csv"]);
    assert!(text.contains("base_model.model.a.v.lora_B.weight,F32,9 x 3,"), "{text}");
}

/// One adapter in both forms on a GGUF, and what is said of what is left out.
#[test]
fn adapters_of_tools_are_taken_and_what_is_left_out_is_told() {
    let hub = common::path("golden/hub");
    let base = hub.join("lora-gguf/base.gguf").display().to_string();
    for name in ["adapter.gguf", "adapter-peft"] {
        let lora = hub.join("lora-gguf").join(name).display().to_string();
        let text = output(&["check", &base, "--lora", &lora, "-n", "2", "-f", "csv", "-v"]);
        assert_eq!(
            text.lines().filter(|line| line.contains(",lora,") && line.ends_with(",true,")).count(),
            3,
            "{text}"
        );
    }
    let [base, lora] = ["lora-peft", "lora-peft/adapter"].map(|name| hub.join(name).display().to_string());
    let done = success(&["check", &base, "--lora", &lora, "-n", "2", "-f", "csv"]);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.contains("`lm_head` is left out, it is saved whole"), "{said}");
    assert!(said.contains("`model.embed_tokens` is left out, it adds to an embedding"), "{said}");
    let args = ["matmul", &base, "lm_head", "--lora", &lora, "--input", "no.safetensors", "--output", "-"];
    let (code, text) = failure(&args);
    assert!(code == 4 && text.contains("`lm_head.weight` that can be used: it is saved whole"), "{text}");
}

#[test]
fn adapters_that_do_not_fit_are_4_and_named() {
    let folder = TempDir::new().expect("a temporary folder");
    let [model, one, _] = model_and_adapters(folder.path());
    let (x_file, _) = write_x(folder.path(), 1, 64);
    let other = |name: &str, module: &str, shape| {
        let other = folder.path().join(name);
        write_adapter(&other, &lora_config(4, 2.0), &lora_tensors(module, shape, 4, 1));
        other.display().to_string()
    };
    let (wide, stranger) = (other("wide", "a.q", (40, 65)), other("stranger", "a.k", (40, 64)));
    let matmul = |tensor: &str, lora: &str| {
        let y = folder.path().join("y.safetensors");
        let args = ["matmul", &model, tensor, "--input", &x_file, "--output", &y.display().to_string()];
        let (code, text) = failure(&[&args[..], &["--lora", lora]].concat());
        assert!(!y.exists());
        assert_eq!(code, 4, "{text}");
        text
    };
    let text = matmul("a.q", &wide);
    assert!(text.contains("lora_A") && text.contains("64") && text.contains("65"), "{text}");
    let text = matmul("a.v", &one);
    assert!(text.contains("module `a.v.weight`") && text.contains(&one), "{text}");
    let text = matmul("a.q", &folder.path().display().to_string());
    assert!(text.contains("adapter_config.json"), "{text}");
    let (code, text) = failure(&["check", &model, "--lora", &stranger]);
    assert!(code == 4 && text.contains("`a.k`") && text.contains(&stranger), "{code} {text}");
    assert_eq!(failure(&["check", "--lora", &one]).0, 2, "no file to add to");
}

/// LLM.int8 with the threshold of the checkpoint, or one's own; weights of other formats are
/// checked as they are.
#[test]
fn int8_activations_are_for_int8_weights() {
    let checkpoint = common::path("golden/checkpoints/bnb-int8").display().to_string();
    let text = output(&["check", &checkpoint, "--activations", "int8", "-n", "1,3", "-f", "csv", "-v"]);
    assert_eq!(text.lines().filter(|l| l.contains(",INT8,") && l.contains(",matmul,")).count(), 14, "{text}");
    let folder = TempDir::new().expect("a temporary folder");
    let (x, y) = (folder.path().join("x.safetensors"), folder.path().join("y.safetensors"));
    let mut values = qmatmul::check::activations(2 * 256, 1);
    values[5] = 30.0;
    write_f32(&x, "x", &[2, 256], &values).expect("a new file");
    let run = |more: &[&str]| {
        let (x, y) = (x.display().to_string(), y.display().to_string());
        let args = ["matmul", &checkpoint, "model.layers.0.self_attn.q_proj", "--input", &x, "--output", &y];
        output(&[&args[..], more].concat());
        qmatmul::file::read_activations(Path::new(&y)).expect("a result").data
    };
    let exact = run(&[]);
    let error = |y: &[f32]| y.iter().zip(&exact).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
    let near = error(&run(&["--activations", "int8"]));
    let none = error(&run(&["--activations", "int8", "--int8-threshold", "0"]));
    let on_cpu = error(&run(&["--activations", "int8", "--device", "cpu"]));
    assert!(near > 0.0 && near < none / 10.0, "{near} {none}");
    assert!((near - on_cpu).abs() < 0.01 * near, "{near} {on_cpu}");
    let (code, text) = failure(&["check", &checkpoint, "--activations", "int8", "--int8-threshold=-1"]);
    assert!(code == 2 && text.contains("-1"), "{text}");
    let bench = ["bench", "-q", "-t", "int8", "-m", "64", "-k", "512", "-n", "1,3", "--seconds", "0.01"];
    let text = output(&[&bench[..], &["--activations", "int8", "--outliers", "0.1", "-f", "csv"]].concat());
    assert!(text.contains("quantize_activations_int8") && !text.contains("WRONG"), "{text}");
}

/// The threshold of the settings, wherever they stand; one that is none is named with its file.
#[test]
fn int8_takes_the_threshold_of_the_settings() {
    let folder = TempDir::new().expect("a temporary folder");
    let (x, y) = (folder.path().join("x.safetensors"), folder.path().join("y.safetensors"));
    let mut values = [0.013f32; 32];
    values[0] = 7.0;
    write_f32(&x, "x", &[1, 32], &values).expect("a new file");
    let codes = ("a.weight".to_owned(), safetensors::Dtype::I8, vec![2, 32], (1..65).collect());
    let model = folder.path().join("model");
    std::fs::create_dir(&model).expect("a folder");
    write_tensors(&model.join("model.safetensors"), &[codes, f32_tensor("a.SCB", &[2], &[1.0, 1.0])]);
    let paths = [&model, &x, &y].map(|path| path.display().to_string());
    let args = ["matmul", &paths[0], "a", "--input", &paths[1], "--output", &paths[2], "--device", "cpu"];
    let args = [&args[..], &["--activations", "int8"]].concat();
    let run = |config: &str, more: &[&str]| {
        std::fs::write(model.join("config.json"), config).expect("room");
        output(&[&args[..], more].concat());
        read_activations(&y).expect("a result").data
    };
    let none = run("{}", &["--int8-threshold", "0"]);
    assert_ne!(run("{}", &[]), none);
    let settings = r#"{"quantization_config":{"llm_int8_threshold":0.0}}"#;
    assert_eq!(run(settings, &[]), none);
    assert_eq!(run(&format!(r#"{{"text_config":{settings}}}"#), &[]), none);
    std::fs::write(model.join("config.json"), settings.replace("0.0", "-3")).expect("room");
    let (code, text) = failure(&args);
    assert_eq!(code, 4, "{text}");
    assert!(text.contains("config.json") && text.contains("llm_int8_threshold"), "{text}");
}

/// A name may hold lines that look like ours, or be as long as a page. Windows takes arguments of
/// 32,767 characters together.
#[test]
fn names_of_files_stay_names() {
    let folder = TempDir::new().expect("a temporary folder");
    let paths = ["m", "x", "y"].map(|name| folder.path().join(name).display().to_string());
    let [model, x, y] = &paths;
    let (hostile, long) = ("a\nall 5 checks passed", "n".repeat(if cfg!(windows) { 30_000 } else { 90_000 }));
    let tensors = [
        f32_tensor(&format!("{hostile}.weight"), &[2, 1], &[1.0; 2]),
        f32_tensor(&format!("{hostile}.bias"), &[2], &[1.0; 2]),
        f32_tensor("\u{202e}gnp.exe", &[1], &[1.0]),
        f32_tensor(&format!("{long}.weight"), &[2, 1], &[1.0, f32::INFINITY]),
    ];
    write_tensors(model.as_ref(), &tensors);
    write_f32(x.as_ref(), "x", &[1, 1], &[1.0]).expect("a new file");
    let args = |name| ["matmul", model, name, "--input", x, "--output", y, "--device", "cpu"];
    let said = success(&args(hostile)).stderr;
    assert_eq!(String::from_utf8_lossy(&said), "with the bias `a\\nall 5 checks passed.bias`\n");
    let table = output(&["inspect", model]);
    assert!(table.contains("\n\\u{202e}gnp.exe ") && !table.contains('\u{202e}'), "{table}");
    let (code, text) = failure(&args(&long));
    assert_eq!(code, 4, "{text:.1000}");
    assert!(text.len() < 500 && text.contains("`nnn") && text.contains("1 non-finite"), "{text:.1000}");
}

/// A checkpoint with a layer whose inputs have outliers, and a file of them, `[3, 64]`.
fn checkpoint_and_captures(folder: &Path) -> [String; 2] {
    let (from, captures) = (folder.join("from"), folder.join("x.safetensors"));
    std::fs::create_dir(&from).expect("a folder");
    let weight = f32_tensor("a.q.weight", &[40, 64], &qmatmul::check::activations(40 * 64, 1));
    write_tensors(&from.join("model.safetensors"), &[weight]);
    let mut x = qmatmul::check::activations(3 * 64, 2);
    (x[5], x[64 + 40]) = (9.0, -50.0);
    write_tensors(&captures, &[f32_tensor("x", &[3, 64], &x)]);
    [from, captures].map(|p| p.display().to_string())
}

#[test]
fn quantize_writes_int8_and_keeps_outliers() {
    let folder = TempDir::new().expect("a temporary folder");
    let [from, captures] = checkpoint_and_captures(folder.path());
    let out = |name: &str| folder.path().join(name).display().to_string();
    let quantize = |to: &str, args: &[&str]| {
        let all = [&["quantize", &from, to, "--type", "int8", "--bare"][..], args].concat();
        String::from_utf8_lossy(&success(&all).stderr).into_owned()
    };
    assert!(!quantize(&out("plain"), &[]).contains("16 bits"));
    assert!(output(&["inspect", &out("plain"), "-f", "csv"]).contains("a.q.weight,INT8,40 x 64"));
    let said = quantize(&out("kept"), &["--keep-outliers", &captures]);
    assert!(said.contains("2 columns of 1 weights are in 16 bits"), "{said}");
    assert!(quantize(&out("two"), &["--keep-outliers", "2"]).contains("2 columns of 1 weights"));
    let text = std::fs::read_to_string(folder.path().join("kept/config.json")).expect("written");
    assert!(text.contains("\"llm_int8_threshold\": 6.0"), "{text}");
    // What is kept makes the product of exact activations better, on the device and on the CPU.
    let product = |model: &str, device: &[&str]| {
        let (y, tensor) = (out("y.safetensors"), "a.q");
        let args = ["matmul", model, tensor, "--input", &captures, "--output", &y];
        success(&[&args[..], device].concat());
        read_activations(y.as_ref()).expect("written").data
    };
    let exact: Vec<f64> = product(&from, &[]).iter().map(|y| f64::from(*y)).collect();
    for device in [&[][..], &["--device", "cpu"]] {
        let nmse = |model: &str| qmatmul::check::compare(&product(model, device), &exact, 1.0).nmse;
        let (plain, kept) = (nmse(&out("plain")), nmse(&out("kept")));
        assert!(kept > 0.0 && kept < plain / 5.0, "{plain} {kept}");
    }
    let checked = output(&["check", &out("kept"), "-n", "1,3", "-f", "csv", "-v"]);
    assert_eq!(
        checked.lines().filter(|l| l.contains(",layer,") && l.ends_with(",true,")).count(),
        2,
        "{checked}"
    );
}

/// Exit 2 with what to do instead, and nothing written.
#[test]
fn quantize_writes_no_file_that_is_not_what_it_says() {
    let folder = TempDir::new().expect("a temporary folder");
    let [from, _] = checkpoint_and_captures(folder.path());
    let inside = |name: &str| folder.path().join(name).display().to_string();
    let (to, bare) = (inside("to"), inside("bare.gguf"));
    let refused = |args: &[&str], words: &[&str]| {
        let (code, text) = failure(&[&["quantize"], args].concat());
        assert!(code == 2 && words.iter().all(|w| text.contains(w)), "{args:?}: {code} {text}");
        assert!(!Path::new(&to).exists(), "{args:?}");
    };
    refused(&[&from, &to, "--type", "q4_0"], &["--bare", "for qmatmul only"]);
    refused(&[&from, &to, "--type", "nf4"], &["model_type", "--bare"]);
    for option in ["--pure", "--allow-requantize"] {
        refused(&[&from, &to, "--type", "nf4", "--bare", option], &[option, "not for NF4"]);
    }
    let said = success(&["quantize", &from, &bare, "--type", "q8_0", "--bare"]).stderr;
    assert!(String::from_utf8_lossy(&said).contains("warning: only qmatmul reads the file"), "{said:?}");
    refused(&[&bare, &to, "--type", "q8_0"], &["nothing in it can be encoded", "it is Q8_0 already"]);
    refused(&[&bare, &to, "--type", "q4_0"], &["`a.q.weight` is Q8_0 already", "--allow-requantize"]);
    refused(&[&bare, &to, "--type", "q4_0", "--bare", "--allow-requantize"], &["--bare has no effect"]);
    success(&["quantize", &bare, &to, "--type", "q4_0", "--allow-requantize"]);
    assert!(output(&["inspect", &to, "-f", "csv"]).contains("a.q.weight,Q4_0,40 x 64"));
    std::fs::remove_file(&to).expect("written");
    let config = |text: &str| std::fs::write(Path::new(&from).join("config.json"), text).expect("room");
    config(r#"{"model_type":"surely-not-known"}"#);
    refused(&[&from, &to, "--type", "int8"], &["surely-not-known", "not known"]);
    config(r#"{"model_type":"llama"}"#);
    refused(&[&from, &to, "--type", "fp4"], &["nothing in it", "`llama` model"]);
    config(r#"{"model_type":"gpt2"}"#);
    refused(&[&from, &to, "--type", "nf4"], &["gpt2", "Conv1D"]);
    refused(&[&from, &to, "--type", "q8_0", "--bare"], &["gpt2", "Conv1D"]);
}

#[test]
fn quantize_refuses_what_is_not_for_int8() {
    let folder = TempDir::new().expect("a temporary folder");
    let [from, captures] = checkpoint_and_captures(folder.path());
    let to = folder.path().join("to").display().to_string();
    for (args, code, words) in [
        (&["--type", "nf4", "--int8-threshold", "3"][..], 2, &["for INT8", "NF4"][..]),
        (&["--type", "q4_0", "--keep-outliers", "3"], 2, &["for INT8", "Q4_0"]),
        (&["--type", "int8", "--block", "64"], 2, &["fixed size", "INT8"]),
        (&["--type", "int8-dq"], 2, &["int8-dq"]),
        (&["--type", "int4"], 2, &["int4", "INT8"]),
        (&["--type", "int8", "--int8-threshold=-1"], 2, &["0 or more", "-1"]),
        (&["--type", "int8", "--keep-outliers", "0"], 2, &["at least one"]),
        (&["--type", "int8", "--int8-threshold", "0", "--keep-outliers", &captures], 2, &["threshold 0"]),
        (
            &["--type", "int8", "--int8-threshold", "99", "--keep-outliers", &captures],
            2,
            &["99", "x.safetensors"],
        ),
        (&["--type", "int8", "--keep-outliers", "nowhere.safetensors"], 4, &["nowhere.safetensors"]),
    ] {
        let bare: &[&str] = if args[1] == "q4_0" { &[] } else { &["--bare"] };
        let (got, text) = failure(&[&["quantize", &from, &to], args, bare].concat());
        assert!(got == code && words.iter().all(|w| text.contains(w)), "{args:?}: {got} {text}");
        assert!(!Path::new(&to).exists(), "{args:?}");
    }
}

#[test]
fn a_weight_without_columns_is_not_multiplied() {
    let folder = TempDir::new().expect("a temporary folder");
    let [w, x, y] = ["w", "x", "y"].map(|name| folder.path().join(name).display().to_string());
    write_f32(Path::new(&w), "w.weight", &[5, 0], &[]).expect("a new file");
    write_f32(Path::new(&x), "x", &[2, 0], &[]).expect("a new file");
    for device in ["cpu", "0"] {
        let (code, text) = failure(&["matmul", &w, "w", "--input", &x, "--output", &y, "--device", device]);
        assert!(code == 2 && text.contains("no columns"), "{device}: {code} {text}");
    }
}
