//! A picture with two logarithmic axes: straight lines, and dots in series. One SVG file that needs
//! nothing else.

use std::fmt::Write;

/// A chart in the units of its data.
pub struct Chart {
    pub title: String,
    pub subtitle: String,
    pub x_label: &'static str,
    pub y_label: &'static str,
    pub lines: Vec<Line>,
    pub dots: Vec<Dot>,
}

/// A line that is straight between two points of a logarithmic chart.
pub struct Line {
    pub label: String,
    pub from: (f64, f64),
    pub to: (f64, f64),
}

/// A point with its own label, in the colour of its series.
pub struct Dot {
    pub series: String,
    pub label: String,
    pub at: (f64, f64),
}

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 620.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 780.0;
const TOP: f64 = 76.0;
const BOTTOM: f64 = 556.0;
/// Colours that can be told apart on white and on black.
const COLOURS: [&str; 9] =
    ["#2979d9", "#e0702a", "#2f9e44", "#d6336c", "#8a63d2", "#a1761f", "#0c99a8", "#868e96", "#c9a400"];
const STYLE: &str = "\
<style>
text { font: 12px sans-serif; fill: #222 }
.back { fill: #fff } .frame { fill: none; stroke: #888 } .grid { stroke: #ddd } .line { stroke: #555; stroke-width: 1.5 }
.title { font-size: 17px; font-weight: bold } .small { font-size: 10px } .note { fill: #666 }
@media (prefers-color-scheme: dark) {
text { fill: #ddd } .back { fill: #14161a } .grid { stroke: #333 } .line { stroke: #aaa } .note { fill: #999 }
}
</style>
";

impl Chart {
    /// The chart as the text of an SVG file.
    pub fn svg(&self) -> String {
        let scale = Scale::of(self);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\">\n\
             {STYLE}<rect class=\"back\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n"
        );
        svg += &text((LEFT, 30.0), "class=\"title\"", &self.title);
        svg += &text((LEFT, 52.0), "class=\"note\"", &self.subtitle);
        svg += &self.axes(&scale);
        let mut places = Places::default();
        self.lines.iter().for_each(|line| svg += &draw_line(line, &scale, &mut places));
        svg += &self.points(&scale, &mut places);
        svg += &self.legend();
        svg + "</svg>\n"
    }

    fn axes(&self, scale: &Scale) -> String {
        let mut svg = String::new();
        for (value, name) in ticks(scale.x) {
            let x = scale.at((value, 1.0)).0;
            svg += &grid_line((x, TOP), (x, BOTTOM));
            svg += &text((x, BOTTOM + 18.0), "text-anchor=\"middle\"", &name);
        }
        for (value, name) in ticks(scale.y) {
            let y = scale.at((1.0, value)).1;
            svg += &grid_line((LEFT, y), (RIGHT, y));
            svg += &text((LEFT - 8.0, y + 4.0), "text-anchor=\"end\"", &name);
        }
        let (width, height) = (RIGHT - LEFT, BOTTOM - TOP);
        let _ = writeln!(
            svg,
            "<rect class=\"frame\" x=\"{LEFT}\" y=\"{TOP}\" width=\"{width}\" height=\"{height}\"/>"
        );
        let (middle, centre) = (LEFT + width / 2.0, TOP + height / 2.0);
        svg += &text((middle, BOTTOM + 42.0), "text-anchor=\"middle\"", self.x_label);
        let turned = format!("text-anchor=\"middle\" transform=\"rotate(-90 24 {centre})\"");
        svg + &text((24.0, centre), &turned, self.y_label)
    }

    /// Series in order of appearance.
    fn series(&self) -> Vec<&str> {
        let mut names: Vec<&str> = vec![];
        for dot in &self.dots {
            if !names.contains(&dot.series.as_str()) {
                names.push(&dot.series);
            }
        }
        names
    }

    fn points(&self, scale: &Scale, places: &mut Places) -> String {
        let series = self.series();
        let mut svg = String::new();
        for dot in self.dots.iter().filter(|dot| drawable(dot.at)) {
            let number = series.iter().position(|s| *s == dot.series).unwrap_or(0);
            let at = scale.at(dot.at);
            let label = escape(&format!("{} {}", dot.series, dot.label));
            let _ = writeln!(svg, "<g>{}<title>{label}</title></g>", mark(number, at));
            // So many labels hide the dots; a pointer on a dot still shows its own.
            if self.dots.len() <= 48 {
                let (at, anchor) = places.find(at, dot.label.chars().count());
                svg += &text(at, &format!("class=\"small\" text-anchor=\"{anchor}\""), &dot.label);
            }
        }
        svg
    }

    fn legend(&self) -> String {
        let row = |(number, name): (usize, &&str)| {
            let y = TOP + 10.0 + 17.0 * number as f64;
            mark(number, (RIGHT + 20.0, y)) + "\n" + &text((RIGHT + 34.0, y + 4.0), "class=\"series\"", name)
        };
        self.series().iter().enumerate().map(row).collect()
    }
}

/// From data to the frame.
struct Scale {
    x: (f64, f64),
    y: (f64, f64),
}

impl Scale {
    /// Around everything that is drawn, with a margin.
    fn of(chart: &Chart) -> Self {
        let ends = chart.lines.iter().flat_map(|line| [line.from, line.to]);
        let points: Vec<_> = ends.chain(chart.dots.iter().map(|d| d.at)).filter(|p| drawable(*p)).collect();
        let range = |values: &mut dyn Iterator<Item = f64>| {
            let (low, high) = values.fold((f64::MAX, 0.0_f64), |(l, h), v| (l.min(v), h.max(v)));
            if high > 0.0 { (low / 1.6, high * 1.6) } else { (0.1, 10.0) }
        };
        Self { x: range(&mut points.iter().map(|p| p.0)), y: range(&mut points.iter().map(|p| p.1)) }
    }

    fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let share = |value: f64, (low, high): (f64, f64)| (value / low).ln() / (high / low).ln();
        (LEFT + share(x, self.x) * (RIGHT - LEFT), BOTTOM - share(y, self.y) * (BOTTOM - TOP))
    }
}

/// What a logarithm can show.
fn drawable((x, y): (f64, f64)) -> bool {
    [x, y].iter().all(|v| (1e-30..1e30).contains(v))
}

/// Powers of ten within a range, and 2 and 5 of each where there are few powers.
fn ticks((low, high): (f64, f64)) -> Vec<(f64, String)> {
    let steps: &[f64] = if (high / low).log10() > 3.5 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let all = powers.flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)));
    all.filter(|v| (low..=high).contains(v)).map(|v| (v, tick_name(v))).collect()
}

