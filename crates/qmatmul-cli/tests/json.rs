//! What programs read: every verb's output against docs/qmatmul.schema.json, by Python's
//! jsonschema, and the examples of docs/json.md, by jq. `scripts/tools.sh` installs both.

#[path = "../../../tests/common/mod.rs"]
mod common;

use common::{f32_tensor, model_path, own_cache, path, root, write_tensors};
use qmatmul::file::write_f32;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

fn schema() -> Value {
    let text = std::fs::read_to_string(root().join("docs/qmatmul.schema.json")).expect("the schema");
    serde_json::from_str(&text).expect("JSON")
}

/// A JSON value, and whether it is a line of JSON lines or a whole object.
struct Instance {
    value: Value,
    is_line: bool,
}

impl Instance {
    fn of(text: &str, is_line: bool) -> Self {
        Self { value: serde_json::from_str(text).expect("JSON"), is_line }
    }
}

/// What jsonschema says against each instance: nothing of one that is valid.
fn problems(instances: &[Instance]) -> Vec<String> {
    const VALIDATE: &str = "
import json, jsonschema, sys
whole, instances = json.load(sys.stdin)
line = {'$ref': '#/$defs/line', '$defs': whole['$defs']}
of = lambda schema: jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
jsonschema.Draft202012Validator.check_schema(whole)
validators = [of(whole), of(line)]
say = lambda error: '/'.join(map(str, error.absolute_path)) + ': ' + error.message[:400]
print(json.dumps(['; '.join(map(say, validators[is_line].iter_errors(value))) for value, is_line in instances]))
";
    let instances: Vec<_> = instances.iter().map(|i| json!([i.value, i.is_line])).collect();
    let mut python = Command::new(if cfg!(windows) { "python" } else { "python3" });
    python.args(["-c", VALIDATE]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = python.spawn().expect("Python 3 (scripts/tools.sh installs it)");
    let input = json!([schema(), instances]).to_string();
    let mut stdin = child.stdin.take().expect("a pipe");
    let written = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "scripts/tools.sh installs Python's jsonschema: {said}");
    written.join().expect("no panic").expect("it read everything");
    serde_json::from_slice(&output.stdout).expect("a list")
}

/// Standard output and exit code.
fn run(args: &[&str], cache: &Path) -> (String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qmatmul"));
    command.args(args).current_dir(root()).env_remove("RUST_LOG");
    if args[0] == "tune" {
        own_cache(&mut command, cache);
    }
    let output = command.output().expect("the command starts");
    (String::from_utf8(output.stdout).expect("UTF-8"), output.status.code().expect("ended by itself"))
}

/// A run of a verb, the definition of its rows, and how it ends.
struct Run<'a> {
    args: Vec<&'a str>,
    rows: &'static str,
    exit: i32,
}

