//! What `bench` draws: each case under the device's ceilings, and time against the size of the
//! weight.

use crate::chart::{Chart, Dot, Line};
use crate::measured::Measured;
use qmatmul::gpu::{AdapterSummary, Peak};

/// Speed against arithmetic intensity, under the ceilings that `peak` measured.
pub fn roofline(cases: &[Measured], peak: &Peak, adapter: &AdapterSummary) -> Chart {
    let one_shape = one_shape(cases);
    let dots: Vec<Dot> = cases
        .iter()
        .map(|case| Dot {
            format: case.format.into(),
            n: case.n,
            label: if one_shape.is_some() { String::new() } else { format!("{}×{}", case.m, case.k) },
            at: (case.intensity(), case.tera_flops()),
        })
        .collect();
    let lines = ceilings(peak, &dots);
    let of = one_shape.map(|(m, k)| format!(" of {m}×{k}")).unwrap_or_default();
    Chart {
        title: format!("Matmuls{of} on {}", adapter.name),
        subtitle: format!("{}, {}; ceilings measured in the same run", adapter.backend, adapter.driver),
        x_label: "FLOP per byte of packed weights, activations and result",
        y_label: "TFLOP/s",
        lines,
        dots,
    }
}

/// The shape of all cases, where it is the same.
fn one_shape(cases: &[Measured]) -> Option<(usize, usize)> {
    let first = cases.first().map(|case| (case.m, case.k))?;
    cases.iter().all(|case| (case.m, case.k) == first).then_some(first)
}

/// Memory's slopes up to the highest arithmetic, and arithmetic's levels from where memory can feed
/// them. What a case reached is no less than what the device can: memory's slopes and the highest
/// level go through the best case where that is above them.
fn ceilings(peak: &Peak, dots: &[Dot]) -> Vec<Line> {
    let best = |of: fn(&Dot) -> f64| dots.iter().map(of).filter(|v| v.is_finite()).fold(0.0, f64::max);
    let highest = |all: &[Ceiling]| all.iter().map(|c| c.value).fold(0.0, f64::max);
    let (by_memory, by_arithmetic) = (best(|dot| dot.at.1 * 1e3 / dot.at.0), best(|dot| dot.at.1));
    let measured = [("copy", peak.copy_gb_per_s()), ("read", peak.read_gb_per_s())];
    let slopes = match measured.iter().all(|(_, gb_per_s)| *gb_per_s < by_memory) {
        true => vec![Ceiling::by_a_case("copy, read", by_memory, "GB/s")],
        false => measured.map(|(name, value)| Ceiling::of(name, value, by_memory, "GB/s")).into(),
    };
    let top = peak.arithmetic.iter().map(|a| a.tera_ops).fold(0.0, f64::max);
    let level = |a: &qmatmul::gpu::Arithmetic| {
        let least = if a.tera_ops == top { by_arithmetic } else { 0.0 };
        Ceiling::of(a.kind, a.tera_ops, least, "Tops/s")
    };
    let levels: Vec<_> = peak.arithmetic.iter().map(level).collect();
    let (steepest, highest) = (highest(&slopes), highest(&levels));
    // Where a slope of so many GB/s reaches so many TFLOP/s.
    let ridge = |tera_ops: f64, gb_per_s: f64| tera_ops * 1e3 / gb_per_s;
    // Left of where the steepest slope ends, so that no slope runs backwards.
    let first = (1.0_f64.min(0.5 * ridge(highest, steepest)), 2.0 * ridge(highest, steepest));
    let intensities = dots.iter().map(|dot| dot.at.0);
    let (low, high) = intensities.fold(first, |(l, h), x| (l.min(x), h.max(2.0 * x)));
    let slope = |Ceiling { label, value }| {
        let end = ridge(highest, value).min(high);
        let at = |x: f64| (x, x * value * 1e-3);
        Line { label, from: at(low), to: at(end), format: None }
    };
    let level = |Ceiling { label, value }| Line {
        label,
        from: (ridge(value, steepest).max(low), value),
        to: (high, value),
        format: None,
    };
    slopes.into_iter().map(slope).chain(levels.into_iter().map(level)).collect()
}

/// A figure of the device, in GB/s or TFLOP/s.
struct Ceiling {
    label: String,
    value: f64,
}

impl Ceiling {
    /// What was measured, or what a case reached if that is more.
    fn of(name: &str, measured: f64, reached: f64, unit: &str) -> Self {
        match measured < reached {
            true => Self::by_a_case(name, reached, unit),
            false => Self { label: format!("{name} {} {unit}", digits(measured)), value: measured },
        }
    }

    fn by_a_case(name: &str, value: f64, unit: &str) -> Self {
        Self { label: format!("{name} {} {unit} by the fastest case", digits(value)), value }
    }
}

