//! One measured case of `bench`: what it did, how long it took, and its row in the table.

use super::output::Cell;
use qmatmul::check::Comparison;
use qmatmul::gpu::Timing;
use qmatmul::kernel::Activations;

/// A matmul `y[n, m] = x[n, k] · w[m, k]ᵀ`, measured.
pub struct Measured {
    pub format: &'static str,
    pub m: usize,
    pub k: usize,
    pub n: usize,
    pub activations: Activations,
    /// Bytes of the packed weights.
    pub packed: u64,
    pub kernel: String,
    /// Copies of the weights that were used in turn.
    pub copies: usize,
    pub timing: Timing,
    /// What one call costs the host; unknown on the reference path.
    pub host_seconds: Option<f64>,
    pub comparison: Comparison,
}

pub const HEADERS: &[&str] = &[
    "type",
    "activations",
    "op",
    "m",
    "k",
    "n",
    "µs",
    "p20",
    "p80",
    "GB/s",
    "% copy",
    "TFLOP/s",
    "kernel",
    "copies",
    "clock",
    "host µs",
    "nmse",
    "check",
];

impl Measured {
    /// Microseconds of the median.
    pub fn micros(&self) -> f64 {
        self.timing.median() * 1e6
    }

    /// Packed bytes a second, in 10⁹.
    pub fn gb_per_s(&self) -> f64 {
        self.packed as f64 / self.timing.median() * 1e-9
    }

    /// 10¹² floating-point operations a second; a multiplication and an addition are two.
    pub fn tera_flops(&self) -> f64 {
        self.flops() / self.timing.median() * 1e-12
    }

    /// Floating-point operations per byte of packed weights, activations and result.
    pub fn intensity(&self) -> f64 {
        let activations = 4.0 * self.n as f64 * (self.k + self.m) as f64;
        self.flops() / (self.packed as f64 + activations)
    }

    fn flops(&self) -> f64 {
        2.0 * self.m as f64 * self.k as f64 * self.n as f64
    }

    /// The row under [`HEADERS`], with the device's copy bandwidth in GB/s if it is known.
    pub fn cells(&self, copy: Option<f64>) -> Vec<Cell> {
        let micros = |seconds: f64| Cell::Float(seconds * 1e6, 1);
        let known = |value: Option<f64>| value.map_or(Cell::Empty, |v| Cell::Float(v, 1));
        vec![
            self.format.into(),
            self.activations.name().into(),
            if self.n == 1 { "gemv" } else { "gemm" }.into(),
            self.m.into(),
            self.k.into(),
            self.n.into(),
            Cell::Float(self.micros(), 1),
            micros(self.timing.quantile(0.2)),
            micros(self.timing.quantile(0.8)),
            Cell::Float(self.gb_per_s(), 2),
            known(copy.map(|copy| 100.0 * self.gb_per_s() / copy)),
            Cell::Float(self.tera_flops(), 4),
            self.kernel.as_str().into(),
            self.copies.into(),
            if self.timing.timestamps { "gpu" } else { "wall" }.into(),
            known(self.host_seconds.map(|seconds| seconds * 1e6)),
            Cell::Tiny(self.comparison.nmse),
            if self.comparison.passed { "ok" } else { "WRONG" }.into(),
        ]
    }
}
