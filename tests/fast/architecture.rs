//! The rooms of the library: who may import whom. `docs/ARCHITECTURE.md` has the picture.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The rooms from the ground up. A room imports from itself and from those above it in this list;
/// rooms of one line do not import from each other.
const ROOMS: &[&[&str]] = &[
    &["error"],
    &["format"],
    &["tensor"],
    &["linear"],
    &["file/names", "file/names_gguf"],
    &["file/container", "kernel"],
    &["file/scheme"],
    &["file/model"],
    &["file/adapter", "file/calibration"],
    &["file"],
    &["translate"],
    &["gpu"],
    &["check"],
    &["tune"],
];

fn sources(folder: &Path, all: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("readable").path();
        match path.is_dir() {
            true => sources(&path, all),
            false if path.extension().is_some_and(|e| e == "rs") => all.push(path),
            false => (),
        }
    }
}

/// The room of a path below `src/` or of one behind `crate::`, both with slashes.
fn room(path: &str) -> Option<(usize, &'static str)> {
    let suits = |room: &str| {
        path.strip_prefix(room).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '.']))
    };
    let all =
        ROOMS.iter().enumerate().flat_map(|(level, rooms)| rooms.iter().map(move |room| (level, *room)));
    all.filter(|(_, room)| suits(room)).max_by_key(|(_, room)| room.len())
}

/// The paths behind `crate::` in a source without its tests and comments, with slashes, braces
/// resolved one level deep.
fn imports(text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = lines.collect::<Vec<_>>().join("\n");
    let mut found = BTreeSet::new();
    for part in code.split("crate::").skip(1) {
        let path: String =
            part.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':')).collect();
        let path = path.trim_end_matches(':').replace("::", "/");
        let braces = part[path.len()..].trim_start_matches(':');
        match braces.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
            Some((names, _)) if part[path.len()..].starts_with("::{") => {
                found.extend(names.split(',').map(|name| format!("{path}/{}", name.trim())));
            }
            _ => drop(found.insert(path)),
        }
    }
    found
}

#[test]
fn nothing_imports_upwards() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = vec![];
    sources(&source, &mut files);
    let (mut upwards, mut seen) = (vec![], BTreeMap::new());
    for file in files {
        let name = file.strip_prefix(&source).expect("below src").to_string_lossy().replace('\\', "/");
        if name == "lib.rs" || name.ends_with("tests.rs") {
            continue;
        }
        let Some((level, home)) = room(&name) else { panic!("{name} is in no room: add it to ROOMS") };
        *seen.entry(home).or_insert(0) += 1;
        for path in imports(&std::fs::read_to_string(&file).expect("UTF-8")) {
            if let Some((above, other)) = room(&path)
                && other != home
                && above >= level
            {
                upwards.push(format!("{name} imports {path}: {home} is below {other}"));
            }
        }
    }
    assert!(upwards.is_empty(), "{upwards:#?}");
    let rooms = ROOMS.concat();
    assert!(rooms.iter().all(|room| seen.contains_key(room)), "rooms without a file: {rooms:?}, {seen:?}");
}

/// The files of the library by their module paths with slashes, and what each imports, as other
/// files of the library.
fn graph() -> BTreeMap<String, BTreeSet<String>> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = vec![];
    sources(&source, &mut files);
    let module = |file: &Path| {
        let name = file.strip_prefix(&source).expect("below src").to_string_lossy().replace('\\', "/");
        name.trim_end_matches(".rs").trim_end_matches("/mod").to_owned()
    };
    let texts: BTreeMap<_, _> = files
        .iter()
        .map(|file| (module(file), std::fs::read_to_string(file).expect("UTF-8")))
        .filter(|(name, _)| name != "lib" && !name.ends_with("tests"))
        .collect();
    let import = |(name, text): (&String, &String)| {
        let found = imports(&absolute(text, name));
        let files = found.iter().filter_map(|path| file_of(path, &texts));
        (name.clone(), files.filter(|other| other != name).collect())
    };
    texts.iter().map(import).collect()
}

