//! `qmatmul peak`: the ceilings of the device, measured.

use super::Ending;
use super::options::{Common, Device, Output};
use super::output::Results;
use qmatmul::error::{Error, Result};
use qmatmul::gpu;
use qmatmul_report::{Cell, Column, Verdict, column};

#[derive(clap::Args)]
pub struct Peak {
    /// Seconds for each figure
    #[arg(long, value_name = "SECONDS", default_value_t = 0.3)]
    seconds: f64,
    #[command(flatten)]
    device: Device,
    #[command(flatten)]
    output: Output,
}

const COLUMNS: &[Column] =
    &[column("figure", "figure"), column("mib", "MiB"), column("value", "value"), column("unit", "unit")];

impl Peak {
    pub fn run(&self) -> Result<Ending> {
        seconds(self.seconds)?;
        let common = Common { device: self.device.clone(), output: self.output.clone(), ..Common::default() };
        let runtime = common.runtime()?;
        let clock = match runtime.has_timestamps() {
            true => "the device's timestamps; the host's for submit, readback and copies",
            false => "the host's: the device has no timestamps",
        };
        common.say(&format!("clock: {clock}"));
        let mut results = Results::begin(&self.output, Some(runtime.adapter()), COLUMNS)?;
        let peak = runtime.peak(self.seconds)?;
        rows(&peak, self.output.is_verbose()).into_iter().try_for_each(|row| results.row(row))?;
        if let Some(stated) = stated(&runtime.adapter().name) {
            let best = peak.copy_gb_per_s().max(peak.read_gb_per_s());
            let share = Cell::Float(100.0 * best / stated.gb_per_s, 1);
            results.row(vec!["share of stated bandwidth".into(), Cell::Empty, share, "%".into()])?;
            common.say(&format!("stated: {} GB/s by {}", stated.gb_per_s, stated.source));
        }
        let arithmetic = peak.arithmetic.first().map(|a| format!(", {} {:.3} Tops/s", a.kind, a.tera_ops));
        results.end(&Verdict::ok(format!(
            "copy {:.1} GB/s, read {:.1} GB/s{}: {}",
            peak.copy_gb_per_s(),
            peak.read_gb_per_s(),
            arithmetic.unwrap_or_default(),
            runtime.adapter().name
        )))?;
        Ok(Ending::Fine)
    }
}

/// Refuses what is no time to measure for.
pub fn seconds(seconds: f64) -> Result<()> {
    match (0.0..=3600.0).contains(&seconds) {
        true => Ok(()),
        false => Err(Error::Argument(format!("--seconds {seconds} is not between 0 and 3600"))),
    }
}

/// One row a figure; the sweep over sizes only where every row was asked for.
fn rows(peak: &gpu::Peak, every: bool) -> Vec<Vec<Cell>> {
    let row = |figure: &str, value: f64, decimals, unit: &str| {
        vec![figure.into(), Cell::Empty, Cell::Float(value, decimals), unit.into()]
    };
    let mut all = vec![];
    for b in &peak.bandwidth {
        let is_largest =
            peak.bandwidth.iter().all(|other| other.operation != b.operation || other.bytes <= b.bytes);
        if every || is_largest {
            all.push(vec![
                b.operation.into(),
                if every { (b.bytes >> 20).into() } else { Cell::usual(b.bytes >> 20, true, "") },
                Cell::Float(b.gb_per_s, 2),
                "GB/s".into(),
            ]);
        }
    }
    all.push(row("upload", peak.upload_gb_per_s, 2, "GB/s"));
    all.push(row("host copy", peak.host_copy_gb_per_s, 2, "GB/s"));
    all.extend(peak.arithmetic.iter().map(|a| row(a.kind, a.tera_ops, 4, "Tops/s")));
    all.push(row("dispatch", peak.dispatch_seconds * 1e6, 2, "µs"));
    all.push(row("submit and wait", peak.submit_seconds * 1e6, 1, "µs"));
    all.push(row("readback 16 KiB", peak.readback_seconds * 1e6, 1, "µs"));
    all
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