/// Three digits, as many as such figures are worth.
fn digits(value: f64) -> String {
    match value {
        v if v >= 99.95 => format!("{v:.0}"),
        v if v >= 9.995 => format!("{v:.1}"),
        v if v >= 0.9995 => format!("{v:.2}"),
        v => format!("{v:.3}"),
    }
}

/// Time against m·k, with the line of proportional cost through the largest case of each format and
/// number of tokens.
pub fn growth(cases: &[Measured], device: &str) -> Chart {
    let dot = |case: &Measured| Dot {
        format: case.format.into(),
        n: case.n,
        label: format!("{}×{}", case.m, case.k),
        at: (case.m as f64 * case.k as f64, case.micros()),
    };
    let dots: Vec<Dot> = cases.iter().map(dot).collect();
    let lines = proportional(&dots);
    Chart {
        title: format!("Time against size on {device}"),
        subtitle: "median of a matmul; lines: cost proportional to m·k, through the largest case".into(),
        x_label: "m·k, weights of the matrix",
        y_label: "µs",
        lines,
        dots,
    }
}

/// The lines, with their slopes.
fn proportional(dots: &[Dot]) -> Vec<Line> {
    let smallest = dots.iter().map(|d| d.at.0).fold(f64::MAX, f64::min);
    let mut largest: Vec<&Dot> = vec![];
    for dot in dots {
        match largest.iter_mut().find(|other| (&other.format, other.n) == (&dot.format, dot.n)) {
            Some(other) if other.at.0 < dot.at.0 => *other = dot,
            Some(_) => {}
            None => largest.push(dot),
        }
    }
    let line = |&Dot { ref format, n, at: (weights, micros), .. }: &Dot| Line {
        label: format!("{format} n={n}, {} ps/weight", digits(micros * 1e6 / weights)),
        from: (smallest, micros * smallest / weights),
        to: (weights, micros),
        format: Some(format.clone()),
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

    fn dot(x: f64, y: f64) -> Dot {
        Dot { format: "Q4_0".into(), n: 1, label: String::new(), at: (x, y) }
    }

    fn assert_near((x, y): (f64, f64), (u, v): (f64, f64)) {
        assert!((x / u - 1.0).abs() + (y / v - 1.0).abs() < 1e-9, "{x} {y}");
    }

    #[test]
    fn slopes_run_from_left_to_right() {
        let few = Peak { arithmetic: vec![Arithmetic { kind: "f32 fma", tera_ops: 0.1 }], ..peak() };
        for line in ceilings(&few, &[dot(2.0, 0.001)]) {
            assert!(line.from.0 < line.to.0, "{}: {:?} to {:?}", line.label, line.from, line.to);
        }
    }

    #[test]
    fn slopes_end_at_the_highest_level_and_levels_begin_at_the_steepest_slope() {
        let lines = ceilings(&peak(), &[dot(3.5, 1.0), dot(120.0, 1.0)]);
        assert_near(lines[0].from, (1.0, 1.0));
        assert_near(lines[0].to, (100.0, 100.0));
        assert_near(lines[1].to, (125.0, 100.0));
        assert_near(lines[2].from, (50.0, 50.0));
        assert_near(lines[2].to, (240.0, 50.0));
        assert_eq!(lines[3].label, "f16 fma 100 Tops/s");
        assert_eq!(lines[0].label, "copy 1000 GB/s");
    }

    /// A case may be faster than what was measured for a moment.
    #[test]
    fn no_dot_lies_above_the_ceilings() {
        let lines = ceilings(&peak(), &[dot(2.0, 1.8), dot(500.0, 120.0), dot(3.0, f64::NAN)]);
        let labels: Vec<_> = lines.iter().map(|line| &*line.label).collect();
        let by_a_case = ["read 900 GB/s by the fastest case", "f16 fma 120 Tops/s by the fastest case"];
        assert_eq!(labels, ["copy 1000 GB/s", by_a_case[0], "f32 fma 50.0 Tops/s", by_a_case[1]]);
        assert_near(lines[1].from, (1.0, 0.9));
        assert_near(lines[3].to, (1000.0, 120.0));
        let lines = ceilings(&peak(), &[dot(2.0, 3.0)]);
        assert_eq!((lines.len(), &*lines[0].label), (3, "copy, read 1500 GB/s by the fastest case"));
        assert_near(lines[0].from, (1.0, 1.5));
    }

    #[test]
    fn the_line_of_proportional_cost_goes_through_the_largest() {
        let other = Dot { n: 8, ..dot(400.0, 2.0) };
        let dots = [dot(100.0, 9.0), dot(10_000.0, 50.0), dot(1000.0, 10.0), other];
        let lines = proportional(&dots);
        assert_eq!((lines.len(), lines[0].from, lines[0].to), (2, (100.0, 0.5), (10_000.0, 50.0)));
        assert_eq!(lines[0].label, "Q4_0 n=1, 5000 ps/weight");
        assert_eq!((&*lines[1].label, lines[1].to), ("Q4_0 n=8, 5000 ps/weight", (400.0, 2.0)));
    }
}