/// `super::` of the file's own level as paths from the library's root.
fn absolute(text: &str, module: &str) -> String {
    let parent =
        module.rsplit_once('/').map_or(String::new(), |(parent, _)| parent.replace('/', "::") + "::");
    text.replace("super::", &format!("crate::{parent}"))
}

/// The file that has what a path names: the longest part of it that is a module.
fn file_of(path: &str, files: &BTreeMap<String, String>) -> Option<String> {
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    let mut longest_first = ends.map(|end| &path[..end]).collect::<Vec<_>>().into_iter().rev();
    longest_first.find(|module| files.contains_key(*module)).map(str::to_owned)
}

/// A family is a folder with its list: the list names its members, and they may name what the list
/// has for all.
fn is_family(a: &str, b: &str) -> bool {
    let within =
        |list: &str, member: &str| member.strip_prefix(list).is_some_and(|rest| rest.starts_with('/'));
    within(a, b) || within(b, a)
}

/// Files that import each other, in a circle of any length; a family and its list aside.
fn circles(graph: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<String>> {
    let next = |file: &String| {
        graph[file].iter().filter(|other| !is_family(file, other)).cloned().collect::<Vec<_>>()
    };
    let mut found: Vec<Vec<String>> = vec![];
    for start in graph.keys() {
        // The shortest way back to where it began.
        let mut ways = std::collections::VecDeque::from([vec![start.clone()]]);
        let mut seen = BTreeSet::new();
        while let Some(way) = ways.pop_front() {
            for file in next(way.last().expect("a way has a start")) {
                if file == *start {
                    let mut circle = way.clone();
                    circle.sort();
                    if !found.contains(&circle) {
                        found.push(circle);
                    }
                    ways.clear();
                    break;
                }
                if seen.insert(file.clone()) {
                    ways.push_back([&way[..], &[file]].concat());
                }
            }
        }
    }
    found
}

#[test]
fn no_files_import_each_other() {
    let circles = circles(&graph());
    assert!(circles.is_empty(), "{circles:#?}");
}

#[test]
fn circles_are_seen() {
    let graph = |edges: &[(&str, &[&str])]| -> BTreeMap<String, BTreeSet<String>> {
        let files = edges.iter().flat_map(|(from, to)| [*from].into_iter().chain(to.iter().copied()));
        let mut graph: BTreeMap<String, BTreeSet<String>> =
            files.map(|f| (f.to_owned(), BTreeSet::new())).collect();
        edges.iter().for_each(|(from, to)| {
            graph.get_mut(*from).expect("there").extend(to.iter().map(|t| t.to_string()))
        });
        graph
    };
    assert_eq!(circles(&graph(&[("a", &["b"]), ("b", &["c"]), ("c", &["a"])])).len(), 1);
    assert!(circles(&graph(&[("a", &["b", "c"]), ("b", &["c"])])).is_empty());
    // A list and its member.
    assert!(circles(&graph(&[("op", &["op/gemm"]), ("op/gemm", &["op"])])).is_empty());
    let files = BTreeMap::from([("gpu".to_owned(), String::new()), ("gpu/run".to_owned(), String::new())]);
    assert_eq!(file_of("gpu/run/Task", &files).as_deref(), Some("gpu/run"));
    assert_eq!(file_of("gpu/Runtime", &files).as_deref(), Some("gpu"));
    assert_eq!(absolute("use super::run::Task;", "gpu/time"), "use crate::gpu::run::Task;");
}

#[test]
fn upward_imports_are_seen() {
    let text = "use crate::file::{Model, scheme};\n// crate::gpu\nfn f() { crate::gpu::Runtime::new() }\n#[cfg(test)]\nmod tests { use crate::check; }";
    let found = imports(text);
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["file/Model", "file/scheme", "gpu/Runtime/new"]);
    assert_eq!(room("file/scheme/gptq.rs").map(|r| r.1), Some("file/scheme"));
    assert_eq!(room("file/Model").map(|r| r.1), Some("file"));
    assert!(room("tensor").expect("a room") > room("format/ggml/q4_0").expect("a room"));
}
