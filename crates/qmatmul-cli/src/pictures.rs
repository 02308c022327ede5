//! What `bench` draws: each case under the device's ceilings, and time against the size of the
//! weight.

use super::chart::{Chart, Dot, Line};
use super::measured::Measured;
use qmatmul::error::Result;
use qmatmul::file::output;
use qmatmul::gpu::{AdapterSummary, Peak};
use std::path::Path;

/// Writes `chart` whole or not at all.
pub fn write(path: &Path, chart: &Chart) -> Result<()> {
    output::write(path, |sink| sink.put(chart.svg().as_bytes()))
}

/// Speed against arithmetic intensity, under the ceilings that `peak` measured.
pub fn roofline(cases: &[Measured], peak: &Peak, adapter: &AdapterSummary) -> Chart {
    let dots: Vec<Dot> = cases
        .iter()
        .map(|case| Dot {
            series: case.format.into(),
            label: format!("{}×{} n={}", case.m, case.k, case.n),
            at: (case.intensity(), case.tera_flops()),
        })
        .collect();
    let lines = ceilings(peak, dots.iter().map(|d| d.at.0));
    Chart {
        title: format!("Roofline of {}", adapter.name),
        subtitle: format!("{}, {}; ceilings measured in the same run", adapter.backend, adapter.driver),
        x_label: "FLOP per byte of packed weights, activations and result",
        y_label: "TFLOP/s",
        lines,
        dots,
    }
}

/// Memory's slopes up to the highest arithmetic, and arithmetic's levels from where memory can feed
/// them.
fn ceilings(peak: &Peak, intensities: impl Iterator<Item = f64>) -> Vec<Line> {
    let slopes = [("copy", peak.copy_gb_per_s()), ("read", peak.read_gb_per_s())];
    let steepest = slopes[0].1.max(slopes[1].1);
    let highest = peak.arithmetic.iter().map(|a| a.tera_ops).fold(0.0, f64::max);
    // Where a slope of so many GB/s reaches so many TFLOP/s.
    let ridge = |tera_ops: f64, gb_per_s: f64| tera_ops * 1e3 / gb_per_s;
    let (low, high) =
        intensities.fold((1.0_f64, 2.0 * ridge(highest, steepest)), |(l, h), x| (l.min(x), h.max(2.0 * x)));
    let slope = |(name, gb_per_s): (&str, f64)| {
        let end = ridge(highest, gb_per_s).min(high);
        let at = |x: f64| (x, x * gb_per_s * 1e-3);
        Line { label: format!("{name} {gb_per_s:.1} GB/s"), from: at(low), to: at(end) }
    };
    let level = |a: &qmatmul::gpu::Arithmetic| Line {
        label: format!("{} {:.3} Tops/s", a.kind, a.tera_ops),
        from: (ridge(a.tera_ops, steepest).max(low), a.tera_ops),
        to: (high, a.tera_ops),
    };
    slopes.into_iter().map(slope).chain(peak.arithmetic.iter().map(level)).collect()
}

/// Time against m·k, with the line of proportional cost through the largest case of each series.
pub fn growth(cases: &[Measured], device: &str) -> Chart {
    let dot = |case: &Measured| Dot {
        series: format!("{} n={}", case.format, case.n),
        label: format!("{}×{}", case.m, case.k),
        at: (case.m as f64 * case.k as f64, case.micros()),
    };
    let mut dots: Vec<Dot> = cases.iter().map(dot).collect();
    let lines = proportional(&mut dots);
    Chart {
        title: format!("Time against size on {device}"),
        subtitle: "median of a matmul; lines: cost proportional to m·k, through the largest case".into(),
        x_label: "m·k, weights of the matrix",
        y_label: "µs",
        lines,
        dots,
    }
}

/// The lines, whose slope becomes part of the series' names: dots leave no room for it beside a
/// line.
fn proportional(dots: &mut [Dot]) -> Vec<Line> {
    let smallest = dots.iter().map(|d| d.at.0).fold(f64::MAX, f64::min);
    let mut largest: Vec<(String, (f64, f64))> = vec![];
    for dot in dots.iter() {
        match largest.iter_mut().find(|(series, _)| *series == dot.series) {
            Some((_, at)) if at.0 < dot.at.0 => *at = dot.at,
            Some(_) => {}
            None => largest.push((dot.series.clone(), dot.at)),
        }
    }
    for dot in dots.iter_mut() {
        if let Some((_, (weights, micros))) = largest.iter().find(|(series, _)| *series == dot.series) {
            dot.series = format!("{}, {:.1} ps/weight", dot.series, micros * 1e6 / weights);
        }
    }
    let line = |(_, to): (String, (f64, f64))| Line {
        label: String::new(),
        from: (smallest, to.1 * smallest / to.0),
        to,
    };
    largest.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use qmatmul::gpu::{Arithmetic, Bandwidth};

    fn peak() -> Peak {
        let bandwidth = |operation, gb_per_s| Bandwidth { operation, bytes: 1 << 28, gb_per_s };
        let arithmetic = |kind, tera_ops| Arithmetic { kind, tera_ops };
        Peak {
            bandwidth: vec![bandwidth("read", 800.0), bandwidth("copy", 1000.0)],
            arithmetic: vec![arithmetic("f32 fma", 50.0), arithmetic("f16 fma", 100.0)],
            dispatch_seconds: 1e-6,
            submit_seconds: 1e-5,
            readback_seconds: 1e-5,
            upload_gb_per_s: 10.0,
            host_copy_gb_per_s: 10.0,
        }
    }

    #[test]
    fn slopes_end_at_the_highest_level_and_levels_begin_at_the_steepest_slope() {
        let lines = ceilings(&peak(), [3.5, 120.0].into_iter());
        let near = |(x, y): (f64, f64), (u, v): (f64, f64)| {
            assert!((x / u - 1.0).abs() + (y / v - 1.0).abs() < 1e-9, "{x} {y}")
        };
        near(lines[0].from, (1.0, 1.0));
        near(lines[0].to, (100.0, 100.0));
        near(lines[1].to, (125.0, 100.0));
        near(lines[2].from, (50.0, 50.0));
        near(lines[2].to, (240.0, 50.0));
        assert_eq!(lines[3].label, "f16 fma 100.000 Tops/s");
    }

    #[test]
    fn the_line_of_proportional_cost_goes_through_the_largest() {
        let dot = |x, y| Dot { series: "Q4_0 n=1".into(), label: String::new(), at: (x, y) };
        let mut dots = [dot(100.0, 9.0), dot(10_000.0, 50.0), dot(1000.0, 10.0)];
        let lines = proportional(&mut dots);
        assert_eq!((lines.len(), lines[0].from, lines[0].to), (1, (100.0, 0.5), (10_000.0, 50.0)));
        assert!(dots.iter().all(|d| d.series == "Q4_0 n=1, 5000.0 ps/weight"));
    }
}