fn tick_name(value: f64) -> String {
    match value {
        v if !(1e-4..1e6).contains(&v) => format!("{v:.0e}"),
        v if v < 1.0 => format!("{v:.4}").trim_end_matches('0').to_owned(),
        v => format!("{v:.0}"),
    }
}

fn grid_line((x1, y1): (f64, f64), (x2, y2): (f64, f64)) -> String {
    format!("<line class=\"grid\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>\n")
}

fn draw_line(line: &Line, scale: &Scale, places: &mut Places) -> String {
    if !drawable(line.from) || !drawable(line.to) {
        return String::new();
    }
    let ((x1, y1), (x2, y2)) = (scale.at(line.from), scale.at(line.to));
    let drawn =
        format!("<line class=\"line\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>\n");
    if line.label.is_empty() {
        return drawn;
    }
    let angle = (y2 - y1).atan2(x2 - x1).to_degrees();
    if angle.abs() > 1.0 {
        // Along a slope, a quarter of its length from the start.
        let (x, y) = (x1 + (x2 - x1) * 0.25, y1 + (y2 - y1) * 0.25 - 6.0);
        let turned = format!("transform=\"rotate({angle:.2} {x:.1} {y:.1})\"");
        return drawn + &text((x, y), &turned, &line.label);
    }
    let ((x, y), _) = places
        .find((x2 - 8.0 - 6.5 * line.label.chars().count() as f64, y2 - 10.0), line.label.chars().count());
    drawn + &text((x, y), "", &line.label)
}

/// Boxes of labels that are taken.
#[derive(Default)]
struct Places {
    taken: Vec<(f64, f64, f64)>,
}

impl Places {
    /// A free place beside `at` for so many characters, and the anchor of the text there.
    fn find(&mut self, (x, y): (f64, f64), characters: usize) -> ((f64, f64), &'static str) {
        let width = 6.0 * characters as f64;
        let fits = x + 8.0 + width < RIGHT;
        let left = if fits { x + 8.0 } else { x - 8.0 - width };
        let shifts = (0..40).flat_map(|step| [f64::from(step), -f64::from(step)]).map(|s| y + 4.0 + 11.0 * s);
        let free = |y: &f64| {
            let apart =
                |t: &(f64, f64, f64)| (t.1 - y).abs() >= 11.0 || t.0 > left + width || t.0 + t.2 < left;
            (TOP + 8.0..BOTTOM).contains(y) && self.taken.iter().all(apart)
        };
        let y = shifts.into_iter().find(free).unwrap_or(y);
        self.taken.push((left, y, width));
        if fits { ((left, y), "start") } else { ((left + width, y), "end") }
    }
}