#[test]
fn the_schema_describes_every_verb() {
    let folder = TempDir::new().expect("a temporary folder");
    let file = |name: &str| folder.path().join(name).display().to_string();
    let [from, x, y, w, gguf, nf4, stats] = ["from", "x", "y", "w", "q.gguf", "nf4", "stats"].map(file);
    let matrix = |name: &str| f32_tensor(name, &[8, 64], &qmatmul::check::activations(8 * 64, 1));
    write_tensors(from.as_ref(), &[matrix("a.weight"), f32_tensor("b.bias", &[8], &[1.0; 8])]);
    write_f32(x.as_ref(), "x", &[2, 64], &qmatmul::check::activations(128, 2)).expect("a new file");
    write_tensors(
        stats.as_ref(),
        &[
            f32_tensor("nan", &[2, 32], &[f32::NAN; 64]),
            ("flags".into(), safetensors::Dtype::BOOL, vec![4], vec![1; 4]),
        ],
    );
    let model = model_path().display().to_string();
    let imatrix = path("golden/imatrix/stories260K.dat").display().to_string();
    let run_of = |rows: &'static str, args: &[&'static str]| Run { args: args.to_vec(), rows, exit: 0 };
    let small = ["-m", "32", "-k", "64", "--seconds", "0", "--no-subgroups"];
    let mut runs: Vec<Run> = vec![
        run_of("devices", &["devices"]),
        Run { args: vec!["inspect", &model], rows: "inspect", exit: 0 },
        Run { args: vec!["inspect", &stats], rows: "inspect", exit: 0 },
        Run { args: vec!["inspect", &model, "--metadata", "-v"], rows: "inspect_metadata", exit: 0 },
        Run { args: vec!["inspect", &imatrix], rows: "inspect_imatrix", exit: 0 },
        Run { args: vec!["check", &model, "--sample", "1"], rows: "check", exit: 0 },
        Run { args: vec!["check", &model, "--sample", "1", "-v"], rows: "check", exit: 0 },
        Run { args: vec!["check", &stats, "-q"], rows: "check", exit: 0 },
        Run { args: vec!["matmul", &from, "a", "--input", &x, "-o", &y], rows: "written", exit: 0 },
        Run { args: vec!["dequantize", &from, "a", "-o", &w, "--device", "cpu"], rows: "written", exit: 0 },
        Run { args: vec!["quantize", &from, &gguf, "--type", "q8_0", "--bare"], rows: "quantize", exit: 0 },
        Run { args: vec!["quantize", &from, &nf4, "--type", "nf4", "--bare"], rows: "quantize", exit: 0 },
        Run { args: vec!["bench", &model, "--seconds", "0", "--footprint", "1"], rows: "bench", exit: 0 },
        run_of("bench", &["bench", "-m", "32", "-k", "64", "--seconds", "0", "--device", "cpu"]),
        run_of("peak", &["peak", "--seconds", "0"]),
        run_of("tune", &[&["tune", "-t", "q8_0"], &small[..]].concat()),
        Run {
            args: vec!["tune", &model, "-n", "1", "--seconds", "0", "--budget", "0"],
            rows: "tune",
            exit: 0,
        },
        run_of("tune", &["tune", "--list"]),
        run_of("tune", &["tune", "--clear"]),
    ];
    runs.push(Run { args: vec!["check", &nf4, "--lora", &stats], rows: "check", exit: 4 });
    let definitions = schema()["$defs"].take();
    let (mut instances, mut names) = (vec![], vec![]);
    for Run { args, rows, exit } in runs {
        // Keys of a row are those of its definition, in its order.
        let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
        let wanted = keys(&definitions[rows]["properties"]);
        // A checkpoint folder is not written twice.
        let run = |form: &str| {
            let to = format!("{nf4}-{form}");
            let args = args.iter().map(|arg| if *arg == nf4 && rows == "quantize" { &*to } else { *arg });
            run(&args.chain(["-f", form]).collect::<Vec<_>>(), folder.path())
        };
        let (lines, code) = run("jsonl");
        assert_eq!(code, exit, "{args:?}: {lines}");
        if exit > 1 {
            assert_eq!(lines, "", "{args:?}: an error is no output");
            continue;
        }
        let lines: Vec<_> = lines.lines().map(|text| Instance::of(text, true)).collect();
        let [head, results @ .., verdict] = &lines[..] else { panic!("{args:?}: a head and a verdict") };
        assert!(results.iter().all(|row| keys(&row.value) == wanted), "{args:?}");
        // The other forms of what takes long are those of its like.
        let mut whole = vec![];
        if !["peak", "tune"].contains(&args[0]) || args.contains(&"--list") {
            whole.push(Instance::of(&run("json").0, false));
            let Value::Object(fields) = &whole[0].value else { panic!("{args:?}: an object") };
            assert!(fields["results"][0].is_null() == results.is_empty(), "{args:?}");
            let ok = &fields["verdict"]["ok"];
            assert!(head.value["schema"] == 1 && verdict.value["verdict"]["ok"] == *ok, "{args:?}");
        }
        names.extend(std::iter::repeat_n(format!("{args:?}"), whole.len() + lines.len()));
        instances.extend(whole.into_iter().chain(lines));
        if !["bench", "peak", "tune"].contains(&rows) {
            assert_eq!(run("csv").0.lines().next().unwrap_or_default(), wanted.join(","), "{args:?}");
        }
    }
    let problems = problems(&instances);
    let wrong: Vec<_> = names.iter().zip(&problems).filter(|(_, problem)| !problem.is_empty()).collect();
    assert!(problems.len() == instances.len() && wrong.is_empty(), "{wrong:#?}");
}

