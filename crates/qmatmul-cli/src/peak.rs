//! `qmatmul peak`: the ceilings of the device, measured.

use super::output::{Cell, Table};
use super::{Common, Verdict};
use qmatmul::error::{Error, Result};
use qmatmul::gpu;

#[derive(clap::Args)]
pub struct Peak {
    /// Seconds per figure
    #[arg(long, default_value_t = 0.3)]
    seconds: f64,
}

impl Peak {
    pub fn run(self, common: &Common) -> Result<Verdict> {
        seconds(self.seconds)?;
        let runtime = common.runtime()?;
        let clock = match runtime.has_timestamps() {
            true => "the device's timestamps; the host's for submit, readback and copies",
            false => "the host's: the device has no timestamps",
        };
        common.say(&format!("clock: {clock}"));
        let peak = runtime.peak(self.seconds)?;
        let mut table = table(&peak);
        if let Some(stated) = stated(&runtime.adapter().name) {
            let best = peak.copy_gb_per_s().max(peak.read_gb_per_s());
            let share = Cell::Float(100.0 * best / stated.gb_per_s, 1);
            table.push(vec!["share of stated bandwidth".into(), Cell::Empty, share, "%".into()]);
            common.say(&format!("stated: {} GB/s by {}", stated.gb_per_s, stated.source));
        }
        table.print(common.style)?;
        Ok(Verdict::Fine)
    }
}

/// Refuses what is no time to measure for.
pub fn seconds(seconds: f64) -> Result<()> {
    match (0.0..=3600.0).contains(&seconds) {
        true => Ok(()),
        false => Err(Error::Argument(format!("--seconds {seconds} is not between 0 and 3600"))),
    }
}

fn table(peak: &gpu::Peak) -> Table {
    let mut table = Table::new(&["figure", "MiB", "value", "unit"]);
    for b in &peak.bandwidth {
        table.push(vec![
            b.operation.into(),
            (b.bytes >> 20).into(),
            Cell::Float(b.gb_per_s, 2),
            "GB/s".into(),
        ]);
    }
    let mut single = |figure: &str, value: f64, decimals, unit: &str| {
        table.push(vec![figure.into(), Cell::Empty, Cell::Float(value, decimals), unit.into()]);
    };
    single("upload", peak.upload_gb_per_s, 2, "GB/s");
    single("host copy", peak.host_copy_gb_per_s, 2, "GB/s");
    for a in &peak.arithmetic {
        single(a.kind, a.tera_ops, 4, "Tops/s");
    }
    single("dispatch", peak.dispatch_seconds * 1e6, 2, "µs");
    single("submit and wait", peak.submit_seconds * 1e6, 1, "µs");
    single("readback 16 KiB", peak.readback_seconds * 1e6, 1, "µs");
    table
}

/// A vendor's word on the memory bandwidth of an adapter.
struct Stated {
    /// Part of the adapter's name, whole words.
    name: &'static str,
    gb_per_s: f64,
    source: &'static str,
}

const fn stated_by(name: &'static str, gb_per_s: f64, source: &'static str) -> Stated {
    Stated { name, gb_per_s, source }
}

/// The first row that fits counts, so the longer of two names stands first.
const STATED: &[Stated] = &[
    stated_by("H200", 4800.0, "NVIDIA's data sheet of the H200"),
    stated_by("H100 80GB HBM3", 3350.0, "NVIDIA's data sheet of the H100 SXM"),
    stated_by("H100 PCIe", 2000.0, "NVIDIA's data sheet of the H100 PCIe"),
    stated_by("A100-SXM4-80GB", 2039.0, "NVIDIA's data sheet of the A100 80 GB SXM"),
    stated_by("A100-SXM4-40GB", 1555.0, "NVIDIA's data sheet of the A100 40 GB"),
    stated_by("A100-PCIE-40GB", 1555.0, "NVIDIA's data sheet of the A100 40 GB"),
    stated_by("L40S", 864.0, "NVIDIA's data sheet of the L40S"),
    stated_by("L4", 300.0, "NVIDIA's data sheet of the L4"),
    stated_by("RTX 5090", 1792.0, "NVIDIA's specifications of the RTX 5090"),
    stated_by("RTX 4090", 1008.0, "NVIDIA's specifications of the RTX 4090"),
    stated_by("RTX 3090", 936.0, "NVIDIA's specifications of the RTX 3090"),
    stated_by("RX 7900 XTX", 960.0, "AMD's specifications of the RX 7900 XTX"),
    stated_by("RX 7900 XT", 800.0, "AMD's specifications of the RX 7900 XT"),
    stated_by("RX 6800 XT", 512.0, "AMD's specifications of the RX 6800 XT"),
    stated_by("Apple M1 Max", 400.0, "Apple's specifications of the M1 Max"),
    stated_by("Apple M1 Pro", 200.0, "Apple's specifications of the M1 Pro"),
    stated_by("Apple M2 Ultra", 800.0, "Apple's specifications of the M2 Ultra"),
    stated_by("Apple M2 Max", 400.0, "Apple's specifications of the M2 Max"),
    stated_by("Apple M2 Pro", 200.0, "Apple's specifications of the M2 Pro"),
    stated_by("Apple M2", 100.0, "Apple's specifications of the M2"),
    stated_by("Apple M4 Pro", 273.0, "Apple's specifications of the M4 Pro"),
];

/// Words after a name that make it another product.
const OTHERS: &[&str] = &["Laptop", "Mobile", "Max-Q", "D", "Ti", "SUPER", "Pro", "Max", "Ultra"];

fn stated(adapter: &str) -> Option<&'static Stated> {
    let fits = |stated: &&Stated| {
        let Some((before, after)) = adapter.split_once(stated.name) else { return false };
        let whole = !before.ends_with(char::is_alphanumeric) && !after.starts_with(char::is_alphanumeric);
        whole && !after.split_whitespace().any(|word| OTHERS.contains(&word))
    };
    STATED.iter().find(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stated_bandwidths_are_found_by_whole_names() {
        let of = |name| stated(name).map(|s| s.gb_per_s);
        assert_eq!(of("NVIDIA H200"), Some(4800.0));
        assert_eq!(of("NVIDIA GH200 480GB"), None);
        assert_eq!(of("NVIDIA GeForce RTX 4090"), Some(1008.0));
        assert_eq!(of("NVIDIA GeForce RTX 4090 Laptop GPU"), None);
        assert_eq!(of("NVIDIA GeForce RTX 4090 D"), None);
        assert_eq!(of("NVIDIA GeForce RTX 3090 Ti"), None);
        assert_eq!(of("AMD Radeon RX 7900 XTX (RADV NAVI31)"), Some(960.0));
        assert_eq!(of("AMD Radeon RX 7900 XT (RADV NAVI31)"), Some(800.0));
        assert_eq!(of("Apple M2 Ultra"), Some(800.0));
        assert_eq!((of("Apple M2"), of("Apple M1 Ultra"), of("NVIDIA L40")), (Some(100.0), None, None));
        assert_eq!(of("llvmpipe (LLVM 15.0.6, 256 bits)"), None);
    }
}
