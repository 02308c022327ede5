//! One measured case of `bench`: what it did, how long it took, and its row in the table.

use crate::{Cell, Column, column, detail, machine};
use qmatmul::check::Comparison;
use qmatmul::gpu::Timing;
use qmatmul::kernel::Activations;

/// A matmul `y[n, m] = x[n, k] · w[m, k]ᵀ`, measured.
#[derive(Clone, Debug)]
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

pub const COLUMNS: &[Column] = &[
    column("format", "format"),
    column("activations", "activations"),
    machine("op"),
    column("m", "m"),
    column("k", "k"),
    column("n", "n"),
    column("count", "×"),
    column("median_us", "µs"),
    detail("mean_us", "mean"),
    column("deviation_us", "±"),
    machine("p20_us"),
    machine("p80_us"),
    machine("samples"),
    column("weight_gb_per_s", "GB/s"),
    column("copy_fraction", "% copy"),
    detail("tflop_per_s", "TFLOP/s"),
    detail("host_us", "host µs"),
    machine("clock"),
    machine("copies"),
    column("was_us", "was µs"),
    column("ratio", "ratio"),
    column("tokens_per_s", "tokens/s"),
    column("kernel", "kernel"),
    detail("nmse", "nmse"),
    column("ok", "result"),
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

    /// The row under [`COLUMNS`].
    pub fn cells(&self, beside: &Beside) -> Vec<Cell> {
        let micros = |seconds: f64| Cell::Float(seconds * 1e6, 1);
        let (mean, deviation) = spread(&self.timing.seconds);
        let is_compared = self.comparison.count > 0;
        let passed = self.comparison.passed;
        vec![
            self.format.into(),
            Cell::usual(
                self.activations.name(),
                self.activations == Activations::F32,
                self.activations.name(),
            ),
            if self.n == 1 { "gemv" } else { "gemm" }.into(),
            self.m.into(),
            self.k.into(),
            self.n.into(),
            beside.count.into(),
            Cell::Float(self.micros(), 1),
            micros(mean),
            deviation.map_or(Cell::Empty, micros),
            micros(self.timing.quantile(0.2)),
            micros(self.timing.quantile(0.8)),
            self.timing.seconds.len().into(),
            Cell::Float(self.gb_per_s(), 2),
            beside.copy_gb_per_s.map_or(Cell::Empty, |copy| Cell::Share(self.gb_per_s() / copy)),
            Cell::Float(self.tera_flops(), 4),
            self.host_seconds.map_or(Cell::Empty, micros),
            if self.timing.timestamps { "gpu" } else { "host" }.into(),
            self.copies.into(),
            beside.was_us.map_or(Cell::Empty, |was| Cell::Float(was, 1)),
            beside.was_us.map_or(Cell::Empty, |was| Cell::Float(was / self.micros(), 2)),
            Cell::Empty,
            self.kernel.as_str().into(),
            if is_compared { Cell::Tiny(self.comparison.nmse) } else { Cell::Empty },
            Cell::usual(passed, passed, "WRONG"),
        ]
    }
}

/// What is known beside a case.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside {
    /// How many such matrices a token of the model is multiplied by.
    pub count: Option<u64>,
    /// The device's copy bandwidth.
    pub copy_gb_per_s: Option<f64>,
    /// The median of an earlier run.
    pub was_us: Option<f64>,
}

/// All matrices of a model one after another, under [`COLUMNS`].
pub fn whole_model(n: usize, seconds: f64, bytes: u64, copy_gb_per_s: Option<f64>) -> Vec<Cell> {
    let gb_per_s = bytes as f64 / seconds * 1e-9;
    let known = [
        ("op", "all_matmuls".into()),
        ("n", n.into()),
        ("median_us", Cell::Float(seconds * 1e6, 1)),
        ("weight_gb_per_s", Cell::Float(gb_per_s, 2)),
        ("copy_fraction", copy_gb_per_s.map_or(Cell::Empty, |copy| Cell::Share(gb_per_s / copy))),
        ("tokens_per_s", Cell::Float(n as f64 / seconds, 1)),
    ];
    let cell = |column: &Column| {
        known.iter().find(|(key, _)| *key == column.key).map_or(Cell::Empty, |(_, cell)| cell.clone())
    };
    COLUMNS.iter().map(cell).collect()
}

/// Mean and standard deviation of a sample; none of a single value.
fn spread(values: &[f64]) -> (f64, Option<f64>) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (mean, (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt()))
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn a_deviation_is_that_of_a_sample() {
        assert_eq!(spread(&[1.0, 2.0, 3.0]), (2.0, Some(1.0)));
        assert_eq!(spread(&[4.0]), (4.0, None));
    }
}
