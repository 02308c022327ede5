//! `scripts/gpu.sh`: a run on the adapter that there is, and with a stand-in for the command what
//! becomes of steps that fail, that take too long, and that are done.
#![cfg(unix)]

#[path = "../../../tests/common/mod.rs"]
mod common;

use common::root;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// A run with the least sizes and times.
fn script(binary: &Path, records: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(root().join("scripts/gpu.sh"));
    command.args(["--short", "--sizes", "tiny"]).args(args).env_remove("QMATMUL");
    command.arg("--binary").arg(binary).arg("--records").arg(records);
    command
}

/// Exit code, standard output, standard error.
fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("bash");
    let [stdout, stderr] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).expect("UTF-8"));
    (status.code(), stdout, stderr)
}

/// The files of the only adapter that records are of, by what follows `<date>-`.
fn files(records: &Path) -> Vec<(String, PathBuf)> {
    let folder = fs::read_dir(records).expect("a folder").map(|entry| entry.expect("readable").path());
    let folder = folder.filter(|path| path.is_dir()).collect::<Vec<_>>();
    assert_eq!(folder.len(), 1, "{folder:?}");
    let files = fs::read_dir(&folder[0]).expect("a folder").map(|entry| entry.expect("readable"));
    let name = |name: String| name["2026-12-01-".len()..].to_owned();
    let mut files: Vec<_> =
        files.map(|file| (name(file.file_name().into_string().expect("UTF-8")), file.path())).collect();
    files.sort();
    files
}

fn names(records: &Path) -> Vec<String> {
    files(records).into_iter().map(|(name, _)| name).collect()
}

fn text(records: &Path, name: &str) -> String {
    let files = files(records);
    let (_, path) =
        files.iter().find(|(file, _)| file == name).unwrap_or_else(|| panic!("{name}: {files:?}"));
    fs::read_to_string(path).expect("UTF-8")
}

#[test]
fn a_run_leaves_records_a_page_and_an_archive() {
    let records = TempDir::new().expect("a temporary folder");
    let (code, stdout, stderr) =
        run(&mut script(env!("CARGO_BIN_EXE_qmatmul").as_ref(), records.path(), &[]));
    assert_eq!(code, Some(0), "{stdout}\n{stderr}");
    let steps = "check-model check peak tune gemv gemm gemm-f16 q8 q24 all check-full".split(' ');
    let mut wanted: Vec<_> = steps.map(|step| format!("short-{step}.jsonl")).collect();
    wanted.extend(["short.log", "short.md", "short.steps", "short.tuning"].map(str::to_owned));
    wanted.sort();
    assert_eq!(names(records.path()), wanted, "{stderr}");
    let page = text(records.path(), "short.md");
    for part in
        ["## Goals", "## One token", "| Q4_0   | q8", "## Tuning", "| copy", "| gemm-f16 | ok |", "matmul"]
    {
        assert!(page.contains(part), "{part}\n{page}");
    }
    let is_software = text(records.path(), "short-peak.jsonl").contains(r#""kind":"Cpu""#);
    assert_eq!(page.contains("computes on the CPU"), is_software);
    assert!(stdout.contains("## Goals") && !stdout.contains("## One token"), "{stdout}");
    let archive =
        fs::read_dir(records.path()).expect("a folder").map(|entry| entry.expect("readable").path());
    let archive = archive.filter(|path| path.is_file()).collect::<Vec<_>>();
    let listed = Command::new("tar").arg("-tzf").arg(&archive[0]).output().expect("tar");
    let listed = String::from_utf8(listed.stdout).expect("UTF-8");
    let missing: Vec<_> = wanted.iter().filter(|name| !listed.contains(&***name)).collect();
    assert!(archive.len() == 1 && missing.is_empty(), "{archive:?}: {missing:?}\n{listed}");
}

/// A stand-in for the command, in a folder: `peak` fails until a file `mended` is there, `check`
/// without a file does not end by itself, and verbs that record are counted in a file `calls`.
fn stand_in(folder: &Path) -> PathBuf {
    let head = r#"{"schema":1,"device":{"name":"GPU","driver":"1.2","kind":"Other"},"command":"qmatmul"}"#;
    let verdict = r#"{"verdict":{"ok":true,"interrupted":false,"text":"all","checks":1}}"#;
    let text = format!(
        r#"#!/bin/sh
case "$*" in
summary*) exec '{real}' "$@" ;;
*--help) exit ;;
esac
echo '{head}'
case "$*" in
devices* | tune\ --list*) exit ;;
esac
echo "$1" >>'{folder}/calls'
[ "$1" != peak ] || [ -e '{folder}/mended' ] || {{ echo "the driver is broken in $HOME/driver" >&2; exit 5; }}
case "$*" in
check\ -n*) exec sleep 60 ;;
esac
echo '{verdict}'
"#,
        real = env!("CARGO_BIN_EXE_qmatmul"),
        folder = folder.display(),
    );
    let path = folder.join("qmatmul");
    fs::write(&path, text).expect("a new file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
    path
}