/// A schema that takes anything would tell nothing.
#[test]
fn the_schema_rejects_what_it_does_not_describe() {
    let (good, _) = run(&["devices", "-f", "json"], Path::new("."));
    let good = Instance::of(&good, false);
    let changed = |pointer: &str, value: Value| {
        let mut bad = good.value.clone();
        *bad.pointer_mut(pointer).expect(pointer) = value;
        Instance { value: bad, is_line: false }
    };
    let instances = [
        changed("/schema", 2.into()),
        changed("/results/0/index", "0".into()),
        changed("/verdict/ok", "yes".into()),
        changed("/results", json!([{ "index": 0 }])),
        Instance { value: json!({}), is_line: true },
        good,
    ];
    let are_bad: Vec<_> = problems(&instances).iter().map(|problem| !problem.is_empty()).collect();
    assert_eq!(are_bad, [true, true, true, true, true, false]);
}

/// The lines of docs/json.md, with files under the names that it uses.
#[test]
fn jq_reads_it() {
    let page = std::fs::read_to_string(root().join("docs/json.md")).expect("the page");
    let folder = TempDir::new().expect("a temporary folder");
    std::fs::copy(model_path(), folder.path().join("model.gguf")).expect("room");
    write_f16_model(folder.path());
    let blocks = page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    let lines: Vec<_> = blocks.flat_map(str::lines).collect();
    assert!(lines.len() >= 8, "{lines:?}");
    // Without subgroups there are fewer kernels to compile.
    let small = ["-m", "32", "-k", "256", "--seconds", "0", "--no-subgroups"];
    for line in lines {
        let (command, filter) = line.split_once(" | jq ").expect("a pipe to jq");
        let mut args: Vec<_> = command.split(' ').skip(1).map(str::to_owned).collect();
        match &*args[0] {
            "bench" | "tune" => args.extend(small.map(str::to_owned)),
            "check" => args.extend(["--sample", "1", "-n", "1"].map(str::to_owned)),
            _ => {}
        }
        let mut qmatmul = Command::new(env!("CARGO_BIN_EXE_qmatmul"));
        own_cache(qmatmul.args(&args).current_dir(folder.path()), folder.path());
        let mut qmatmul = qmatmul.stdout(Stdio::piped()).spawn().expect("the command starts");
        let jq = Command::new("sh")
            .args(["-c", &format!("jq {filter}")])
            .stdin(qmatmul.stdout.take().expect("a pipe"))
            .output()
            .expect("a shell");
        assert!(qmatmul.wait().expect("it ends").success(), "{line}");
        let said = String::from_utf8_lossy(&jq.stderr).into_owned();
        assert!(jq.status.success(), "{line}: {said} (jq is needed: apt-get install jq)");
        assert!(!jq.stdout.is_empty(), "{line}: nothing came out");
    }
}

/// The demo model in F16, by the command itself.
fn write_f16_model(folder: &Path) {
    let [from, to] = [model_path(), folder.join("model-F16.gguf")].map(|path| path.display().to_string());
    let (text, code) = run(&["quantize", &from, &to, "--type", "f16", "--allow-requantize", "-q"], folder);
    assert_eq!(code, 0, "{text}");
}
