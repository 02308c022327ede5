//! The commands of the pages: every line `$ qmatmul …` of a block ```` ```console ```` in the
//! README, in docs/command.md and in docs/adapters.md is run, in order, in a folder where the files
//! have the names that the page uses. `docs/testing.md` has the convention.

#[path = "../../../tests/common/mod.rs"]
mod common;

use common::{f32_tensor, lora_config, lora_tensors, own_cache, write_adapter, write_tensors};
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Verbs that measure.
const MEASURING: [&str; 3] = ["bench", "peak", "tune"];

/// A command line of a page.
#[derive(Debug, PartialEq)]
struct Line {
    args: Vec<String>,
    /// Where standard output goes: `>FILE`.
    output: Option<String>,
    /// What it ends with: 0, or as a comment `# exit 1` says.
    exit: i32,
}

impl Line {
    /// Of the text behind `$ qmatmul`. Words are parted by spaces; single quotes hold them
    /// together.
    fn parse(text: &str) -> Self {
        let (text, comment) = text.split_once(" #").unwrap_or((text, ""));
        let exit = comment.trim().strip_prefix("exit ").map_or(0, |code| code.parse().expect("a number"));
        let (mut args, mut output) = (vec![], None);
        for (part, piece) in text.split('\'').enumerate() {
            match part % 2 {
                1 => args.push(piece.to_owned()),
                _ => args.extend(piece.split_whitespace().map(str::to_owned)),
            }
        }
        args.retain(|word| match word.strip_prefix('>') {
            Some(file) => {
                output = Some(file.to_owned());
                false
            }
            None => true,
        });
        Self { args, output, exit }
    }

    /// The same at the least cost: nothing measured for long, small weights, and a few tensors of a
    /// file for a `check` of all formats.
    fn at_least_cost(&self) -> Vec<String> {
        let mut args = self.args.clone();
        let verb = args[0].clone();
        if verb == "check" && args.get(1).is_none_or(|arg| arg.starts_with('-')) {
            args.splice(1..1, ["model.gguf", "--tensors", "blk.0.attn_*"].map(str::to_owned));
        }
        if !MEASURING.contains(&&*verb) {
            return args;
        }
        for at in 1..args.len() {
            if ["-m", "-k"].contains(&&*args[at - 1]) {
                args[at] = "256".into();
            }
        }
        if !args.iter().any(|arg| arg == "--seconds" || arg == "--list") {
            args.extend(["--seconds", "0.01"].map(str::to_owned));
        }
        if verb == "bench" {
            args.extend(["--footprint", "1"].map(str::to_owned));
        }
        args
    }

    /// Runs it in a folder.
    ///
    /// # Errors
    /// Says how it ended, if not as the page says.
    fn run(&self, folder: &Path) -> Result<(), String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qmatmul"));
        command.args(self.at_least_cost()).current_dir(folder).env_remove("RUST_LOG").stdin(Stdio::null());
        // What is measured here is for nobody.
        own_cache(&mut command, &folder.join("cache"));
        if let Some(output) = &self.output {
            command.stdout(File::create(folder.join(output)).expect("a new file"));
        }
        let done = command.output().expect("the command starts");
        if done.status.code() == Some(self.exit) {
            return Ok(());
        }
        let [stdout, stderr] = [&done.stdout, &done.stderr].map(|text| String::from_utf8_lossy(text));
        Err(format!("{:?} ended with {}, not {}\n{stdout}\n{stderr}", self.args, done.status, self.exit))
    }
}

/// The blocks of a page by their language, with their text.
fn blocks(page: &str) -> impl Iterator<Item = (&str, &str)> {
    page.split("```").skip(1).step_by(2).map(|block| block.split_once('\n').unwrap_or((block, "")))
}

/// The command lines of a page.
///
/// # Panics
/// If a block that is not run has some.
fn lines(page: &str) -> Vec<Line> {
    let mut lines = vec![];
    for (language, text) in blocks(page) {
        for line in text.lines() {
            match line.strip_prefix("$ qmatmul ") {
                Some(args) if language == "console" => lines.push(Line::parse(args)),
                _ => assert!(
                    !line.trim_start().trim_start_matches("$ ").starts_with("qmatmul "),
                    "`{line}` is in no block ```console or does not begin with `$ `"
                ),
            }
        }
    }
    lines
}