/// The verbs that recorded since the last time.
fn calls(folder: &Path) -> String {
    let path = folder.join("calls");
    let calls = fs::read_to_string(&path).unwrap_or_default().replace('\n', " ");
    let _ = fs::remove_file(path);
    calls
}

#[test]
fn a_run_is_continued_where_a_step_failed() {
    let folder = TempDir::new().expect("a temporary folder");
    let (binary, records) = (stand_in(folder.path()), folder.path().join("records"));
    let go = |args: &[&str]| run(script(&binary, &records, args).env("HOME", "/home/ada"));
    let (code, stdout, stderr) = go(&[]);
    assert_eq!(code, Some(1), "{stdout}\n{stderr}");
    assert!(stderr.contains("failed: peak (see the log)"), "{stderr}");
    let log = text(&records, "short.log");
    assert!(log.contains("the driver is broken in ~/driver") && log.contains("failed with 5 after"), "{log}");
    // What was known of a step that failed, or that took too long, is kept.
    let page = text(&records, "short.md");
    for row in ["| peak | failed with 5 |", "| check | out of time |", "killed after 0 rows", "| q8 | ok |"] {
        assert!(page.contains(row), "{row}\n{page}");
    }
    assert!(names(&records).contains(&"short-peak.jsonl.part".to_owned()));
    assert_eq!(calls(folder.path()), "check check peak tune bench bench bench bench bench check ");

    fs::write(folder.path().join("mended"), "").expect("a new file");
    let (code, stdout, stderr) = go(&[]);
    assert_eq!((code, &*calls(folder.path())), (Some(0), "peak "), "{stdout}\n{stderr}");
    assert!(
        stdout.contains("continued: ") && text(&records, "short.md").contains("| peak | ok |"),
        "{stdout}"
    );
    assert!(names(&records).iter().all(|name| !name.ends_with(".part")));

    // Another build does not continue it, and a run that is at its end records nothing more.
    let (code, ..) = go(&[]);
    assert_eq!((code, &*calls(folder.path())), (Some(0), ""));
    fs::OpenOptions::new()
        .append(true)
        .open(&binary)
        .and_then(|mut file| {
            use std::io::Write;
            file.write_all(b"# newer\n")
        })
        .expect("our own file");
    let (code, _, stderr) = go(&[]);
    assert!(code == Some(2) && stderr.contains("of another build: --again"), "{stderr}");
    let (code, ..) = go(&["--again"]);
    assert_eq!((code, calls(folder.path()).split(' ').count()), (Some(0), 11));
}

#[test]
fn options_that_are_none_are_refused() {
    let records = TempDir::new().expect("a temporary folder");
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_qmatmul"));
    for args in [&["--nonsense"][..], &["--name", "a/b"], &["--sizes", "large"], &["--device"]] {
        let mut command = Command::new(root().join("scripts/gpu.sh"));
        let (code, _, stderr) = run(command.args(args).env("QMATMUL", &binary));
        assert!(code == Some(2) && stderr.contains(args[args.len() - 1]), "{args:?}: {stderr}");
    }
    let (code, _, stderr) = run(&mut script(&binary, records.path(), &["--device", "no such device"]));
    assert!(code == Some(3) && stderr.contains("no such device"), "{stderr}");
    let (code, ..) = run(&mut script(&records.path().join("none"), records.path(), &[]));
    assert_eq!(code, Some(2));
}
