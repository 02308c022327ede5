//! The rooms of the library: who may import whom. `docs/ARCHITECTURE.md` has the picture.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The rooms from the ground up. A room imports from itself and from those above it in this list; rooms of one line do not import from each other.
const ROOMS: &[&[&str]] = &[
    &["error"],
    &["format"],
    &["tensor"],
    &["linear"],
    &["file/names"],
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

/// The paths behind `crate::` in a source without its tests and comments, with slashes, braces resolved one level deep.
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

#[test]
fn upward_imports_are_seen() {
    let text = "use crate::file::{Model, scheme};\n// crate::gpu\nfn f() { crate::gpu::Runtime::new() }\n#[cfg(test)]\nmod tests { use crate::check; }";
    let found = imports(text);
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["file/Model", "file/scheme", "gpu/Runtime/new"]);
    assert_eq!(room("file/scheme/gptq.rs").map(|r| r.1), Some("file/scheme"));
    assert_eq!(room("file/Model").map(|r| r.1), Some("file"));
    assert!(room("tensor").expect("a room") > room("format/ggml/q4_0").expect("a room"));
}