/// The files that the pages name: a model, the same in F16, a checkpoint, adapters for both,
/// activations for all of them, `[8, 256]`.
fn example_files(folder: &Path) {
    let file = |name: &str| folder.join(name);
    std::fs::copy(common::path("data/storybook-3.7M-Q4_K_M.gguf"), file("model.gguf")).expect("copied");
    let packed = common::path("data/storybook-3.7M-Q4_0.gguf").display().to_string();
    let to_f16 = ["quantize", &packed, "model-F16.gguf", "--type", "f16", "--allow-requantize"];
    let to_f16 = Line { args: to_f16.map(str::to_owned).to_vec(), output: None, exit: 0 };
    to_f16.run(folder).expect("a model in F16");
    let broken = std::fs::read(file("model.gguf")).expect("just written");
    std::fs::write(file("broken.gguf"), &broken[..broken.len() / 2]).expect("a new file");

    let module = "model.layers.0.self_attn.q_proj";
    let values = qmatmul::check::activations(64 * 256, 1);
    std::fs::create_dir(file("checkpoint")).expect("a new folder");
    std::fs::write(file("checkpoint/config.json"), r#"{"model_type":"llama"}"#).expect("a new file");
    let weight = f32_tensor(&format!("{module}.weight"), &[64, 256], &values);
    write_tensors(&file("checkpoint/model.safetensors"), &[weight]);
    write_adapter(&file("adapter"), &lora_config(4, 8.0), &lora_tensors(module, (64, 256), 4, 2));
    let x = f32_tensor("x", &[8, 256], &qmatmul::check::activations(8 * 256, 3));
    write_tensors(&file("x.safetensors"), &[x]);
}

/// Runs all commands of a page, and lists those that did not end as they should.
fn run_page(page: &str) {
    let text = std::fs::read_to_string(common::root().join(page)).expect("a page of the repository");
    let folder = TempDir::new().expect("a temporary folder");
    example_files(folder.path());
    let lines = lines(&text);
    assert!(!lines.is_empty(), "{page} has no command");
    let failures: Vec<_> = lines.iter().filter_map(|line| line.run(folder.path()).err()).collect();
    assert!(failures.is_empty(), "{page}:\n{}", failures.join("\n"));
}

#[test]
fn the_commands_of_the_readme_run() {
    run_page("README.md");
}

#[test]
fn the_commands_of_docs_run() {
    run_page("docs/command.md");
    run_page("docs/adapters.md");
}

/// Pages with commands that a test runs: this one, or that of the machine output.
const RUN: [&str; 3] = ["command.md", "adapters.md", "json.md"];

/// Those of other pages stand in the text.
#[test]
fn other_pages_have_no_commands_of_their_own() {
    let docs = std::fs::read_dir(common::root().join("docs")).expect("a folder of the repository");
    let pages = docs.map(|entry| entry.expect("readable").path()).filter(|path| path.is_file());
    for page in pages.filter(|page| !RUN.iter().any(|run| page.ends_with(run))) {
        let text = std::fs::read_to_string(&page).expect("a page");
        assert_eq!(lines(&text), [], "{} has commands that are not run", page.display());
    }
}

#[test]
fn lines_are_read_as_the_pages_mean_them() {
    let page = "text\n```console\n$ qmatmul inspect a.gguf --tensors 'a b*' >b.txt   # exit 4\nOK\n```\n";
    let args = ["inspect", "a.gguf", "--tensors", "a b*"].map(str::to_owned).to_vec();
    assert_eq!(lines(page), [Line { args, output: Some("b.txt".into()), exit: 4 }]);
    for hidden in ["```sh\nqmatmul devices\n```", "```console\nqmatmul devices\n```"] {
        assert!(std::panic::catch_unwind(|| lines(hidden)).is_err(), "{hidden}");
    }
}