/// The mark of a series: colours first, then shapes.
fn mark(series: usize, (x, y): (f64, f64)) -> String {
    let colour = COLOURS[series % COLOURS.len()];
    let points = |offsets: &[(f64, f64)]| {
        let corner = |(dx, dy): &(f64, f64)| format!("{:.1},{:.1}", x + dx, y + dy);
        let corners: Vec<_> = offsets.iter().map(corner).collect();
        format!("<polygon class=\"dot\" points=\"{}\" fill=\"{colour}\"/>", corners.join(" "))
    };
    match series / COLOURS.len() % 4 {
        0 => format!("<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.5\" fill=\"{colour}\"/>"),
        1 => points(&[(-4.0, -4.0), (4.0, -4.0), (4.0, 4.0), (-4.0, 4.0)]),
        2 => points(&[(0.0, -5.5), (5.0, 4.0), (-5.0, 4.0)]),
        _ => points(&[(0.0, -6.0), (6.0, 0.0), (0.0, 6.0), (-6.0, 0.0)]),
    }
}

fn text((x, y): (f64, f64), attributes: &str, content: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{}</text>\n", escape(content))
}

/// What XML takes as text: a driver may name itself anything.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart() -> Chart {
        let dot = |series: usize, x, y| Dot {
            series: format!("S<{series}>"),
            label: "a & \"b\"".into(),
            at: (x, y),
        };
        Chart {
            title: "llvmpipe <&>\u{1}\"'".into(),
            subtitle: "driver".into(),
            x_label: "FLOP per byte",
            y_label: "TFLOP/s",
            lines: vec![
                Line { label: "copy".into(), from: (0.1, 0.001), to: (100.0, 1.0) },
                Line { label: "f32".into(), from: (100.0, 1.0), to: (5000.0, 1.0) },
                Line { label: "nothing".into(), from: (0.0, f64::NAN), to: (1.0, 1.0) },
            ],
            dots: (0..40)
                .map(|i| dot(i, 3.0 * (1.0 + i as f64), 0.01))
                .chain([dot(0, f64::NAN, -1.0)])
                .collect(),
        }
    }

    /// Elements that close in order, attributes in quotes, and no bare sign in text.
    fn assert_xml(text: &str) {
        let mut open = vec![];
        let mut rest = text;
        while let Some(at) = rest.find('<') {
            let before = &rest[..at];
            assert!(!before.contains('>'), "{before}");
            for (i, _) in before.match_indices('&') {
                let entity = before[i..].split(';').next().unwrap_or_default();
                assert!(["&amp", "&lt", "&gt", "&quot"].contains(&entity), "{before}");
            }
            let end = at + rest[at..].find('>').expect("a tag ends");
            let tag = &rest[at + 1..end];
            assert!(tag.matches('"').count().is_multiple_of(2) && !tag.contains('<'), "{tag}");
            match tag.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop(), Some(name), "{tag}"),
                None if tag.ends_with('/') => {}
                None => open.push(tag.split(' ').next().unwrap_or_default()),
            }
            rest = &rest[end + 1..];
        }
        assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
    }

    fn attribute(element: &str, name: &str) -> Option<f64> {
        element.split_once(&format!(" {name}=\""))?.1.split('"').next()?.parse().ok()
    }

    #[test]
    fn a_chart_is_xml_with_everything_in_its_frame() {
        let svg = chart().svg();
        assert_xml(&svg);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        let drawn: Vec<_> = svg.lines().filter(|l| l.starts_with("<g>")).collect();
        assert_eq!(drawn.len(), 40, "the dot without a place is left out");
        let inside =
            |x: f64, y: f64| assert!((LEFT..=RIGHT).contains(&x) && (TOP..=BOTTOM).contains(&y), "{x} {y}");
        let mut circles = 0;
        for (x, y) in drawn.iter().filter_map(|l| Some((attribute(l, "cx")?, attribute(l, "cy")?))) {
            inside(x, y);
            circles += 1;
        }
        assert_eq!(circles, 13, "nine colours, then other shapes, then colours again");
        for line in svg.lines().filter(|l| l.starts_with("<line class=\"line\"")) {
            for (x, y) in [("x1", "y1"), ("x2", "y2")] {
                inside(attribute(line, x).expect("x"), attribute(line, y).expect("y"));
            }
        }
        assert_eq!(svg.matches("class=\"series\"").count(), 40, "a legend of all series");
    }

    #[test]
    fn a_chart_of_nothing_is_a_chart() {
        assert_xml(&Chart { lines: vec![], dots: vec![], ..chart() }.svg());
        let one = Chart { lines: vec![], dots: chart().dots.split_off(39), ..chart() };
        assert_xml(&one.svg());
    }

    #[test]
    fn ticks_are_read_by_people() {
        let names = |range| ticks(range).into_iter().map(|t| t.1).collect::<Vec<_>>().join(" ");
        assert_eq!(names((0.05, 30.0)), "0.05 0.1 0.2 0.5 1 2 5 10 20");
        assert_eq!(names((1e3, 1e9)), "1000 10000 100000 1e6 1e7 1e8 1e9");
    }
}
