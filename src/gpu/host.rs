//! What the machine itself has, where the system tells: caches and free memory, which bound what is
//! worth measuring, and a folder for what is kept between runs.

use std::path::PathBuf;

/// Bytes of the processor's last-level cache.
pub fn last_level_cache() -> Option<u64> {
    let caches = std::fs::read_dir("/sys/devices/system/cpu/cpu0/cache").ok()?;
    let size = |entry: std::io::Result<std::fs::DirEntry>| {
        parse_size(&std::fs::read_to_string(entry.ok()?.path().join("size")).ok()?)
    };
    caches.filter_map(size).max()
}

/// Bytes that can be allocated without pushing anything out.
pub(crate) fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    parse_size(&line.replace(" kB", "K"))
}

/// `32768K` as the kernel writes it.
fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.trim_end_matches(['K', 'M', 'G']);
    let shift = match &text[digits.len()..] {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// `$XDG_CACHE_HOME/qmatmul`, `~/.cache/qmatmul`, or what the system calls it.
pub(super) fn cache_folder() -> Option<PathBuf> {
    let from = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let base = match std::env::consts::OS {
        "windows" => from("LOCALAPPDATA"),
        "macos" => from("HOME").map(|home| home.join("Library/Caches")),
        _ => from("XDG_CACHE_HOME").or_else(|| from("HOME").map(|home| home.join(".cache"))),
    };
    base.map(|base| base.join("qmatmul"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes() {
        let read = |text| super::parse_size(text);
        assert_eq!(read("32768K\n"), Some(32 << 20));
        assert_eq!(read("  260M"), Some(260 << 20));
        assert_eq!((read("12"), read("KM"), read(""), read("9KK")), (Some(12), None, None, None));
    }
}
